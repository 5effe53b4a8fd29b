"""What the kernel would find for a flow: the rule list and the tables walked as `fib_rules_lookup()` walks them.

For questions and tests. What a packet did is observed, never predicted. `decide.py` has what the kernel
does around this walk.
"""

from __future__ import annotations

from typing import NamedTuple

from tracer.enrich.nexthops import Found, selectors_for
from tracer.enrich.routes import TYPE_ERRORS, Table, route_index
from tracer.enrich.rules import DEFAULT, MAIN, Observation, RuleIndex, is_default, rule_index
from tracer.enrich.selectors import ACTIONS, FlowKey
from tracer.model.network import IPV4, NetworkState, Nexthop, Route, Rule

RESULTS = {-22: "blackhole", -113: "unreachable", -13: "prohibit", -11: "throw", 0: "hit"}
RULE_ERRORS = {"unreachable": -101, "prohibit": -13, "blackhole": -22}
NO_ROUTE = -101
GOES_ON = frozenset({"miss", "throw"})
LOOPBACK = 1


class Lookup(NamedTuple):
    """One table searched: by which rule (None where the kernel consults none), and what came out.

    `nexthops` are those among which the kernel then chooses: one, unless the route has several usable ones.
    """

    rule: Rule | None
    table: int
    route: Route | None
    result: str
    suppressed: bool
    nexthops: tuple[Nexthop, ...] = ()
    device: int = 0

    @property
    def observation(self) -> Observation:
        """What a probe would see of it."""
        return self.table, self.route.table if self.route and self.result == "hit" else 0, self.result


class Visit(NamedTuple):
    """One rule that the walk came to.

    `matched` is None where a selector cannot be evaluated. `outcome` is what it led to: "no match", "unknown",
    "goto", "unresolved", "nop", "no table", an error action, or the result of its lookup (hit, miss, throw,
    unreachable, prohibit, blackhole, suppressed).
    """

    rule: Rule
    matched: bool | None
    outcome: str
    lookup: Lookup | None = None


