"""`fibtrace expect`: assert the paths of packets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tracer.cli.trace import RingMb

_COMMAND = "fibtrace.command"


class WithCommand(TyperCommand):
    """Tells what stands behind `--` from the arguments before it: one is a program, the other a capture."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command away, and leave the rest to the parser."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_COMMAND] = args[:at], tuple(args[at + 1 :])
        return super().parse_args(ctx, args)


def expect(  # noqa: PLR0913 - one parameter per option of the contract
    context: typer.Context,
    rules: Annotated[Path, typer.Argument(metavar="RULES.toml", help="The expectations.")],
    capture: Annotated[
        Path | None,
        typer.Argument(
            metavar="[IN | -- COMMAND...]",
            help="A capture (.jsonl, .parquet, .csv, .fibtrace), or a command to trace until it ends.",
        ),
    ] = None,
    *,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML too.")
    ] = None,
    allow_incomplete: Annotated[
        bool,
        typer.Option(
            "--allow-incomplete", help="Do not fail for what cannot be judged because records were lost."
        ),
    ] = False,
    backend: Annotated[
        str, typer.Option("--backend", metavar="auto|fentry|kprobe|tracepoint", help="How to look in.")
    ] = "auto",
    ring_mb: RingMb = 32,
) -> int:
    """Check that packets take the paths they should, of a capture or of what COMMAND causes.

    Exits with 1, and shows the first step that differs, when an expectation does not hold.
    """
    from tracer.expect.run import ExpectOptions
    from tracer.expect.run import expect as run

    return run(
        ExpectOptions(
            rules=rules,
            capture=capture,
            command=context.meta.get(_COMMAND, ()),
            junit=junit,
            allow_incomplete=allow_incomplete,
            backend=backend,
            ring_mb=ring_mb,
        )
    )
