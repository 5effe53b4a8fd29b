"""What a lab is, as data: namespaces, links, services, traffic, and the paths the traffic must take.

Nothing here touches the kernel. Texts of routes, rules and nexthops are those of iproute2, without the
leading `ip route add` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Literal

Verdict = Literal["send", "forward", "deliver", "drop"]
LookupResult = Literal["miss", "throw", "suppressed"]
Program = tuple[str, ...]

MAIN = 254
LOCAL = 255


@dataclass(frozen=True)
class Link:
    """One veth pair; an end is `namespace:device`."""

    a: str
    b: str
    mtu: int | None = None

    def ends(self) -> Iterator[tuple[str, str]]:
        """Yield (namespace, device) of both ends."""
        for end in (self.a, self.b):
            netns, _, device = end.partition(":")
            yield netns, device


@dataclass(frozen=True)
class Device:
    """A device that is no end of a link: its kind and what `ip link add` is told after it.

    `over` is the device that it lies on: a VLAN is a part of it. `address` is its hardware address. `maker` is the
    label of the service that makes it, where the lab does not: a TUN device of a VPN.
    """

    name: str
    kind: str
    options: str = ""
    over: str = ""
    address: str = ""
    maker: str = ""


@dataclass(frozen=True)
class Peer:
    """The peer of a WireGuard device: `end` is its `namespace:device`, `allowed` what may come from there.

    Keys are made when the lab is built. `endpoint` (address:port) is known to the side that speaks first; `port`
    and `mark` are those of the own device's socket.
    """

    device: str
    end: str
    allowed: str
    endpoint: str = ""
    port: int = 51820
    mark: int = 0


@dataclass(frozen=True)
class Namespace:
    """One network namespace and everything configured in it.

    `addresses` are (device, prefix) pairs; `masters` are (device, VRF) pairs; `sysctls` are (key, value) pairs as
    sysctl(8) writes them, set after the devices exist and before they come up. `xfrm` are states and policies of
    IPsec. `late` are lines of `ip -batch` for when the services are ready; `service_rules` are rules that a service
    makes by itself. Devices' names have no dots.
    """

    name: str
    devices: tuple[Device, ...] = ()
    masters: tuple[tuple[str, str], ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()
    neighbours: tuple[str, ...] = ()
    xfrm: tuple[str, ...] = ()
    peers: tuple[Peer, ...] = ()
    routes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    nexthops: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    nft: str = ""
    forwarding: bool = False
    late: tuple[str, ...] = ()
    service_rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """A server that runs as long as the lab is up; `program` is expanded by `programs.argv`.

    `ready` is what it prints when it can be talked to, or the path of the socket that it then listens on. `after`:
    it is started when those before it are ready. A service that `relays` reads packets and sends others for them:
    by its TUN device `tun`, or, without one, as a proxy.
    """

    netns: str
    label: str
    program: Program
    ready: str = "ready"
    after: bool = False
    relays: bool = False
    tun: str | None = None


@dataclass(frozen=True)
class Setup:
    """A command that configures a running service (by its label), run where that runs and ending with 0."""

    service: str
    program: Program


@dataclass(frozen=True)
class Flow:
    """The packet as its sender makes it; `None` is "the kernel chooses" (a source address or port)."""

    dst: str
    src: str | None = None
    proto: Literal["udp", "tcp", "icmp", "ipv6-icmp", "gre", "esp"] = "udp"
    sport: int | None = None
    dport: int | None = None
    mark: int = 0
    tos: int = 0
    uid: int = 0


@dataclass(frozen=True)
class Outer:
    """The outer header where a packet is wrapped (`wraps`) or unwrapped, and how the hop decides about that one.

    `device` is the tunnel; None where IPsec does it by policy, without a device.
    """

    wraps: bool
    proto: Literal["udp", "gre", "esp"]
    device: str | None
    rule: int
    table: int
    prefix: str
    gateway: str | None = None
    passed: tuple[tuple[int, LookupResult], ...] = ()


@dataclass(frozen=True)
class Hop:
    """What one namespace must do with the packet.

    `rule` is the preference of the rule that decides and `table` the table that owns the winning route; both
    are None where nothing is decided, or no rule led to a route. `passed` are the lookups before it that
    must be seen besides misses. `cached`: not every packet is decided here, only the first ones or none.
    `reason` is the name of the drop reason without `SKB_DROP_REASON_`; `error` the errno a local sender
    gets: then there is no packet at all. `flow` is the packet as it is here, where it differs from the
    step's flow or, in a reply, from its reverse. With `outer` the packet is wrapped or unwrapped here: in_dev
    and out_dev are those of the outer header, all else is said of the packet inside.
    """

    netns: str
    verdict: Verdict
    in_dev: str | None = None
    out_dev: str | None = None
    rule: int | None = None
    table: int | None = None
    gateway: str | None = None
    prefix: str | None = None
    passed: tuple[tuple[int, LookupResult], ...] = ()
    cached: bool = False
    reason: str | None = None
    error: str | None = None
    flow: Flow | None = None
    outer: Outer | None = None

    @property
    def inner_in_dev(self) -> str | None:
        """The device that the packet's own header comes in on."""
        return (self.outer.device if self.outer and not self.outer.wraps else None) or self.in_dev

    @property
    def inner_out_dev(self) -> str | None:
        """The device that the packet's own header leaves by."""
        return (self.outer.device if self.outer and self.outer.wraps else None) or self.out_dev


