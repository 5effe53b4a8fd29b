"""Gives memory back that was only needed to start: the compiler's libraries are a third of what an idle trace holds."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MADV_DONTNEED = 4
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+\s*(.*)$")


def give_back(libraries: tuple[str, ...]) -> None:
    """Let go of the clean pages of these libraries, and of what malloc keeps; all comes back when it is touched."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for start, end in _clean_mappings(libraries):
        libc.madvise(start, end - start, _MADV_DONTNEED)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _clean_mappings(libraries: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Mappings of these files that hold nothing but the file: relocated pages are not in it and would be lost."""
    mapping: tuple[int, int] | None = None
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        found = _MAPPING.match(line)
        if found:
            ours = "w" not in found[3] and any(name in found[4] for name in libraries)
            mapping = (int(found[1], 16), int(found[2], 16)) if ours else None
        elif mapping and line.startswith("Private_Dirty:"):
            if line.split()[1] == "0":
                yield mapping
            mapping = None
