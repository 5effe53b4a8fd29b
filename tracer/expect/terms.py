"""What one key of a pattern asks for, and whether something that was seen fulfils it: yes, no, or not known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias


class Truth(IntEnum):
    """`min` of several is "all of them", `max` is "any of them"."""

    NO = 0
    UNKNOWN = 1
    YES = 2


class _Unknown:
    """The value of what nobody saw and nobody could work out; None is what is known not to be there."""

    def __repr__(self) -> str:
        return "?"


UNKNOWN: Final = _Unknown()

Facts: TypeAlias = Mapping[str, Any]
"""What is known of a step or a flow, by field: a value, None (there is none) or UNKNOWN."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One value that would do: the field it is about, and which of its values; None asks that there is none."""

    field: str
    accepts: Callable[[Any], bool] | None

    def test(self, facts: Facts) -> Truth:
        """Whether the field has such a value."""
        value = facts[self.field]
        if value is UNKNOWN:
            return Truth.UNKNOWN
        if value is None or self.accepts is None:
            return Truth.YES if value is None and self.accepts is None else Truth.NO
        return Truth.YES if self.accepts(value) else Truth.NO


@dataclass(frozen=True, slots=True)
class Term:
    """One key of a pattern: fulfilled when one of its alternatives is."""

    key: str
    shown: str
    alternatives: tuple[Alternative, ...]

    def test(self, facts: Facts) -> Truth:
        """Whether these facts fulfil it."""
        return some(alternative.test(facts) for alternative in self.alternatives)

    def seen(self, facts: Facts) -> str:
        """What the facts have in its place, in words; `~` before a rule that was worked out."""
        text = show(facts[self.alternatives[0].field])
        name = facts.get("table")
        if self.alternatives[0].field == "table_id" and name not in {None, UNKNOWN, text}:
            return f"{text} ({show(name)})"
        return f"~{text}" if self.key == "rule" and facts.get("evidence") == "inferred" else text


def every(truths: Iterable[Truth]) -> Truth:
    """Whether all hold; of none, yes. Asks no further than the first that does not."""
    least = Truth.YES
    for truth in truths:
        if truth is Truth.NO:
            return truth
        least = min(least, truth)
    return least


def some(truths: Iterable[Truth]) -> Truth:
    """Whether one holds; of none, no. Asks no further than the first that does."""
    most = Truth.NO
    for truth in truths:
        if truth is Truth.YES:
            return truth
        most = max(most, truth)
    return most


def show(value: Any) -> str:
    """A value as a report has it; nothing in it can move the cursor or end the line."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))
