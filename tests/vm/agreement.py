"""The same packets by two backends: every decision compared, field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.live.tracing import Decision, Hop, Seen

_LOOKUP = (
    "rule", "rule_text", "table_id", "walked_table_id", "result", "prefix", "gateway", "dev", "route_type", "scope",
    "error",
)  # fmt: skip
_DECISION = ("result", "prefix", "gateway", "dev", "route_type", "scope")
_SCORED = ("rule", "prefix", "purpose")


@dataclass
class Agreement:
    """How many decisions two backends gave alike, and each kind of difference with an example."""

    compared: int = 0
    equal: int = 0
    holes: int = 0
    differ: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    scored: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)

    def note(self, kind: str, example: str) -> None:
        """Count a difference."""
        self.differ[kind] += 1
        self.examples.setdefault(kind, example)

    def lines(self) -> list[str]:
        """What a person reads."""
        share = 100 * self.equal / self.compared if self.compared else 0.0
        found = [f"{self.equal} of {self.compared} decisions are equal ({share:.3f} %)"]
        found += [
            f"  {what}: {self.right[what]} of {self.scored[what]} inferred as observed" for what in _SCORED
        ]
        if self.holes:
            found.append(f"  left out: {self.holes} paths that say they may have a hole")
        found += [
            f"  differ in {kind}: {number}, such as {self.examples[kind]}"
            for kind, number in self.differ.most_common()
        ]
        return found


def compare(left: list[Seen], right: list[Seen], into: Agreement) -> None:
    """Compare the paths of one lab; `left` infers what `right` observes. Those that may have a hole are counted."""
    into.holes += sum(map(holed, left)) + sum(map(holed, right))
    left, right = ([path for path in paths if not holed(path)] for paths in (left, right))
    partners: dict[tuple[object, ...], list[Seen]] = {}
    for path in right:
        partners.setdefault(_key(path), []).append(path)
    for path in left:
        waiting = partners.get(_key(path), [])
        # A packet and its looped copy have the same flow, and are finished in any order.
        alike = [other for other in waiting if _ends(other) == _ends(path)] or waiting
        if alike:
            nearest = min(alike, key=lambda other: abs(_start_ns(other) - _start_ns(path)))
            _compare_paths(path, nearest, into)
            waiting.remove(nearest)
        else:
            into.note("a path that only the first has", path.text())
    for rest in partners.values():
        for path in rest:
            into.note("a path that only the second has", path.text())


def _key(path: Seen) -> tuple[object, ...]:
    """What tells packets apart without their number: the flow as it was made, and what the packet is."""
    return (*path.flow(), path.first.get("info"), path.first["event"] == "lookup")


def holed(path: Seen) -> bool:
    """Whether the path says that records of its time were lost."""
    return any(row["lost"] for row in path.rows)


def _start_ns(path: Seen) -> int:
    return int(path.rows[0]["ts_ns"])


def _ends(path: Seen) -> list[tuple[str | None, str | None, str | None, str | None]]:
    """Where a path went, and how it ended there."""
    return [(hop.netns, hop.verdict, hop.in_dev, hop.out_dev) for hop in path.hops]


def _compare_paths(left: Seen, right: Seen, into: Agreement) -> None:
    if _ends(left) != _ends(right):
        into.note("the hops of a path", f"{_ends(left)} and {_ends(right)}")
        return
    for hop, other in zip(left.hops, right.hops, strict=True):
        if len(hop.decisions) != len(other.decisions):
            into.note("the decisions of a hop", f"{_walks(hop)} and {_walks(other)}")
            continue
        for one, two in zip(hop.decisions, other.decisions, strict=True):
            _compare_decisions(one, two, into)


def _compare_decisions(one: Decision, two: Decision, into: Agreement) -> None:
    into.compared += 1
    differences = list(_differences(one, two))
    into.equal += not differences
    for kind, example in differences:
        into.note(kind, example)
    into.scored["purpose"] += 1
    into.right["purpose"] += one.purpose == two.purpose
    for guessed, seen in zip(one.lookups, two.lookups, strict=False):
        if seen["evidence"] == "observed":
            for name in ("rule", "prefix"):
                into.scored[name] += seen[name] is not None
                into.right[name] += seen[name] is not None and seen[name] == guessed[name]


def _differences(one: Decision, two: Decision) -> Iterator[tuple[str, str]]:
    if one.purpose != two.purpose:
        yield "the purpose", f"{one.purpose} and {two.purpose} of {one.walk()}"
    if len(one.lookups) != len(two.lookups):
        yield "the lookups of a decision", f"{one.walk()} and {two.walk()}"
        return
    pairs = [(_LOOKUP, a, b) for a, b in zip(one.lookups, two.lookups, strict=True)]
    if one.row and two.row:
        pairs.append((_DECISION, one.row, two.row))
    for names, a, b in pairs:
        for name in names:
            if a[name] != b[name]:
                yield (
                    f"the {name} of a {a['event']}",
                    f"{a[name]} and {b[name]} in {one.walk()} of {a['netns']}",
                )


def _walks(hop: Hop) -> list[tuple[str, list[tuple[int | None, str, str]]]]:
    return [(decision.purpose, decision.walk()) for decision in hop.decisions]
