"""The lines of a decision in the tree: one per lookup, or with --why one per rule and what follows from it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tracer.outputs import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tracer.model.path import Decision, Hop, Lookup, Path
    from tracer.model.why import Why

_WRAP: Final = 110


@dataclass(frozen=True, slots=True)
class Look:
    """How a tree looks: colours (empty strings when there are none) and the least widths of its columns.

    With `why` each decision has the lines that it carries about its rules, its route and its source check.
    """

    bold: str = ""
    good: str = ""
    bad: str = ""
    dim: str = ""
    off: str = ""
    rule: int = 12
    text: int = 32
    table: int = 9
    result: int = 6
    why: bool = False


PLAIN: Final = Look()


@dataclass(frozen=True, slots=True)
class Columns:
    """The widths of a path's columns, as wide as their widest value needs, and the look of what stands in them."""

    look: Look
    rule: int
    text: int
    table: int
    result: int

    @classmethod
    def of(cls, path: Path, look: Look) -> Columns:
        """The columns that this path needs; nothing is ever cut."""
        decisions = [decision for hop in path.hops for decision in hop.decisions]
        lookups = [lookup for decision in decisions for lookup in decision.lookups]
        whys = [line for decision in decisions for line in decision.why] if look.why else []
        rules = [line for line in whys if line.kind == "rule" and line.lookup is None]
        return cls(
            look,
            _width([*map(words.rule_name, lookups), *map(_why_rule, rules)], look.rule),
            _width([*map(_rule_text, lookups), *(str(line.rule_text) for line in rules)], look.text),
            _width(map(words.table_name, lookups), look.table),
            _width([*map(words.result_name, lookups), *(line.result for line in rules)], look.result),
        )

    def lookup(self, lookup: Lookup) -> str:
        """The line of one lookup."""
        result = words.result_name(lookup)
        colour = {"hit": self.look.good, "miss": self.look.dim}.get(result, self.look.bad)
        end = self._result(result, colour)
        first = f"{words.rule_name(lookup):{self.rule}}{_rule_text(lookup):{self.text}}"
        return f"{first}{words.table_name(lookup):{self.table}}{end}{words.route_text(lookup)}".rstrip()

    def passed(self, line: Why) -> str:
        """The line of a rule that led to no lookup."""
        end = self._result(line.result, self.look.dim)
        first = f"{_why_rule(line):{self.rule}}{line.rule_text or words.UNKNOWN:{self.text}}"
        return f"{first}{words.NO_TABLE:{self.table}}{end}{line.text}".rstrip()

    def _result(self, result: str, colour: str) -> str:
        return f"{colour}{result}{self.look.off if colour else ''}{' ' * (self.result - len(result))}"


def _why_rule(line: Why) -> str:
    return f"rule {words.mark(line.evidence)}{words.UNKNOWN if line.rule is None else line.rule}"


def _width(values: Iterable[str], least: int) -> int:
    return max(least, *(len(value) + 2 for value in values), 0)


def _rule_text(lookup: Lookup) -> str:
    return words.UNKNOWN if lookup.rule_text is None else str(lookup.rule_text)


def why_lines(decision: Decision, hop: Hop, columns: Columns) -> list[str]:
    """Every rule, then the table, the route and its nexthops, the source; of a source check how it went."""
    lines: list[str] = []
    for line in decision.why:
        lines += _why_line(line, decision, columns)
    if decision.purpose == "source-check":
        lines += [text for said in _side_by_side(decision, hop) for text in _labelled(*said, columns)]
    note, outcome = words.note(decision), words.outcome(decision)
    lines += _labelled("result", "   ".join(part for part in (outcome, note) if part), columns)
    return lines


def _why_line(line: Why, decision: Decision, columns: Columns) -> list[str]:
    if line.kind != "rule":
        return _labelled(line.kind, f"{words.mark(line.evidence)}{line.text}", columns)
    if line.lookup is None:
        return [columns.passed(line)]
    if line.lookup >= len(decision.lookups):
        return []
    shown = columns.lookup(decision.lookups[line.lookup])
    return [f"{shown}   ({line.text})" if line.text else shown]


def _labelled(label: str, text: str, columns: Columns) -> list[str]:
    """A line with its subject where rules have their numbers, folded below itself when it is long."""
    if not text:
        return []
    first, *rest = textwrap.wrap(text, _WRAP, break_long_words=False, break_on_hyphens=False)
    return [f"{label:{columns.rule}}{first}", *(f"{'':{columns.rule + 2}}{line}" for line in rest)]


def _side_by_side(check: Decision, hop: Hop) -> Iterator[tuple[str, str]]:
    """The decision that the check belongs to and the check itself, each on a line."""
    before = hop.decisions[: hop.decisions.index(check)]
    forward = next((made for made in reversed(before) if made.purpose == "input"), None)
    for label, made in (("forward", forward), ("reverse", check)):
        if made is not None and made.lookups:
            yield label, _summary(made)


def _summary(decision: Decision) -> str:
    last = decision.lookups[-1]
    target = (last.columns or {}).get("dst")
    table = f", table {words.table_name(last)}" if last.table_id else ""
    came = words.route_text(last) if last.result == "hit" else words.result_name(last)
    return f"{f'to {target}: ' if target else ''}{words.rule_name(last)}{table}: {came}"
