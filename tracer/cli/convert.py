"""`fibtrace convert`: a capture in another format."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A capture: .fibtrace, .csv, .jsonl or .parquet.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="Suffix decides; - is stdout, which needs --format.")
    ],
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="csv|jsonl|parquet|tree|line", help="Instead of OUT's suffix."),
    ] = None,
    *,
    why: Annotated[
        bool,
        typer.Option("--why", help="Explain every decision, from a .fibtrace, or a .jsonl made with --why."),
    ] = False,
) -> None:
    """Write a capture in another format: csv, jsonl or parquet, by suffix."""
    from tracer.replay import convert as convert_capture

    done = convert_capture(source, target, format_, why=why)
    if done.dropped_lines:
        print(f"warning: {source} is cut short at its end: what was whole is converted", file=sys.stderr)
