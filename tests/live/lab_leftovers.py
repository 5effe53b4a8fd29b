"""For tests that build labs: one at a time, and what is left of them afterwards. Nothing must be."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

import pytest

from tests.live.networks import LAB_LOCK
from tracer.lab import engine, state


@pytest.fixture(scope="module", autouse=True)
def one_lab_at_a_time():
    """Labs share the names of their namespaces: whoever tests with them takes this lock."""
    with LAB_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        for left in state.existing():
            if left.stale():
                engine.down(left.name)


@pytest.fixture(autouse=True)
def nobody_elses_lab():
    """Somebody at this machine may be running a lab: let that end first, for a minute at most."""
    deadline = time.monotonic() + 60
    while (others := [other.name for other in state.existing() if not other.stale()]) or lab_pids():
        assert time.monotonic() < deadline, f"lab {others} is up\ntry: fibtrace lab down {others}"
        time.sleep(0.05)  # polling what others do; nothing of ours is under way


@pytest.fixture
def before():
    """Namespaces and processes that are there before a test, to be the same after it."""
    return snapshot()


def snapshot():
    """Return the names of all namespaces, and the pids of processes whose program is one of a lab."""
    names = {path.name for path in state.NETNS_DIR.glob("*") if path.name in {"a", "b", "c", "r", "s"}}
    return names, lab_pids()


def lab_pids():
    """Return the pids of all senders and servers of labs on this machine.

    Real servers are known by their working directory, which is one of a lab (or was: then the kernel says so).
    """
    pids = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                working = str((entry / "cwd").readlink())
            except OSError:
                continue
            if b"lab/traffic.py" in command or working.startswith(f"{state.ROOT}/"):
                pids.add(int(entry.name))
    return pids


def assert_nothing_left(before):
    """Assert that no namespace, process, or record of a lab is there that was not before."""
    assert snapshot() == before
    assert not state.ROOT.exists()
