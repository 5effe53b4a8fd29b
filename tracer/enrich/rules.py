"""Which rule sent each lookup of a decision to its table: the rule list replayed against what was observed.

Follows `fib_rules_lookup()` (net/core/fib_rules.c). Nothing is guessed: where the observation has no
explanation, or two that differ, the rule is None.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tracer.enrich.nexthops import Found, members, nexthops_of, selectors_for
from tracer.enrich.routes import route_index
from tracer.enrich.selectors import ACTIONS, HOST_LENGTH, FlowKey, Matcher, rule_text, suppressing_tables
from tracer.model.network import IPV4, NetworkState, Route, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "Assignment", "FlowKey", "Observation", "RuleIndex", "Step", "assign", "rule_index", "rule_text",
    "suppressing_tables",
]  # fmt: skip

LOCAL, MAIN, DEFAULT = 255, 254, 253
MAX_EXPLANATIONS = 16
CACHE_SIZE = 1 << 16
AGAIN = frozenset({"miss", "throw", "unknown"})
FINAL = frozenset({"unreachable", "prohibit", "blackhole", "unknown"})

_T = TypeVar("_T")

Observation = tuple[int, int, str]
"""(walked table, table that owns the route or 0, result); the result is one of hit, miss, throw, unreachable,
prohibit, blackhole, unknown."""


class Step(NamedTuple):
    """One observed lookup: the rule that caused it, and whether its hit was thrown away; None for unknown."""

    rule: Rule | None
    suppressed: bool | None


class Assignment(NamedTuple):
    """One decision: a step per observed lookup, and how the walk ended.

    `end` is "hit", "route error" (a blackhole, unreachable or prohibit route), "rule error" (`final_rule`
    says which), "no rule left" or "unknown". With `consistent` false nothing explains the observation.
    """

    steps: tuple[Step, ...]
    end: str
    final_rule: Rule | None
    consistent: bool
    merged: bool = False


Outcome = Assignment | tuple[int, tuple[Step, ...]]
"""Where one rule leads: the end of the walk, or a position to go on from with the steps so far."""


def assign(state: NetworkState, flow: FlowKey, observed: Sequence[Observation]) -> Assignment:
    """The rule behind each of the lookups of ONE decision, in the order they were observed."""
    return rule_index(state, flow.family).assign(flow, tuple(observed))


class RuleIndex:
    """The rules of one state and family, ready to be replayed; answers are cached by selectors in use."""

    def __init__(self, state: NetworkState, family: int = IPV4) -> None:
        self._state, self._family = state, family
        self._rules = state.rules_of(family)
        self.matchers = tuple(Matcher(rule, state.links) for rule in self._rules)
        self._first_of: dict[int, int] = {}
        for position, rule in enumerate(self._rules):
            self._first_of.setdefault(rule.priority, position)
        self._default = family == IPV4 and is_default(self._rules)
        self._key = _key_function(self._rules)
        self._cache: dict[object, Assignment] = {}

    def assign(self, flow: FlowKey, observed: tuple[Observation, ...]) -> Assignment:
        """See `assign`."""
        key = (self._key(flow), observed)
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            found = self._cache[key] = self._explain(flow, observed)
        return found

    def _explain(self, flow: FlowKey, observed: tuple[Observation, ...]) -> Assignment:
        if self._default and observed and observed[0][0] == MAIN:
            return self._merged(flow, observed)
        explanations: list[Assignment] = []
        for explanation in self._explanations(flow, observed):
            if explanation not in explanations:
                explanations.append(explanation)
            if len(explanations) >= MAX_EXPLANATIONS:
                return _nothing(observed)
        if not explanations:
            return _nothing(observed)
        return explanations[0] if len(explanations) == 1 else _common(explanations)

    def _merged(self, flow: FlowKey, observed: tuple[Observation, ...]) -> Assignment:
        """No rule was ever added: the kernel walks one trie for local and main, then default."""
        by_table = {rule.table: rule for rule in self._rules}
        steps = []
        for number, (walked, owner, result) in enumerate(observed):
            if number > 1 or walked != (MAIN, DEFAULT)[number] or (number and observed[0][2] not in AGAIN):
                return _nothing(observed)
            table = walked
            if walked == MAIN and result not in AGAIN:
                table = owner or self._merged_owner(flow)
            steps.append(Step(by_table.get(table), suppressed=False))
        result = observed[-1][2]
        if len(observed) == 1 and result in AGAIN and self._state.has_table(IPV4, DEFAULT):
            return _nothing(observed)
        return Assignment(tuple(steps), _end_of(result), None, consistent=True, merged=True)

    def _merged_owner(self, flow: FlowKey) -> int:
        """The table of a hit whose owner could not be read, by the longer prefix; 0 if unknown."""
        found = [(table, self._route(table, flow)) for table in (LOCAL, MAIN)]
        if any(self._state.routes(IPV4, table) is None for table, _ in found):
            return 0
        lengths = [(route.dst_len, table) for table, route in found if route]
        return max(lengths)[1] if lengths else 0

    def _route(self, table: int, flow: FlowKey) -> Route | None:
        found = self._found(table, flow)
        return found.route if found else None

    def _found(self, table: int, flow: FlowKey) -> Found | None:
        routes = route_index(self._state).table(table, self._family)
        return routes.search(flow.daddr, selectors_for(self._state, flow)) if routes else None

    def _explanations(self, flow: FlowKey, observed: tuple[Observation, ...]) -> Iterator[Assignment]:
        """Every way in which the rule list produces exactly these lookups."""
        pending: list[tuple[int, tuple[Step, ...]]] = [(0, ())]
        budget = 64 * (len(self._rules) + 1)
        while pending and budget:
            budget -= 1
            position, steps = pending.pop()
            if position >= len(self._rules):
                if len(steps) == len(observed):
                    yield Assignment(steps, _exhausted(observed), None, consistent=True)
                continue
            matched = self.matchers[position].matches(flow)
            if matched is not True:
                pending.append((position + 1, steps))
            if matched is not False:
                ended = self._act(position, steps, flow, observed)
                pending += [step for step in ended if not isinstance(step, Assignment)]
                yield from (step for step in ended if isinstance(step, Assignment))

    def _act(
        self, position: int, steps: tuple[Step, ...], flow: FlowKey, observed: tuple[Observation, ...]
    ) -> list[Outcome]:
        """What a rule that matched leads to: ends, or positions from which the walk goes on."""
        rule = self._rules[position]
        if rule.action == "goto":
            return [(self.target(position), steps)]
        if rule.action in ACTIONS:
            complete = len(steps) == len(observed)
            return [Assignment(steps, "rule error", rule, consistent=True)] if complete else []
        if rule.action != "lookup":
            return [(position + 1, steps)]
        return self._look_up(position, steps, flow, observed)

    def _look_up(
        self, position: int, steps: tuple[Step, ...], flow: FlowKey, observed: tuple[Observation, ...]
    ) -> list[Outcome]:
        rule = self._rules[position]
        table = self.table_of(rule, flow)
        following = observed[len(steps)] if len(steps) < len(observed) else None
        if following is None or following[0] != table:
            if table and self._state.has_table(self._family, table):
                return []  # it would have been seen
            return [(position + 1, steps)]
        result, last = following[2], len(steps) + 1 == len(observed)
        onward = (position + 1, (*steps, Step(rule, suppressed=False)))
        thrown = (position + 1, (*steps, Step(rule, suppressed=True)))
        if result == "hit":
            accepted = Assignment((*steps, Step(rule, suppressed=False)), "hit", None, consistent=True)
            choice = self.suppressed(rule, flow, following[1] or table)
            out: list[Outcome] = [accepted] if last and choice is not True else []
            # What the route says is only a hint while more lookups follow: then it was thrown away.
            return [*out, thrown] if choice is not False or (rule.suppresses and not last) else out
        final = last and result in FINAL
        ends: list[Outcome] = [Assignment(onward[1], _end_of(result), None, consistent=True)] if final else []
        return [*ends, onward] if result in AGAIN else ends

    def table_of(self, rule: Rule, flow: FlowKey) -> int:
        """The table the rule sends the flow to; for l3mdev that of the flow's master, 0 if unknown."""
        if not rule.l3mdev:
            return rule.table
        link = self._state.links.get(flow.l3mdev)
        return link.vrf_table if link else 0

    def target(self, position: int) -> int:
        """Where a goto rule leads: the first rule of its target, the next rule if there is none."""
        target = self._first_of.get(self._rules[position].target, 0)
        return target if target > position else position + 1

    def suppressed(self, rule: Rule, flow: FlowKey, table: int) -> bool | None:
        """Whether the rule throws away what the table gives; None if the route is not known."""
        return self.suppresses(rule, self._found(table, flow)) if rule.suppresses else False

    def suppresses(self, rule: Rule, found: Found | None) -> bool | None:
        """`fib4_rule_suppress`, `fib6_rule_suppress`; None where it depends on the nexthop chosen, or is not known."""
        if not rule.suppresses:
            return False
        if found is None:
            return None
        short = {length <= rule.suppress_prefixlength for length in self._lengths(found.route)}
        if short == {True} or len(short) > 1:
            return True if len(short) == 1 else None
        if rule.suppress_ifgroup < 0:
            return False
        # IPv4 looks at the first nexthop, IPv6 at the one that was chosen.
        nexthops = nexthops_of(found.route, self._state.nexthops)[:1]
        nexthops = nexthops if self._family == IPV4 else found.nexthops
        links = [self._state.links.get(nexthop.ifindex) for nexthop in nexthops]
        same = {link.group == rule.suppress_ifgroup for link in links if link}
        return same.pop() if len(same) == 1 else (None if same else False)

    def _lengths(self, route: Route) -> frozenset[int]:
        """The prefix lengths that the kernel may take the route to have.

        IPv6 caches its result in the nexthop (`rt6_get_pcpu_route`), so of several routes by one nexthop object
        it may see the prefix of another.
        """
        if self._family == IPV4 or not route.nhid:
            return frozenset((route.dst_len,))
        mine = {item.id for item, _ in members(route.nhid, self._state.nexthops)}
        return frozenset(
            other.dst_len
            for routes in self._state.tables6.values()
            for other in routes
            if other.nhid and mine & {item.id for item, _ in members(other.nhid, self._state.nexthops)}
        ) | {route.dst_len}


