"""Real servers in labs: who relays by which device, as the kernel has it; and nothing of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.lab_leftovers import assert_nothing_left, before, nobody_elses_lab, one_lab_at_a_time
from tests.live.lab_runs import skip_where_impossible
from tracer.lab import engine, state
from tracer.lab.catalog import labs

__all__ = ["before", "nobody_elses_lab", "one_lab_at_a_time"]  # fixtures: they act by being here

REPO = Path(__file__).parents[2]
NAMES = [name for name, lab in labs().items() if any(service.relays for service in lab.services)]
TUNNELS = [name for name in NAMES if any(service.tun for service in labs()[name].services)]
_HOLD = "import sys; from tracer.lab import engine\nwith engine.running(sys.argv[1]): print('up', flush=True); input()"


@pytest.mark.parametrize("name", NAMES)
def test_whoever_relays_is_known(name, before):
    """Each relay is the process of its server, in its namespace, with the TUN device open that the lab names."""
    skip_where_impossible(name)
    with engine.running(name) as running:
        services = [service for service in running.lab.services if service.relays]
        assert len(running.relays) == len(services) >= 2
        for relay, service in zip(running.relays, services, strict=True):
            process = Path("/proc", str(relay.pid))
            assert (process / "comm").read_text().strip() == service.program[1][:15]
            assert (process / "ns/net").stat().st_ino == running.namespaces[relay.netns]
            opened = "".join(path.read_text() for path in (process / "fdinfo").iterdir())
            devices = [line.split()[1] for line in opened.splitlines() if line.startswith("iff:")]
            assert set(devices) == ({relay.tun} if relay.tun else set())
            assert relay.describe().startswith(f"{service.label} is process {relay.pid} in {relay.netns}")
    assert_nothing_left(before)


@pytest.mark.parametrize("name", ["openvpn", "strongswan", "wireguard-go"])
def test_keys_are_for_root_only(name):
    """Nobody but root can go into the directory where the keys of a server are."""
    skip_where_impossible(name)
    with engine.running(name) as running:
        places = [running.state.directory / relay.label for relay in running.relays]
        assert [place.stat().st_mode & 0o777 for place in places] == [0o700, 0o700]


@pytest.mark.parametrize("name", TUNNELS)
def test_a_killed_lab_takes_its_servers_along(name, before):
    """When the maker of a lab is killed its servers die with it, and `down` removes the rest."""
    skip_where_impossible(name)
    command = [sys.executable, "-c", _HOLD, name]
    with subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as maker:
        assert maker.stdout.readline() == b"up\n"
        servers = [process for process in state.State(name).processes() if process.alive()]
        os.kill(maker.pid, signal.SIGKILL)
    assert len(servers) >= 4
    deadline = time.monotonic() + 10
    while any(server.alive() for server in servers):
        assert time.monotonic() < deadline, "a server outlives its lab"
    assert engine.down(name)
    assert_nothing_left(before)
