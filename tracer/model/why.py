"""Why a decision came out as it did, line by line: plain values that go with a decision into every output but CSV."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS: Final = (
    "rule", "walk", "table", "route", "metrics", "nexthop", "exception", "source", "check", "change", "question",
)  # fmt: skip
"""What a line is about: a rule of the list, the walk as a whole, the table, the route, its metrics, the choice among
nexthops, an exception that the kernel keeps for the destination, the source address, the source check, what would have
changed the outcome, how the kernel was asked."""


@dataclass(frozen=True, slots=True)
class Why:
    """One line. Of a rule: whether it matched (None for unknown), what it did, and which lookup it led to.

    `result` is `no` where it did not match, `goto`, `nop`, `no table` or `unknown`; empty where `lookup` (a number in
    the decision's lookups, from 0) says it.
    """

    kind: str
    text: str
    evidence: str = "inferred"
    rule: int | None = None
    rule_text: str | None = None
    matched: bool | None = None
    result: str = ""
    lookup: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """What JSON Lines have of it: `matched` always of a rule, the rest where it says something."""
        made = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) != item.default
        }
        made["evidence"] = self.evidence
        if self.kind == "rule":
            made["matched"] = self.matched
        return made

    @classmethod
    def from_dict(cls, made: dict[str, Any]) -> Why:
        """The inverse of `to_dict`; keys of newer versions are passed over. Raises KeyError, TypeError."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in made.items() if name in known})


def to_text(lines: Iterable[Why]) -> str | None:
    """The lines as one text for the column that rows carry; None for none."""
    made = [line.to_dict() for line in lines]
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")) if made else None


@lru_cache(maxsize=4096)
def from_text(text: str | None) -> tuple[Why, ...]:
    """The inverse of `to_text`."""
    return tuple(Why.from_dict(item) for item in json.loads(text)) if text else ()
