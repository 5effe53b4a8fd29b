"""Rules and routes of the configuration that nothing has hit, and since when that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.enrich.selectors import rule_text
from tracer.model.network import IPV4, NetworkState, Route, Rule
from tracer.top.items import FAMILY_NUMBERS, Item, Tally, route_item
from tracer.top.table import Line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tracer.enrich.names import Names
    from tracer.model.network import Network
    from tracer.top.counters import Totals

_UNSEEN_ACTIONS = frozenset({"goto", "nop"})
"""A rule with one of these searches nothing and ends nothing: whether it matched is not seen."""
_LOCAL, _BROADCAST, _ANYCAST, _MULTICAST = 2, 3, 4, 5
_UNASKED_TYPES = frozenset({_LOCAL, _BROADCAST, _ANYCAST, _MULTICAST})


def unused(
    network: Network, totals: Totals, names: Names, families: Collection[int], *, everything: bool
) -> Iterator[Line]:
    """Of all namespaces, in their order; with `everything` also local and broadcast routes."""
    items, start_ns = totals.items, totals.start_ns
    hit = {_identity(item) for item in items}
    for inode in network.inodes():
        state = network.latest(inode)
        if state is None:
            continue
        for rule in (rule for family in families for rule in state.rules_of(family)):
            item = Item(
                "rule",
                inode,
                FAMILY_NUMBERS[rule.family],
                rule=rule.priority,
                rule_text=rule_text(rule, state.table_names, names),
                evidence="inferred",
            )
            if rule.action not in _UNSEEN_ACTIONS and _identity(item) not in hit:
                since_ns = max(start_ns, _since(network, inode, rule))
                yield Line(item, state.name, Tally(), 0.0, since_ns, _unknown(items, item))
        for route in (route for family in families for route in _routes(state, family)):
            item = route_item(state, route, names)
            if (everything or route.type not in _UNASKED_TYPES) and _identity(item) not in hit:
                since_ns = max(start_ns, _since(network, inode, route))
                yield Line(item, state.name, Tally(), 0.0, since_ns, _unknown(items, item))


def unread(network: Network) -> list[tuple[str, int]]:
    """(namespace, table) of tables that were too large to read: what of them is unused is not known."""
    states = [state for state in map(network.latest, network.inodes()) if state]
    return [
        (state.name or str(state.inode), table)
        for state in states
        for table in (*sorted(state.large), *sorted(state.large6))
    ]


def _routes(state: NetworkState, family: int) -> Iterator[Route]:
    tables = state.tables if family == IPV4 else state.tables6
    return (route for routes in tables.values() for route in routes)


def _identity(item: Item) -> tuple[object, ...]:
    return (
        item.by,
        item.netns_inode,
        item.family,
        item.rule,
        item.rule_text,
        item.table_id,
        item.prefix,
        item.route,
    )


def _since(network: Network, inode: int, what: Rule | Route) -> int:
    """Since when the newest version and those right before it have had this."""
    since_ns = 0
    for state in reversed(network.versions(inode)):
        rules = isinstance(what, Rule)
        there = state.rules_of(what.family) if rules else state.routes(what.family, what.table) or ()
        if what not in there:
            break
        since_ns = state.since_ns
    return since_ns


def _unknown(items: Mapping[Item, Tally], missing: Item) -> int:
    """Hits that could not be told apart, and may have been its own."""
    return sum(
        tally.hits
        for item, tally in items.items()
        if item.by == missing.by
        and item.is_unknown
        and item.family == missing.family
        and item.netns_inode in {0, missing.netns_inode}
        and (item.by == "rule" or item.table_id in {None, missing.table_id})
    )
