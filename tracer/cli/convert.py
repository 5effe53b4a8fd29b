"""`fibtrace convert`: a capture in another format."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def convert(  # noqa: PLR0913 - one parameter per option
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
    changes: Annotated[
        bool, typer.Option("--changes", help="Of a .fibtrace: also what changed between the packets.")
    ] = False,
    neighbours: Annotated[
        bool,
        typer.Option("--neighbours", help="With --changes also every neighbour, not only those that failed."),
    ] = False,
    why: Annotated[
        bool,
        typer.Option("--why", help="Explain every decision, from a .fibtrace, or a .jsonl made with --why."),
    ] = False,
) -> None:
    """Write a capture in another format: csv, jsonl or parquet, by suffix."""
    from tracer.cli.common import shown_changes
    from tracer.replay import convert as convert_capture

    shown = shown_changes(changes=changes, neighbours=neighbours)
    done = convert_capture(source, target, format_, why=why, changes=shown)
    if done.dropped_lines:
        print(f"warning: {source} is cut short at its end: what was whole is converted", file=sys.stderr)
