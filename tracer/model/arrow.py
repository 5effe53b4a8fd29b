"""numpy ↔ Arrow without copies, and without pyarrow's own way, which imports pandas (0.2 s, 35 MB) on first use."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence


def forget_pandas() -> None:
    """Let pyarrow find out now that it need not import pandas, which nothing on the way from ring to file uses.

    It looks once, at its first conversion; `to_pandas` looks again and still works.
    """
    if "pandas" in sys.modules:
        return
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(absent)


class _Absent(MetaPathFinder):
    """Answers that pandas is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raises ImportError for pandas, leaves the rest to the other finders."""
        del path, target
        if name == "pandas":
            raise ImportError(name)


Numbers = np.ndarray[Any, Any]

_TYPES = {"u8": pa.uint64(), "i8": pa.int64(), "i4": pa.int32(), "u4": pa.uint32(), "u2": pa.uint16()}


def to_arrow(values: Numbers, empty: Numbers | None = None) -> pa.Array:
    """An Arrow array over the memory of `values`; `empty` marks the rows without a value."""
    values = np.ascontiguousarray(values)
    validity, nulls = None, 0
    if empty is not None:
        nulls = int(np.count_nonzero(empty))
        validity = pa.py_buffer(np.packbits(~empty, bitorder="little")) if nulls else None
    if values.dtype == bool:
        bits = pa.py_buffer(np.packbits(values, bitorder="little"))
        return pa.Array.from_buffers(pa.bool_(), len(values), [validity, bits], nulls)
    kind = _TYPES[values.dtype.str[1:]]
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(values)], nulls)


def strings(values: Sequence[str]) -> pa.Array:
    """An Arrow array of strings."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers, 0)


def from_arrow(array: pa.Array) -> Numbers:
    """The values of a numeric Arrow array without empty rows."""
    kind = next(code for code, known in _TYPES.items() if known == array.type)
    return np.frombuffer(array.buffers()[1], dtype=kind)[array.offset : array.offset + len(array)]
