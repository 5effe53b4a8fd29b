"""Why a decision came out as it did: every rule in order, then the table, the route, its nexthops and the source.

The lookups were observed (or, offline, predicted); that the rules between them did not match is worked out from the
configuration that was in force, and marked so. What cannot be worked out is said to be unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.enrich.because import because
from tracer.enrich.names import Names, system_names
from tracer.enrich.nexthops import nexthops_of
from tracer.enrich.rules import rule_index
from tracer.enrich.selectors import ACTIONS, rule_text
from tracer.model.why import Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.enrich.selectors import FlowKey
    from tracer.model.network import NetworkState, Route, Rule

GOES_ON = frozenset({"miss", "throw", "suppressed"})


class Found(NamedTuple):
    """One lookup of a decision, or a rule that ended the walk without one (`table` is then None)."""

    rule: Rule | None
    table: int | None
    result: str
    route: Route | None = None
    evidence: str = "inferred"


def walk_lines(
    state: NetworkState, flow: FlowKey, found: Sequence[Found], names: Names | None = None
) -> list[Why]:
    """Every rule in the order of the walk, with what became of it; each of the lookups stands in exactly one line."""
    return _Walk(state, flow, found, names or system_names()).lines()


def merged_lines(found: Sequence[Found]) -> list[Why]:
    """The walk where no rule was ever added: the kernel asks none, and searches local and main as one trie."""
    text = "no rule was ever added here: no rule is asked, local and main are searched as one trie"
    return [Why("walk", text), *(_bare(number, item) for number, item in enumerate(found))]


def plain_lines(found: Sequence[Found], why: str) -> list[Why]:
    """Lookups alone, and why nothing can be said of the rules."""
    return [*(_bare(number, item) for number, item in enumerate(found)), Why("walk", why)]


def _bare(number: int, item: Found) -> Why:
    return Why("rule", "", item.evidence, rule=item.rule.priority if item.rule else None, lookup=number)


class _Walk:
    """The rule list gone through once, beside the lookups that came of it."""

    def __init__(self, state: NetworkState, flow: FlowKey, found: Sequence[Found], names: Names) -> None:
        self._state, self._flow, self._found, self._names = state, flow, found, names
        self._index = rule_index(state, flow.family)
        self._rules = state.rules_of(flow.family)
        self._lines: list[Why] = []
        self._done = 0

    def lines(self) -> list[Why]:
        position = 0
        while position < len(self._rules) and not self._ended:
            if self._next is not None and self._next.rule is None:
                break
            position = self._step(position)
        rest = [_bare(number, self._found[number]) for number in range(self._done, len(self._found))]
        if rest:
            self._lines += [*rest, Why("walk", "which rules led to these lookups is not known")]
        elif not self._ended:
            self._lines.append(Why("walk", "no rule is left: no route"))
        return self._lines

    @property
    def _next(self) -> Found | None:
        return self._found[self._done] if self._done < len(self._found) else None

    @property
    def _ended(self) -> bool:
        """Whether the last lookup that was reached ends the walk."""
        last = self._done == len(self._found) and self._done > 0
        return last and self._found[-1].result not in GOES_ON

    def _step(self, position: int) -> int:
        """Take one rule; returns the position of the next."""
        rule = self._rules[position]
        reason = because(rule, self._flow, self._state.links, self._names)
        following = self._next
        if following is not None and following.rule == rule and reason.matched is not False:
            self._add(rule, _joined(reason.text, self._outcome(rule, following)), lookup=self._done)
            self._done += 1
            return position + 1
        if reason.matched and rule.action == "goto":
            target = self._index.target(position)
            reached = target > position + 1 or not rule.unresolved
            text = f"goes on at {rule.target}" if reached else f"no rule {rule.target}: goes on with the next"
            self._add(rule, _joined(reason.text, text), "goto")
            return target
        self._passed(rule, reason.text, matched=reason.matched)
        return position + 1

    def _passed(self, rule: Rule, text: str, *, matched: bool | None) -> None:
        """A rule that led to no lookup, and no further than to the next."""
        if matched is False:
            self._add(rule, text, "no", matched=False)
        elif matched is None:
            self._add(rule, text, "unknown", matched=None)
        elif rule.action == "lookup":
            table = self._index.table_of(rule, self._flow)
            there = table and self._state.has_table(self._flow.family, table)
            name = self._state.table_name(table)
            said = f"no lookup of table {name} was seen" if there else f"there is no table {name}"
            self._add(rule, _joined(text, said), "unknown" if there else "no table")
        else:
            known = rule.action in {*ACTIONS, "nop"}
            said = "" if known else f"{rule.action}: not known to this version"
            self._add(rule, _joined(text, said), rule.action if known else "unknown")

    def _add(
        self,
        rule: Rule,
        text: str,
        result: str = "",
        *,
        matched: bool | None = True,
        lookup: int | None = None,
    ) -> None:
        evidence = "inferred" if lookup is None else self._found[lookup].evidence
        shown = rule_text(rule, self._state.table_names, self._names)
        self._lines.append(Why("rule", text, evidence, rule.priority, shown, matched, result, lookup))

    def _outcome(self, rule: Rule, found: Found) -> str:
        """What the lookup's own line does not say: why a hit was thrown away, what a throw route does."""
        if found.result == "throw":
            return "a throw route: on with the next rule"
        if found.result == "suppressed":
            return f"thrown away: {suppression(self._state, rule, found.route)}"
        return ""


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)


def suppression(state: NetworkState, rule: Rule, route: Route | None) -> str:
    """Why the hit of a rule did not count (`fib4_rule_suppress`)."""
    if route is None:
        return "by the rule's suppress_ option (the route is not known)"
    if route.dst_len <= rule.suppress_prefixlength:
        return f"prefix length {route.dst_len} ≤ suppress_prefixlength {rule.suppress_prefixlength}"
    nexthops = nexthops_of(route, state.nexthops)
    link = state.links.get(nexthops[0].ifindex) if nexthops else None
    name = link.name if link else "its device"
    return f"{name} is in group {rule.suppress_ifgroup} (suppress_ifgroup)"
