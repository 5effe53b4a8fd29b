"""Columns of rows as small numbers: the same number for the same value in every batch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tracer.correlate.columns import Array

PRIVATE: Final = re.compile("[\ue000-\ue2ff]")
"""Characters that stand for something else inside a page's trees; a name that holds one shows U+FFFD for it."""

_REF: Final = re.compile(r"#(\d{1,15})(?!\d)")
_ADDRESS: Final = re.compile(
    r"(?<![\w.:/])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7})(?![\w:/.])"
)
"""An address of a packet; a prefix (`10.4.3.0/24`) is one of a rule or a route, of which there are few."""
_KERNEL: Final = re.compile(r"\s*(\([^()]*\))$")


class Strings:
    """Numbers texts in order of appearance; 0 is "none"."""

    def __init__(self) -> None:
        self.values: list[str] = [""]
        self._numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        """The number of a text."""
        if text is None:
            return 0
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.values)
            self.values.append(text)
        return found


def codes(column: pa.ChunkedArray, strings: Strings, change: Callable[[str], str] | None = None) -> Array:
    """The number of each value's text in `strings`, 0 where there is none; `change` is applied to texts first."""
    encoded, values = distinct(column)
    texts = [None if value is None else str(value) for value in values]
    numbers = [strings.number(text if text is None or change is None else change(text)) for text in texts]
    return np.array([*numbers, 0], np.int64)[encoded]


def distinct(column: pa.ChunkedArray) -> tuple[Array, list[Any]]:
    """(index of each row's value, the distinct values); the index of "none" is one past the last value."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], type=array.type)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = array.dictionary.to_pylist()
    return array.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64), values


def numbers(column: pa.ChunkedArray, none: int = -1) -> Array:
    """A column of integers, with `none` where there is none."""
    found: Array = column.fill_null(none).to_numpy().astype(np.int64)
    return found


def split_reference(reason: str) -> tuple[str, int, str]:
    """`cached: decided by #17 (socket route)` as what stands up to `#`, 17, and the rest; -1 without such a number."""
    found = _REF.search(reason)
    if found is None:
        return reason, -1, ""
    return reason[: found.start() + 1], int(found[1]), reason[found.end() :]


def kind_of_drop(reason: str) -> str:
    """What drops of one kind have in common: the words before the details, and the kernel's own reason."""
    text = reason.removeprefix("drop: ")
    kernel = _KERNEL.search(text)
    head = text[: kernel.start()] if kernel else text
    head = _ADDRESS.sub("…", head.partition(": ")[0])
    return f"{head} {kernel[1]}" if kernel and kernel[1] not in head else head


def cleaned(rows: pa.Table) -> pa.Table:
    """The rows, without private characters in their texts."""
    for index, name in enumerate(rows.column_names):
        column = rows.column(index)
        if not pa.types.is_dictionary(column.type):
            continue
        array = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
        chunks = [_clean_chunk(chunk) for chunk in array.chunks]
        if any(new is not old for new, old in zip(chunks, array.chunks, strict=True)):
            rows = rows.set_column(index, name, pa.chunked_array(chunks, type=column.type))
    return rows


def _clean_chunk(chunk: pa.DictionaryArray) -> pa.DictionaryArray:
    values = chunk.dictionary.to_pylist()
    if not any(value is not None and PRIVATE.search(value) for value in values):
        return chunk
    clean = [value and PRIVATE.sub("\ufffd", value) for value in values]
    return pa.DictionaryArray.from_arrays(chunk.indices, pa.array(clean, type=chunk.dictionary.type))