Path = tuple[Hop, ...]


@dataclass(frozen=True)
class Leg:
    """One stretch of a way that programs cut: packets of a flow and the path that each of them takes.

    A program that relays takes a packet in and sends another one, which is a packet of its own here. `exact`: there
    is one for each packet of the step; otherwise there may be more (a handshake, acknowledgements).
    """

    flow: Flow
    path: Path
    exact: bool = True


@dataclass(frozen=True)
class Expect:
    """The paths of a step's packets.

    Every packet takes one of `paths`, and each of them is taken by at least one. `replies` are paths of what
    comes back because of them: the same protocol, or with `reply_icmp` ICMP errors; left empty it says
    nothing. `copies` are paths of further copies (looped broadcasts). Where programs relay, there are `legs`
    instead of all of these, in the order in which a packet and its answer go.
    """

    paths: tuple[Path, ...] = ()
    replies: tuple[Path, ...] = ()
    copies: tuple[Path, ...] = ()
    reply_icmp: bool = False
    legs: tuple[Leg, ...] = ()

    def every_path(self) -> tuple[Path, ...]:
        """Return all paths that it names."""
        return (*self.paths, *self.replies, *self.copies, *(leg.path for leg in self.legs))


@dataclass(frozen=True)
class Step:
    """One piece of traffic: a program run in a namespace.

    `packets` is the exact number of packets of `flow` sent by the step, or refused to its sender (None for
    TCP). A `background` step is a server: the next steps run when it says it is ready, and it has ended by
    itself after the last one. `reported` is what the program must print as its last line: how many answers
    and errors it saw.
    """

    label: str
    netns: str
    program: Program
    flow: Flow | None = None
    packets: int | None = None
    expect: Expect = field(default_factory=Expect)
    background: bool = False
    reported: str | None = None
    exits: tuple[int, ...] = (0,)

    def describe(self) -> str:
        """Return one line: namespace, label, and how many packets where that is exact."""
        sends = f", sends {self.packets} packets" if self.packets is not None else ""
        return f"{self.netns}: {self.label}{sends}"


@dataclass(frozen=True)
class Lab:
    """A topology with its traffic; `summary` is one line, `teaches` says what to look at; `family` is that of IP.

    `own` are the packets that its devices and services send by themselves, such as a handshake. `prepare` writes keys
    and configurations into the lab's directory, in which each service has one of its own (`programs.place`), before
    anything is made; `setups` are run when the services are ready. `requires` are programs that only these need.
    """

    name: str
    summary: str
    teaches: str
    namespaces: tuple[Namespace, ...]
    links: tuple[Link, ...]
    steps: tuple[Step, ...]
    services: tuple[Service, ...] = ()
    own: tuple[Flow, ...] = ()
    family: Literal[4, 6] = 4
    prepare: Callable[[File, int], None] | None = None
    setups: tuple[Setup, ...] = ()
    requires: Program = ()

    def devices(self, netns: str, *, made_by_services: bool = True) -> tuple[str, ...]:
        """Return the devices of one namespace but lo: the ends of links, then the others."""
        ends = [dev for link in self.links for ns, dev in link.ends() if ns == netns]
        others = [dev for ns in self.namespaces if ns.name == netns for dev in ns.devices]
        return (*ends, *(dev.name for dev in others if made_by_services or not dev.maker))
