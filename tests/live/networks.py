"""Small networks of namespaces for the live tests, and the labs, one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.live.tracing import REPO, Captured, capture
from tracer.lab import engine, state
from tracer.lab.netns import inside, is_running, udp_socket

TRAFFIC = REPO / "tracer" / "lab" / "traffic.py"
LAB_LOCK = Path("/run/lock/fibtrace-lab-tests")
_SYSCTLS = (
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.ping_group_range=0 2147483647",
    "net.ipv4.icmp_ratemask=0",
)
_NO_IPV6 = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
# Addresses are there at once, nobody asks for routers, and every error is told.
_IPV6 = (
    *(f"net.ipv6.conf.{which}.{key}" for which in ("all", "default") for key in (
        "disable_ipv6=0", "accept_dad=0", "dad_transmits=0", "router_solicitations=0", "accept_ra=0",
    )),
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.icmp.ratelimit=0",
)  # fmt: skip


def set_sysctls(netns: str, *settings: str) -> None:
    """Write sysctls (`key=value`, dots as separators) inside a namespace."""

    def write() -> None:
        for setting in settings:
            key, _, value = setting.partition("=")
            Path("/proc/sys", key.replace(".", "/")).write_text(value)

    inside(netns, write)


@dataclass
class Net:
    """Namespaces of ours: `c` is `ft-PID-c` on the machine; devices are named as given."""

    names: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, short: str) -> str:
        return self.names[short]

    @property
    def inodes(self) -> frozenset[int]:
        """The namespaces' inode numbers."""
        return frozenset(Path("/run/netns", name).stat().st_ino for name in self.names.values())

    def ip(self, short: str, *lines: str) -> None:
        """Run lines of `ip -batch` in a namespace."""
        text = "\n".join(lines) + "\n"
        subprocess.run(
            ["ip", "-n", self[short], "-batch", "-"], input=text, text=True, check=True, capture_output=True
        )

    def ip6(self, short: str, *lines: str) -> None:
        """The same where nothing in the lines tells that IPv6 is meant."""
        text = "\n".join(lines) + "\n"
        command = ["ip", "-6", "-n", self[short], "-batch", "-"]
        subprocess.run(command, input=text, text=True, check=True, capture_output=True)

    def show(self, short: str, *words: str) -> list[str]:
        """The lines of what `ip` prints in a namespace."""
        command = ["ip", "-n", self[short], *words]
        return subprocess.run(command, text=True, check=True, capture_output=True).stdout.splitlines()

    def inside(self, short: str, *command: str) -> list[str]:
        """The command line that runs a command in a namespace."""
        return ["nsenter", f"--net=/run/netns/{self[short]}", "--", *command]

    def python(self, short: str, code: str, *arguments: object) -> list[str]:
        """The command line that runs a piece of Python in a namespace."""
        return self.inside(short, sys.executable, "-I", "-S", "-c", code, *map(str, arguments))

    def udp(self, short: str, dst: str, port: int, *options: object) -> list[str]:
        """The command line that sends datagrams: options of traffic.py's udp-send."""
        return self.traffic(short, "udp-send", dst, port, *options)

    def traffic(self, short: str, *words: object) -> list[str]:
        """The command line of a sender or server of traffic.py."""
        return self.inside(short, sys.executable, "-I", "-S", str(TRAFFIC), *map(str, words))

    def trace(self, directory: Path, *commands: Sequence[str], words: Sequence[str] = ()) -> Captured:
        """Trace commands one after the other, and keep what went through our namespaces."""
        return capture(directory, ["sh", "-c", script(*commands)], *words, only=self.inodes)


def script(*commands: Sequence[str]) -> str:
    """Commands one after the other as one line of shell; the first that fails ends it."""
    return " && ".join(shlex.join(command) for command in commands)


