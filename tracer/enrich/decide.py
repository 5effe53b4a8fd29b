"""What the kernel does with a packet: the walk of `predict`, and what the input and output paths do around it.

By `ip_route_output_key_hash_rcu()`, `ip_route_input_slow()`, `ip6_route_output_flags()` and
`ip6_route_input()`. A model for questions; what a packet did is observed.
"""

from __future__ import annotations

from typing import NamedTuple

from tracer.enrich.nexthops import LOOPBACK, Selectors
from tracer.enrich.predict import Prediction, predict, with_master
from tracer.enrich.reverse import SourceCheck, check_source, setting
from tracer.enrich.routes import route_index
from tracer.enrich.selectors import FlowKey
from tracer.enrich.sources import LINK, device_source, route_source
from tracer.model.network import IPV4, NetworkState, Nexthop, Route

EINVAL, EHOSTUNREACH, ENETUNREACH, ENODEV = -22, -113, -101, -19
UNICAST, LOCAL, BROADCAST, ANYCAST, MULTICAST = 1, 2, 3, 4, 5
LIMITED_BROADCAST = 0xFFFFFFFF


class Decision(NamedTuple):
    """What becomes of a packet.

    `verdict` is send, deliver, forward or drop; "" where it is not known, and `unknown` says why. `error` is 0
    or -errno. `nexthops` are those among which the kernel chooses, by `hash_policy` if there are several.
    `source` is the source address of output: the one asked with, or the one chosen, None where that depends on
    the nexthop or is not worked out (IPv6). `reason` names what decided where no route did.
    """

    verdict: str
    error: int | None
    walk: Prediction | None = None
    type: int = UNICAST
    nexthops: tuple[Nexthop, ...] = ()
    source: int | None = None
    checks: tuple[SourceCheck, ...] = ()
    reason: str = ""
    unknown: str = ""
    hash_policy: int | None = None

    @property
    def route(self) -> Route | None:
        """The route that was found; None where there is none, or none was looked for."""
        return self.walk.route if self.walk else None


def decide(state: NetworkState, flow: FlowKey) -> Decision:
    """What the kernel does with such a packet: input where `iif` is a device, output where it is loopback (1)."""
    if flow.family != IPV4:
        return _decide6(state, flow)
    decided = _output(state, flow) if flow.iif == LOOPBACK else _input(state, flow)
    if len(decided.nexthops) > 1:
        return decided._replace(hash_policy=state.sysctls.get("net.ipv4.fib_multipath_hash_policy"))
    return decided


def _drop(error: int, reason: str, walk: Prediction | None = None) -> Decision:
    return Decision("drop", error, walk, reason=reason)


def _unknown(walk: Prediction) -> Decision:
    return Decision("", None, walk, unknown=walk.unknown)


def _output(state: NetworkState, flow: FlowKey) -> Decision:
    refused = _refused_source(state, flow) or _refused_device(state, flow)
    if refused:
        return refused
    if _is_multicast(flow.daddr) or flow.daddr in {0, LIMITED_BROADCAST}:
        return _special_output(state, flow)
    walk = predict(state, flow)
    if walk.error is None:
        return _unknown(walk)
    if walk.error:
        return _without_route(state, flow, walk)
    return _with_route(state, flow, walk)


def _refused_source(state: NetworkState, flow: FlowKey) -> Decision | None:
    if not flow.saddr:
        return None
    if _is_multicast(flow.saddr) or flow.saddr == LIMITED_BROADCAST:
        return _drop(EINVAL, "the source is a multicast or broadcast address")
    if not _is_local(state, flow.saddr):
        return _drop(ENETUNREACH, "the source is no address of this host")
    return None


def _refused_device(state: NetworkState, flow: FlowKey) -> Decision | None:
    if not flow.oif:
        return None
    link = state.links.get(flow.oif)
    if link is None:
        return _drop(ENODEV, "there is no such output device")
    return None if link.up else _drop(ENETUNREACH, f"{link.name} is down")


def _special_output(state: NetworkState, flow: FlowKey) -> Decision:
    """Destinations for which no table is asked."""
    if flow.daddr == 0:
        return Decision("deliver", 0, None, LOCAL, (Nexthop(LOOPBACK),), flow.saddr or 0x7F000001)
    if flow.oif and (flow.daddr >> 8 == 0xE00000 or flow.daddr == LIMITED_BROADCAST):  # noqa: PLR2004 - 224.0.0/24
        kind = BROADCAST if flow.daddr == LIMITED_BROADCAST else MULTICAST
        source = flow.saddr or device_source(state, flow.oif, 0, LINK)
        return Decision("send", 0, None, kind, (Nexthop(flow.oif),), source)
    return Decision("", None, unknown="output to multicast and broadcast addresses is not modelled")


def _without_route(state: NetworkState, flow: FlowKey, walk: Prediction) -> Decision:
    """Bound to a device, the destination is assumed to be on its link."""
    if not flow.oif or with_master(state, flow).l3mdev:
        return _drop(walk.error or 0, "", walk)
    source = flow.saddr or device_source(state, flow.oif, 0, LINK)
    hops = (Nexthop(flow.oif),)
    return _made(state, Decision("send", 0, walk, UNICAST, hops, source, reason="no route: assumed on link"))


def _with_route(state: NetworkState, flow: FlowKey, walk: Prediction) -> Decision:
    found, route = walk.hit
    if route.type == LOCAL:
        hops = (Nexthop(with_master(state, flow).l3mdev or LOOPBACK),)
        return Decision("deliver", 0, walk, LOCAL, hops, flow.saddr or route.prefsrc or flow.daddr)
    sources = {flow.saddr or route_source(state, route, hop) for hop in found.nexthops}
    source = sources.pop() if len(sources) == 1 else None
    return _made(state, Decision("send", 0, walk, route.type, found.nexthops, source))