class Prediction(NamedTuple):
    """The lookups in order, the rule that refuses if one does, and the error of the whole (0 or -errno).

    `visits` are all rules that the walk came to. Where it cannot be told how it goes on, `error` is None and
    `unknown` says why; what is there until then holds. `assumed` names what the answer takes for granted.
    """

    lookups: tuple[Lookup, ...]
    final_rule: Rule | None
    error: int | None
    visits: tuple[Visit, ...] = ()
    unknown: str = ""
    assumed: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether the walk could be followed to its end."""
        return self.error is not None

    @property
    def final(self) -> Lookup | None:
        """The lookup that found a usable route; None if there is none."""
        return self.lookups[-1] if self.error == 0 else None

    @property
    def hit(self) -> tuple[Lookup, Route]:
        """The lookup that found a usable route, and the route. Only where `error` is 0."""
        found = self.final
        if found is None or found.route is None:
            raise ValueError("the walk found no route")
        return found, found.route

    @property
    def route(self) -> Route | None:
        """The route that counts; None if there is none."""
        return self.final.route if self.final else None


def predict(state: NetworkState, flow: FlowKey) -> Prediction:
    """The walk for a flow, rule by rule."""
    flow = with_master(state, flow)
    walked = _Walk(state, flow).follow()
    if flow.family != IPV4 or not is_default(state.rules):
        return walked._replace(assumed=_assumptions(state, flow, walked))
    merged = predict_merged(state, flow)
    if walked.known and merged.known and (merged.route, merged.error) == (walked.route, walked.error):
        return walked
    why = walked.unknown or "local and main may still be one trie, and then the answer is another"
    return walked._replace(error=None, unknown=why)


def predict_merged(state: NetworkState, flow: FlowKey) -> Prediction:
    """The walk while no IPv4 rule was ever added: local and main are one trie and no rule is consulted."""
    index = route_index(state)
    tables: list[tuple[int, Table | None]] = [(MAIN, index.merged())]
    if state.has_table(IPV4, DEFAULT):
        tables.append((DEFAULT, index.table(DEFAULT)))
    lookups: list[Lookup] = []
    for number, table in tables:
        if table is None:
            return Prediction(tuple(lookups), None, None, unknown=_unread(number))
        found = table.search(flow.daddr, selectors_for(state, flow))
        lookups.append(_lookup_of(found, number, None))
        if lookups[-1].result not in GOES_ON:
            return Prediction(tuple(lookups), None, _error_of(lookups[-1]))
    return Prediction(tuple(lookups), None, NO_ROUTE)


def with_master(state: NetworkState, flow: FlowKey) -> FlowKey:
    """The flow with its VRF, and without an output device that is one: `l3mdev_update_flow()`."""
    if flow.l3mdev:
        return flow
    for device in (flow.oif, flow.iif if flow.iif != LOOPBACK else 0):
        link = state.links.get(device)
        if link is None:
            continue
        if link.kind == "vrf":
            return flow._replace(l3mdev=device, oif=0 if device == flow.oif else flow.oif)
        master = state.links.get(link.master)
        if master and master.kind == "vrf":
            return flow._replace(l3mdev=master.ifindex)
        if device == flow.oif:
            break
    return flow


class _Walk:
    """One pass over the rule list."""

    def __init__(self, state: NetworkState, flow: FlowKey) -> None:
        self._state, self._flow = state, flow
        self._index: RuleIndex = rule_index(state, flow.family)
        self._visits: list[Visit] = []
        self._lookups: list[Lookup] = []

    def follow(self) -> Prediction:
        """From the first rule to the one that ends it."""
        position = 0
        while position < len(self._index.matchers):
            here, matcher = position, self._index.matchers[position]
            position += 1
            matched, rule = matcher.matches(self._flow), matcher.rule
            if matched is None:
                self._visits.append(Visit(rule, None, "unknown"))
                numbers = ", ".join(str(number) for number, _ in rule.unknown)
                return self._end(None, None, f"rule {rule.priority} has attributes not known here: {numbers}")
            if not matched:
                self._visits.append(Visit(rule, matched, "no match"))
                continue
            if rule.action == "goto":
                position = self._index.target(here)
                self._visits.append(Visit(rule, matched, "unresolved" if position == here + 1 else "goto"))
                continue
            ended = self._act(rule)
            if ended:
                return ended
        return self._end(None, NO_ROUTE)

    def _act(self, rule: Rule) -> Prediction | None:
        """What a matching rule does; None where the walk goes on with the next."""
        if rule.action in ACTIONS:
            self._visits.append(Visit(rule, matched=True, outcome=rule.action))
            return self._end(rule, RULE_ERRORS[rule.action])
        if rule.action == "lookup":
            return self._look_up(rule)
        self._visits.append(Visit(rule, matched=True, outcome=rule.action))
        known = rule.action == "nop"
        return None if known else self._end(None, None, f"rule {rule.priority}: {rule.action} is not known")

    def _look_up(self, rule: Rule) -> Prediction | None:
        number = self._index.table_of(rule, self._flow)
        if not self._state.has_table(self._flow.family, number):
            self._visits.append(Visit(rule, matched=True, outcome="no table"))
            return None
        table = route_index(self._state).table(number, self._flow.family)
        if table is None:
            self._visits.append(Visit(rule, matched=True, outcome="unknown"))
            return self._end(None, None, _unread(number))
        found = table.search(self._flow.daddr, selectors_for(self._state, self._flow))
        lookup = _lookup_of(found, number, rule)
        thrown = self._index.suppresses(rule, found) if lookup.result == "hit" else False
        lookup = lookup._replace(suppressed=bool(thrown))
        self._lookups.append(lookup)
        outcome = "suppressed" if thrown else lookup.result
        self._visits.append(Visit(rule, matched=True, outcome=outcome, lookup=lookup))
        if thrown is None:
            return self._end(
                None, None, f"rule {rule.priority} suppresses one nexthop of the route and not another"
            )
        return None if thrown or lookup.result in GOES_ON else self._end(None, _error_of(lookup))

    def _end(self, rule: Rule | None, error: int | None, unknown: str = "") -> Prediction:
        return Prediction(tuple(self._lookups), rule, error, tuple(self._visits), unknown)


def _lookup_of(found: Found | None, number: int, rule: Rule | None) -> Lookup:
    if found is None:
        return Lookup(rule, number, None, "miss", suppressed=False)
    result = RESULTS[TYPE_ERRORS.get(found.type, 0)]
    return Lookup(
        rule, number, found.route, result, suppressed=False, nexthops=found.nexthops, device=found.device
    )


def _error_of(lookup: Lookup) -> int:
    return {result: error for error, result in RESULTS.items()}.get(lookup.result, NO_ROUTE)


def _unread(table: int) -> str:
    return f"the routes of table {table} are not known"


def _assumptions(state: NetworkState, flow: FlowKey, walked: Prediction) -> tuple[str, ...]:
    """What an IPv6 host looks at besides its configuration."""
    if flow.family == IPV4 or not any(
        hop.gateway_family for lookup in walked.lookups for hop in lookup.nexthops
    ):
        return ()
    if "all" not in state.settings6:
        return ("IPv6 forwarding is on",)
    forwarding = state.settings6["all"].forwarding
    return () if forwarding or state.neighbours is not None else ("no gateway is known to be unreachable",)