@lru_cache(maxsize=256)
def rule_index(state: NetworkState, family: int = IPV4) -> RuleIndex:
    """The index of a state, made once; keep it when many decisions of one state are asked for."""
    return RuleIndex(state, family)


def is_default(rules: tuple[Rule, ...]) -> bool:
    """Whether these are the rules that IPv4 begins with: then local and main may still be one trie."""
    tables = ((0, LOCAL), (32766, MAIN), (32767, DEFAULT))
    expected = [Rule(IPV4, preference, "lookup", table) for preference, table in tables]
    plain = [Rule(rule.family, rule.priority, rule.action, rule.table) for rule in rules]
    return plain == expected and all(Matcher(rule, {}).is_plain for rule in rules)


def _nothing(observed: tuple[Observation, ...]) -> Assignment:
    return Assignment(tuple(Step(None, None) for _ in observed), "unknown", None, consistent=False)


def _end_of(result: str) -> str:
    if result in {"hit", "unknown"}:
        return result
    return "no rule left" if result in AGAIN else "route error"


def _exhausted(observed: tuple[Observation, ...]) -> str:
    return "unknown" if observed and observed[-1][2] == "unknown" else "no rule left"


def _common(explanations: list[Assignment]) -> Assignment:
    """What all explanations agree on."""
    steps = tuple(
        Step(_same([step.rule for step in column]), _same([step.suppressed for step in column]))
        for column in zip(*(explanation.steps for explanation in explanations), strict=True)
    )
    end = _same([explanation.end for explanation in explanations]) or "unknown"
    final = _same([explanation.final_rule for explanation in explanations])
    return Assignment(steps, end, final, consistent=True)


