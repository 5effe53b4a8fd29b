"""Many routes as columns: what a table of a million is kept and written as.

In JSON a column is the one value that all routes have, or `{"dtype": …, "zlib": …}`: the array, compressed, in
base64. Routes that the columns cannot hold stand in `others` as (position, route).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from tracer.model.routing import IPV4, Nexthop, Route

MOST = 1 << 26
"""Routes of a table; more are a damaged file, for which no memory is taken."""
Column = np.ndarray[Any, Any]
HIGH_AND_LOW = ("dst", "src", "gateway", "prefsrc")
NUMBERS = (
    "dst_len", "src_len", "type", "scope", "protocol", "tos", "flags", "pref", "metric", "nhid", "ifindex",
    "has_gateway", "has_prefsrc", "has_hop", "expired",
)  # fmt: skip
NAMES = (*NUMBERS, *(f"{name}_{half}" for name in HIGH_AND_LOW for half in ("hi", "lo")))


class PackedRoutes(Sequence[Route]):
    """The routes of one table in the kernel's order; a Route is made when it is asked for."""

    def __init__(
        self, family: int, table: int, columns: Mapping[str, Column], others: Mapping[int, Route]
    ) -> None:
        self.family, self.table = family, table
        self.columns, self.others = dict(columns), dict(others)

    def __len__(self) -> int:
        return len(self.columns["dst_len"])

    @overload
    def __getitem__(self, index: int) -> Route: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Route, ...]: ...
    def __getitem__(self, index: int | slice) -> Route | tuple[Route, ...]:
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        position = range(len(self))[index]
        return self.others.get(position) or self._made(position)

    def __iter__(self) -> Iterator[Route]:
        return (self[position] for position in range(len(self)))

    def _made(self, position: int) -> Route:
        row = {name: int(column[position]) for name, column in self.columns.items()}
        whole = {name: row[f"{name}_hi"] << 64 | row[f"{name}_lo"] for name in HIGH_AND_LOW}
        family = self.family if row["has_gateway"] else 0
        hop = Nexthop(row["ifindex"], family, whole["gateway"], 1, row["flags"])
        names = ("dst_len", "src_len", "type", "scope", "protocol", "tos", "flags", "pref", "metric", "nhid")
        same: dict[str, Any] = {name: row[name] for name in names}
        return Route(
            self.family,
            self.table,
            whole["dst"],
            src=whole["src"],
            prefsrc=whole["prefsrc"] if row["has_prefsrc"] else None,
            nexthops=(hop,) if row["has_hop"] else (),
            expired=bool(row["expired"]),
            **same,
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "family": self.family,
            "count": len(self),
            "columns": {name: _packed(column) for name, column in self.columns.items()},
            "others": [[position, route.to_dict()] for position, route in self.others.items()],
        }

    @classmethod
    def from_dict(cls, table: int, values: Mapping[str, Any]) -> PackedRoutes:
        """The inverse of `to_dict`; raises ValueError if it is not one."""
        count, family = int(values["count"]), int(values.get("family", IPV4))
        if not 0 <= count <= MOST:
            raise ValueError(f"a table of {count} routes")
        columns = {name: _unpacked(values["columns"][name], count) for name in NAMES}
        others = {position: Route.from_dict(route) for position, route in values.get("others", ())}
        return cls(family, table, columns, others)


def _packed(column: Column) -> Any:
    if not len(column) or (column == column[0]).all():
        return int(column[0]) if len(column) else 0
    small = column.astype(np.min_scalar_type(int(column.max())))
    dtype = small.dtype.newbyteorder("<")
    data = base64.b64encode(zlib.compress(small.astype(dtype).tobytes(), 1)).decode()
    return {"dtype": dtype.str, "zlib": data}


def _unpacked(value: Any, count: int) -> Column:
    if isinstance(value, int):
        return np.broadcast_to(np.array(value, np.uint64), (count,))
    dtype = np.dtype(value["dtype"])
    if dtype.kind != "u":
        raise ValueError(f"a column of {dtype}")
    size = count * dtype.itemsize
    data = zlib.decompressobj().decompress(base64.b64decode(value["zlib"]), size + 1)
    if len(data) != size:
        raise ValueError(f"a column of another length in a table of {count} routes")
    return np.frombuffer(data, dtype)
