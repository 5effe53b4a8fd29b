"""Which process owns a socket: /proc/PID/net gives the socket's inode, /proc/PID/fd its holder."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracer.enrich.names import pids

if TYPE_CHECKING:
    from collections.abc import Iterator

TCP, UDP = 6, 17
FILES = {1: ("icmp", "raw"), 6: ("tcp", "tcp6"), 17: ("udp", "udp6"), 58: ("icmp6", "raw6")}
RAW = ("raw", "raw6")
MAX_AGE_NS = 1_000_000_000
RETRY_NS = 50_000_000
_V4_MAPPED = 0xFFFF << 32
_FIRST_IPV4, _LAST_IPV4 = 1 << 24, (1 << 32) - 1
"""Nothing is sent to an IPv4 address below the first (0.0.0.0/8), so ::1 is told from them."""


class Socket(NamedTuple):
    """A line of /proc/net/tcp and its like; `address` 0 is any."""

    address: int
    port: int
    inode: int
    listening: bool
    ipv6: bool = False


class Processes:
    """Finds the owners of sockets.

    What was read is used for `MAX_AGE_NS`; a question it cannot answer has it read again, but not more often
    than every `RETRY_NS`, so that many packets of unknown sockets cost little.
    """

    def __init__(self) -> None:
        self._read_ns: dict[object, int] = {}
        self._members: dict[int, list[int]] = {}
        self._sockets: dict[tuple[int, int], tuple[Socket, ...]] = {}
        self._holders: dict[int, dict[int, int]] = {}

    def owner(self, netns_inode: int, proto: int, addr: int, port: int) -> tuple[int, str] | None:
        """The (pid, comm) that holds the socket bound to this local address; None if none is seen.

        `addr` is a host-order integer, 0 for any; `proto` the IP protocol. A socket on any address counts for
        every address. Never raises for a process that has ended.
        """
        for max_age_ns in (MAX_AGE_NS, RETRY_NS):
            best = _best(self._table(netns_inode, proto, max_age_ns), addr, port)
            pid = self._holder(netns_inode, best.inode, max_age_ns) if best else 0
            comm = _comm(pid) if pid else None
            if comm is not None:
                return pid, comm
        return None

    def _is_stale(self, key: object, max_age_ns: int) -> bool:
        """Whether to read it again now; if so, notes that it was read."""
        now = time.monotonic_ns()
        stale = now - self._read_ns.get(key, -max_age_ns) >= max_age_ns
        if stale:
            self._read_ns[key] = now
        return stale

    def _table(self, netns_inode: int, proto: int, max_age_ns: int) -> tuple[Socket, ...]:
        key = (netns_inode, proto)
        if self._is_stale(key, max_age_ns):
            self._sockets[key] = ()
            for pid in self._pids(netns_inode, max_age_ns):
                found = _read_sockets(pid, proto)
                if found is not None:
                    self._sockets[key] = found
                    break
        return self._sockets[key]

    def _holder(self, netns_inode: int, inode: int, max_age_ns: int) -> int:
        """The lowest pid of the namespace that has the socket open; 0 if none."""
        if self._is_stale(netns_inode, max_age_ns):
            holders: dict[int, int] = {}
            for pid in reversed(self._pids(netns_inode, max_age_ns)):
                holders.update(dict.fromkeys(_socket_inodes(pid), pid))
            self._holders[netns_inode] = holders
        return self._holders[netns_inode].get(inode, 0)

    def _pids(self, netns_inode: int, max_age_ns: int) -> list[int]:
        """Processes in the namespace, lowest pid first."""
        if self._is_stale("members", max_age_ns):
            self._members = _members()
        return self._members.get(netns_inode, [])


def local_ports(pid: int | None, comm: str | None, uid: int | None) -> set[tuple[int, int]]:
    """(protocol, port) of every TCP and UDP socket that processes with this id, name and user have open now."""
    found = set()
    for candidate in [pid] if pid is not None else pids():
        if comm is not None and (_comm(candidate) or "") != comm:
            continue
        try:
            if uid is not None and Path(f"/proc/{candidate}").stat().st_uid != uid:
                continue
        except OSError:
            continue
        inodes = set(_socket_inodes(candidate))
        for proto in (TCP, UDP) if inodes else ():
            sockets = _read_sockets(candidate, proto) or ()
            found |= {(proto, item.port) for item in sockets if item.inode in inodes and item.port}
    return found


def threads(pid: int) -> int:
    """How many threads a process has; 0 when it has ended."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def _members() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid in pids():
        try:
            found.setdefault(Path(f"/proc/{pid}/ns/net").stat().st_ino, []).append(pid)
        except OSError:
            continue
    return found


def _best(sockets: tuple[Socket, ...], addr: int, port: int) -> Socket | None:
    """As the kernel scores them: the exact address before any, a connection before its listener."""
    ipv6 = addr < _FIRST_IPV4 or addr > _LAST_IPV4
    found = (item for item in sockets if item.port == port and item.address in {addr, 0})
    candidates = [item for item in found if item.ipv6 or not ipv6]
    return min(candidates, key=lambda item: (item.address != addr, item.listening), default=None)


def _read_sockets(pid: int, proto: int) -> tuple[Socket, ...] | None:
    """The sockets in the namespace of a process; None if it has ended."""
    names = FILES.get(proto, RAW)
    try:
        Path(f"/proc/{pid}/net").stat()
    except OSError:
        return None
    wanted = None if names != RAW and proto not in {1, 58} else proto
    return tuple(item for name in names for item in _lines(f"/proc/{pid}/net/{name}", wanted))


def _lines(path: str, raw_proto: int | None) -> Iterator[Socket]:
    """For raw sockets the port column is the protocol; they are found under port 0."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()[1:]
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
        yield Socket(_address(address), 0 if raw else number, int(words[9]), listening, path.endswith("6"))


def _address(text: str) -> int:
    """Words of 32 bit in host order; an IPv4 address mapped into IPv6 becomes the IPv4 address."""
    words = [socket.ntohl(int(text[start : start + 8], 16)) for start in range(0, len(text), 8)]
    value = 0
    for word in words:
        value = value << 32 | word
    return value & 0xFFFFFFFF if len(words) > 1 and value >> 32 == _V4_MAPPED >> 32 else value


def _socket_inodes(pid: int) -> Iterator[int]:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield int(target[8:-1])


def _comm(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return None
