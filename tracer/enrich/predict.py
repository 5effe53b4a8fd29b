"""What the kernel would do with a flow: the rule list and the tables walked as `__fib_lookup()` walks them.

For questions and tests. What a packet did is observed, never predicted.
"""

from __future__ import annotations

from typing import NamedTuple

from tracer.enrich.routes import TYPE_ERRORS, RouteTable, Selectors, route_index
from tracer.enrich.rules import DEFAULT, MAIN, Observation, rule_index
from tracer.enrich.selectors import ACTIONS, FlowKey
from tracer.model.network import IPV4, NetworkState, Route, Rule

RESULTS = {-22: "blackhole", -113: "unreachable", -13: "prohibit", -11: "throw", 0: "hit"}
RULE_ERRORS = {"unreachable": -101, "prohibit": -13, "blackhole": -22}
NO_ROUTE = -101
GOES_ON = frozenset({"miss", "throw"})


class Lookup(NamedTuple):
    """One table searched: by which rule (None where the kernel consults none), and what came out."""

    rule: Rule | None
    table: int
    route: Route | None
    result: str
    suppressed: bool

    @property
    def observation(self) -> Observation:
        """What a probe would see of it."""
        return self.table, self.route.table if self.route and self.result == "hit" else 0, self.result


class Prediction(NamedTuple):
    """The lookups in order, the rule that refuses if one does, and the error of the whole (0 or -errno)."""

    lookups: tuple[Lookup, ...]
    final_rule: Rule | None
    error: int

    @property
    def route(self) -> Route | None:
        """The route that counts; None if there is none."""
        return None if self.error else self.lookups[-1].route


def predict(state: NetworkState, flow: FlowKey) -> Prediction | None:
    """The walk for a flow; None if a table is not known or a rule cannot be evaluated."""
    index = rule_index(state, flow.family)
    lookups: list[Lookup] = []
    position = 0
    while position < len(index.matchers):
        matcher, here = index.matchers[position], position
        matched, rule = matcher.matches(flow), matcher.rule
        position += 1
        if matched is None:
            return None
        if matched and rule.action == "goto":
            position = index.target(here)
        elif matched and rule.action in ACTIONS:
            return Prediction(tuple(lookups), rule, RULE_ERRORS[rule.action])
        elif matched and rule.action == "lookup" and state.has_table(flow.family, index.table_of(rule, flow)):
            found = _look_up(state, flow, rule)
            if found is None:
                return None
            lookups.append(found)
            if found.result not in GOES_ON and not found.suppressed:
                return _ended(lookups)
    return Prediction(tuple(lookups), None, NO_ROUTE)


def predict_merged(state: NetworkState, flow: FlowKey) -> Prediction | None:
    """The same while no rule was ever added: local and main are one trie and no rule is consulted."""
    index = route_index(state)
    tables = [(MAIN, index.merged())]
    if state.has_table(IPV4, DEFAULT):
        tables.append((DEFAULT, index.table(DEFAULT)))
    lookups: list[Lookup] = []
    for number, table in tables:
        if table is None:
            return None
        lookups.append(_search(table, flow, number, None))
        if lookups[-1].result not in GOES_ON:
            return _ended(lookups)
    return Prediction(tuple(lookups), None, NO_ROUTE)


def _look_up(state: NetworkState, flow: FlowKey, rule: Rule) -> Lookup | None:
    index = rule_index(state, flow.family)
    number = index.table_of(rule, flow)
    table = route_index(state).table(number, flow.family)
    if table is None:
        return None
    found = _search(table, flow, number, rule)
    if found.result != "hit":
        return found
    return found._replace(suppressed=bool(index.suppressed(rule, flow, number)))


def _search(table: RouteTable, flow: FlowKey, number: int, rule: Rule | None) -> Lookup:
    route = table.lookup(flow.daddr, Selectors(flow.tos, flow.oif))
    result = "miss" if route is None else RESULTS[TYPE_ERRORS.get(route.type, 0)]
    return Lookup(rule, number, route, result, suppressed=False)


def _ended(lookups: list[Lookup]) -> Prediction:
    last = lookups[-1]
    error = TYPE_ERRORS.get(last.route.type, 0) if last.route else NO_ROUTE
    return Prediction(tuple(lookups), None, error)
