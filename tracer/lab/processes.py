"""Starting and ending the processes of a lab so that none is ever unrecorded."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import TracerError
from tracer.lab.programs import require
from tracer.lab.signals import held
from tracer.lab.state import Process, State, start_time

READY_S = 60.0
_POLL_S = 0.002
# The child waits for a line: if its starter dies before the pid is written down, it reads end of file
# instead.
_GATE = 'read -r go || exit 1; exec "$@" </dev/null'


# Children of this process, by pid: they are to be reaped by whoever ends them, also if that has only the
# state file.
_ours: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Start:
    """How to start a process: where, what, and whether it dies with us and hears our Ctrl-C.

    `ready` is the end of the line by which it says that it can be talked to, or the socket on which it then listens.
    """

    netns: str
    label: str
    argv: list[str]
    with_us: bool
    own_group: bool
    ready: str | Path = "ready"


@dataclass(frozen=True)
class Child:
    """A process of a lab that we started, and the file its output goes to."""

    label: str
    popen: subprocess.Popen[bytes]
    log: Path
    says: str | Path

    def output(self) -> str:
        """Return what it has printed so far, stdout and stderr."""
        return self.log.read_text(errors="replace")

    def ready(self) -> bool:
        """Return whether it can be talked to."""
        if isinstance(self.says, str):
            return any(line.endswith(self.says) for line in self.output().splitlines())
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(self.says)) == 0


def start(state: State, what: Start) -> Child:
    """Start a program in a namespace; it is in the state file before it runs."""
    descriptor, name = tempfile.mkstemp(suffix=".log", dir=state.directory)
    log = Path(name)
    command = [require("ip"), "netns", "exec", what.netns, "/bin/sh", "-c", _GATE, "sh", *what.argv]
    if what.with_us:
        command = [require("setpriv"), "--pdeathsig", "KILL", *command]
    with held():
        gate, opener = os.pipe()
        try:
            with os.fdopen(descriptor, "wb") as out, os.fdopen(gate) as stdin:
                popen = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=what.own_group,
                )
            _ours[popen.pid] = popen
            began = start_time(popen.pid)
            if began is not None:
                state.record(pid=popen.pid, start=began, label=what.label, own_group=what.own_group)
                # If it could not even start, whoever waits for it finds its output.
                with contextlib.suppress(BrokenPipeError):
                    os.write(opener, b"go\n")
        finally:
            os.close(opener)
    return Child(what.label, popen, log, what.ready)


def await_ready(children: Iterable[Child]) -> None:
    """Return when each server is ready.

    Raises:
        TracerError: one has ended, or was not ready within `READY_S`; its own words are in the message.
    """
    deadline = time.monotonic() + READY_S
    for child in children:
        while not child.ready():
            if child.popen.poll() is not None:
                raise TracerError(
                    f"cannot start {child.label}: {child.output().strip() or 'it ended at once'}"
                )
            if time.monotonic() > deadline:
                raise TracerError(
                    f"{child.label} was not ready after {READY_S:.0f} s: {child.output().strip()}"
                )
            time.sleep(_POLL_S)


def end(processes: Iterable[Process]) -> None:
    """End exactly these processes, by SIGTERM or else SIGKILL, and wait until they are gone."""
    every = list(processes)
    open_fds = [(process, fd) for process in every if (fd := _pidfd(process)) is not None]
    try:
        for number, patience_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
            for process, fd in open_fds:
                _send(process, fd, number)
            deadline = time.monotonic() + patience_s
            open_fds_left = [fd for _, fd in open_fds if not _gone(fd, deadline)]
            if not open_fds_left:
                return
    finally:
        for _, fd in open_fds:
            os.close(fd)
        for process in every:
            if process.pid in _ours:
                _ours.pop(process.pid).wait()


def _pidfd(process: Process) -> int | None:
    """Return a descriptor of this very process: opened first and compared after, as pids are reused."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return None
    if process.alive():
        return fd
    os.close(fd)
    return None


def _send(process: Process, fd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(fd, number)
        if process.own_group:
            os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _gone(fd: int, deadline: float) -> bool:
    """Wait for the end of a process: then its pidfd becomes readable, reaped or not."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