@contextlib.contextmanager
def network(shorts: str, *links: str, ipv6: bool = False) -> Iterator[Net]:
    """Namespaces with one letter each and veth links `c:c0 r:r0`; forwarding is on everywhere, all is up."""
    net = Net({short: f"ft-{os.getpid()}-{short}" for short in shorts})
    try:
        pairs = [link.split() for link in links]
        lines = [f"netns add {name}" for name in net.names.values()]
        lines += [
            f"link add {a[2:]} netns {net[a[0]]} type veth peer name {b[2:]} netns {net[b[0]]}"
            for a, b in pairs
        ]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)
        devices = [(end[0], end[2:]) for pair in pairs for end in pair]
        for short in net.names:
            set_sysctls(net[short], *_SYSCTLS, "net.ipv4.ip_forward=1", *(_IPV6 if ipv6 else _NO_IPV6))
            net.ip(short, *(f"link set {dev} up" for dev in ["lo", *(d for s, d in devices if s == short)]))
        for short, device in devices:
            with udp_socket(net[short]) as sock:
                deadline = time.monotonic() + 5
                while not is_running(sock, device):
                    assert time.monotonic() < deadline, f"{device} does not come up"
        yield net
    finally:
        for name in net.names.values():
            if Path("/run/netns", name).exists():
                subprocess.run(["ip", "netns", "del", name], check=True)


@contextlib.contextmanager
def client_router_server() -> Iterator[Net]:
    """`c` 10.1.0.2 on c0 - r0 10.1.0.1 `r` 10.2.0.1 r1 - s0 10.2.0.2 `s`; no rules, neighbours known."""
    with network("crs", "c:c0 r:r0", "r:r1 s:s0") as net:
        net.ip("c", "addr add 10.1.0.2/24 dev c0", "route add default via 10.1.0.1")
        net.ip("r", "addr add 10.1.0.1/24 dev r0", "addr add 10.2.0.1/24 dev r1")
        net.ip("s", "addr add 10.2.0.2/24 dev s0", "route add default via 10.2.0.1")
        know_neighbours(net, ("c", "c0", "10.1.0.2"), ("r", "r0", "10.1.0.1"))
        know_neighbours(net, ("r", "r1", "10.2.0.1"), ("s", "s0", "10.2.0.2"))
        yield net


@contextlib.contextmanager
def client_router_server6() -> Iterator[Net]:
    """The same in IPv6: `c` fd00:1::2 - fd00:1::1 `r` fd00:2::1 - fd00:2::2 `s`."""
    with network("crs", "c:c0 r:r0", "r:r1 s:s0", ipv6=True) as net:
        net.ip("c", "addr add fd00:1::2/64 dev c0 nodad", "route add default via fd00:1::1")
        net.ip("r", "addr add fd00:1::1/64 dev r0 nodad", "addr add fd00:2::1/64 dev r1 nodad")
        net.ip("s", "addr add fd00:2::2/64 dev s0 nodad", "route add default via fd00:2::1")
        know_neighbours(net, ("c", "c0", "fd00:1::2"), ("r", "r0", "fd00:1::1"))
        know_neighbours(net, ("r", "r1", "fd00:2::1"), ("s", "s0", "fd00:2::2"))
        yield net


def know_neighbours(net: Net, one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Make both ends (namespace, device, address) of a link permanent neighbours: no ARP then."""
    for (short, device, _), (far, far_device, address) in ((one, other), (other, one)):
        mac = link_address(net[far], far_device)
        net.ip(short, f"neigh replace {address} lladdr {mac} dev {device} nud permanent")


def link_address(netns: str, device: str) -> str:
    """Hardware address of a device."""
    words = ["ip", "-n", netns, "-json", "link", "show", device]
    return str(
        json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)[0]["address"]
    )


@contextlib.contextmanager
def lab(name: str) -> Iterator[engine.Running]:
    """Bring a lab up when nobody else uses one: labs share the names of their namespaces."""
    with LAB_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        deadline = time.monotonic() + 60
        while others := [other.name for other in state.existing() if not other.stale()]:
            assert time.monotonic() < deadline, f"lab {others} is up\ntry: fibtrace lab down {others[0]}"
            time.sleep(0.05)  # polling what others do; nothing of ours is under way
        with engine.running(name) as running:
            yield running
