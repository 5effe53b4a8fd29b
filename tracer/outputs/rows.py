"""Steps → rows: an Arrow table with the contract's columns, built column by column.

Most rows of a busy host repeat each other in all but a few columns. The columns that repeat are kept once per distinct
row (`Statics`) and gathered by number; only numbers, times and ports are per row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tracer.model.arrow import strings, to_arrow
from tracer.model.columns import BOOL, COLUMNS, INT32, INT64, INTERNAL, STRING
from tracer.outputs.schema import arrow_field

if TYPE_CHECKING:
    from tracer.correlate.columns import Array

ADDRESSES = ("src", "dst")
DYNAMIC = frozenset(
    {"packet", "step", "ts_ns", "hop", "decision", "sport", "dport", "lost", "complete", "relays", *ADDRESSES}
)
_EMPTY_AT_ZERO = frozenset({"sport", "dport", "decision"})
_NUMPY: dict[str, Any] = {INT32: np.int32, INT64: np.int64, BOOL: np.bool_}
_FIELDS = tuple(column for column in (*COLUMNS, *INTERNAL) if column.name not in DYNAMIC)
_LIMIT = 200_000
_NONE = np.iinfo(np.int64).min


class Statics:
    """Distinct rows without their per-row columns; `add` numbers them, `gather` gives columns for many numbers."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, int]] = {
            column.name: {} for column in _FIELDS if column.type == STRING
        }
        self._arrays: dict[str, Array] = {column.name: np.zeros(0, np.int64) for column in _FIELDS}
        self._fresh: dict[str, list[int]] = {column.name: [] for column in _FIELDS}
        self._dictionaries: dict[str, pa.Array] = {}
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether it grew so large that the caller should begin a new one."""
        return self._count > _LIMIT

    def add(self, row: dict[str, Any]) -> int:
        """Number one distinct row; absent columns are empty."""
        for column in _FIELDS:
            value = row.get(column.name)
            if value is None:
                code = _NONE
            elif column.type == STRING:
                names = self._names[column.name]
                code = names.setdefault(value, len(names))
            else:
                code = int(value)
            self._fresh[column.name].append(code)
        self._count += 1
        return self._count - 1

    def gather(self, name: str, codes: Array) -> pa.Array:
        """One column for the rows with these numbers."""
        if self._fresh[name]:
            self._arrays[name] = np.concatenate((self._arrays[name], np.array(self._fresh[name], np.int64)))
            self._fresh[name] = []
        return self._arrow(name, self._arrays[name][codes])

    def _arrow(self, name: str, values: Array) -> pa.Array:
        field = _BY_NAME[name]
        empty = values == _NONE
        values = np.where(empty, 0, values)
        if field.type == BOOL:
            return to_arrow(values.astype(bool), empty)
        if field.type != STRING:
            return to_arrow(values.astype(np.int32 if field.type == INT32 else np.int64), empty)
        names = self._names[name]
        dictionary = self._dictionaries.get(name)
        if dictionary is None or len(dictionary) != len(names):
            dictionary = self._dictionaries[name] = strings(list(names))
        return pa.DictionaryArray.from_arrays(to_arrow(values.astype(np.int32), empty), dictionary)


_BY_NAME = {column.name: column for column in _FIELDS}


def table(
    statics: Statics, codes: Array, dynamic: dict[str, Array], addresses: list[str], relays: list[str]
) -> pa.Table:
    """The rows with these static parts and these per-row columns; ports of 0 are empty, so are decisions of 0.

    `src` and `dst` of the per-row columns are numbers in `addresses`, `relays` are numbers in `relays`, negative for
    none.
    """
    arrays = []
    names = strings(addresses)
    for column in (*COLUMNS, *INTERNAL):
        if column.name not in DYNAMIC:
            arrays.append(statics.gather(column.name, codes))
            continue
        values = dynamic[column.name]
        if column.name in ADDRESSES:
            arrays.append(pa.DictionaryArray.from_arrays(to_arrow(values.astype(np.int32)), names))
            continue
        if column.name == "relays":
            numbers = to_arrow(np.maximum(values, 0).astype(np.int32), values < 0)
            arrays.append(pa.DictionaryArray.from_arrays(numbers, strings(relays)))
            continue
        empty = values == 0 if column.name in _EMPTY_AT_ZERO else None
        arrays.append(to_arrow(values.astype(_NUMPY[column.type]), empty))
    return pa.Table.from_arrays(
        arrays, schema=pa.schema([arrow_field(column) for column in (*COLUMNS, *INTERNAL)])
    )
