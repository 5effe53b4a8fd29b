"""An expectation: whose packets, the steps they must and must not take, and how they end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from tracer.expect.keys import DECISION_KEYS
from tracer.expect.terms import Alternative, Term, Truth, every

_ROUTING: Final = ("input", "output")
_OWN: Final = Term("outer", "false", (Alternative("outer", lambda seen: seen is False),))
_ROUTES: Final = Term(
    "purpose", " or ".join(_ROUTING), (Alternative("purpose", lambda seen: seen in _ROUTING),)
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: a lookup of a decision, or how a stay in a namespace ended.

    `decides` is false for a lookup that the walk went past. `facts` has every field of a pattern's keys.
    """

    hop: int
    is_decision: bool
    decides: bool
    facts: dict[str, Any]


@dataclass(frozen=True)
class StepPattern:
    """What one step must be like.

    With a key about a decision it is for decisions: for the lookup that decided, unless a `result` is asked for, and
    not for source checks, unless a `purpose` is. Without one it is for the end of a stay. Either way it is about the
    packet's own header, unless it says `outer`.
    """

    terms: tuple[Term, ...]

    @cached_property
    def for_decision(self) -> bool:
        """Whether it is for decisions."""
        return any(term.key in DECISION_KEYS for term in self.terms)

    @cached_property
    def any_lookup(self) -> bool:
        """Whether a lookup that the walk went past will do."""
        return any(term.key == "result" for term in self.terms)

    @cached_property
    def implied(self) -> tuple[Term, ...]:
        """What holds without being written."""
        keys = {term.key for term in self.terms}
        own = () if "outer" in keys else (_OWN,)
        return own if "purpose" in keys or not self.for_decision else (*own, _ROUTES)

    def fits(self, step: Step) -> bool:
        """Whether it is for this sort of step at all."""
        return step.is_decision == self.for_decision and (step.decides or self.any_lookup)

    def test(self, step: Step) -> Truth:
        """Whether the step is like this."""
        if not self.fits(step):
            return Truth.NO
        return every(term.test(step.facts) for term in (*self.terms, *self.implied))


@dataclass(frozen=True, slots=True)
class FlowPattern:
    """Whose packets: `packet` holds together on one sight of the packet, each of `path` somewhere on its way."""

    packet: tuple[Term, ...] = ()
    path: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """How many packets of the flow there must be."""

    least: int = 1
    most: int | None = None

    @property
    def shown(self) -> str:
        """In words."""
        if self.most is None:
            return f"at least {self.least}"
        if self.least == self.most:
            return f"exactly {self.least}"
        return f"{self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must hold for every packet of a flow."""

    name: str
    flow: FlowPattern = FlowPattern()
    via: tuple[StepPattern, ...] = ()
    never: tuple[StepPattern, ...] = ()
    last: StepPattern = StepPattern(())
    hops: tuple[tuple[Term, ...], ...] | None = None
    count: Count = Count()
    within_ms: float | None = None
