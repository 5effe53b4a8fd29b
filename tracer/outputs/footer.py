"""The footer of a Parquet file, cut to fewer row groups.

Follows the Parquet format's `parquet.thrift` (struct FileMetaData) in Thrift's compact protocol, as far as
finding the ends of fields and of list elements.
"""

from __future__ import annotations

from typing import Final

MAGIC: Final = b"PAR1"
_NUM_ROWS, _ROW_GROUPS = 3, 4
_BOOLS: Final = (1, 2)
_BYTE, _BINARY, _STRUCT = 3, 8, 12
_FIXED: Final = {_BYTE: 1, 7: 8}
_LISTS: Final = (9, 10)
_VARINTS: Final = (4, 5, 6)
_LONG_LIST: Final = 15


def keep_row_groups(footer: bytes, groups: int, rows: int) -> bytes:
    """The footer with only the first `groups` row groups, which have `rows` rows together.

    `footer` is the end of a Parquet file: metadata, its length, magic; what stands before the metadata is
    ignored.
    """
    size = int.from_bytes(footer[-8:-4], "little")
    metadata = footer[-8 - size : -8]
    reader = _Reader(metadata)
    out = bytearray()
    field = begin = 0
    while (head := reader.byte()) != 0:
        field, kind = field + (head >> 4) if head >> 4 else _unzigzag(reader.varint()), head & 15
        value = reader.at
        reader.skip(kind)
        if field == _NUM_ROWS:
            out += metadata[begin:value] + _varint(rows << 1)
        elif field == _ROW_GROUPS:
            out += metadata[begin:value] + _first_elements(_Reader(metadata, value), groups)
        else:
            out += metadata[begin : reader.at]
        begin = reader.at
    out.append(0)
    return bytes(out) + len(out).to_bytes(4, "little") + MAGIC


class _Reader:
    """A position in compact Thrift."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def list_head(self) -> tuple[int, int]:
        """Size and element type."""
        head = self.byte()
        size = head >> 4
        return (self.varint() if size == _LONG_LIST else size), head & 15

    def skip(self, kind: int) -> None:
        """Step over one value (a boolean field has none: its type says it)."""
        if kind in _VARINTS:
            self.varint()
        elif kind == _BINARY:
            size = self.varint()
            self.at += size
        elif kind in _FIXED:
            self.at += _FIXED[kind]
        elif kind in _LISTS:
            size, element = self.list_head()
            for _ in range(size):
                self.skip(_BYTE if element in _BOOLS else element)
        elif kind == _STRUCT:
            while (head := self.byte()) != 0:
                if not head >> 4:
                    self.varint()
                self.skip(head & 15)
        elif kind not in _BOOLS:
            raise ValueError(f"unexpected Thrift type {kind} in Parquet metadata")


def _first_elements(reader: _Reader, count: int) -> bytes:
    """A list cut to its first `count` elements."""
    _, kind = reader.list_head()
    begin = reader.at
    for _ in range(count):
        reader.skip(kind)
    head = (
        bytes([count << 4 | kind]) if count < _LONG_LIST else bytes([_LONG_LIST << 4 | kind]) + _varint(count)
    )
    return head + reader.data[begin : reader.at]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _unzigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)
