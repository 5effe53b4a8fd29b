"""Which process owns a socket: /proc/PID/net of its namespace gives the socket's inode, /proc/PID/fd its holder."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

FILES = {1: ("icmp", "raw"), 6: ("tcp", "tcp6"), 17: ("udp", "udp6"), 58: ("icmp6", "raw6"), 136: ("udplite", "udplite6")}
RAW = ("raw", "raw6")
MAX_AGE_NS = 1_000_000_000
_V4_MAPPED = 0xFFFF << 32


class Socket(NamedTuple):
    """A line of /proc/net/tcp and its like; `address` 0 is any."""

    address: int
    port: int
    inode: int
    listening: bool


class Processes:
    """Finds socket owners; the tables it reads are kept for `max_age_ns` after a question they could not answer."""

    def __init__(self, max_age_ns: int = MAX_AGE_NS) -> None:
        self._max_age_ns = max_age_ns
        self._members: dict[int, list[int]] = {}
        self._members_ns = -max_age_ns
        self._sockets: dict[tuple[int, int], tuple[int, tuple[Socket, ...]]] = {}
        self._holders: dict[int, dict[int, int]] = {}
        self._holders_ns: dict[int, int] = {}
        self._answers: dict[tuple[int, int, int, int], tuple[int, str]] = {}

    def owner(self, netns_inode: int, proto: int, addr: int, port: int) -> tuple[int, str] | None:
        """The (pid, comm) that holds the socket bound to this local address, None if there is none to be seen.

        `addr` is a host-order integer, 0 for any; `proto` the IP protocol. A socket on any address counts for
        every address. Never raises for a process that has ended; an answer is kept while the process lives.
        """
        key = (netns_inode, proto, addr, port)
        known = self._answers.get(key)
        if known and _comm(known[0]) == known[1]:
            return known
        self._answers.pop(key, None)
        found = self._find(netns_inode, proto, addr, port)
        if found:
            self._answers[key] = found
        return found

    def _find(self, netns_inode: int, proto: int, addr: int, port: int) -> tuple[int, str] | None:
        best = _best(self._table(netns_inode, proto), addr, port)
        if best is None:
            return None
        pid = self._holder(netns_inode, best.inode)
        comm = _comm(pid) if pid else None
        return (pid, comm) if pid and comm is not None else None

    def _table(self, netns_inode: int, proto: int) -> tuple[Socket, ...]:
        now = time.monotonic_ns()
        known = self._sockets.get((netns_inode, proto))
        if known and now - known[0] < self._max_age_ns:
            return known[1]
        sockets: tuple[Socket, ...] = ()
        for pid in self._pids(netns_inode):
            read = _read_sockets(pid, proto)
            if read is not None:
                sockets = read
                break
        self._sockets[netns_inode, proto] = (now, sockets)
        return sockets

    def _holder(self, netns_inode: int, inode: int) -> int:
        """The lowest pid with the socket open; 0 if none. A socket may outlive the process's stay in the namespace."""
        holders = self._holders.get(netns_inode, {})
        now = time.monotonic_ns()
        if inode not in holders and now - self._holders_ns.get(netns_inode, -self._max_age_ns) >= self._max_age_ns:
            holders = {}
            for pid in reversed(self._pids(netns_inode)):
                holders.update(dict.fromkeys(_socket_inodes(pid), pid))
            self._holders[netns_inode], self._holders_ns[netns_inode] = holders, now
        return holders.get(inode, 0)

    def _pids(self, netns_inode: int) -> list[int]:
        """Processes in the namespace, lowest pid first."""
        now = time.monotonic_ns()
        if now - self._members_ns >= self._max_age_ns:
            self._members, self._members_ns = _members(), now
        return self._members.get(netns_inode, [])


def _members() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            found.setdefault(os.stat(f"/proc/{pid}/ns/net").st_ino, []).append(pid)
        except OSError:
            continue
    return found


def _best(sockets: tuple[Socket, ...], addr: int, port: int) -> Socket | None:
    """As the kernel scores them: the exact address before any; a connection before the listener it came from."""
    candidates = [item for item in sockets if item.port == port and item.address in {addr, 0}]
    return min(candidates, key=lambda item: (item.address != addr, item.listening), default=None)


def _read_sockets(pid: int, proto: int) -> tuple[Socket, ...] | None:
    """The sockets in the namespace of a process; None if it has ended."""
    names = FILES.get(proto, RAW)
    try:
        os.stat(f"/proc/{pid}/net")
    except OSError:
        return None
    wanted = None if names != RAW and proto not in {1, 58} else proto
    return tuple(item for name in names for item in _lines(f"/proc/{pid}/net/{name}", wanted))


def _lines(path: str, raw_proto: int | None) -> Iterator[Socket]:
    """For raw sockets the port column is the protocol; they are found under port 0."""
    try:
        with open(path, encoding="ascii") as file:
            lines = file.readlines()[1:]
    except OSError:
        return
    raw = path.rsplit("/", 1)[1].startswith("raw")
    for line in lines:
        words = line.split()
        address, _, port = words[1].partition(":")
        number = int(port, 16)
        if raw and number != raw_proto:
            continue
        listening = words[3] == "0A"  # TCP_LISTEN
        yield Socket(_address(address), 0 if raw else number, int(words[9]), listening)


def _address(text: str) -> int:
    """Words of 32 bit in host order; an IPv4 address mapped into IPv6 becomes the IPv4 address."""
    words = [socket.ntohl(int(text[start : start + 8], 16)) for start in range(0, len(text), 8)]
    value = 0
    for word in words:
        value = value << 32 | word
    return value & 0xFFFFFFFF if len(words) > 1 and value >> 32 == _V4_MAPPED >> 32 else value


def _socket_inodes(pid: int) -> Iterator[int]:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith("socket:["):
            yield int(target[8:-1])


def _comm(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None
