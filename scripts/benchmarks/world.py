"""The namespaces that are measured in: client - router - server, and one for loopback. Names begin with `fb-`."""

# ruff: noqa: INP001 - beside the program that uses it

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Self

HERE = Path(__file__).resolve().parent
CLIENT, ROUTER, SERVER, LOCAL = NAMES = ("fb-c", "fb-r", "fb-s", "fb-l")
FORWARDED, MANY = "10.99.2.2", "10.100.0.1"
ONE_LOOKUP, THREE_LOOKUPS = "127.0.0.1", "10.98.0.2"
POLICY_TABLES = range(101, 106)

_SETUP = f"""
link add fbc0 netns {CLIENT} type veth peer name fbr0 netns {ROUTER}
link add fbs0 netns {SERVER} type veth peer name fbr1 netns {ROUTER}
-n {CLIENT} addr add 10.99.1.2/24 dev fbc0
-n {ROUTER} addr add 10.99.1.1/24 dev fbr0
-n {ROUTER} addr add 10.99.2.1/24 dev fbr1
-n {SERVER} addr add 10.99.2.2/24 dev fbs0
-n {CLIENT} link set fbc0 up
-n {ROUTER} link set fbr0 up
-n {ROUTER} link set fbr1 up
-n {SERVER} link set fbs0 up
-n {CLIENT} route add default via 10.99.1.1
-n {SERVER} route add default via 10.99.2.1
-n {SERVER} route add local 10.100.0.0/16 dev lo
-n {ROUTER} route add 10.100.0.0/16 via 10.99.2.2
-n {LOCAL} rule add pref 100 lookup 100
-n {LOCAL} route add 10.98.0.0/24 dev lo src 127.0.0.1
"""


def ip(words: str) -> None:
    """Run `ip` with these words; raises CalledProcessError with its text."""
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)


def inside(netns: str, *command: str) -> list[str]:
    """The command, in a namespace."""
    return ["ip", "netns", "exec", netns, *command]


class World:
    """Context: the namespaces with a sink in server and loopback; nothing is left behind."""

    def __init__(self) -> None:
        self._sinks: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self._remove()
        try:
            for name in NAMES:
                ip(f"netns add {name}")
                ip(f"-n {name} link set lo up")
            for line in _SETUP.strip().splitlines():
                ip(line)
            subprocess.run(
                inside(ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1"), check=True, capture_output=True
            )
            for name in (SERVER, LOCAL):
                self._start_sink(name)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def policy(self, *, on: bool) -> None:
        """Put rules to five tables without a route before the router's main table, or take them away."""
        for table in POLICY_TABLES:
            ip(f"-n {ROUTER} rule {'add' if on else 'del'} pref {table} from 10.99.0.0/16 lookup {table}")
            if on:
                ip(f"-n {ROUTER} route add 192.0.2.0/24 via 10.99.2.2 table {table}")

    def _start_sink(self, netns: str) -> None:
        sink = subprocess.Popen(
            inside(netns, sys.executable, str(HERE / "sink.py")), stdout=subprocess.PIPE, text=True
        )
        self._sinks.append(sink)
        if sink.stdout is None or sink.stdout.readline() != "ready\n":
            raise RuntimeError(f"the receiver in {netns} did not start")

    def _remove(self) -> None:
        for sink in self._sinks:
            sink.kill()
            sink.wait()
            if sink.stdout:
                sink.stdout.close()
        self._sinks.clear()
        for name in NAMES:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(f"netns del {name}")


def forwarded() -> int:
    """How many packets the router has forwarded so far."""
    text = subprocess.run(
        inside(ROUTER, "cat", "/proc/net/snmp"), check=True, capture_output=True, text=True
    ).stdout
    names, values = (line.split() for line in text.splitlines() if line.startswith("Ip:"))
    return int(values[names.index("ForwDatagrams")])
