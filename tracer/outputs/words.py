"""How the parts of a path are put into words; shared by the tree and the line."""

from __future__ import annotations

import errno
import ipaddress
from typing import Final

from tracer.enrich.reasons import OUTER_HEADER
from tracer.model.path import Decision, Flow, Hop, Lookup, Path, Value
from tracer.model.relay import CERTAIN, FROM, Relay

UNKNOWN: Final = "?"
_OF_TUNNEL: Final = "(route of the tunnel)"
INFERRED: Final = "~"
NO_TABLE: Final = "-"
_DEFAULTS: Final = ("0.0.0.0/0", "::/0")
_IPV4: Final = 4
_IPV6: Final = 6
_HOST_SUFFIX: Final = {_IPV4: "/32", _IPV6: "/128"}
_QUIET_ERRORS: Final = (None, 0, -errno.EAGAIN)
_RULE_ACTIONS: Final = {"unreachable", "prohibit", "blackhole"}
_REFUSALS: Final = _RULE_ACTIONS | {"throw", "suppressed"}
# What a program did when one of these asked for a route (net/ipv4: tcp_ipv4.c, udp.c, raw.c, ping.c, icmp.c).
_DOINGS: Final = {
    "tcp_v4_connect": "connect",
    "tcp_v6_connect": "connect",
    "ip4_datagram_connect": "connect",
    "__ip4_datagram_connect": "connect",
    "udp_sendmsg": "send",
    "udpv6_sendmsg": "send",
    "raw_sendmsg": "send",
    "rawv6_sendmsg": "send",
    "ping_v4_sendmsg": "send",
    "ping_v6_sendmsg": "send",
}


def endpoint(address: Value, port: Value) -> str:
    """`10.1.0.2:80`, `[2001:db8::1]:80`, or the address alone where there is no port."""
    shown = UNKNOWN if address is None else str(address)
    if port is None:
        return shown
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"


def flow_ends(flow: Flow) -> tuple[str, str]:
    """Source and destination of a flow."""
    return endpoint(flow.src, flow.sport), endpoint(flow.dst, flow.dport)


def duration_ms(path: Path) -> float:
    """From the first row of a path to its last, in milliseconds."""
    if not isinstance(path.start_ns, int) or not isinstance(path.end_ns, int):
        return 0.0
    return (path.end_ns - path.start_ns) / 1e6


def process_name(hop: Hop) -> str:
    """`nginx[640]`; empty where no process is known."""
    process = hop.process
    if process is None:
        return ""
    name = UNKNOWN if process.comm is None else str(process.comm)
    return name if process.pid is None else f"{name}[{process.pid}]"


def doing(hop: Hop) -> str:
    """What the sending program did, where the caller of its output decision tells."""
    for decision in hop.decisions:
        for function in str(decision.caller or "").replace(",", " ").split():
            if function in _DOINGS:
                return _DOINGS[function]
    return ""


def origin(hop: Hop) -> str:
    """Where the packet of a hop came from: a device, else the program that made it."""
    if hop.in_dev is not None:
        return str(hop.in_dev)
    return f"{process_name(hop)} {doing(hop)}".strip() if hop.verdict != "deliver" else ""


def target(hop: Hop) -> str:
    """Where the packet of a hop went: a device (through tunnels, one behind the other), or the program that got it."""
    if hop.verdict == "deliver":
        return process_name(hop)
    return " → ".join(
        str(dev) for dev in (*(handed.out_dev for handed in hop.handed), hop.out_dev) if dev is not None
    )


def netns_name(hop: Hop) -> str:
    """The namespace by name, by inode number where it has none."""
    if hop.netns is not None:
        return str(hop.netns)
    return UNKNOWN if hop.netns_inode is None else f"netns:{hop.netns_inode}"


def table_name(lookup: Lookup) -> str:
    """The table by name, by number where it has none; `-` when the rule itself refused."""
    if lookup.table is not None:
        return str(lookup.table)
    if lookup.table_id is not None:
        return str(lookup.table_id)
    return NO_TABLE if lookup.result in _RULE_ACTIONS else UNKNOWN


def rule_name(lookup: Lookup) -> str:
    """`rule 100`, `rule ~100` where the model filled it in, `rule ?` where nobody knows."""
    return f"rule {mark(lookup.evidence)}{UNKNOWN if lookup.rule is None else lookup.rule}"


