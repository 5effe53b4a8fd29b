"""The routes of large tables out of raw netlink messages: columns for all messages of one shape at once.

Messages of one length and with the same attribute headers are rows of one matrix of bytes. What has no place in
columns (several nexthops, a gateway of the other family, encapsulation) goes through the ordinary decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from tracer.enrich import decode
from tracer.enrich.netlink import Block, NetlinkError, RouteSocket, is_gone, parse
from tracer.errors import MALFORMED, BadMessage
from tracer.model.network import IPV4, Route
from tracer.model.packed import NAMES, Column, PackedRoutes

GET_ROUTE = 26
FIXED = 28  # struct nlmsghdr and struct rtmsg
# RTA_DST, SRC, GATEWAY, PREFSRC; OIF, PRIORITY, NH_ID, TABLE; PREF
ADDRESSES = {1: "dst", 2: "src", 5: "gateway", 7: "prefsrc"}
WORDS = {4: "ifindex", 6: "metric", 15: "table", 30: "nhid"}
PREF, CACHE = 20, 12
ORDINARY = frozenset({9, 18, 21, 22})
HEADER = {17: "dst_len", 18: "src_len", 19: "tos", 21: "protocol", 22: "scope", 23: "type", 24: "flags"}
INTERRUPTED = 0x10
ATTEMPTS = 8


def read_tables(sock: RouteSocket, family: int) -> dict[int, PackedRoutes]:
    """All tables of a family; read again when the kernel says that they changed meanwhile."""
    for _ in range(ATTEMPTS):
        try:
            blocks = [_parsed(block, family) for block in sock.stream(GET_ROUTE, {"family": family})]
        except NetlinkError as error:
            if is_gone(error):
                return {}
            raise
        if not any(interrupted for _, _, interrupted, _ in blocks):
            break
    return _by_table(family, blocks)


_Parsed = tuple[dict[str, Column], dict[int, Route], bool, int]


def _parsed(block: Block, family: int) -> _Parsed:
    """The columns of a block, the routes that do not fit into them by position, and whether it was interrupted."""
    try:
        return _read(block, family)
    except MALFORMED as error:
        raise BadMessage(f"netlink: a dump of routes is not understood: {error}") from error


def _read(block: Block, family: int) -> _Parsed:
    data = np.frombuffer(block.data, np.uint8)
    starts = np.array(block.starts, np.int64)
    lengths = np.ascontiguousarray(data[starts[:, None] + np.arange(4)]).view(np.uint32)[:, 0]
    count = len(starts)
    columns: dict[str, Column] = {name: np.zeros(count, np.uint32) for name in (*NAMES, "table")}
    for name in [name for name in NAMES if name.endswith(("_hi", "_lo"))]:
        columns[name] = np.zeros(count, np.uint64 if family != IPV4 else np.uint32)
    others: dict[int, Route] = {}
    interrupted = False
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        matrix = data[starts[rows][:, None] + np.arange(int(length))]
        interrupted |= bool((matrix[:, 6] & INTERRUPTED).any())
        for place, same in _shapes(matrix):
            _take(columns, rows[same], matrix[same], place, others)
    return columns, others, interrupted, count


def _shapes(matrix: Column) -> Iterator[tuple[list[tuple[int, int, int]], Column]]:
    """Rows with the same attributes: (number, start, end) of each, and which rows."""
    left = np.arange(len(matrix))
    while len(left):
        place = _places(matrix[left[0]].tobytes())
        headers = [at for _, start, _ in place for at in range(start - 4, start)]
        same = (matrix[left][:, headers] == matrix[left[0], headers]).all(axis=1)
        yield place, left[same]
        left = left[~same]


def _places(message: bytes) -> list[tuple[int, int, int]]:
    found, offset = [], FIXED
    while offset + 4 <= len(message):
        length, number = struct.unpack_from("HH", message, offset)
        if length < 4:  # noqa: PLR2004 - the attribute's own header
            break
        found.append((number & 0x3FFF, offset + 4, offset + length))
        offset += (length + 3) & ~3
    return found


def _take(
    columns: dict[str, Column], rows: Column, matrix: Column, place: list[tuple[int, int, int]], others: Any
) -> None:
    numbers = {number for number, _, _ in place}
    for offset, name in HEADER.items():
        columns[name][rows] = matrix[:, offset]
    columns["table"][rows] = matrix[:, 20]
    for number, start, end in place:
        values = matrix[:, start:end]
        if number in ADDRESSES:
            _put_address(columns, rows, ADDRESSES[number], values)
        elif number in WORDS:
            columns[WORDS[number]][rows] = np.ascontiguousarray(values).view(np.uint32)[:, 0]
        elif number == PREF:
            columns["pref"][rows] = values[:, 0]
        elif number == CACHE:
            columns["expired"][rows] = np.ascontiguousarray(values[:, 8:12]).view(np.int32)[:, 0] < 0
    columns["has_gateway"][rows] = 5 in numbers  # noqa: PLR2004 - RTA_GATEWAY
    columns["has_prefsrc"][rows] = 7 in numbers  # noqa: PLR2004 - RTA_PREFSRC
    columns["has_hop"][rows] = bool(numbers & {4, 5})
    if numbers & ORDINARY:
        for row, message in zip(rows, matrix, strict=True):
            others[int(row)] = decode.route(next(parse(message.tobytes())))


def _put_address(columns: dict[str, Column], rows: Column, name: str, values: Column) -> None:
    whole = np.ascontiguousarray(values)
    if values.shape[1] == 4:  # noqa: PLR2004 - IPv4
        columns[f"{name}_lo"][rows] = whole.view(">u4")[:, 0]
        return
    words = whole.view(">u8")
    columns[f"{name}_hi"][rows], columns[f"{name}_lo"][rows] = words[:, 0], words[:, 1]


def _by_table(family: int, blocks: list[_Parsed]) -> dict[int, PackedRoutes]:
    if not blocks:
        return {}
    columns = {}
    for name in (*NAMES, "table"):
        column = np.concatenate([found.pop(name) for found, *_ in blocks])
        uniform = bool(len(column)) and (column == column[0]).all()
        columns[name] = np.broadcast_to(column[0].copy(), column.shape) if uniform else column
    others: dict[int, Route] = {}
    table, start = columns.pop("table"), 0
    for _, strange, _, size in blocks:
        others.update({start + position: route for position, route in strange.items()})
        start += size
    found = {}
    for number in np.unique(table):
        rows = np.flatnonzero(table == number)
        whole = len(rows) == len(table)
        own = {name: column if whole else column[rows] for name, column in columns.items()}
        index = {int(row): position for position, row in enumerate(rows)} if others else {}
        odd = {index[row]: route for row, route in others.items() if row in index}
        found[int(number)] = PackedRoutes(family, int(number), own, odd)
    return found
