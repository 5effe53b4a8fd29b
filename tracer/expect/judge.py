"""Paths against expectations: what holds, what does not and where, and what cannot be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from tracer.expect.compare import Problem, compare
from tracer.expect.flows import of_flow, sights_of
from tracer.expect.steps import Stepper
from tracer.expect.terms import Truth

if TYPE_CHECKING:
    from tracer.expect.patterns import Expectation
    from tracer.model.path import Path


class State(Enum):
    """What came of an expectation; the value is the word for it."""

    PASSED = "passed"
    FAILED = "FAILED"
    UNJUDGED = "CANNOT BE JUDGED"


@dataclass(frozen=True, slots=True)
class Offence:
    """The first path in which an expectation does not hold, or cannot be judged, and where."""

    path: Path
    problem: Problem


@dataclass(slots=True)
class Result:
    """What was seen of one expectation.

    `packets` are those of its flow, `failed` and `unjudged` how many of them do not hold or cannot be judged,
    `perhaps` packets of which it is not known whether they are of the flow.
    """

    expectation: Expectation
    packets: int = 0
    failed: int = 0
    unjudged: int = 0
    perhaps: int = 0
    failure: Offence | None = None
    doubt: Offence | None = None
    why: str = ""
    state: State = State.PASSED

    @property
    def offence(self) -> Offence | None:
        """What to show."""
        return {State.FAILED: self.failure, State.UNJUDGED: self.doubt, State.PASSED: None}[self.state]


@dataclass(slots=True)
class Judge:
    """Takes paths one by one; keeps of them only what a report needs."""

    expectations: Sequence[Expectation]
    seen: int = 0
    _stepper: Stepper = field(default_factory=Stepper)
    _results: list[Result] = field(default_factory=list)
    _lost: int = 0

    def __post_init__(self) -> None:
        self._results = [Result(expectation) for expectation in self.expectations]

    def feed(self, path: Path) -> None:
        """Judge one path."""
        self.seen += 1
        self._lost = max(self._lost, int(path.lost or 0))
        steps, sights = self._stepper.steps(path), sights_of(path)
        for result in self._results:
            member = of_flow(result.expectation.flow, path, sights)
            if member is Truth.NO:
                continue
            truth, problem = compare(result.expectation, path, steps)
            if member is Truth.YES:
                result.packets += 1
            else:
                result.perhaps += 1
                truth = max(truth, Truth.UNKNOWN)
            if problem is None:
                continue
            if truth is Truth.NO:
                result.failed += 1
                result.failure = result.failure or Offence(path, problem)
            else:
                result.unjudged += 1
                result.doubt = result.doubt or Offence(path, problem)

    def results(self, lost: str = "") -> list[Result]:
        """The results; `lost` says why packets may have gone unseen, empty where none did."""
        if self._lost and not lost:
            lost = f"{self._lost} record{'' if self._lost == 1 else 's'} lost"
        for result in self._results:
            _conclude(result, lost)
        return self._results


def _conclude(result: Result, lost: str) -> None:
    """The state of one expectation: a failure that was seen stands, whatever else was not seen."""
    count, packets = result.expectation.count, result.packets
    few, many = packets < count.least, count.most is not None and packets > count.most
    seen = _packets(packets, "no packet") + " seen"
    if result.failed:
        verb = "differs" if result.failed == 1 else "differ"
        result.state, result.why = State.FAILED, f"{result.failed} of {_packets(packets)} {verb}"
    elif lost and (few or many):
        result.state = State.UNJUDGED
        result.why = f"{seen}, expected {count.shown}, but {lost}"
    elif many or (few and packets + result.perhaps < count.least):
        result.state = State.FAILED
        result.why = seen if not packets and count.most is None else f"{seen}, expected {count.shown}"
    elif result.unjudged:
        result.state = State.UNJUDGED
        why = f"{result.unjudged} of {_packets(packets + result.perhaps)}"
        result.why = f"{why}, {lost}" if lost else why
    elif few or (result.perhaps and count.most is not None and packets + result.perhaps > count.most):
        result.state = State.UNJUDGED
        result.why = f"{seen}, and {result.perhaps} of which it is not known; expected {count.shown}"
    elif lost:
        result.state, result.why = State.UNJUDGED, f"{lost}: packets of this flow may not have been seen"
    else:
        result.state, result.why = State.PASSED, _packets(packets, "no packet")


def _packets(number: int, none: str = "0 packets") -> str:
    return none if not number else f"{number} packet{'' if number == 1 else 's'}"
