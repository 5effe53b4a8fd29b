"""Bringing a lab up, running its traffic, and taking it down again, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tracer.errors import BadRequest, NotPermitted, TracerError
from tracer.lab.build import build, finish
from tracer.lab.catalog import find
from tracer.lab.daemons import Relay, relays, set_up
from tracer.lab.needs import check
from tracer.lab.processes import Child, Start, await_ready, end, start
from tracer.lab.programs import argv, place, require
from tracer.lab.signals import held, unwound
from tracer.lab.state import NETNS_DIR, ROOT, Process, State, existing, locked, netns_inode, start_time
from tracer.lab.topology import Lab, Service, Step

_STEP_S = 30.0


@dataclass(frozen=True)
class StepResult:
    """What became of one step: its exit code and everything it printed."""

    step: Step
    code: int
    output: str

    @property
    def ok(self) -> bool:
        """Whether it ended as the lab says, and reported what it should."""
        last = self.output.strip().rpartition("\n")[2]
        return self.code in self.step.exits and (self.step.reported is None or last == self.step.reported)


@dataclass
class Running:
    """A lab that is up."""

    lab: Lab
    state: State
    children: list[Child] = field(default_factory=list)

    @property
    def namespaces(self) -> dict[str, int]:
        """Names of its network namespaces and their inodes."""
        return {name: inode for name, inode in self.state.namespaces().items() if inode is not None}

    @property
    def relays(self) -> tuple[Relay, ...]:
        """The processes that read packets and send others for them, by a TUN device or as a proxy."""
        return relays(self.lab, self.state)

    def traffic(self) -> Iterator[StepResult]:
        """Run the steps in order; yields each when it has ended, background steps after all others."""
        background: list[tuple[Step, Child]] = []
        try:
            for step in self.lab.steps:
                child = self._start(step)
                if step.background:
                    background.append((step, child))
                    await_ready([child])
                else:
                    yield _await(step, child)
            for step, child in background:
                yield _await(step, child)
        finally:
            _end_children([child for _, child in background])

    def _start(self, step: Step) -> Child:
        command = argv(step.program, self.state.directory)
        child = start(self.state, Start(step.netns, step.label, command, with_us=True, own_group=False))
        self.children.append(child)
        return child


def up(name: str) -> Running:
    """Build a lab that stays until `down`.

    Raises:
        BadRequest: no such lab, one is up already, or a namespace of such a name exists that is not ours.
        NotPermitted: not root.
        NotSupported: a program is not installed, or the kernel lacks a kind of device.
        TracerError: a command failed; nothing is left behind.
    """
    with unwound():
        return _up(find(name), keep=True)


def down(name: str) -> bool:
    """Remove a lab and all that it made, also what a killed process left; False if there was nothing."""
    find(name)
    _check_root()
    with held(), locked():
        state = State(name)
        if not state.directory.exists():
            return False
        _remove(state)
        return True


@contextmanager
def running(name: str) -> Iterator[Running]:
    """Build a lab for the duration of a `with` block; interrupted at any point it is removed again."""
    lab = find(name)
    with unwound():
        try:
            yield _up(lab, keep=False)
        finally:
            _remove_if_ours(State(name))


def _remove_if_ours(state: State) -> None:
    with held(), locked():
        owner = state.owner()
        if owner is not None and owner.pid == os.getpid():
            _remove(state)


def attach(name: str) -> Running:
    """Return a lab that somebody else brought up.

    Raises:
        BadRequest: it is not up.
    """
    lab, state = find(name), State(name)
    if not state.ready():
        raise BadRequest(f"lab {name} is not up\ntry: fibtrace lab up {name}")
    return Running(lab, state)


def _up(lab: Lab, *, keep: bool) -> Running:
    _check_root()
    check(lab)
    with locked() as lock:
        _make_room(lab)
        state = State(lab.name)
        running_lab = Running(lab, state)
        try:
            with held():
                State.create(lab.name, keep=keep)
            build(lab, state, lock)
            _start_services(running_lab, with_us=not keep)
            set_up(lab, state, lock)
            finish(lab, lock)
            state.record(ready=True)
        except BaseException:
            with held():
                _remove(state)
            raise
    return running_lab


def _check_root() -> None:
    if os.geteuid() != 0:
        raise NotPermitted("cannot make a lab: network namespaces need root\ntry: sudo fibtrace lab ...")


def _make_room(lab: Lab) -> None:
    """Remove what killed runs left; refuse if a lab is up or a namespace of such a name is not ours."""
    for state in existing():
        if not state.stale():
            raise BadRequest(
                f"cannot bring up lab {lab.name}: lab {state.name}, of the same names, is {_how(state)}\n"
                f"try: fibtrace lab down {state.name}"
            )
        _remove(state)
    for ns in lab.namespaces:
        if netns_inode(ns.name) is not None:
            raise BadRequest(
                f"cannot bring up lab {lab.name}: a network namespace {ns.name} exists that is not of a lab\n"
                f"look at it: ip netns exec {ns.name} ip addr; if it is not needed: ip netns del {ns.name}"
            )


def _how(state: State) -> str:
    """Return in which way a lab is there: to stay, or run by a process that will take it down."""
    owner = state.owner()
    return f"being run by process {owner.pid}" if owner is not None and owner.alive() else "up"


def _start_services(running_lab: Running, *, with_us: bool) -> None:
    state = running_lab.state
    www = state.directory / "www"
    www.mkdir()
    (www / "index.html").write_text("<!doctype html><title>fibtrace lab</title><p>It was routed here.\n")
    for service in running_lab.lab.services:
        if service.after:
            await_ready(running_lab.children)
        running_lab.children.append(start(state, _start_of(service, state, with_us=with_us)))
    await_ready(running_lab.children)


def _start_of(service: Service, state: State, *, with_us: bool) -> Start:
    command = argv(service.program, state.directory, service.label)
    own = place(state.directory, service.label)
    ready = own / service.ready.removeprefix("/") if service.ready.startswith("/") else service.ready
    return Start(service.netns, service.label, command, with_us, own_group=True, ready=ready)


def _remove(state: State) -> None:
    """End the recorded processes, delete the recorded namespaces, forget the lab; under the lock."""
    end(state.processes())
    for name, inode in state.namespaces().items():
        current = netns_inode(name)
        if current is None or (inode is not None and inode != current):
            continue  # gone, or deleted and made anew by somebody else
        done = subprocess.run(
            [require("ip"), "netns", "del", name], capture_output=True, text=True, check=False
        )
        if done.returncode != 0 and (NETNS_DIR / name).exists():
            raise TracerError(f"cannot delete network namespace {name}: {done.stderr.strip()}")
    state.remove()
    if ROOT.is_dir() and not existing():
        ROOT.rmdir()


def _await(step: Step, child: Child) -> StepResult:
    try:
        code = child.popen.wait(timeout=_STEP_S)
    except subprocess.TimeoutExpired:
        _end_children([child])
        raise TracerError(f"step `{step.label}` did not end in {_STEP_S:.0f} s: {child.output()}") from None
    except BaseException:
        _end_children([child])
        raise
    return StepResult(step, code, child.output())


def _end_children(children: list[Child]) -> None:
    with held():
        end(Process(child.popen.pid, start_time(child.popen.pid) or 0) for child in children)
