"""The source check of a received IPv4 packet, as `fib_validate_source()` makes it."""

from __future__ import annotations

from typing import NamedTuple

from tracer.enrich.nexthops import LOOPBACK, nexthops_of
from tracer.enrich.predict import Prediction, predict, with_master
from tracer.enrich.rules import is_default
from tracer.enrich.selectors import FlowKey
from tracer.model.network import IPV4, DeviceSettings, NetworkState, Route

EINVAL, EXDEV = -22, -18
UNICAST, LOCAL = 1, 2
STRICT = 1


class SourceCheck(NamedTuple):
    """One source check.

    `mode` is the rp_filter in force. `walk` is the reverse lookup, None where none is made. `error` is 0 where the
    packet passes, EXDEV where rp_filter drops it, EINVAL for a source that is no one else's (the kernel has one
    code for both since 6.14), None where that is not known.
    """

    mode: int
    flow: FlowKey
    walk: Prediction | None
    error: int | None
    reason: str = ""
    unknown: str = ""


def setting(state: NetworkState, ifindex: int, name: str, *, only: bool = False) -> int:
    """A setting in force on a device: the larger of its own and that of `all`; with `only`, just its own."""
    link = state.links.get(ifindex)
    names = ([] if only else ["all"]) + [link.name if link else ""]
    none = DeviceSettings()
    return max(int(getattr(state.settings.get(item, none), name)) for item in names)


def check_source(state: NetworkState, flow: FlowKey, out: int) -> SourceCheck:
    """Whether a packet received as `flow` may have come in there, if it leaves by the device `out` (0: it stays)."""
    mode = setting(state, flow.iif, "rp_filter")
    back = reverse_of(state, flow, out)
    redirects = out == flow.iif and setting(state, flow.iif, "send_redirects")
    if not mode and not redirects:
        if setting(state, flow.iif, "accept_local"):
            return SourceCheck(mode, back, None, 0)
        if is_default(state.rules):
            return _by_addresses(state, flow, back)
    return _by_lookup(state, flow, mode, back)


def reverse_of(state: NetworkState, flow: FlowKey, out: int) -> FlowKey:
    """The key of the reverse lookup: the ends swapped, arriving by the device where the packet would leave."""
    marked = setting(state, flow.iif, "src_valid_mark")
    return flow._replace(
        saddr=flow.daddr,
        daddr=flow.saddr,
        iif=out or LOOPBACK,
        oif=0,
        mark=flow.mark if marked else 0,
        sport=flow.dport,
        dport=flow.sport,
        tun_id=0,
        uid=0,
        l3mdev=with_master(state, flow._replace(oif=0)).l3mdev,
    )


def _by_addresses(state: NetworkState, flow: FlowKey, back: FlowKey) -> SourceCheck:
    """Without rp_filter only own addresses are refused, and that takes no lookup where no rule was ever added."""
    own = any(item.address == flow.saddr for item in state.addresses if item.family == IPV4)
    quick = SourceCheck(0, back, None, EINVAL if own else 0, "the source is an own address" if own else "")
    full = _by_lookup(state, flow, 0, back)
    if full.error == quick.error:
        return quick
    return full._replace(error=None, unknown="it depends on whether a rule was ever added")


def _by_lookup(state: NetworkState, flow: FlowKey, mode: int, back: FlowKey) -> SourceCheck:
    walk = predict(state, back)
    if walk.error is None:
        return SourceCheck(mode, back, walk, None, unknown=walk.unknown)
    if walk.error:
        return _last_resort(mode, back, walk, "there is no route to the source")
    _, route = walk.hit
    accepted = {UNICAST, LOCAL} if setting(state, flow.iif, "accept_local") else {UNICAST}
    if route.type not in accepted:
        own = "an own" if route.type == LOCAL else f"a {route.type_name}"
        return SourceCheck(mode, back, walk, EINVAL, f"the source is {own} address")
    return _by_device(state, flow, SourceCheck(mode, back, walk, 0), route)


def _by_device(state: NetworkState, flow: FlowKey, passed: SourceCheck, route: Route) -> SourceCheck:
    mode, back, walk = passed.mode, passed.flow, passed.walk
    if _uses(state, route, flow.iif):
        return passed
    if not any(item.ifindex == flow.iif for item in state.addresses if item.family == IPV4):
        return _last_resort(
            mode, back, walk, "the device has no address, and the source is reached elsewhere"
        )
    if mode == STRICT:
        return SourceCheck(mode, back, walk, EXDEV, "the source is reached by another device")
    return passed


def _last_resort(mode: int, back: FlowKey, walk: Prediction | None, reason: str) -> SourceCheck:
    return SourceCheck(mode, back, walk, EXDEV if mode else 0, reason if mode else "")


def _uses(state: NetworkState, route: Route, ifindex: int) -> bool:
    """`fib_info_nh_uses_dev`: any nexthop of the route, also a dead one."""
    found = nexthops_of(route, state.nexthops)
    devices = {hop.ifindex for hop in found}
    masters = {state.links[device].master for device in devices if device in state.links}
    return ifindex in devices or (ifindex in masters and state.links[ifindex].kind == "vrf")
