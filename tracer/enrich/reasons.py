"""Words: why a packet was dropped and which lookup caused it, how a source check went, why no lookup was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.correlate.callers import Purpose
from tracer.correlate.flows import BEFORE_THE_TRACE
from tracer.correlate.verdicts import Via

if TYPE_CHECKING:
    from tracer.enrich.inference import Explained, Row

RP_FILTER = {0: "off", 1: "strict", 2: "loose"}
PURGE_REASONS = frozenset({"SKB_DROP_REASON_QUEUE_PURGE", "SKB_DROP_REASON_SOCKET_DESTROYED"})

CHECK_REASONS = frozenset(
    f"SKB_DROP_REASON_{name}" for name in ("IP_RPFILTER", "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE")
)
"""Reasons that say: the source check failed."""
NO_SOCKET = "SKB_DROP_REASON_NO_SOCKET"
VAGUE_REASONS = frozenset({"SKB_DROP_REASON_NOT_SPECIFIED"})
"""What kernels before 6.16 say instead; then the place of the drop tells."""

_KNOWN = {
    "IP_RPFILTER": "source check failed",
    "IP_LOCAL_SOURCE": "the source is an address of this host",
    "IP_INVALID_SOURCE": "the source address is not valid here",
    "IP_LOCALNET": "a loopback address came in from outside",
    "IP_INVALID_DEST": "the destination address is not valid here",
    "PKT_TOO_BIG": "too big for the next device's MTU",
    "NETFILTER_DROP": "dropped by netfilter",
    "NEIGH_FAILED": "the next hop did not answer address resolution",
    "NEIGH_QUEUEFULL": "too many packets wait for address resolution",
    "NEIGH_CREATE_FAIL": "no neighbour entry could be made",
    "SOCKET_RCVBUFF": "the socket's receive buffer is full",
    "QDISC_DROP": "the queueing discipline had no room",
    "OTHERHOST": "meant for another host",
    "IP_CSUM": "wrong IP checksum",
    "UDP_CSUM": "wrong UDP checksum",
    "TCP_CSUM": "wrong TCP checksum",
    "XFRM_POLICY": "no IPsec policy allows it",
    "IP_OUTNOROUTES": "no route",
    "DEV_READY": "the device is not up",
    "TCP_CLOSE": "the connection is closed",
}


def _kernel_words(reason: str, location: str) -> str:
    where = f" in {location}" if location else ""
    return f"({reason}{where})" if reason else f"(freed{where})"


_UDP_INPUT = ("__udp4_lib_rcv", "__udp6_lib_rcv")
_REFUSES_INPUT = ("ip_error", "ip6_pkt_discard", "ip6_pkt_prohibit", "ip6_pkt_drop", "dst_discard")
"""Where packets end whose route says no: dst->input of unreachable, prohibit and blackhole routes, and of none."""


def drop_words(reason: str, location: str, cause: Explained | None, facts: dict[str, str]) -> str:  # noqa: PLR0911 - a sentence each
    """Why a packet was dropped. `facts`: src, dst, in_dev, rp_filter, ttl, proto, dport of the packet and hop."""
    kernel = _kernel_words(reason, location)
    short = reason.removeprefix("SKB_DROP_REASON_")
    purpose = cause.decision.get("purpose") if cause else None
    vague = short in {"", "NOT_SPECIFIED"}  # kernels before 5.17 give no reasons at all
    if short == "IP_RPFILTER" or (
        purpose == "source-check" and vague and location.startswith("ip_rcv_finish")
    ):
        return f"{_failed_check(cause if purpose == 'source-check' else None, facts)} {kernel}"
    if (
        location.startswith("ip6_forward")
        and short == "IP_INADDRERRORS"
        and _is_link_local(facts.get("src", ""))
    ):
        return f"a packet from a link-local address is not forwarded {kernel}"
    if location.startswith(_REFUSES_INPUT) or short in {"IP_INNOROUTES", "IP_INADDRERRORS"}:
        return f"{_failed_input(cause, short, facts)} {kernel}"
    copied = bool(facts.get("copied"))
    if short == "NO_SOCKET" or (not short and not copied and location.startswith(_UDP_INPUT)):
        port = f" port {facts['dport']}" if facts.get("dport") else ""
        return f"no socket listens on {facts.get('proto', '')}{port} {kernel}"
    if copied:
        return f"nobody here takes the sender's own copy {kernel}"
    if location.startswith("ip_forward") and facts.get("ttl") in {"0", "1"}:
        return f"the TTL ran out {kernel}"
    if location.startswith("ip6_forward") and facts.get("ttl") in {"0", "1"}:
        return f"the hop limit ran out {kernel}"
    if location.startswith(("ip_rcv_finish", "ip6_mc_input")) and vague and _is_group(facts.get("dst", "")):
        return f"no member of the multicast group {facts['dst']} on {facts.get('in_dev', '?')} {kernel}"
    return f"{_KNOWN.get(short, short.lower().replace('_', ' ') or 'this kernel gives no reason')} {kernel}"


def _is_link_local(text: str) -> bool:
    return text.startswith(("fe8", "fe9", "fea", "feb")) and ":" in text


def short_drop_words(reason: str, location: str) -> str:
    """What a drop reason and the place of the drop say by themselves, where no single packet is looked at."""
    short = reason.removeprefix("SKB_DROP_REASON_")
    if short == "IP_RPFILTER":
        words = _KNOWN[short]
    elif location.startswith(_REFUSES_INPUT) or short in {"IP_INNOROUTES", "IP_INADDRERRORS"}:
        words = "routing refused it"
    elif short == "NO_SOCKET" or (not short and location.startswith(_UDP_INPUT)):
        words = "no socket listens"
    else:
        words = _KNOWN.get(short, short.lower().replace("_", " ") or "this kernel gives no reason")
    return f"{words} {_kernel_words(reason, location)}"


def _is_group(text: str) -> bool:
    if ":" in text:
        return text.startswith("ff")
    first = text.split(".", maxsplit=1)[0]
    return first.isdigit() and 224 <= int(first) < 240  # noqa: PLR2004 - 224.0.0.0/4


def _failed_check(cause: Explained | None, facts: dict[str, str]) -> str:
    src, device = facts.get("src", "?"), facts.get("in_dev", "?")
    mode = facts.get("rp_filter", "")
    tail = f", rp_filter is {mode} on {device}" if mode else ""
    if cause is None:
        return f"source check failed: the packet came in on {device}{tail}"
    won = cause.ending_rule or cause.lookups[-1]
    if cause.decision["result"] in {"no route", "unreachable", "prohibit", "blackhole"}:
        why = (
            "there is no route back to it"
            if cause.decision["result"] == "no route"
            else f"{_source(won)} says {cause.decision['result']}"
        )
        return f"source check failed: {src} came in on {device}, {why}{tail}"
    way = f"{src} is reached through {won.get('dev')} ({_source(won)})"
    return f"source check failed: {way}, the packet came in on {device}{tail}"


def _source(row: dict[str, object]) -> str:
    parts = []
    if row.get("rule") is not None:
        parts.append(f"rule {row['rule']}")
    if row.get("table"):
        parts.append(f"table {row['table']}")
    return ", ".join(parts)


def _rule(row: Row) -> str:
    """A rule with its text, where the configuration has it."""
    return f"rule {row['rule']} ({row['rule_text']})" if row.get("rule_text") else f"rule {row['rule']}"


def _failed_input(cause: Explained | None, short: str, facts: dict[str, str]) -> str:
    if cause is None:
        return f"no route to {facts.get('dst', '?')}"
    result = cause.decision["result"]
    if cause.ending_rule:
        return f"{_rule(cause.ending_rule)} says {result}"
    if result in {"unreachable", "prohibit", "blackhole"}:
        won = cause.lookups[-1]
        prefix = f" {won['prefix']}" if won.get("prefix") else ""
        return f"{result} route{prefix} ({_source(won)})"
    if result == "no route":
        if short == "IP_INADDRERRORS":
            return f"no route to {facts.get('dst', '?')}, and forwarding is off on {facts.get('in_dev', '?')}"
        return f"no route to {facts.get('dst', '?')}"
    return f"forwarding is off on {facts.get('in_dev', '?')}"


def send_failed_words(cause: Explained, dst: str) -> str:
    """Why a local send made no packet at all."""
    result = cause.decision["result"]
    if cause.ending_rule:
        why = f"{_rule(cause.ending_rule)} says {result}"
    elif result == "no route":
        why = f"no route to {dst}"
    else:
        won = cause.lookups[-1]
        why = " ".join(part for part in (f"{result} route", won.get("prefix"), f"({_source(won)})") if part)
    return f"{why}: the sender got an error, no packet was made"


def check_words(explained: Explained, in_dev: str, rp_filter: int, *, failed: bool) -> str:
    """How a source check went: the mode in force, what the reverse lookup found, pass or fail."""
    mode = RP_FILTER.get(rp_filter, str(rp_filter))
    end = "fail" if failed else "pass"
    result = explained.decision["result"]
    if result == "local":
        return f"{mode}: the source is an address of this host, {end}"
    if result != "unicast":
        return f"{mode}: {result} back to the source, {end}"
    if in_dev in explained.devices:
        return f"{mode}: same device, {end}"
    return f"{mode}: reached through {explained.lookups[-1].get('dev')}, {end}"


OUTER_HEADER = "outer header"
"""Of a decision about the header that a tunnel put around the packet."""

_NO_LOOKUP = {
    Via.LOOPBACK: "no lookup: the loopback device keeps the route of the output decision",
    Via.LOOPED_COPY: "no lookup: the sender's own copy of a broadcast or multicast keeps its route",
    Via.UNSEEN: "no lookup seen",
    Via.LINK: "no lookup: neighbour and listener discovery leave by the device they are about",
    Via.BRIDGED: "no lookup: not routed, handed on to another device with the same TTL, as a bridge does",
    Via.GROUP_ADDRESS: "no lookup: broadcast and multicast input is decided without one",
}


def cached_words(via: Via, ref: int, purpose: Purpose, *, filtered: bool = False) -> str:
    """Why a packet needed no lookup, and which packet's decision it used.

    With a filter (`filtered`) the lookup of a flow's first packet may only have been kept out.
    """
    if via is Via.GROUP_ADDRESS and purpose is Purpose.OUTPUT:
        return "no lookup: broadcast and multicast leave by the device the sender named"
    if via in _NO_LOOKUP:
        return _NO_LOOKUP[via]
    names = {
        Via.SOCKET: "socket route",
        Via.EARLY_DEMUX: "early demux",
        Via.HINT: "route hint of the packet before",
        Via.TUNNEL: "route of the tunnel",
    }
    if ref == BEFORE_THE_TRACE and filtered:
        return "no lookup seen: cached, or made before the trace, or kept out by the filter"
    if ref == BEFORE_THE_TRACE:
        return (
            f"cached: decided before the trace ({names[via]})"
            if purpose is Purpose.OUTPUT
            else "cached: decided before the trace"
        )
    return f"cached: decided by #{ref} ({names[via]})"