def _same(values: list[_T]) -> _T | None:
    return values[0] if all(value == values[0] for value in values) else None


def _key_function(rules: tuple[Rule, ...]) -> Callable[[FlowKey], tuple[int, ...]]:
    """A key that is equal only for flows between which no rule of the list can tell.

    Of a field that rules compare with ranges or prefixes it holds the number of the interval, so that the
    cache does not grow with the number of addresses.
    """
    edges: dict[str, set[int]] = {}
    exact = {name for rule in rules for name in _exact_fields(rule)}
    if any(rule.suppresses for rule in rules) or is_default(rules):
        exact |= {"daddr", "saddr", "tos", "iif", "oif"}  # these answers depend on the matched route, too
    for rule in rules:
        for name, low, high in _intervals(rule):
            edges.setdefault(name, set()).update((low, high + 1))
    positions = tuple(FlowKey._fields.index(name) for name in sorted(exact))
    others = {name: sorted(found) for name, found in edges.items() if name not in exact}
    cuts = tuple((FlowKey._fields.index(name), found) for name, found in others.items())
    return lambda flow: (
        *(flow[position] for position in positions),
        *(bisect_right(found, flow[position]) for position, found in cuts),
    )


def _exact_fields(rule: Rule) -> Iterator[str]:
    present = {
        "iif": rule.iif, "oif": rule.oif, "mark": rule.mask, "tun_id": rule.tun_id, "proto": rule.ip_proto,
        "tos": rule.tos or rule.dscp is not None, "sport": rule.sport_mask, "dport": rule.dport_mask,
    }  # fmt: skip
    yield from (name for name, used in present.items() if used)
    if rule.l3mdev or rule.iif or rule.oif:
        yield "l3mdev"


def _intervals(rule: Rule) -> Iterator[tuple[str, int, int]]:
    for name, address, length in (("saddr", rule.src, rule.src_len), ("daddr", rule.dst, rule.dst_len)):
        if length:
            size = 1 << (HOST_LENGTH.get(rule.family, 128) - length)
            yield name, address, address + size - 1
    for name, limits in (("uid", rule.uid), ("sport", rule.sport), ("dport", rule.dport)):
        if limits:
            yield name, *limits
