"""Acting inside a named network namespace without a process for it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

from tracer.errors import TracerError
from tracer.lab.state import NETNS_DIR

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_IFF_RUNNING = 0x40
_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0A


def inside(name: str, work: Callable[[], _T]) -> _T:
    """Run `work` in a thread of its own that has entered the namespace, and return its result.

    A thread, because setns changes only the calling one, and the thread ends with it: ours stays where it is.
    """
    return _in_thread(lambda: _setns(name), work)


def in_scratch(work: Callable[[], _T]) -> _T:
    """Run `work`, and the processes it starts, in a new network namespace that has no name and ends with it."""
    return _in_thread(_unshare, work)


def _in_thread(enter: Callable[[], None], work: Callable[[], _T]) -> _T:
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            enter()
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _setns(name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(NETNS_DIR / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise TracerError(f"cannot enter namespace {name}: {os.strerror(number)}")
    finally:
        os.close(descriptor)


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise TracerError(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")


def udp_socket(name: str) -> socket.socket:
    """Return a socket of the namespace, for requests about its devices from any thread."""
    return inside(name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def is_running(sock: socket.socket, device: str) -> bool:
    """Return whether a device is operationally up (IFF_RUNNING), not only set up.

    The kernel publishes a change of carrier up to a second late (net/core/link_watch.c). Asked for the link
    through ethtool, kernels from 6.8 on publish it at once; older ones answer all the same, and one has to
    wait.
    """
    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_GLINK, 0))
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
    with contextlib.suppress(OSError):  # a tunnel has no carrier to be asked for
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s24x", device.encode()))
    flags: int = struct.unpack_from("H", answer, 16)[0]
    return bool(flags & _IFF_RUNNING)
