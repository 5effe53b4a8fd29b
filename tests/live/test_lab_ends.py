"""A lab leaves nothing, however it ends: by signals, by kill -9, by errors, next to labs of others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.live.lab_leftovers import assert_nothing_left, before, nobody_elses_lab, one_lab_at_a_time
from tests.live.tracing import REPO
from tracer.errors import BadRequest, Exit
from tracer.lab import engine, state
from tracer.lab.catalog import labs

__all__ = ["before", "nobody_elses_lab", "one_lab_at_a_time"]  # fixtures: they act by being here

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="labs need root: they make network namespaces"),
]

DRIVER = """
import sys
from tracer.lab import engine
with engine.running(sys.argv[1]) as running:
    print("up", flush=True)
    sys.stdin.read()
"""


def start_run(name, code=DRIVER):
    """Start a process that runs a lab until its stdin ends; returns when the lab is up."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, name], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    return process


def finish(process):
    """Wait for a driver and close its pipes; one that does not end is ended, as it keeps others from their labs."""
    try:
        process.wait(timeout=20)
    finally:
        process.kill()
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(number, before):
    """A lab that is interrupted while it is up is gone when its process is."""
    process = start_run("policy")
    process.send_signal(number)
    finish(process)
    assert_nothing_left(before)


def test_a_signal_while_building_leaves_nothing(before):
    """Interrupted at many moments of building, running and removing, a lab leaves nothing."""
    for step_ms in range(40, 220, 7):
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, "nat"],
            cwd=REPO, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(timeout=step_ms / 1000)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(timeout=20)
        assert_nothing_left(before)


def test_down_removes_what_kill_9_left(before):
    """After kill -9 the namespaces are still there, and `down` removes them and every process."""
    process = start_run("router")
    process.kill()
    finish(process)
    assert state.netns_inode("c") is not None
    assert engine.down("router")
    assert_nothing_left(before)


KILLED_WHILE_BUILDING = """
import os, signal, sys
from tracer.lab import build, engine
original = build._run_batches
def run_and_die(*arguments):
    original(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
build._run_batches = run_and_die
engine.up(sys.argv[1])
"""


def test_what_was_made_just_before_kill_9_is_known(before):
    """Killed right after the namespaces were made, before more about them was noted, they are found."""
    command = [sys.executable, "-c", KILLED_WHILE_BUILDING, "router"]
    assert subprocess.run(command, cwd=REPO, check=False).returncode == -signal.SIGKILL
    assert state.netns_inode("c") is not None
    assert engine.down("router")
    assert_nothing_left(before)


def test_kill_9_at_any_moment_is_repaired_by_the_next_run(before):
    """Whatever moment of building or traffic kill -9 hits, the next run starts and leaves nothing."""
    code = DRIVER.replace('print("up", flush=True)', "list(running.traffic())")
    for step_ms in range(40, 400, 20):
        process = subprocess.Popen([sys.executable, "-c", code, "nat"], cwd=REPO, stdin=subprocess.DEVNULL)
        try:
            process.wait(timeout=step_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)
        with engine.running("router") as running:
            assert next(running.traffic()).ok
        assert_nothing_left(before)


def test_a_namespace_of_somebody_else_is_refused_and_left_alone(before):
    """A namespace `s` that no lab made is an error that says what to do, and it survives `down`."""
    subprocess.run(["ip", "netns", "add", "s"], check=True)
    try:
        inode = state.netns_inode("s")
        with pytest.raises(BadRequest, match=r"namespace s exists that is not of a lab(.|\n)*ip netns del s"):
            engine.up("router")
        assert not engine.down("router")
        assert state.netns_inode("s") == inode
        assert state.netns_inode("c") is None
    finally:
        subprocess.run(["ip", "netns", "del", "s"], check=True)
    assert_nothing_left(before)


def test_a_namespace_made_anew_by_somebody_else_survives_down(before):
    """`down` deletes the namespace that it made, not another one that has its name by now."""
    engine.up("server")
    subprocess.run(["ip", "netns", "del", "c"], check=True)
    subprocess.run(["ip", "netns", "add", "c"], check=True)
    try:
        other = state.netns_inode("c")
        if other == state.State("server").namespaces()["c"]:
            pytest.skip("the kernel gave the new namespace the inode of the deleted one")
        engine.down("server")
        assert state.netns_inode("c") == other
    finally:
        engine.down("server")
        if state.netns_inode("c") is not None:
            subprocess.run(["ip", "netns", "del", "c"], check=True)
    assert_nothing_left(before)


def test_a_lab_that_is_up_stays_and_excludes_others(before):
    """A lab outlives the process of `up`, a second is refused, its traffic can be run, `down` ends it."""
    code = 'import sys; from tracer.lab import engine; engine.up(sys.argv[1]); print("up", flush=True)'
    finish(start_run("router", code))
    try:
        for other in ("router", "nat"):
            with pytest.raises(BadRequest, match="fibtrace lab down router"):
                engine.up(other)
        command = [sys.executable, "-m", "tracer.lab.run_traffic", "router"]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "c: datagrams, each decided, sends 23 packets: sent 23, answered 23" in done.stderr
        assert done.stdout == ""
    finally:
        assert engine.down("router")
    assert not engine.down("router")
    assert_nothing_left(before)


def test_http_goes_without_curl(before, monkeypatch):
    """Where curl is not installed our own client makes the request, and the step reports the same."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "curl" else which(name))
    with engine.running("router") as running:
        (result,) = [result for result in running.traffic() if result.step.program[0] == "get"]
        assert result.ok
        assert result.output == "200\n"
    assert_nothing_left(before)


def test_traffic_without_a_lab_is_a_usage_error():
    """The traffic of a lab that is not up, or does not exist, is a usage error and says why."""
    for name, message in (("router", "lab router is not up"), ("no-such", "no lab is named 'no-such'")):
        command = [sys.executable, "-m", "tracer.lab.run_traffic", name]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
        assert done.returncode == Exit.USAGE
        assert message in done.stderr


def test_a_command_that_fails_is_named_and_nothing_is_left(before, monkeypatch):
    """When iproute2 refuses a line, the error quotes that line, and what was built before it is removed."""
    router = labs()["router"]
    broken = replace(
        router,
        namespaces=(
            router.namespaces[0],
            replace(router.namespaces[1], routes=("default via 192.0.2.1",)),
            router.namespaces[2],
        ),
    )
    monkeypatch.setattr(engine, "find", lambda _name: broken)
    with pytest.raises(
        engine.TracerError, match=r"`ip route add default via 192\.0\.2\.1` failed in namespace r"
    ):
        engine.up("router")
    assert_nothing_left(before)


def test_building_the_router_is_fast():
    """Namespaces, links, routes and services of the router lab are there in well under a second."""
    with engine.running("router") as running:
        first = min(path.stat().st_mtime_ns for path in (running.state.file.parent / "www").iterdir())
        ready = running.state.file.stat().st_mtime_ns
    assert ready - first < 1_000_000_000
