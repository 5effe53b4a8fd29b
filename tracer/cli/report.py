"""`fibtrace report`: a capture as one HTML page."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def report(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A capture: .fibtrace, .csv, .jsonl or .parquet.")
    ],
    *,
    target: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="The page, e.g. report.html.")
    ],
    paths: Annotated[
        int, typer.Option("--paths", metavar="N", min=1, help="List at most N paths; the page says so.")
    ] = 200_000,
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="Instead of the capture's name.")
    ] = None,
) -> None:
    """Write one self-contained page: paths as a picture, tables, timeline, drops. It needs no network."""
    from tracer.reporting import report as write_report

    done = write_report(source, target, paths, title)
    if done.cut_short:
        print(f"warning: {source} is cut short at its end: what was whole is reported", file=sys.stderr)
    listed = "" if done.listed == done.paths else f", {done.listed:,} of them listed (--paths)"
    print(f"{target}: {done.paths:,} paths{listed}, {done.size / 1e6:.1f} MB", file=sys.stderr)
