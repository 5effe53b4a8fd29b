"""Who asked for a change: the process behind the port id in a netlink notification, only where that is certain."""

from __future__ import annotations

import os
from pathlib import Path

from tracer.enrich.names import pids

PF_EXITING, PF_KTHREAD = 0x4, 0x200000
_MAX_LISTING = 1 << 20
_ROUTE = "0"  # NETLINK_ROUTE, as /proc/net/netlink numbers the protocols
_KNOWN_LIMIT = 1024
_PIDS = 1 << 22  # PID_MAX_LIMIT: port ids above are no pids

Sender = tuple[int, str]
"""Pid and name."""


def open_listing() -> int:
    """An open /proc/net/netlink of the current namespace; it stays that namespace's wherever it is read."""
    return os.open("/proc/thread-self/net/netlink", os.O_RDONLY | os.O_CLOEXEC)


class Senders:
    """Finds the processes that own the netlink sockets of one namespace.

    A port id is mostly the pid of the socket's owner, but the owner may be in another pid namespace or have more
    sockets than one. So the process must be seen to hold the very socket. `ip` is gone a moment later, so
    this is asked as soon as the notification is there.
    """

    def __init__(self, listing: int) -> None:
        self._listing = listing
        self._known: dict[str, Sender | None] = {}

    def close(self) -> None:
        """Closes the listing."""
        os.close(self._listing)

    def find(self, port: int) -> Sender | None:
        """The process, None where it is not certain; the kernel itself has port 0."""
        if not port:
            return None
        comm, held = _read_comm(port), _sockets_of(port)
        inode = self._socket(port)
        if inode is None:
            return None
        if comm and (inode in held or (not held and _is_exiting(port))):
            return port, comm
        if not comm and port < _PIDS:
            return None  # it has ended: nobody holds the socket any more
        if inode not in self._known:
            if len(self._known) >= _KNOWN_LIMIT:
                self._known.clear()
            self._known[inode] = _holder(inode)
        return self._known[inode]

    def _socket(self, port: int) -> str | None:
        """The inode number of the socket with this port id."""
        try:
            lines = os.pread(self._listing, _MAX_LISTING, 0).decode("ascii", "replace").splitlines()
        except OSError:
            return None
        for line in lines[1:]:
            words = line.split()
            if words[1] == _ROUTE and words[2] == str(port):
                return words[-1]
        return None


def _holder(inode: str) -> Sender | None:
    """The process that holds a socket, None if there is none, or more than one."""
    found = [pid for pid in pids() if inode in _sockets_of(pid)]
    comm = _read_comm(found[0]) if len(found) == 1 else ""
    return (found[0], comm) if comm else None


def _read_comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _sockets_of(pid: int) -> set[str]:
    """Inode numbers of a process's sockets."""
    found = set()
    try:
        for name in os.scandir(f"/proc/{pid}/fd"):
            found.add(_target(name.path))
    except OSError:
        pass  # it has ended, or has just given up its files
    found.discard("")
    return found


def _target(path: str) -> str:
    """The inode number of the socket behind an open file, "" for anything else."""
    try:
        name = str(Path(path).readlink())
    except OSError:
        return ""
    return name[8:-1] if name.startswith("socket:[") else ""


def _is_exiting(pid: int) -> bool:
    """Whether the process has already given up its files, with its sockets about to go."""
    try:
        flags = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[6])
    except (OSError, ValueError, IndexError):
        return False
    return bool(flags & PF_EXITING) and not flags & PF_KTHREAD