def _made(state: NetworkState, decided: Decision) -> Decision:
    """`__mkroute_output` refuses to send from a loopback address by another device."""
    source = decided.source
    if source is None or source >> 24 != 127:  # noqa: PLR2004 - 127/8
        return decided
    refusing = [
        hop for hop in decided.nexthops if hop.ifindex != LOOPBACK and not _localnet(state, hop.ifindex)
    ]
    if not refusing:
        return decided
    if len(refusing) < len(decided.nexthops):
        return Decision("", None, decided.walk, unknown="one of the nexthops refuses the loopback source")
    return _drop(EINVAL, "a loopback address is no source beyond this host", decided.walk)


def _localnet(state: NetworkState, ifindex: int) -> bool:
    return bool(setting(state, ifindex, "route_localnet"))


def _is_multicast(address: int) -> bool:
    return address >> 28 == 0xE  # noqa: PLR2004 - 224/4


def _is_local(state: NetworkState, address: int) -> bool:
    """`__ip_dev_find`: an own address, or one that the local table delivers."""
    if any(item.address == address for item in state.addresses if item.family == IPV4):
        return True
    table = route_index(state).table(255)
    found = table.search(address, Selectors()) if table else None
    return found is not None and found.type == LOCAL


def _input(state: NetworkState, flow: FlowKey) -> Decision:
    refused = _martian(state, flow)
    if refused:
        return refused
    if _is_multicast(flow.daddr):
        return Decision("", None, unknown="input to multicast addresses is not modelled")
    if flow.daddr == LIMITED_BROADCAST or not flow.daddr:
        return _checked(state, flow, Decision("deliver", 0, None, BROADCAST), 0)
    walk = predict(state, flow._replace(oif=0))
    if walk.error is None:
        return _unknown(walk)
    forwarding = bool(setting(state, flow.iif, "forwarding", only=True))
    if walk.error:
        return _drop(
            walk.error if forwarding else EHOSTUNREACH, "" if forwarding else "forwarding is off", walk
        )
    return _received(state, flow, walk, forwarding=forwarding)


def _received(state: NetworkState, flow: FlowKey, walk: Prediction, *, forwarding: bool) -> Decision:
    """A packet for which there is a route."""
    found, route = walk.hit
    if route.type in {LOCAL, BROADCAST}:
        return _checked(state, flow, Decision("deliver", 0, walk, route.type), 0)
    if not forwarding:
        return _drop(EHOSTUNREACH, "forwarding is off", walk)
    if route.type != UNICAST:
        return _drop(EINVAL, "a destination that is neither local nor to be forwarded", walk)
    devices = sorted({hop.ifindex for hop in found.nexthops})
    return _checked(state, flow, Decision("forward", 0, walk, UNICAST, found.nexthops), *devices)


def _martian(state: NetworkState, flow: FlowKey) -> Decision | None:
    localnet = _localnet(state, flow.iif)
    loopback = {flow.saddr >> 24: "source", flow.daddr >> 24: "destination"}.get(127)
    if _is_multicast(flow.saddr) or flow.saddr == LIMITED_BROADCAST:
        return _drop(EINVAL, "martian source: multicast or broadcast")
    if flow.daddr == LIMITED_BROADCAST or (flow.saddr == 0 and flow.daddr == 0):
        return None
    if flow.saddr >> 24 == 0 or flow.daddr >> 24 == 0:
        return _drop(EINVAL, f"martian {'source' if flow.saddr >> 24 == 0 else 'destination'}: 0.0.0.0/8")
    if loopback and not localnet:
        return _drop(EINVAL, f"martian {loopback}: 127.0.0.0/8")
    return None


def _checked(state: NetworkState, flow: FlowKey, decided: Decision, *devices: int) -> Decision:
    """The decision after the source check, for every device by which the packet may leave."""
    if decided.type == BROADCAST:
        if not flow.saddr:
            return decided
        flow = flow._replace(daddr=0)
    checks = tuple(check_source(state, flow, device) for device in devices)
    decided = decided._replace(checks=checks)
    if len({check.error for check in checks}) > 1 or checks[0].error is None:
        why = checks[0].unknown or "the source check depends on the nexthop that is chosen"
        return decided._replace(verdict="", error=None, unknown=why)
    if checks[0].error:
        return decided._replace(verdict="drop", error=checks[0].error, reason=checks[0].reason)
    return decided


def _decide6(state: NetworkState, flow: FlowKey) -> Decision:
    link = state.links.get(flow.oif)
    incoming = flow.iif != LOOPBACK
    if incoming and flow.daddr >> 120 == 0xFF:  # noqa: PLR2004 - ff00::/8
        return Decision("", None, unknown="input to multicast addresses is not modelled")
    walk = predict(state, flow._replace(oif=0) if incoming else flow)
    if walk.error is None:
        return _unknown(walk)
    if walk.error:
        return _drop(walk.error, "", walk)
    found, route = walk.hit
    hops = (Nexthop(found.device),) if found.device else found.nexthops
    policy = state.sysctls.get("net.ipv6.fib_multipath_hash_policy") if len(hops) > 1 else None
    decided = Decision("send", 0, walk, route.type, hops, flow.saddr or None, hash_policy=policy)
    if route.type in {LOCAL, ANYCAST}:
        return decided._replace(verdict="deliver")
    if incoming:
        on = "all" not in state.settings6 or state.settings6["all"].forwarding
        return decided._replace(verdict="forward" if on else "drop", reason="" if on else "forwarding is off")
    return decided if link is None or link.up else _drop(ENETUNREACH, f"{link.name} is down", walk)
