"""`fibtrace convert`: a capture in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A capture: .csv, .jsonl or .parquet; - is stdin.")
    ],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Suffix decides; -, -.csv, -.jsonl: stdout.")],
) -> None:
    """Write a capture in another format, by suffix.

    csv, jsonl or parquet; `-` is stdout.
    """
    from tracer.outputs import convert as convert_capture

    convert_capture(source, target)
