"""Owners of sockets, found in a namespace of our own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracer.enrich import netns
from tracer.enrich.names import host_inode, namespaces, process_namespaces
from tracer.enrich.processes import Processes

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
NAME = f"fe-owner{os.getpid()}"
LOOPBACK = 0x7F000001
SERVER = """
import socket, sys
tcp = socket.create_server(("127.0.0.1", 8080))
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 5353))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server():
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    process = None
    try:
        subprocess.run(["ip", "-n", NAME, "link", "set", "lo", "up"], check=True)
        process = subprocess.Popen(
            ["ip", "netns", "exec", NAME, sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        yield process, Path("/run/netns", NAME).stat().st_ino
    finally:
        if process:
            process.stdin.close()
            process.wait()
            process.stdout.close()
        subprocess.run(["ip", "netns", "del", NAME], check=True)


def test_owners_are_found_by_local_address(server):
    """A bound TCP socket, a UDP socket on any address of either family, a raw socket; and nothing else."""
    process, inode = server
    found = Processes()
    expected = (process.pid, Path(f"/proc/{process.pid}/comm").read_text().strip())
    assert found.owner(inode, 6, LOOPBACK, 8080) == expected
    assert found.owner(inode, 17, LOOPBACK, 5353) == expected
    assert found.owner(inode, 1, LOOPBACK, 0) == expected
    assert found.owner(inode, 6, LOOPBACK + 1, 8080) is None
    assert found.owner(inode, 6, LOOPBACK, 8081) is None
    assert found.owner(1, 6, LOOPBACK, 8080) is None


def test_a_socket_made_after_the_first_question_is_found(server):
    """A question without an answer has /proc read again, though not at once."""
    process, inode = server
    found = Processes()
    assert found.owner(inode, 17, LOOPBACK, 7777) is None
    with Path("/run/netns", NAME).open() as file:
        sock = netns.run_in(file.fileno(), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with sock:
        sock.bind(("127.0.0.1", 7777))
        deadline = time.monotonic() + 5
        ports = set()
        while 7777 not in ports and time.monotonic() < deadline:
            found.owner(inode, 17, LOOPBACK, 7777)
            ports = {item.port for item in found._sockets[inode, 17]}
        assert 7777 in ports
    assert process.poll() is None


def test_a_process_that_has_ended_is_no_owner(server):
    """Neither an error nor the name of one that is gone."""
    process, inode = server
    found = Processes()
    assert found.owner(inode, 6, LOOPBACK, 8080)
    process.stdin.close()
    process.wait()
    assert found.owner(inode, 6, LOOPBACK, 8080) is None


def test_namespaces_have_names(server):
    """A name under /run/netns, and for an unnamed one the process in it; the host is the host."""
    process, inode = server
    assert namespaces()[inode].name == NAME
    assert process_namespaces()[inode].name.endswith(f"[{process.pid}]")
    assert namespaces()[host_inode()].name == "host"
