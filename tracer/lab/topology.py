"""What a lab is, as data: namespaces, links, services, traffic, and the paths the traffic must take.

Nothing here touches the kernel. Texts of routes, rules and nexthops are those of iproute2, without the
leading `ip route add` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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
class Namespace:
    """One network namespace and everything configured in it.

    `addresses` are (device, prefix) pairs; `sysctls` are (key, value) pairs as sysctl(8) writes them, set
    after the devices exist and before they come up. Devices' names have no dots.
    """

    name: str
    addresses: tuple[tuple[str, str], ...] = ()
    routes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    nexthops: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    nft: str = ""
    forwarding: bool = False


@dataclass(frozen=True)
class Service:
    """A server that runs as long as the lab is up; `program` is expanded by `programs.argv`."""

    netns: str
    label: str
    program: Program


@dataclass(frozen=True)
class Flow:
    """The packet as its sender makes it; `None` is "the kernel chooses" (a source address or port)."""

    dst: str
    src: str | None = None
    proto: Literal["udp", "tcp", "icmp"] = "udp"
    sport: int | None = None
    dport: int | None = None
    mark: int = 0
    tos: int = 0
    uid: int = 0


@dataclass(frozen=True)
class Hop:
    """What one namespace must do with the packet.

    `rule` is the preference of the rule that decides and `table` the table that owns the winning route; both
    are None where nothing is decided, or no rule led to a route. `passed` are the lookups before it that
    must be seen besides misses. `cached`: not every packet is decided here, only the first ones or none.
    `reason` is the name of the drop reason without `SKB_DROP_REASON_`; `error` the errno a local sender
    gets: then there is no packet at all. `flow` is the packet as it is here, where it differs from the
    step's flow or, in a reply, from its reverse.
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


Path = tuple[Hop, ...]


@dataclass(frozen=True)
class Expect:
    """The paths of a step's packets.

    Every packet takes one of `paths`, and each of them is taken by at least one. `replies` are paths of what
    comes back because of them: the same protocol, or with `reply_icmp` ICMP errors; left empty it says
    nothing. `copies` are paths of further copies (looped broadcasts).
    """

    paths: tuple[Path, ...] = ()
    replies: tuple[Path, ...] = ()
    copies: tuple[Path, ...] = ()
    reply_icmp: bool = False


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
    """A topology with its traffic; `summary` is one line, `teaches` says what to look at."""

    name: str
    summary: str
    teaches: str
    namespaces: tuple[Namespace, ...]
    links: tuple[Link, ...]
    steps: tuple[Step, ...]
    services: tuple[Service, ...] = ()

    def devices(self, netns: str) -> tuple[str, ...]:
        """Return the veth devices of one namespace."""
        return tuple(dev for link in self.links for ns, dev in link.ends() if ns == netns)
