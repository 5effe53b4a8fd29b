"""A guest from its start to its end: what it prints is passed on while it runs."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vmlab.machine import CHANNELS, Guest, command

_CONSOLE_BYTES, _CONSOLE_LINES = 1 << 16, 40


@dataclass(slots=True)
class Session:
    """What is known of a running guest."""

    begin_s: float = field(default_factory=time.monotonic)
    started_s: float | None = None
    code: int | None = None
    timed_out: bool = False
    console: bytes = b""
    control: bytes = b""

    def take(self, channel: str, data: bytes) -> None:
        """Take in what came from the guest."""
        if channel == "console":
            self.console = (self.console + data)[-_CONSOLE_BYTES:]
        elif channel == "control":
            *lines, self.control = (self.control + data).split(b"\n")
            for line in lines:
                self._said(line.decode(errors="replace"))
        else:
            stream = sys.stdout if channel == "stdout" else sys.stderr
            stream.buffer.write(data)
            stream.buffer.flush()

    def _said(self, line: str) -> None:
        word, _, number = line.partition(" ")
        if word == "started":
            self.started_s = time.monotonic()
        elif word == "exit" and number.isdecimal():
            self.code = int(number)

    def last_lines(self) -> str:
        """The end of the console."""
        return "\n".join(self.console.decode(errors="replace").splitlines()[-_CONSOLE_LINES:])


def boot(guest: Guest, accelerator: str, initrd: Path, timeout_s: float) -> Session:
    """Run a guest until its command has ended, it died, or the time is over."""
    session = Session()
    with _qemu(guest, accelerator, initrd) as channels:
        _follow(session, channels, session.begin_s + timeout_s)
    return session


def _follow(session: Session, channels: dict[int, str], until_s: float) -> None:
    """Read until nothing more is to come."""
    with selectors.DefaultSelector() as selector:
        for descriptor in channels:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ended = session.code is not None
            left_s = until_s - time.monotonic()
            ready = selector.select(0 if ended else max(0, left_s))
            if left_s <= 0 or (ended and not ready):
                session.timed_out = not ended
                return
            for key, _ in ready:
                if data := os.read(key.fd, 1 << 16):
                    session.take(channels[key.fd], data)
                else:
                    selector.unregister(key.fd)


@contextmanager
def _qemu(guest: Guest, accelerator: str, file: Path) -> Iterator[dict[int, str]]:
    """The channels of a running QEMU, to be read; killed at the end, however that comes."""
    reads, writes = {}, {}
    for name in CHANNELS:
        reader, writes[name] = os.pipe()
        reads[reader] = name
    try:
        words = command(guest, accelerator, file, writes)
        # A process group of its own: Ctrl-C reaches us, and we end it.
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=writes["console"],
            stderr=writes["console"],
            pass_fds=list(writes.values()),
            process_group=0,
        )
    finally:
        for descriptor in writes.values():
            os.close(descriptor)
    try:
        yield reads
    finally:
        process.kill()
        process.wait()
        for descriptor in reads:
            os.close(descriptor)
