"""Longest-prefix match as `fib_table_lookup` does it, and how `ip route` prints a route."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from tracer.enrich.names import Names, system_names
from tracer.enrich.nexthops import DEAD, Found, Reach, Selectors, members, nexthops_of
from tracer.enrich.routes6 import RouteTable6
from tracer.enrich.selectors import HOST_LENGTH, TOS_MASK
from tracer.model.network import IPV4, NetworkState, Nexthop, NexthopObject, Route, address_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BITS = HOST_LENGTH[IPV4]
UNICAST, BLACKHOLE, UNREACHABLE, PROHIBIT, THROW = 1, 6, 7, 8, 9
# fib_props[].error: what a lookup that ends in such a route returns
TYPE_ERRORS = {BLACKHOLE: -22, UNREACHABLE: -113, PROHIBIT: -13, THROW: -11, 10: -22, 11: -22}


class Observed(NamedTuple):
    """What a probe read of the route that a lookup ended in; None where it could not be read.

    `gateway` is an integer of either family, 0 for on link; `error` is 0 or -errno. A lookup that failed
    shows nothing but `error`; a route through a nexthop object shows `nhid` and the nexthop, nothing else.
    """

    type: int | None = None
    protocol: int | None = None
    scope: int | None = None
    metric: int | None = None
    gateway: int | None = None
    ifindex: int | None = None
    nhid: int | None = None
    error: int = 0


class RouteTable:
    """The routes of one IPv4 table, indexed by prefix length and prefix."""

    def __init__(self, routes: Iterable[Route], objects: Mapping[int, NexthopObject]) -> None:
        self._objects = objects
        by_length: dict[int, dict[int, list[Route]]] = {}
        for route in routes:
            shift = BITS - route.dst_len
            by_length.setdefault(route.dst_len, {}).setdefault(route.dst >> shift, []).append(route)
        for prefixes in by_length.values():
            for same in prefixes.values():
                # The order of aliases in a leaf (fib_insert_alias); among equals the dump's order stays.
                same.sort(key=lambda route: (-route.table, -route.tos, route.metric))
        self._lengths = tuple((length, by_length[length]) for length in sorted(by_length, reverse=True))

    def lookup(self, daddr: int, selectors: Selectors = Selectors()) -> Route | None:  # noqa: B008 - immutable
        """The route that the lookup ends in, also one that makes it fail; None if nothing matches."""
        found = self.search(daddr, selectors)
        return found.route if found else None

    def search(self, daddr: int, selectors: Selectors = Selectors()) -> Found | None:  # noqa: B008 - immutable
        """The same with the nexthops that the kernel then chooses among."""
        left_leaf = None
        for length, prefixes in self._lengths:
            for route in prefixes.get(daddr >> (BITS - length), ()):
                if route.dst == left_leaf or not _is_candidate(route, selectors):
                    continue
                if route.type in TYPE_ERRORS:
                    return Found(route, (), route.type)
                if route.nhid and self._is_blackhole(route.nhid):
                    return Found(route, (), BLACKHOLE)
                good = self._good_nexthops(route, selectors.oif)
                if good:
                    return Found(route, good, route.type)
                if route.nhid:
                    # `goto miss`: without a good member the kernel leaves the leaf, and with it every
                    # other route that has the same first address, whatever its length.
                    left_leaf = route.dst
        return None

    def _good_nexthops(self, route: Route, oif: int) -> tuple[Nexthop, ...]:
        """All that may be used; the first with the wanted device, as `fib_select_path` then does not choose."""
        hops = nexthops_of(route, self._objects)
        good = tuple(nexthop for nexthop in hops if _is_good(nexthop, oif))
        return good[:1] if oif else good

    def _is_blackhole(self, nhid: int) -> bool:
        return any(item.blackhole for item, _ in members(nhid, self._objects))


def _is_candidate(route: Route, selectors: Selectors) -> bool:
    if route.tos and route.tos != selectors.tos & TOS_MASK:
        return False
    return route.scope >= selectors.scope


def _is_good(nexthop: Nexthop, oif: int) -> bool:
    return not nexthop.flags & DEAD and (not oif or oif == nexthop.ifindex)


Table = RouteTable | RouteTable6


class RouteIndex:
    """All readable tables of one state, each indexed when first asked for."""

    def __init__(self, state: NetworkState) -> None:
        self._state = state
        self._reach = Reach(state)
        self._tables: dict[tuple[int, int], Table | None] = {}

    def table(self, table_id: int, family: int = IPV4) -> Table | None:
        """The table, None if its routes are not known."""
        key = (family, table_id)
        if key not in self._tables:
            routes = self._state.routes(family, table_id)
            self._tables[key] = None if routes is None else self._indexed(routes, family)
        return self._tables[key]

    def _indexed(self, routes: Sequence[Route], family: int) -> Table:
        if family == IPV4:
            return RouteTable(routes, self._state.nexthops)
        return RouteTable6(routes, self._state.nexthops, self._reach)

    def merged(self) -> RouteTable | None:
        """The one trie of local and main, as long as no rule was ever added; None if it is not known."""
        known = [
            self._state.routes(IPV4, table) for table in (255, 254) if self._state.has_table(IPV4, table)
        ]
        found = [routes for routes in known if routes is not None]
        if len(found) < len(known):
            return None
        return RouteTable([route for routes in found for route in routes], self._state.nexthops)


@lru_cache(maxsize=256)
def route_index(state: NetworkState) -> RouteIndex:
    """The index of a state, made once."""
    return RouteIndex(state)


def match(
    state: NetworkState,
    table_id: int,
    daddr: int,
    observed: Observed,
    selectors: Selectors = Selectors(),  # noqa: B008 - immutable
) -> Route | None:
    """The route that a lookup in this table ended in, None unless all that was observed agrees with it.

    `table_id` is the table that owns the route; `selectors` name the family (`selectors_for`).
    """
    table = route_index(state).table(table_id, selectors.family)
    route = table.lookup(daddr, selectors) if table else None
    if route is None or TYPE_ERRORS.get(route.type, 0) != observed.error:
        return None
    if observed.error:
        return route
    return route if _agrees(route, observed, state) else None


def _agrees(route: Route, observed: Observed, state: NetworkState) -> bool:
    if observed.nhid:
        ids = {item.id for item, _ in members(route.nhid, state.nexthops)}
        if observed.nhid != route.nhid and observed.nhid not in ids:
            return False
    else:
        seen_values = (observed.type, observed.protocol, observed.scope, observed.metric, observed.nhid)
        own_values = (route.type, route.protocol, route.scope, route.metric, route.nhid)
        pairs = zip(seen_values, own_values, strict=True)
        if any(seen is not None and seen != own for seen, own in pairs):
            return False
    return any(
        observed.gateway in {None, nexthop.gateway} and observed.ifindex in {None, nexthop.ifindex}
        for nexthop in nexthops_of(route, state.nexthops)
    )


def route_text(route: Route, state: NetworkState, names: Names | None = None) -> str:
    """The start of the line of `ip route show table T`: type, prefix, nexthops, all on one line."""
    parts = [] if route.type == UNICAST else [route.type_name]
    parts.append(_destination(route))
    if route.src_len:
        parts.append(f"from {address_text(route.family, route.src)}/{route.src_len}")
    if route.nhid:
        parts.append(f"nhid {route.nhid}")
    if route.encap:
        parts.append("encap")
    if route.tos:
        dsfields = (names or system_names()).dsfields
        parts.append(f"tos {dsfields.get(route.tos, f'0x{route.tos:02x}')}")
    if len(route.nexthops) == 1:
        parts += _nexthop_words(route.family, route.nexthops[0], state)
    for nexthop in route.nexthops if len(route.nexthops) > 1 else ():
        parts += ["nexthop", *_nexthop_words(route.family, nexthop, state), f"weight {nexthop.weight}"]
    return " ".join(parts)


def _destination(route: Route) -> str:
    if not route.dst_len:
        return "default"
    text = address_text(route.family, route.dst)
    return text if route.dst_len == HOST_LENGTH.get(route.family, 128) else f"{text}/{route.dst_len}"


def _nexthop_words(family: int, nexthop: Nexthop, state: NetworkState) -> list[str]:
    words = []
    if nexthop.gateway_family:
        name = "inet " if nexthop.gateway_family == IPV4 else "inet6 "
        other = "" if nexthop.gateway_family == family else name
        words.append(f"via {other}{address_text(nexthop.gateway_family, nexthop.gateway)}")
    if nexthop.ifindex:
        link = state.links.get(nexthop.ifindex)
        words.append(f"dev {link.name if link else f'if{nexthop.ifindex}'}")
    return words
