"""What a lab has made, written down before it is made, so that anybody can remove it afterwards.

One directory per lab under /run/fibtrace-lab; `state.jsonl` in it is only ever appended to, a line per
write, so that it can be read whenever the writer was killed. /run is emptied at boot, as namespaces and
processes are.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/run/fibtrace-lab")
NETNS_DIR = Path("/run/netns")


@dataclass(frozen=True)
class Process:
    """A process by pid and start time (clock ticks since boot), which together are never reused."""

    pid: int
    start: int
    label: str = ""
    own_group: bool = False

    def alive(self) -> bool:
        """Return whether this very process still exists and is not a zombie."""
        return start_time(self.pid) == self.start


def start_time(pid: int) -> int | None:
    """Return the start time of a process (field 22 of /proc/PID/stat), None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def netns_inode(name: str) -> int | None:
    """Return the inode of a named network namespace, None if there is none of this name."""
    try:
        return (NETNS_DIR / name).stat().st_ino
    except FileNotFoundError:
        return None


class State:
    """The record of one lab that is up, or was."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = ROOT / name
        self.file = self.directory / "state.jsonl"

    @classmethod
    def create(cls, name: str, *, keep: bool) -> State:
        """Start the record of a lab; with `keep` the lab is to outlive this process once it is ready."""
        state = cls(name)
        state.directory.mkdir(parents=True)
        pid = os.getpid()
        state.record(owner=pid, start=start_time(pid), keep=keep)
        return state

    def record(self, **entry: object) -> None:
        """Append one line; a single write, so that concurrent writers do not mix."""
        line = json.dumps(entry) + "\n"
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def entries(self) -> list[dict[str, object]]:
        """Return all whole lines; a last line without its end was being written when the writer died."""
        try:
            text = self.file.read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def namespaces(self) -> dict[str, int | None]:
        """Return the namespaces that are ours: name to inode, None where it was not yet known."""
        found: dict[str, int | None] = {}
        for entry in self.entries():
            if "namespace" in entry:
                inode = entry.get("inode")
                found[str(entry["namespace"])] = inode if isinstance(inode, int) else None
        return found

    def processes(self) -> list[Process]:
        """Return every process that was started in the lab, dead ones too."""
        return [
            Process(int(str(e["pid"])), int(str(e["start"])), str(e["label"]), bool(e["own_group"]))
            for e in self.entries()
            if "pid" in e
        ]

    def ready(self) -> bool:
        """Return whether the lab was built to the end."""
        return any("ready" in entry for entry in self.entries())

    def owner(self) -> Process | None:
        """Return the process that brought the lab up, None if it was killed before it had said so."""
        first = next(iter(self.entries()), None)
        return Process(int(str(first["owner"])), int(str(first["start"]))) if first else None

    def stale(self) -> bool:
        """Return whether a killed process left this: its owner is dead and it was not meant to stay."""
        owner = self.owner()
        if owner is None:
            return True
        return not owner.alive() and not (self.entries()[0]["keep"] and self.ready())

    def remove(self) -> None:
        """Forget the lab; the last thing that tearing down does."""
        shutil.rmtree(self.directory, ignore_errors=True)


def existing() -> list[State]:
    """Return the records of all labs on this machine."""
    if not ROOT.is_dir():
        return []
    return [State(entry.name) for entry in sorted(ROOT.iterdir()) if entry.is_dir()]


@contextmanager
def locked() -> Iterator[int]:
    """Hold the lock under which labs are made and removed; yields its descriptor.

    The lock is on /run itself: a lock file of ours would be one more thing to leave behind. A child that
    inherits the descriptor keeps the lock when we are killed, until it has ended.
    """
    descriptor = os.open(ROOT.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
