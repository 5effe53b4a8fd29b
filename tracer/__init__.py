"""fibtrace shows the path of every packet through the routing of a Linux host.

Importing this package imports nothing heavy: `fibtrace --help` has to answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

__all__ = ["read"]


def read(path: str | PathLike[str]) -> pd.DataFrame:
    """Return a .csv, .jsonl or .parquet file of fibtrace as a DataFrame, one row per step.

    Columns are those of docs/columns.md: integers are nullable (`Int32`, `Int64`), strings are categories.
    Lines cut short at the end of a file are left out with a warning. Raises BadRequest for another suffix,
    BadCapture for a file that cannot be read.
    """
    from tracer.outputs.frame import read_frame

    return read_frame(path)
