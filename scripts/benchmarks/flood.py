"""Sends UDP as fast as one core can, by sendmmsg(2) through ctypes; prints how many and how long as JSON.

    python flood.py --to 10.99.2.2 --packets 200000 [--flows 1] [--ports 250] [--cpu 0] [--rate PPS] [--out FILE]

Sockets are not connected, so the kernel decides a route for every packet.
"""

# ruff: noqa: INP001 - a program, not part of a package

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import socket
import struct
import time
from pathlib import Path

BATCH = 64
FIRST_PORT = 9000


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("sent", ctypes.c_uint))


def destinations(first: str, flows: int, ports: int) -> list[bytes]:
    """`sockaddr_in` of each flow: so many ports of an address, then the next address."""
    base = struct.unpack("!I", socket.inet_aton(first))[0]
    return [
        struct.pack("=H", socket.AF_INET)
        + struct.pack("!HI8x", FIRST_PORT + flow % ports, base + flow // ports)
        for flow in range(flows)
    ]


class Batches:
    """Messages prepared once; each call of `send` sends the next batch of them."""

    def __init__(self, targets: list[bytes], payload: bytes = b"x" * 18) -> None:
        flows = len(targets)
        count = max(flows + -flows % BATCH, BATCH)
        names = [ctypes.create_string_buffer(name, 16) for name in targets]
        self._keep = (names, ctypes.create_string_buffer(payload, len(payload)))
        self._iov = _Iovec(ctypes.addressof(self._keep[1]), len(payload))
        self._messages = (_Mmsghdr * count)()
        for index, message in enumerate(self._messages):
            message.header.name = ctypes.addressof(names[index % flows])
            message.header.namelen = 16
            message.header.iov = ctypes.pointer(self._iov)
            message.header.iovlen = 1
        size = ctypes.sizeof(_Mmsghdr)
        start = ctypes.addressof(self._messages)
        self._batches = [ctypes.c_void_p(start + at * size) for at in range(0, count, BATCH)]
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        self._next = 0

    def send(self) -> int:
        """How many the kernel took."""
        batch = self._batches[self._next % len(self._batches)]
        self._next += 1
        sent = self._libc.sendmmsg(self._socket.fileno(), batch, BATCH, 0)
        if sent < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(sent)


def flood(batches: Batches, packets: int, rate: float | None) -> tuple[int, int, int]:
    """Send that many, at most `rate` per second; (sent, nanoseconds, nanoseconds on the CPU)."""
    sent = 0
    begin_cpu = time.process_time_ns()
    begin = time.perf_counter_ns()
    while sent < packets:
        sent += batches.send()
        if rate:
            ahead = sent / rate - (time.perf_counter_ns() - begin) / 1e9
            if ahead > 0:
                time.sleep(ahead)
    return sent, time.perf_counter_ns() - begin, time.process_time_ns() - begin_cpu


def main() -> None:
    """Parse, pin, warm up, send, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", required=True)
    parser.add_argument("--packets", type=int, required=True)
    parser.add_argument("--flows", type=int, default=1)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--ports", type=int, default=250)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begin_s = time.monotonic()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    targets = destinations(options.to, options.flows, options.ports)
    sent, took_ns, busy_ns = flood(Batches(targets), options.packets, options.rate)
    own = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "packets": sent,
        "ns": took_ns,
        "busy_ns": busy_ns,
        "cpu_s": own.ru_utime + own.ru_stime,
        "begin_s": begin_s,
    }
    if options.out:
        options.out.write_text(json.dumps(result))
    else:
        print(json.dumps(result))  # noqa: T201 - its only output


if __name__ == "__main__":
    main()
