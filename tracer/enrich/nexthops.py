"""What the lookups of both families ask about nexthops, and what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.model.network import IPV4, IPV6, NetworkState, Nexthop, NexthopObject, Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracer.enrich.selectors import FlowKey

DEAD = 1  # RTNH_F_DEAD; a dump also sets it for `linkdown` where the device ignores routes with linkdown
NUD_FAILED = 0x20
LOOPBACK = 1


class Selectors(NamedTuple):
    """What a lookup is restricted by besides the destination; 0 is no restriction. `tos` is the DS field.

    The rest is IPv6's: `oif` is there the ingress device of an input lookup, `strict` says that no other
    device will do, `reachable` that gateways known to be unreachable come last.
    """

    tos: int = 0
    oif: int = 0
    scope: int = 0
    family: int = IPV4
    saddr: int = 0
    strict: bool = False
    reachable: bool = False


class Found(NamedTuple):
    """The route that a lookup ended in, the nexthops that the kernel chooses among, and what it amounts to.

    `type` is the route's, or blackhole where its nexthop object is one; `device` is set where the packet uses
    another device than the nexthop's (IPv6 delivers through loopback).
    """

    route: Route
    nexthops: tuple[Nexthop, ...]
    type: int
    device: int = 0


class Reach:
    """Which gateways the neighbour tables call unreachable; None of them where these were not read."""

    def __init__(self, state: NetworkState) -> None:
        known = state.neighbours
        self.is_known = known is not None
        self._failed = {
            (item.ifindex, item.address)
            for item in known or ()
            if item.family == IPV6 and item.state & NUD_FAILED
        }

    def is_reachable(self, nexthop: Nexthop) -> bool:
        """`rt6_check_neigh`: a gateway that nobody has tried yet counts as reachable."""
        return (nexthop.ifindex, nexthop.gateway) not in self._failed


def selectors_for(state: NetworkState, flow: FlowKey) -> Selectors:
    """What the kernel restricts the lookup of a flow by: `ip6_route_output_flags`, `ip6_route_input_lookup`."""
    if flow.family == IPV4:
        return Selectors(flow.tos, flow.oif)
    strict = is_strict(flow.daddr)
    if flow.iif == LOOPBACK:
        strict = strict or bool(flow.oif and not flow.saddr)
    device = flow.oif if flow.iif == LOOPBACK else flow.iif
    forwarding = state.settings6["all"].forwarding if "all" in state.settings6 else 1
    return Selectors(flow.tos, device, 0, flow.family, flow.saddr, strict, not forwarding)


def is_strict(daddr: int) -> bool:
    """`rt6_need_strict`: multicast, link-local and loopback belong to one device."""
    return daddr >> 120 == 0xFF or daddr >> 118 == 0x3FA or daddr == 1  # noqa: PLR2004 - ff00::/8, fe80::/10


def members_of(nhid: int, objects: Mapping[int, NexthopObject]) -> tuple[Nexthop, ...]:
    """The nexthops behind a nexthop object."""
    return tuple(
        Nexthop(item.ifindex, item.gateway_family, item.gateway, weight, item.flags)
        for item, weight in members(nhid, objects)
        if not item.blackhole
    )


def members(nhid: int, objects: Mapping[int, NexthopObject]) -> Iterator[tuple[NexthopObject, int]]:
    """The object itself, or the members of the group with their weights."""
    item = objects.get(nhid)
    if item is None:
        return
    if not item.group:
        yield item, 1
    for member, weight in item.group:
        if member in objects:
            yield objects[member], weight


def nexthops_of(route: Route, objects: Mapping[int, NexthopObject]) -> tuple[Nexthop, ...]:
    """The route's nexthops; those of its nexthop object where the route does not repeat them."""
    if route.nexthops or not route.nhid:
        return route.nexthops
    return members_of(route.nhid, objects)
