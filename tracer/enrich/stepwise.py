"""The states between two readings: notifications of rules and routes applied one by one.

Whoever comes late to several notifications can read only how it is after the last of them. A packet in between was
routed by a state that is gone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tracer.enrich import decode
from tracer.enrich.changes import NEW_ROUTE, NEW_RULE, PARTS, RTA_TABLE, patched
from tracer.enrich.netlink import parse
from tracer.model.network import IPV4

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.enrich.decode import Message
    from tracer.enrich.notifications import Arrived
    from tracer.model.network import NetworkState, Route, Rule

NLM_F_REPLACE = 0x100
# Beyond these, as when a full table is loaded, applying them one by one takes longer than they take to come.
MOST_NOTIFICATIONS, LARGEST_TABLE = 1000, 2000


def between(before: NetworkState, arrived: list[Arrived]) -> Iterator[NetworkState]:
    """The state after each notification, as far as they tell: up to the first that is of something else."""
    state = before
    if len(arrived) > MOST_NOTIFICATIONS:
        return
    for one in arrived:
        for message in parse(one.data or b""):
            after = _applied(state, message)
            if after is None:
                return
            if after is state:
                continue
            state = replace(after, since_ns=max(one.ts_ns, state.since_ns), unsure_ns=one.unsure_ns)
            yield state


def _applied(state: NetworkState, message: Message) -> NetworkState | None:
    kind = message.type & ~3
    if kind == NEW_RULE:
        return _with_rule(state, message)
    if kind == NEW_ROUTE:
        return _with_route(state, message)
    return None if kind in PARTS else state  # neighbours, say, are no part of it


def _with_rule(state: NetworkState, message: Message) -> NetworkState | None:
    """A new rule stands behind those of the same preference (`fib_nl_newrule`)."""
    rule = decode.rule(message)
    rules = state.rules_of(rule.family)
    if message.type == NEW_RULE:
        place = sum(1 for other in rules if other.priority <= rule.priority)
        rules = (*rules[:place], rule, *rules[place:])
    else:
        same = [place for place, other in enumerate(rules) if _bare(other) == _bare(rule)]
        if not same:
            return None
        rules = rules[: same[0]] + rules[same[0] + 1 :]
    return replace(state, rules=rules) if rule.family == IPV4 else replace(state, rules6=rules)


def _bare(rule: Rule) -> Rule:
    return replace(rule, iif_detached=False, oif_detached=False, unresolved=False)


def _with_route(state: NetworkState, message: Message) -> NetworkState | None:
    family = message.fields["family"]
    table = decode.number(message.attributes.get(RTA_TABLE), message.fields["table"])
    tables = state.tables if family == IPV4 else state.tables6
    routes = tables.get(table, ())
    large = state.large if family == IPV4 else state.large6
    if table in large or len(routes) > LARGEST_TABLE:
        return None
    after = _patched(tuple(routes), message)
    if after is None:
        return None
    changed = {**tables, table: after}
    return replace(state, tables=changed) if family == IPV4 else replace(state, tables6=changed)


def _patched(routes: tuple[Route, ...], message: Message) -> tuple[Route, ...] | None:
    """A replaced route gives up its place to the new one, where it is the only one of its prefix and metric."""
    if not message.flags & NLM_F_REPLACE or message.type != NEW_ROUTE:
        return patched(routes, [message])
    without = patched(routes, [message._replace(type=NEW_ROUTE + 1)])
    return patched(routes if without is None else without, [message])
