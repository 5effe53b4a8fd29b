"""Where the source address of a packet comes from that its sender left open, in words (IPv4; IPv6 is not modelled)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.enrich.sources import route_source
from tracer.model.network import IPV4, address_text

if TYPE_CHECKING:
    from tracer.model.network import Address, NetworkState, Nexthop, Route

_LOCAL, _BITS = 2, 32


class Source(NamedTuple):
    """An address and where it comes from."""

    address: int
    where: str


def select_source(
    state: NetworkState, route: Route, nexthop: Nexthop | None, destination: int
) -> Source | None:
    """The source for a packet by this route and nexthop; None where it cannot be told."""
    if route.family != IPV4:
        return None
    if route.prefsrc:
        return Source(route.prefsrc, "the preferred source (src) of the route")
    if route.type == _LOCAL:
        return Source(destination, "the destination itself: it is an address of this host")
    found = route_source(state, route, nexthop) if nexthop is not None else 0
    return Source(found, _where(state, nexthop, found)) if found and nexthop is not None else None


def _where(state: NetworkState, nexthop: Nexthop, found: int) -> str:
    name = _name(state, nexthop.ifindex)
    own = [item for item in state.addresses if item.family == IPV4 and item.address == found]
    if not any(item.ifindex == nexthop.ifindex for item in own):
        there = f" of {_name(state, own[0].ifindex)}" if own else ""
        return f"the first usable address{there}, as {name} has none"
    target = nexthop.gateway if nexthop.gateway_family == IPV4 else 0
    if target and any(_holds(item, target) for item in own):
        return f"the address of {name} in the network of the gateway {address_text(IPV4, target)}"
    return f"the first usable address of {name}"


def _name(state: NetworkState, ifindex: int) -> str:
    link = state.links.get(ifindex)
    return link.name if link else f"if{ifindex}"


def _holds(item: Address, address: int) -> bool:
    shift = _BITS - item.prefix_len
    return (item.peer or item.address) >> shift == address >> shift
