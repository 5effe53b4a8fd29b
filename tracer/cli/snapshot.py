"""`fibtrace snapshot`: the rules, tables and all else that decides about routes, as JSON."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer


def snapshot(
    output: Annotated[
        str, typer.Option("-o", metavar="FILE", help="Where to; - is stdout, the default.")
    ] = "-",
    netns: Annotated[
        str | None, typer.Option("--netns", metavar="NAME|PID|INODE", help="Only this namespace.")
    ] = None,
) -> None:
    """Write rules, tables, nexthops, links, addresses, neighbours and settings of all namespaces as JSON."""
    from tracer.enrich.snapshot import write

    if output == "-":
        write(sys.stdout, netns)
        return
    from tracer.private_file import create

    with os.fdopen(create(output), "w", encoding="utf-8") as stream:
        write(stream, netns)
