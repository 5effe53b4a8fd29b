"""The record of a lab is readable whenever its writer was killed, and tells the living from the dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tracer.lab import state
from tracer.lab.processes import end


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A new record of a lab that is to go with its process."""
    monkeypatch.setattr(state, "ROOT", tmp_path / "labs")
    return state.State.create("router", keep=False)


def test_a_half_written_line_is_ignored(record):
    """Lines before it still count."""
    record.record(namespace="c")
    record.record(namespace="c", inode=7)
    record.record(namespace="r")
    with record.file.open("a") as file:
        file.write('{"namespace": "s", "ino')
    assert record.namespaces() == {"c": 7, "r": None}


def test_a_record_is_stale_when_its_owner_is_dead(record):
    """A living owner's lab is not stale; a dead owner's is, unless it was built to stay and got ready."""
    assert not record.stale()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as dead:
        began = state.start_time(dead.pid)
    left, kept = state.State("nat"), state.State("server")
    for found, keep in ((left, False), (kept, True)):
        found.directory.mkdir()
        found.record(owner=dead.pid, start=began, keep=keep)
    left.record(ready=True)
    assert left.stale()
    assert kept.stale()
    kept.record(ready=True)
    assert not kept.stale()
    assert [found.name for found in state.existing()] == ["nat", "router", "server"]


def test_a_record_without_a_line_is_stale(record):
    """Killed between making the directory and writing the first line."""
    record.file.unlink()
    assert record.stale()
    assert record.owner() is None


def test_a_pid_that_was_reused_is_not_ended():
    """A process with the recorded pid and another start time is somebody else's and lives on."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = state.start_time(process.pid)
        end([state.Process(process.pid, began + 1, "old", own_group=False)])
        assert process.poll() is None
        end([state.Process(process.pid, began, "this", own_group=False)])
        assert process.wait() < 0


def test_start_time_of_nobody_is_none():
    """A pid that does not exist has no start time, our own has one and it stays."""
    assert state.start_time(2**22 + 1) is None
    assert state.start_time(os.getpid()) == state.start_time(os.getpid()) > 0
