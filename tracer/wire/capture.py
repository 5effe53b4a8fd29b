r"""The raw capture, `.fibtrace`: what came out of the ring and what is needed to understand it later.

An append-only file: eight bytes of magic, a version, then frames. Each frame is written by one system call
and carries its length and checksum, so that after `kill -9` or on a full disk everything up to the last
whole frame can be read.

    file   magic "\x89FIBTR\r\n"  u32 version  u32 zero
    frame  u32 kind  u32 length  u32 crc32 of kind, length and payload  payload      (little endian)
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from tracer import private_file
from tracer.errors import BadCapture

MAGIC: Final = b"\x89FIBTR\r\n"
VERSION: Final = 1
MAX_PAYLOAD_BYTES: Final = 1 << 30
_FILE_HEAD: Final = struct.Struct("<8sII")
_FRAME_HEAD: Final = struct.Struct("<III")
_KIND_LENGTH: Final = struct.Struct("<II")
_HEADER_KEYS: Final = ("wire", "release", "clock_offset_ns", "schema")


class Kind(IntEnum):
    """What a frame holds. Numbers never change; readers pass over kinds they do not know."""

    HEADER = 1
    RECORDS = 2
    STACKS = 3
    NETWORK = 4
    ACCOUNTING = 5
    STATES = 6
    CHANGES = 7


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `kind` is a plain number when this version does not know it."""

    kind: Kind | int
    payload: bytes

    def json(self) -> Any:
        """The payload of every kind but RECORDS; raises BadCapture when it is not JSON."""
        try:
            return json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise BadCapture(f"a frame of kind {int(self.kind)} holds no JSON: {error}") from error


class CaptureWriter:
    """Appends frames to a new file, unbuffered: what `write` returned from is in the kernel's hands.

    `header` must have the text of bpf/wire.h as `wire`, the kernel's `release`, `clock_offset_ns` (what to
    add to the monotonic clock of the records) and `schema`. Raises BadCapture when the file cannot be
    created or written.
    """

    def __init__(self, path: str | Path, header: dict[str, Any]) -> None:
        missing = [key for key in _HEADER_KEYS if key not in header]
        if missing:
            raise ValueError(f"the header of a capture lacks {', '.join(missing)}")
        self.name = str(path)
        try:
            self._fd = private_file.create(path)
        except OSError as error:
            raise BadCapture(f"cannot create {self.name}: {_why(error)}\n  choose another file") from error
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._whole = 0
        try:
            self._append(_FILE_HEAD.pack(MAGIC, VERSION, 0))
            self.write_json(Kind.HEADER, header)
        except BaseException:
            self.close()
            raise

    def write_records(self, records: bytes | memoryview) -> None:
        """Append raw records, a whole number of them; the buffer is not kept."""
        view = memoryview(records).cast("B")
        for begin in range(0, len(view), MAX_PAYLOAD_BYTES):
            self._frame(Kind.RECORDS, view[begin : begin + MAX_PAYLOAD_BYTES])

    def write_json(self, kind: Kind, value: Any) -> None:
        """Append a frame of JSON."""
        self._frame(kind, json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())

    def close(self) -> None:
        """Close the file; may be called again."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            os.close(fd)
        except OSError as error:
            raise self._unwritable(error) from error

    def _frame(self, kind: Kind, payload: bytes | memoryview) -> None:
        length = len(payload)
        crc = zlib.crc32(payload, zlib.crc32(_KIND_LENGTH.pack(kind, length)))
        self._append(_FRAME_HEAD.pack(kind, length, crc), payload)

    def _append(self, *parts: bytes | memoryview) -> None:
        """Write all parts or none: a frame that does not fit is cut off again."""
        left = [memoryview(part) for part in parts]
        try:
            while left:
                written = os.writev(self._fd, left)
                while left and written >= len(left[0]):
                    written -= len(left.pop(0))
                if left:
                    left[0] = left[0][written:]
        except OSError as error:
            if self._regular and self._fd >= 0:
                os.ftruncate(self._fd, self._whole)
                os.lseek(self._fd, self._whole, os.SEEK_SET)
            raise self._unwritable(error) from error
        self._whole += sum(len(part) for part in parts)

    def _unwritable(self, error: OSError) -> BadCapture:
        return BadCapture(
            f"cannot write {self.name}: {_why(error)}\n"
            f"  its first {self._whole:,} bytes are whole and can be converted"
        )


class CaptureReader:
    """Reads frames until the end or the first damaged one; `damage` says then what is wrong with it.

    Raises BadCapture when the file cannot be read, is no capture, or is of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self.damage: str | None = None
        self.dropped_bytes = 0
        try:
            self._file: BinaryIO = Path(path).open("rb")  # noqa: SIM115 - closed by close()
            self._size = os.fstat(self._file.fileno()).st_size
            head = self._file.read(_FILE_HEAD.size)
        except OSError as error:
            raise BadCapture(f"cannot read {self.name}: {_why(error)}") from error
        try:
            self._check(head)
            self.header: dict[str, Any] = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames behind the header, in order."""
        while (frame := self._next()) is not None:
            yield frame

    def _check(self, head: bytes) -> None:
        if not head:
            raise BadCapture(f"cannot read {self.name}: it is empty")
        if head[: len(MAGIC)] != MAGIC[: len(head)]:
            raise BadCapture(f"cannot read {self.name}: it is no capture of fibtrace")
        if len(head) < _FILE_HEAD.size:
            raise BadCapture(f"cannot read {self.name}: it ends inside its first {_FILE_HEAD.size} bytes")
        version = _FILE_HEAD.unpack(head)[1]
        if version > VERSION:
            raise BadCapture(
                f"cannot read {self.name}: its format is {version}, this fibtrace reads up to {VERSION}\n"
                "  use a newer fibtrace"
            )

    def _read_header(self) -> dict[str, Any]:
        frame = self._next()
        if frame is None or frame.kind is not Kind.HEADER:
            raise BadCapture(f"cannot read {self.name}: its header is {self.damage or 'missing'}")
        header = frame.json()
        missing = [key for key in _HEADER_KEYS if not isinstance(header, dict) or key not in header]
        if missing:
            raise BadCapture(f"cannot read {self.name}: its header lacks {', '.join(missing)}")
        return dict(header)

    def _next(self) -> Frame | None:
        begin = self._file.tell()
        try:
            head = self._file.read(_FRAME_HEAD.size)
            if not head:
                return None
            if len(head) < _FRAME_HEAD.size:
                self._stop(begin, "cut short")
                return None
            kind, length, crc = _FRAME_HEAD.unpack(head)
            if length > self._size - begin - _FRAME_HEAD.size:
                self._stop(begin, "cut short or damaged")
                return None
            payload = self._file.read(length)
        except OSError as error:
            raise BadCapture(f"cannot read {self.name}: {_why(error)}") from error
        if len(payload) < length:
            self._stop(begin, "cut short")
            return None
        if zlib.crc32(payload, zlib.crc32(_KIND_LENGTH.pack(kind, length))) != crc:
            self._stop(begin, "damaged (wrong checksum)")
            return None
        return Frame(Kind(kind) if kind in set(Kind) else kind, payload)

    def _stop(self, begin: int, what: str) -> None:
        self.damage = what
        self.dropped_bytes = self._size - begin
        self._file.seek(0, os.SEEK_END)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
