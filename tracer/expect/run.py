"""`fibtrace expect`: expectations against what a COMMAND causes, or against a capture."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import BadRequest, Exit
from tracer.expect.collect import Collector, read_capture, records_lost
from tracer.expect.judge import Judge, Result, State
from tracer.expect.junit import Run, junit
from tracer.expect.parse import read_expectations
from tracer.expect.report import report

if TYPE_CHECKING:
    from tracer.outputs.sink import Sink

INTERRUPTED = 130
"""As shells count: 128 + SIGINT."""


@dataclass(frozen=True, slots=True)
class ExpectOptions:
    """What `fibtrace expect` was asked for: either a capture or a command."""

    rules: Path
    capture: Path | None = None
    command: tuple[str, ...] = ()
    junit: Path | None = None
    allow_incomplete: bool = False
    backend: str = "auto"
    ring_mb: int = 32


def expect(options: ExpectOptions) -> int:
    """Judge, print the report on stdout, write the JUnit file; returns the exit code."""
    if (options.capture is None) == (not options.command):
        raise BadRequest(
            "expectations are checked against one thing: a capture, or what a command causes\n"
            "try: fibtrace expect RULES.toml paths.jsonl\ntry: fibtrace expect RULES.toml -- ping -c 1 10.2.0.2"
        )
    judge = Judge(read_expectations(options.rules))
    from tracer.outputs.sink import open_sink

    sink = open_sink(options.junit) if options.junit else None
    started_ns = time.monotonic_ns()
    trouble, lost, interrupted = "", "", False
    if options.capture is not None:
        lost = read_capture(options.capture, judge.feed)
    else:
        trouble, lost, interrupted = _live(options, judge)
    results = judge.results(lost)
    _print(report(results, allow_incomplete=options.allow_incomplete) + (f"{trouble}\n" if trouble else ""))
    run = Run(str(options.rules), (time.monotonic_ns() - started_ns) / 1e9, trouble)
    _write(sink, junit(results, run, allow_incomplete=options.allow_incomplete))
    if interrupted:
        return INTERRUPTED
    return Exit.DONE if not trouble and passed(results, options.allow_incomplete) else Exit.FAILED


def passed(results: list[Result], allow_incomplete: bool) -> bool:  # noqa: FBT001 - the option as it was given
    """Whether all hold, or cannot be judged where that is allowed."""
    accepted = {State.PASSED, State.UNJUDGED} if allow_incomplete else {State.PASSED}
    return all(result.state in accepted for result in results)


def _live(options: ExpectOptions, judge: Judge) -> tuple[str, str, bool]:
    """Trace the command; returns what went wrong with it, what was lost, and whether a signal ended it."""
    from tracer.enrich.resolve import FilterWords
    from tracer.tracing import TraceOptions, follow

    outcome = follow(
        TraceOptions(
            filter=FilterWords(),
            stdout_format=None,
            command=options.command,
            backend=options.backend,
            ring_mb=options.ring_mb,
            collectors=(Collector(judge.feed),),
        )
    )
    trouble = ""
    if outcome.interrupted:
        trouble = f"interrupted before {options.command[0]} had ended: what was seen until then was judged"
    elif outcome.code:
        trouble = f"{options.command[0]} failed: it ended with exit code {outcome.code}"
    return trouble, records_lost(outcome.lost), outcome.interrupted


def _print(text: str) -> None:
    import sys

    from tracer.outputs.sink import open_sink
    from tracer.outputs.tree import encoded

    sink = open_sink(sys.stdout)
    sink.write(encoded(text, sink.encoding))


def _write(sink: Sink | None, data: bytes) -> None:
    if sink is not None:
        sink.write(data)
        sink.close()