def mark(evidence: Value) -> str:
    """The quiet sign in front of what no probe saw."""
    return INFERRED if evidence == "inferred" else ""


def result_name(lookup: Lookup) -> str:
    """The result of a lookup; with the name of its error where the word alone does not say it."""
    result = UNKNOWN if lookup.result is None else str(lookup.result)
    if result in _REFUSALS or lookup.error in _QUIET_ERRORS or not isinstance(lookup.error, int):
        return result
    return f"{result} ({errno.errorcode.get(-lookup.error, str(lookup.error))})"


def route_text(lookup: Lookup) -> str:
    """The route as `ip route` prints it; empty when none was found."""
    if lookup.prefix is None and lookup.gateway is None and lookup.dev is None and lookup.route_type is None:
        return UNKNOWN if lookup.result == "hit" else ""
    words = [] if lookup.route_type in {None, "unicast"} else [str(lookup.route_type)]
    words.append(_prefix_text(lookup.prefix))
    if lookup.gateway is not None:
        words.append(_via(str(lookup.gateway), _version(lookup.prefix)))
    if lookup.dev is not None:
        words.append(f"dev {lookup.dev}")
    return " ".join(words)


def _version(prefix: Value) -> int:
    return _IPV6 if ":" in str(prefix) else _IPV4


def _prefix_text(prefix: Value) -> str:
    if prefix is None:
        return UNKNOWN
    if prefix in _DEFAULTS:
        return "default"
    return str(prefix).removesuffix(_HOST_SUFFIX[_version(prefix)])


def _via(gateway: str, version: int) -> str:
    """A nexthop; its family is named when it is not that of the route."""
    try:
        own = ipaddress.ip_address(gateway.partition("%")[0]).version
    except ValueError:
        return f"via {gateway}"
    return f"via {gateway}" if own == version else f"via inet{'6' if own == _IPV6 else ''} {gateway}"


def outcome(decision: Decision) -> str:
    """What a decision came to, where its last lookup does not already say so."""
    last = decision.lookups[-1] if decision.lookups else None
    result = decision.result
    if last is None:
        return "" if result is None else route_text(_as_lookup(decision))
    if decision.ts_ns is None:
        return "outcome not seen"
    if result is None or result in {last.route_type, last.result}:
        return ""
    return f"result {result}"


def is_outer(decision: Decision) -> bool:
    """Whether a decision is about the header that a tunnel put around the packet."""
    return str(decision.reason or "").endswith((OUTER_HEADER, _OF_TUNNEL))


def note(decision: Decision) -> str:
    """Why, in words; for the header that a tunnel put around the packet with what is in it."""
    reason = str(decision.reason or "")
    columns = decision.columns or {}
    if "dst" not in columns or not is_outer(decision):
        return reason
    ends = f"{columns.get('src', UNKNOWN)} → {columns['dst']}"
    return " ".join([reason, ends, *([str(columns["proto"])] if columns.get("proto") else [])])


def _as_lookup(decision: Decision) -> Lookup:
    facts = (None,) * 6 + (decision.prefix, decision.gateway, decision.dev, decision.result, None, None)
    return Lookup.of(facts, decision.evidence, decision.ts_ns, None)


def trouble(path: Path) -> str:
    """Why a path may not be whole; empty when it is."""
    said = []
    if not path.complete:
        open_hops = [netns_name(hop) for hop in path.hops if hop.ended_ns is None]
        said.append(
            f"incomplete: its end in {', '.join(open_hops)} was not seen" if open_hops else "incomplete"
        )
    if path.lost:
        said.append(f"{path.lost} record{'' if path.lost == 1 else 's'} lost near here")
    return ", ".join(said)


def relay_words(relay: Relay) -> str:
    """`relayed by openvpn[640] → #18`, or `from #17, relayed by openvpn[640]`; what is not certain says so."""
    by = f"relayed by {relay.comm or UNKNOWN}[{relay.pid}]"
    likely = "" if relay.certainty == CERTAIN else ", likely"
    loop = ", routing loop: routed into the device it was read from" if relay.loop else ""
    if relay.direction == FROM:
        return f"from #{relay.packet}, {by}{likely}{loop}"
    return f"{by} → #{relay.packet}{likely}{loop}"
