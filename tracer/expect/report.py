"""What came of expectations, as text: a line each, and where one does not hold, the step and the path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tracer.expect.judge import Result, State
from tracer.expect.terms import Truth, show
from tracer.outputs.tree import tree
from tracer.outputs.words import INFERRED

if TYPE_CHECKING:
    from tracer.expect.compare import Line, Problem

_LEGEND = f"{INFERRED} inferred from the rules and tables, not seen by a probe"
_NOTES = {Truth.NO: "differs", Truth.UNKNOWN: "not known", Truth.YES: ""}


def report(results: Sequence[Result], *, allow_incomplete: bool = False) -> str:
    """All results, those that hold first, and a line that counts them."""
    order = [State.PASSED, State.UNJUDGED, State.FAILED]
    shown = sorted(results, key=lambda result: order.index(result.state))
    texts = [describe(result) for result in shown]
    counts = {state: sum(result.state is state for result in results) for state in State}
    said = [f"{counts[State.PASSED]} passed"]
    said += [f"{counts[State.FAILED]} failed"] if counts[State.FAILED] else []
    if counts[State.UNJUDGED]:
        allowed = " (allowed)" if allow_incomplete else ""
        said.append(f"{counts[State.UNJUDGED]} cannot be judged{allowed}")
    legend = [_LEGEND] if any(INFERRED in text for text in texts) else []
    return "\n".join([*texts, *legend, ", ".join(said)]) + "\n"


def describe(result: Result) -> str:
    """One result: what it is, how many packets, and the first path that does not hold."""
    lines = [f"{result.state.value}  {result.expectation.name}: {result.why}"]
    offence = result.offence
    if offence is not None:
        lines += _problem(offence.path.packet, offence.problem)
        lines += ["", *_indented(tree(offence.path)), ""]
    return "\n".join(lines)


def _problem(packet: object, problem: Problem) -> Iterator[str]:
    yield f"  packet #{packet}: {problem.where}"
    if not problem.lines:
        return
    head = ("", "expected", "seen")
    rows = [(line.key, line.expected, line.seen) for line in problem.lines]
    widths = [max(len(row[column]) for row in (head, *rows)) + 2 for column in range(3)]
    yield _columns(head, widths, "")
    for row, line in zip(rows, problem.lines, strict=True):
        yield _columns(row, widths, _note(line))


def _indented(text: str) -> Iterator[str]:
    for line in text.rstrip("\n").split("\n"):
        yield f"  {show(line)}".rstrip()


def _note(line: Line) -> str:
    return _NOTES[line.truth]


def _columns(row: tuple[str, ...], widths: list[int], note: str) -> str:
    padded = "".join(f"{value:{width}}" for value, width in zip(row, widths, strict=True))
    return f"    {padded}{note}".rstrip()
