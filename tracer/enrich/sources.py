"""Which source address the kernel takes for a route where the sender named none, and from where (IPv4).

Follows `fib_result_prefsrc()` and `inet_select_addr()`. For IPv6 (RFC 6724) nothing is said: unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.model.network import IPV4, address_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.model.network import Address, NetworkState, Nexthop, Route

_LOCAL, _SCOPE_LINK, _BITS = 2, 253, 32


class Source(NamedTuple):
    """An address and where it comes from, in words."""

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
    return _of_device(state, route, nexthop) if nexthop is not None else None


def _of_device(state: NetworkState, route: Route, nexthop: Nexthop) -> Source | None:
    """The address of the nexthop's device that the route's scope allows, best one in the gateway's network."""
    on_device = _primary([a for a in state.addresses if a.family == IPV4 and a.ifindex == nexthop.ifindex])
    target = nexthop.gateway if nexthop.gateway_family == IPV4 else 0
    usable = [item for item in on_device if item.scope <= route.scope]
    same_net = [item for item in usable if target and _holds(item, target)]
    name = _name(state, nexthop.ifindex)
    if same_net:
        why = f"the address of {name} in the network of the gateway {address_text(IPV4, target)}"
        return Source(same_net[0].address, why)
    if usable:
        return Source(usable[0].address, f"the first address of {name}")
    return _elsewhere(state, route, nexthop)


def _elsewhere(state: NetworkState, route: Route, nexthop: Nexthop) -> Source | None:
    """The device has no address: the first one of another, which must not be of scope link."""
    link = state.links.get(nexthop.ifindex)
    if link is not None and link.master:
        return None  # a VRF's devices are asked first, in an order that is not read here
    for item in _primary([a for a in state.addresses if a.family == IPV4 and a.ifindex != nexthop.ifindex]):
        if item.scope <= route.scope and item.scope != _SCOPE_LINK:
            name = _name(state, nexthop.ifindex)
            where = f"{name} has no address: the first of {_name(state, item.ifindex)}"
            return Source(item.address, where)
    return None


def _name(state: NetworkState, ifindex: int) -> str:
    link = state.links.get(ifindex)
    return link.name if link else f"if{ifindex}"


def _holds(item: Address, address: int) -> bool:
    shift = _BITS - item.prefix_len
    return item.address >> shift == address >> shift


def _primary(addresses: Sequence[Address]) -> list[Address]:
    """Without the secondary ones: those in the same network of a device as one before them."""
    found: list[Address] = []
    for item in addresses:
        same = (
            other.ifindex == item.ifindex
            and other.prefix_len == item.prefix_len
            and _holds(other, item.address)
            for other in found
        )
        if not any(same):
            found.append(item)
    return found
