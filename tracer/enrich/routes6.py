"""The route that a lookup in one IPv6 table ends in, as `fib6_table_lookup` finds it.

An IPv6 table is a tree of destinations; each may carry a subtree of sources. Within one prefix the lowest
metric comes first, and among equals a score decides: the wanted device, then the router preference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.enrich.nexthops import DEAD, Found, Reach, Selectors, members_of
from tracer.model.network import Nexthop, NexthopObject, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BITS = 128
LOOPBACK = 1
LOCAL_TYPES = frozenset({2, 4})
BLACKHOLE = 6
PREFERENCES = {0: 2, 1: 3, 3: 1}  # RTA_PREF (medium, high, low) as rt6_score_route counts it

Leaf = list[Route]
Prefixes = tuple[tuple[int, dict[int, Leaf]], ...]


class _Node:
    """One destination prefix: its routes from anywhere, and those of its source prefixes, longest first."""

    __slots__ = ("leaf", "subtree")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.leaf: Leaf = []
        by_length: dict[int, dict[int, Leaf]] = {}
        # The order of a dump is that of the leaf (fib6_add_rt2node): by metric, then by age.
        for route in sorted(routes, key=lambda item: item.metric):
            if route.src_len:
                shift = BITS - route.src_len
                by_length.setdefault(route.src_len, {}).setdefault(route.src >> shift, []).append(route)
            else:
                self.leaf.append(route)
        self.subtree: Prefixes = tuple((size, by_length[size]) for size in sorted(by_length, reverse=True))

    def sources(self, saddr: int) -> Iterator[Leaf]:
        """The leaves of the subtree that cover a source, longest prefix first."""
        for length, prefixes in self.subtree:
            found = prefixes.get(saddr >> (BITS - length))
            if found:
                yield found


class _Choice(NamedTuple):
    route: Route
    nexthop: Nexthop
    blackhole: bool = False


class RouteTable6:
    """The routes of one IPv6 table."""

    def __init__(self, routes: Iterable[Route], objects: Mapping[int, NexthopObject], reach: Reach) -> None:
        self._objects, self._reach = objects, reach
        by_prefix: dict[tuple[int, int], Leaf] = {(0, 0): []}
        for route in routes:
            by_prefix.setdefault((route.dst_len, route.dst >> (BITS - route.dst_len)), []).append(route)
        by_length: dict[int, dict[int, _Node]] = {}
        for (length, prefix), same in by_prefix.items():
            by_length.setdefault(length, {})[prefix] = _Node(same)
        self._lengths = tuple((size, by_length[size]) for size in sorted(by_length, reverse=True))

    def lookup(self, daddr: int, selectors: Selectors) -> Route | None:
        """The route that the lookup ends in, also one that makes it fail; None if nothing matches."""
        found = self.search(daddr, selectors)
        return found.route if found else None

    def search(self, daddr: int, selectors: Selectors) -> Found | None:
        """The same with the nexthops that the kernel then chooses among."""
        for reachable in (True, False) if selectors.reachable else (False,):
            asked = selectors._replace(reachable=reachable)
            for leaf in self._leaves(daddr, selectors.saddr):
                choice = self._select(leaf, asked)
                if choice:
                    return self._found(choice, selectors)
        return None

    def _leaves(self, daddr: int, saddr: int) -> Iterator[Leaf]:
        """The leaves in the order of the search: fib6_node_lookup(), then fib6_backtrack().

        Going down, a prefix with a subtree counts only by it; going back up, by its own routes as well.
        """
        started = False
        for length, nodes in self._lengths:
            node = nodes.get(daddr >> (BITS - length))
            if node is None:
                continue
            inner = list(node.sources(saddr))
            if not started and node.subtree and not inner and length:
                continue
            started = True
            yield from inner
            if node.leaf:
                yield node.leaf

    def _select(self, leaf: Leaf, selectors: Selectors) -> _Choice | None:
        """`rt6_select`: the best of the lowest metric; if none of these is usable, the best of all others."""
        metric = leaf[0].metric
        best = self._best([route for route in leaf if route.metric == metric], selectors)
        return best or self._best([route for route in leaf if route.metric != metric], selectors)

    def _best(self, routes: Leaf, selectors: Selectors) -> _Choice | None:
        best, highest = None, -1
        for route in routes:
            if route.expired:
                continue
            if route.nhid and self._is_blackhole(route.nhid):
                return _Choice(route, Nexthop(LOOPBACK), blackhole=True)
            for nexthop in self._hops(route):
                points = self._score(route, nexthop, selectors)
                if points is not None and points > highest:
                    best, highest = _Choice(route, nexthop), points
                    if route.nhid:
                        break
        return best

    def _score(self, route: Route, nexthop: Nexthop, selectors: Selectors) -> int | None:
        """`find_match`; None for a nexthop that cannot be used."""
        if nexthop.flags & DEAD:
            return None
        right = not selectors.oif or nexthop.ifindex == selectors.oif
        if selectors.strict and not right:
            return None
        if selectors.reachable and nexthop.gateway_family and not self._reach.is_reachable(nexthop):
            return None
        return (2 if right else 0) | PREFERENCES.get(route.pref, 0) << 2

    def _found(self, choice: _Choice, selectors: Selectors) -> Found:
        """The chosen nexthop, or all among which `fib6_select_path` chooses by hash."""
        route = choice.route
        if choice.blackhole:
            return Found(route, (), BLACKHOLE)
        hops = self._hops(route)
        if route.nhid:
            hops = tuple(hop for hop in hops if not hop.flags & DEAD) or (choice.nexthop,)
        else:
            hops = tuple(
                hop for hop in hops if hop == choice.nexthop or self._score(route, hop, selectors) is not None
            )
        if route.type in LOCAL_TYPES:
            return Found(route, hops, route.type, LOOPBACK)
        return Found(route, hops, route.type)

    def _hops(self, route: Route) -> tuple[Nexthop, ...]:
        if route.nhid:
            return members_of(route.nhid, self._objects) or route.nexthops
        return route.nexthops or (Nexthop(LOOPBACK),)

    def _is_blackhole(self, nhid: int) -> bool:
        item = self._objects.get(nhid)
        if item is not None and len(item.group) == 1:
            item = self._objects.get(item.group[0][0])
        return item is not None and item.blackhole
