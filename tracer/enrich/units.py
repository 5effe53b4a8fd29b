"""Which systemd unit or container a process belongs to: the innermost part of its cgroup that names one."""

from __future__ import annotations

import re
from pathlib import Path

_UNIT = re.compile(r"\.(service|scope|socket|mount|swap)$")
_CONTAINER = re.compile(r"^(?:[a-z]+-)?([0-9a-f]{64})(?:\.scope)?$")
_SHORT = 12
_KEPT = 4096


class Units:
    """Names by process; read once for each process, which its start time tells from the next with the same id."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: dict[tuple[int, str], frozenset[str]] = {}

    def names(self, pid: int) -> frozenset[str]:
        """All that the unit or container may be called by; empty when there is none, or the process has ended."""
        started = self._started(pid)
        if not started:
            return frozenset()
        key = pid, started
        if key not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = self._read(pid)
        return self._known[key]

    def _started(self, pid: int) -> str:
        """Field 22 of /proc/PID/stat, counted behind the name, which may hold anything."""
        text = _text(self._proc / str(pid) / "stat")
        words = text.rpartition(")")[2].split()
        return words[19] if len(words) > 19 else ""  # noqa: PLR2004 - 22 without pid and name, from 0

    def _read(self, pid: int) -> frozenset[str]:
        lines = _text(self._proc / str(pid) / "cgroup").splitlines()
        return frozenset().union(*(names_in(line.split(":", 2)[-1]) for line in lines))


def names_in(cgroup: str) -> frozenset[str]:
    """The names of the innermost unit or container of a cgroup's path: with and without suffix, short and long."""
    for part in reversed(cgroup.split("/")):
        container = _CONTAINER.match(part)
        if container:
            return frozenset({part, container[1], container[1][:_SHORT]})
        if _UNIT.search(part):
            return frozenset({part, part.rpartition(".")[0]})
    return frozenset()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
