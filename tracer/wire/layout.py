"""The layout of every byte that crosses, read from `bpf/wire.h`: the only declaration there is.

The header keeps to a small subset of C (its first comment names it); anything else is refused with the line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from tracer.errors import TracerError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_TYPES = {"__u8": "u1", "__u16": "u2", "__u32": "u4", "__u64": "u8", "__s32": "i4", "__s64": "i8"}
_FIELD = re.compile(r"(__[us]\d+) (\w+)(?:\[(\d+)\])?;\s*/\* (.+) \*/$")
_MEMBER = re.compile(r"(\w+) = (\d+),\s*/\* (.+) \*/$")
_OPEN = re.compile(r"(struct|enum) (\w+) \{$")

RING_HEADER = np.dtype([("ring_length", "<u4"), ("ring_page", "<u4")])
"""Eight bytes the kernel puts before each record of a ring buffer (kernel/bpf/ringbuf.c)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What one `wire.h` declares: dtypes by struct, members by enum, and the comment of each field."""

    structs: dict[str, np.dtype[np.void]]
    enums: dict[str, dict[str, int]]
    notes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def record(self) -> np.dtype[np.void]:
        """One record, without the ring's header."""
        return self.structs["record"]

    @property
    def ring_record(self) -> np.dtype[np.void]:
        """One element of the mapped ring: the two words of its header, and the record."""
        return np.dtype(
            [*((name, RING_HEADER[name]) for name in RING_HEADER.names or ()), ("record", self.record)]
        )

    def enum(self, name: str, prefix: str) -> type[IntEnum]:
        """The members of a C enum as an IntEnum, without the prefix that C needs."""
        return IntEnum(name, {key.removeprefix(prefix): value for key, value in self.enums[name].items()})  # type: ignore[return-value]


def parse(text: str) -> Layout:
    """Read the text of a `wire.h`; raises TracerError naming the line that is outside the subset."""
    layout = Layout({}, {})
    block: tuple[str, str] | None = None
    fields: list[tuple[str, DTypeLike]] = []
    for number, line in enumerate(_code_lines(text), 1):
        if block is None:
            opened = _OPEN.match(line)
            if opened:
                block, fields = (opened[1], opened[2]), []
                layout.notes[opened[2]] = {}
                if opened[1] == "enum":
                    layout.enums[opened[2]] = {}
            elif line and not line.startswith("#"):
                raise TracerError(f"wire.h line {number}: not understood: {line}")
        elif line == "};":
            if block[0] == "struct":
                layout.structs[block[1]] = _aligned(block[1], fields)
            block = None
        elif block[0] == "struct":
            fields.append(_field(number, line, layout.notes[block[1]]))
        else:
            _member(number, line, layout.enums[block[1]], layout.notes[block[1]])
    return layout


def _code_lines(text: str) -> list[str]:
    """Lines without the comments that stand on lines of their own."""
    blank = re.sub(r"^/\*.*?\*/$", lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    return [line.strip() for line in blank.split("\n")]


def _field(number: int, line: str, notes: dict[str, str]) -> tuple[str, DTypeLike]:
    match = _FIELD.match(line)
    if match is None or match[1] not in _TYPES:
        raise TracerError(f"wire.h line {number}: a field must be 'type name; /* comment */': {line}")
    notes[match[2]] = match[4]
    base = np.dtype("<" + _TYPES[match[1]])
    return (match[2], (base, (int(match[3]),)) if match[3] else base)


def _member(number: int, line: str, members: dict[str, int], notes: dict[str, str]) -> None:
    match = _MEMBER.match(line)
    if match is None:
        raise TracerError(f"wire.h line {number}: a member must be 'NAME = number, /* comment */': {line}")
    members[match[1]] = int(match[2])
    notes[match[1]] = match[3]


def _aligned(name: str, fields: list[tuple[str, DTypeLike]]) -> np.dtype[np.void]:
    """The packed dtype, which must be what a C compiler makes of it: no implicit padding, size in eights."""
    packed = np.dtype(fields)
    natural = np.dtype(fields, align=True)
    if packed.itemsize != natural.itemsize or packed.fields != natural.fields:
        raise TracerError(f"wire.h: struct {name} has implicit padding; declare it as reserved")
    if packed.itemsize % 4:
        raise TracerError(f"wire.h: struct {name} is {packed.itemsize} bytes, not a multiple of 4")
    return packed
