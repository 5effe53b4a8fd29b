"""What has arrived on a namespace's notification socket, with the time and the sender; read as soon as it is there."""

from __future__ import annotations

import contextlib
import errno
import select
import struct
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.enrich.netlink import RouteSocket
    from tracer.enrich.senders import Sender

_PORT = struct.Struct("12xI")  # nlmsg_pid in struct nlmsghdr
_WAIT_S, _BUSY_WAIT_S, _BUSY_NS = 0.02, 0.001, 1_000_000_000
_SWITCH_S = 0.0005


class Arrived(NamedTuple):
    """One datagram, None where the kernel threw some away; it came after `unsure_ns`, and was there at `ts_ns`."""

    ts_ns: int
    unsure_ns: int
    data: bytes | None
    sender: Sender | None


class Notifications:
    """One socket's datagrams in order. Two threads may use it: one that listens, one that works on them."""

    def __init__(self, socket: RouteSocket, find: Callable[[int], Sender | None]) -> None:
        self._socket, self._find = socket, find
        self._lock = threading.Lock()
        self._waiting: deque[Arrived] = deque()
        self._empty_ns = time.monotonic_ns()

    def fileno(self) -> int:
        """For select()."""
        return self._socket.fileno()

    def pending(self) -> bool:
        """Whether something has arrived and waits to be taken."""
        with self._lock:
            self._read()
            return bool(self._waiting)

    def nothing_before(self, ts_ns: int) -> None:
        """The socket was still empty at `ts_ns`."""
        with self._lock:
            if not self._waiting:
                self._empty_ns = max(self._empty_ns, ts_ns)

    def read(self) -> None:
        """Takes everything off the socket, without waiting."""
        with self._lock:
            self._read()

    def take(self) -> tuple[list[Arrived], int]:
        """Everything that has arrived by now, and the time at which there was certainly no more."""
        with self._lock:
            self._read()
            found = list(self._waiting)
            self._waiting.clear()
            return found, self._empty_ns

    def close(self) -> None:
        """Lets go of the namespace."""
        with self._lock:
            self._socket.close()

    def _read(self) -> None:
        while True:
            before_ns = time.monotonic_ns()
            try:
                data = self._socket.receive()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._waiting.append(Arrived(time.monotonic_ns(), self._empty_ns, None, None))
                continue
            if data is None:
                self._empty_ns = before_ns
                return
            self._append(data, time.monotonic_ns())

    def _append(self, data: bytes, now_ns: int) -> None:
        port = _PORT.unpack_from(data)[0] if len(data) >= _PORT.size else 0
        self._waiting.append(Arrived(now_ns, self._empty_ns, data, self._find(port)))


class Listener:
    """A thread that reads every socket when something arrives on it, so that the times are those of arrival."""

    def __init__(self) -> None:
        self._sockets: dict[int, Notifications] = {}
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._stopping = False
        # Python lets a thread that computes go on for 5 ms, every time that another one wants to run.
        self._before_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self._thread.start()

    def add(self, notifications: Notifications) -> None:
        """Listen to one more socket."""
        with self._lock:
            self._sockets[notifications.fileno()] = notifications
            self._epoll.register(notifications.fileno(), select.EPOLLIN)

    def remove(self, notifications: Notifications) -> None:
        """Leave a socket alone, before it is closed."""
        with self._lock:
            if self._sockets.pop(notifications.fileno(), None) is not None:
                self._epoll.unregister(notifications.fileno())

    def close(self) -> None:
        """End the thread."""
        self._stopping = True
        self._thread.join()
        sys.setswitchinterval(self._before_s)
        self._epoll.close()

    def _run(self) -> None:
        """How often it is looked decides how long a change is unsure: more often while there are changes."""
        busy_until_ns = 0
        while not self._stopping:
            before_ns = time.monotonic_ns()
            wait_s = _BUSY_WAIT_S if before_ns < busy_until_ns else _WAIT_S
            ready = {descriptor for descriptor, _ in self._epoll.poll(wait_s)}
            if ready:
                busy_until_ns = before_ns + _BUSY_NS
            with self._lock:
                for descriptor, notifications in self._sockets.items():
                    if descriptor in ready:
                        # What is wrong with a socket is told to whoever takes from it.
                        with contextlib.suppress(OSError):
                            notifications.read()
                    else:
                        notifications.nothing_before(before_ns)
