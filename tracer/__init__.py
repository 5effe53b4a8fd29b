"""fibtrace shows the path of every packet through the routing of a Linux host.

Importing this package imports nothing heavy: `fibtrace --help` has to answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from os import PathLike

    import pandas as pd

    from tracer.livetrace import Live

__all__ = ["live", "read"]


def read(path: str | PathLike[str]) -> pd.DataFrame:
    """Return a .csv, .jsonl or .parquet file of fibtrace as a DataFrame, one row per step.

    Columns are those of docs/columns.md: integers are nullable (`Int32`, `Int64`), strings are categories.
    Lines cut short at the end of a file are left out with a warning. Raises BadRequest for another suffix,
    BadCapture for a file that cannot be read.
    """
    from tracer.outputs.frame import read_frame

    return read_frame(path)


def live(*options: str) -> AbstractContextManager[Live]:
    """Trace while a block runs: `with tracer.live("--dst", "10.2.0.0/24") as trace: ...`, then `trace.paths()`.

    `options` are those of `fibtrace trace`. Raises NotPermitted or NotSupported where this is not possible.
    """
    from tracer.livetrace import live as trace_live

    return trace_live(*options)
