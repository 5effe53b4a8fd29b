"""The source address that the kernel gives a packet that has none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tracer.model.network import IPV4, Address, NetworkState, Nexthop, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDARY = 1  # IFA_F_SECONDARY
HOST, LINK = 254, 253
BITS = 32
LOOPBACK = 1


def route_source(state: NetworkState, route: Route, nexthop: Nexthop) -> int:
    """`fib_result_prefsrc`: the route's own choice, else the best address of the device; 0 for none."""
    if route.prefsrc:
        return route.prefsrc
    gateway = nexthop.gateway if nexthop.gateway_family == IPV4 else 0
    return device_source(state, nexthop.ifindex, gateway, route.scope)


def hops_of_source(
    state: NetworkState, route: Route, hops: tuple[Nexthop, ...], source: int
) -> tuple[Nexthop, ...]:
    """`fib_select_multipath` since Linux 6.16: for a source that was asked with, the hash chooses among these.

    Those whose own source address it is; all if there are none. Groups of nexthop objects know no such thing.
    """
    if not source or route.nhid or route.family != IPV4:
        return hops
    plain = replace(route, prefsrc=None)
    return tuple(hop for hop in hops if route_source(state, plain, hop) == source) or hops


def device_source(state: NetworkState, ifindex: int, target: int, scope: int) -> int:
    """`inet_select_addr`: an address of the device, preferably of the target's network, else of any device."""
    first = 0
    for address in _primary(state, ifindex):
        if min(address.scope, _widest_scope(state, ifindex)) > scope:
            continue
        if not target or _same_network(target, address):
            return address.address
        first = first or address.address
    return first or _elsewhere(state, ifindex, scope)


def _primary(state: NetworkState, ifindex: int) -> Iterable[Address]:
    return (
        item
        for item in state.addresses
        if item.family == IPV4 and item.ifindex == ifindex and not item.flags & SECONDARY
    )


def _widest_scope(state: NetworkState, ifindex: int) -> int:
    link = state.links.get(ifindex)
    names = ("all", link.name if link else "")
    localnet = any(state.settings[name].route_localnet for name in names if name in state.settings)
    return LINK if localnet else HOST


def _same_network(target: int, address: Address) -> bool:
    shift = BITS - address.prefix_len
    return (target ^ (address.peer or address.address)) >> shift == 0


def _elsewhere(state: NetworkState, ifindex: int, scope: int) -> int:
    """An address of the VRF, or of the first device that has one; loopback comes first."""
    master = _master(state, ifindex)
    others = [other for other in sorted(state.links) if _master(state, other) == master]
    for other in ([master] if master else []) + others:
        for address in _primary(state, other):
            if address.scope != LINK and address.scope <= scope:
                return address.address
    return 0


def _master(state: NetworkState, ifindex: int) -> int:
    """The VRF that a device is in, itself if it is one, 0 for none."""
    link = state.links.get(ifindex)
    if link is None:
        return 0
    if link.kind == "vrf":
        return ifindex
    master = state.links.get(link.master)
    return master.ifindex if master and master.kind == "vrf" else 0
