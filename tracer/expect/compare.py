"""One path against one expectation: does it hold, and if not, the first step in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tracer.expect.terms import Term, Truth, every, show
from tracer.outputs.words import netns_name

if TYPE_CHECKING:
    from tracer.expect.patterns import Expectation, Step, StepPattern
    from tracer.model.path import Path

_ABSENT: Final = "-"


@dataclass(frozen=True, slots=True)
class Line:
    """One key of an expectation beside what was seen; `truth` says whether they agree."""

    key: str
    expected: str
    seen: str
    truth: Truth


@dataclass(frozen=True, slots=True)
class Problem:
    """Where a path differs, or why it cannot be judged."""

    truth: Truth
    where: str
    lines: tuple[Line, ...] = ()


def compare(expectation: Expectation, path: Path, steps: Sequence[Step]) -> tuple[Truth, Problem | None]:
    """Whether the path is as expected; what was not seen of an incomplete path is neither for nor against it."""
    checks: tuple[Callable[[Expectation, Path, Sequence[Step]], Problem | None], ...] = (
        _never, _hops, _via, _last, _duration,
    )  # fmt: skip
    problems = [problem for check in checks if (problem := check(expectation, path, steps))]
    if not problems:
        return Truth.YES, None
    first = min(problems, key=lambda problem: problem.truth)
    return first.truth, first


def _never(expectation: Expectation, path: Path, steps: Sequence[Step]) -> Problem | None:
    """No step may be like one of these. One that was seen is a failure in an incomplete path, too."""
    found: Problem | None = None
    for number, pattern in enumerate(expectation.never, 1):
        worst = max(steps, key=pattern.test, default=None)
        truth = Truth.NO if worst is None else pattern.test(worst)
        where = f"never, {_nth(number, expectation.never)}"
        if worst is not None and truth is Truth.YES:
            return Problem(Truth.NO, f"{where}, in {_netns(path, worst)}", _lines(pattern, worst))
        if worst is not None and truth is Truth.UNKNOWN and found is None:
            place = f"{where}, in {_netns(path, worst)}: not all of it is known"
            found = Problem(Truth.UNKNOWN, place, _lines(pattern, worst))
        elif not path.complete and found is None:
            found = Problem(Truth.UNKNOWN, f"{where}: the path is incomplete")
    return found


def _hops(expectation: Expectation, path: Path, _: Sequence[Step]) -> Problem | None:
    """The namespaces, all of them and in this order."""
    if expectation.hops is None:
        return None
    stays: list[dict[str, Any]] = [{"netns": hop.netns, "netns_inode": hop.netns_inode} for hop in path.hops]
    terms = [terms[0] for terms in expectation.hops]
    truths = [term.test(stay) for term, stay in zip(terms, stays, strict=False)]
    truth = every(truths) if len(terms) == len(stays) else Truth.NO
    if truth is Truth.YES and path.complete:
        return None
    lines = tuple(
        Line(
            f"{index + 1}",
            terms[index].shown if index < len(terms) else _ABSENT,
            show(netns_name(path.hops[index])) if index < len(stays) else _ABSENT,
            truths[index] if index < len(truths) else Truth.NO,
        )
        for index in range(max(len(terms), len(stays)))
    )
    return _of_incomplete(Problem(truth, "hops", lines), path)


def _via(expectation: Expectation, path: Path, steps: Sequence[Step]) -> Problem | None:
    """The steps in their order; others may stand between them."""
    reached, _ = _walk(expectation.via, steps, Truth.YES)
    if reached == len(expectation.via):
        return None
    certain = reached
    reached, after = _walk(expectation.via, steps, Truth.UNKNOWN)
    truth = Truth.NO
    if reached == len(expectation.via):
        truth, reached, (_, after) = (
            Truth.UNKNOWN,
            certain,
            _walk(expectation.via[:certain], steps, Truth.YES),
        )
    pattern = expectation.via[reached]
    where = f"via, {_nth(reached + 1, expectation.via)}"
    nearest = _nearest(pattern, steps[after:])
    if nearest is None:
        lines = tuple(Line(term.key, term.shown, _ABSENT, Truth.NO) for term in pattern.terms)
        problem = Problem(truth, f"{where}: the path has no further step of this sort", lines)
    else:
        unsure = ": not all of it is known" if truth is Truth.UNKNOWN else ""
        problem = Problem(truth, f"{where}, in {_netns(path, nearest)}{unsure}", _lines(pattern, nearest))
    return _of_incomplete(problem, path)


def _walk(patterns: Sequence[StepPattern], steps: Sequence[Step], least: Truth) -> tuple[int, int]:
    """How many patterns are found one after the other, and behind which step the last of them stands."""
    at = 0
    for number, pattern in enumerate(patterns):
        hit = next((i for i in range(at, len(steps)) if pattern.test(steps[i]) >= least), None)
        if hit is None:
            return number, at
        at = hit + 1
    return len(patterns), at


def _nearest(pattern: StepPattern, steps: Sequence[Step]) -> Step | None:
    """The step that a pattern is most likely about: its namespace counts most, then its sort, then every key."""

    def agreement(step: Step) -> tuple[int, int, int]:
        there = [term.test(step.facts) for term in pattern.terms if term.key == "netns"]
        implied = [term.test(step.facts) for term in pattern.implied]
        return sum(there), sum(implied), sum(term.test(step.facts) for term in pattern.terms)

    return max((step for step in steps if pattern.fits(step)), key=agreement, default=None)


def _last(expectation: Expectation, path: Path, steps: Sequence[Step]) -> Problem | None:
    """How the last hop ended."""
    pattern = expectation.last
    ends = [step for step in steps if not step.is_decision]
    if not pattern.terms or not ends:
        return None
    truth = every(term.test(ends[-1].facts) for term in pattern.terms)
    if truth is Truth.YES and path.complete:
        return None
    lines = tuple(_line(term, ends[-1]) for term in pattern.terms)
    return _of_incomplete(Problem(truth, f"the end, in {_netns(path, ends[-1])}", lines), path)


def _duration(expectation: Expectation, path: Path, _: Sequence[Step]) -> Problem | None:
    """From first sight to last, at most so long; longer is longer in an incomplete path, too."""
    if expectation.within_ms is None:
        return None
    took_ms = _took_ms(path)
    if took_ms <= expectation.within_ms and path.complete:
        return None
    line = Line("within_ms", f"{expectation.within_ms:g}", f"{took_ms:.3f}", Truth.NO)
    if took_ms > expectation.within_ms:
        return Problem(Truth.NO, "time", (line,))
    return Problem(Truth.UNKNOWN, "time: the path is incomplete")


def _took_ms(path: Path) -> float:
    times = [path.start_ns]
    for hop in path.hops:
        times += [hop.received_ns, hop.ended_ns, *(handed.ts_ns for handed in hop.handed)]
        for decision in hop.decisions:
            times += [decision.ts_ns, *(lookup.ts_ns for lookup in decision.lookups)]
    known = [int(ts_ns) for ts_ns in times if ts_ns is not None]
    return (max(known) - min(known)) / 1e6


def _of_incomplete(problem: Problem, path: Path) -> Problem:
    """In an incomplete path, what differs may only not have been seen."""
    if path.complete:
        return problem
    where = f"{problem.where.partition(':')[0]}: the path is incomplete"
    return Problem(Truth.UNKNOWN, where, problem.lines)


def _lines(pattern: StepPattern, step: Step) -> tuple[Line, ...]:
    """All that was written, and what is implied where it is what differs."""
    implied = [term for term in pattern.implied if term.test(step.facts) is not Truth.YES]
    return tuple(_line(term, step) for term in (*pattern.terms, *implied))


def _line(term: Term, step: Step) -> Line:
    return Line(term.key, term.shown, term.seen(step.facts), term.test(step.facts))


def _netns(path: Path, step: Step) -> str:
    return show(netns_name(path.hops[step.hop]))


def _nth(number: int, patterns: Sequence[StepPattern]) -> str:
    return f"step {number}" if len(patterns) > 1 else "its step"
