"""Rows as a pandas DataFrame."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa

from tracer.model.columns import NAMES
from tracer.outputs.read import read_rows

if TYPE_CHECKING:
    from os import PathLike

_NULLABLE: Final[dict[pa.DataType, Any]] = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}


def read_frame(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a file of rows; see `tracer.read`."""
    result = read_rows(Path(path))
    if result.dropped_lines:
        warnings.warn(f"{path}: its last line was cut short and is left out", stacklevel=3)
    return result.rows.select(list(NAMES)).to_pandas(types_mapper=_NULLABLE.get)
