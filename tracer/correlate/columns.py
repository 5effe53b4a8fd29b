"""Small columnar tools: grouping, ordering and filling, each linear in the number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracer.model.arrow import from_arrow, to_arrow

Array = np.ndarray[Any, Any]

_RADIX_BITS = 16


class Records:
    """Records as columns: each is copied out of the rows once, when it is first asked for, and then is dense.

    `records["kind"]` is a column, `records[3]` one row. Columns are to be read; assign a whole one to change it.
    """

    __slots__ = ("_columns", "raw")

    def __init__(self, raw: Array) -> None:
        self.raw = raw
        self._columns: dict[str, Array] = {}

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.raw)

    def __getitem__(self, key: Any) -> Any:
        """A column by its name, rows by anything else."""
        if not isinstance(key, str):
            return self.raw[key]
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = np.ascontiguousarray(self.raw[key])
        return column

    def __setitem__(self, name: str, values: Array) -> None:
        """Replace a column."""
        self.raw[name] = values
        self._columns[name] = np.ascontiguousarray(self.raw[name])

    def take(self, rows: Array) -> Records:
        """Some of the rows."""
        return Records(take_rows(self.raw, rows))


Rows = np.ndarray[Any, Any] | Records
"""Either form of records, where only columns are read."""


def take_rows(records: Array, rows: Array) -> Array:
    """The records at these indexes, or where this mask is true.

    numpy moves structured rows field by field, ten times slower than as the bytes they are.
    """
    if rows.dtype == bool:
        rows = np.flatnonzero(rows)
    raw = np.ascontiguousarray(records).view(f"V{records.dtype.itemsize}")
    return raw[rows].view(records.dtype)


def join_rows(*parts: Array) -> Array:
    """Records of one dtype after one another."""
    full = [part for part in parts if len(part)] or [parts[0]]
    if len(full) == 1:
        return full[0]
    kind = full[0].dtype
    return np.concatenate([np.ascontiguousarray(part).view(f"V{kind.itemsize}") for part in full]).view(kind)


def codes_of(keys: Array) -> tuple[Array, Array]:
    """Number the distinct keys in order of appearance: (code of each row, distinct keys)."""
    encoded = to_arrow(keys).dictionary_encode()
    return from_arrow(encoded.indices).astype(np.int64), from_arrow(encoded.dictionary)


def order_by(numbers: Array) -> Array:
    """Stable order of rows by small non-negative numbers (radix: the rows of one number keep their order)."""
    if len(numbers) == 0:
        return np.zeros(0, np.int64)
    order = np.argsort((numbers & 0xFFFF).astype(np.uint16), kind="stable")
    high = numbers >> _RADIX_BITS
    while high.any():
        order = order[np.argsort((high[order] & 0xFFFF).astype(np.uint16), kind="stable")]
        high = high >> _RADIX_BITS
    return order


def last_where(mark: Array, group: Array) -> Array:
    """For each row the index of the last marked row at or before it in the same group, -1 where there is none.

    `group` must be the same in neighbouring rows of one group (rows are sorted by group).
    """
    positions = np.where(mark, np.arange(len(mark)), -1)
    last = np.maximum.accumulate(positions) if len(positions) else positions
    inside = last >= 0
    inside[inside] = group[last[inside]] == group[inside]
    return np.where(inside, last, -1)


def next_where(mark: Array, group: Array) -> Array:
    """For each row the index of the first marked row at or after it in the same group, -1 where there is none."""
    flipped = last_where(mark[::-1], group[::-1])[::-1]
    return np.where(flipped >= 0, len(mark) - 1 - flipped, -1)


def changed(*columns: Array) -> Array:
    """Whether a row differs from the one before it in any of the columns; the first row does."""
    result = np.ones(len(columns[0]), bool)
    if len(result):
        result[1:] = False
        for column in columns:
            result[1:] |= column[1:] != column[:-1]
    return result


def shifted(column: Array) -> Array:
    """The value of the row before; the first row gets its own."""
    return np.concatenate((column[:1], column[:-1]))


def device_keys(records: Rows) -> Array:
    """One number for namespace and device of each row: netns << 32 | ifindex."""
    result: Array = records["netns"].astype(np.uint64) << np.uint64(32) | records["ifindex"].astype(np.uint64)
    return result


_MIX = np.uint64(0x9E3779B97F4A7C15)


def hash_rows(*columns: Array) -> Array:
    """A 64-bit hash of each row over integer columns; wraps by design."""
    result = np.full(len(columns[0]), np.uint64(0xCBF29CE484222325))
    with np.errstate(over="ignore"):
        for column in columns:
            result = (result ^ column.astype(np.uint64)) * _MIX
            result ^= result >> np.uint64(29)
    return result


def address_words(addresses: Array) -> tuple[Array, Array]:
    """The two 64-bit halves of 16-byte addresses: equal halves are equal addresses."""
    words = np.ascontiguousarray(addresses).view("<u8")
    return words[:, 0], words[:, 1]


def address_keys(addresses: Array) -> Array:
    """One number per 16-byte address: 0 for none, that of its first half for an IPv4 address, which has no second."""
    first, second = address_words(addresses)
    with np.errstate(over="ignore"):
        result: Array = first ^ (second * _MIX)
    return result
