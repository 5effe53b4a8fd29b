"""Real servers in a lab: each with a directory and a /run of its own, configured and known by what it relays.

`ip netns exec` gives a process mounts of its own as well, so what is laid over /run and /etc there is seen by that
server only, and goes with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracer.errors import TracerError
from tracer.lab.programs import DAEMON, place
from tracer.lab.state import State
from tracer.lab.tools import output_of
from tracer.lab.topology import Lab


@dataclass(frozen=True)
class Relay:
    """A process that reads packets and sends others for them: by a TUN device, or as a proxy (None)."""

    netns: str
    label: str
    pid: int
    tun: str | None

    def describe(self) -> str:
        """Return one line that says which process it is."""
        way = f"by device {self.tun}" if self.tun else "as a proxy"
        return f"{self.label} is process {self.pid} in {self.netns}, it relays {way}"


def prepare(lab: Lab, state: State, lock: int) -> None:
    """Make the directory of every real server, and their keys and configurations."""
    for service in lab.services:
        if service.program[0] == DAEMON:
            own = place(state.directory, service.label)
            own.mkdir(mode=0o700)  # there are keys in it
            (own / "run").mkdir()
    if lab.prepare:
        lab.prepare(state.directory, lock)


def set_up(lab: Lab, state: State, lock: int) -> None:
    """Run the commands that configure the services, in their order, each where its service runs.

    Raises:
        TracerError: one failed, or its service has ended; what it said is in the message.
    """
    pids = {process.label: process.pid for process in state.processes() if process.alive()}
    for setup in lab.setups:
        if setup.service not in pids:
            raise TracerError(f"cannot set up the lab: {setup.service} has ended")
        words = ("nsenter", "--target", str(pids[setup.service]), "--mount", "--net", "--wd", "--")
        output_of(lock, *words, *setup.program)


def relays(lab: Lab, state: State) -> tuple[Relay, ...]:
    """Return the processes of a lab that relay packets, and their devices."""
    pids = {process.label: process.pid for process in state.processes() if process.alive()}
    return tuple(
        Relay(service.netns, service.label, pids[service.label], service.tun)
        for service in lab.services
        if service.relays and service.label in pids
    )
