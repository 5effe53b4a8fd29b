"""Short ways to write the traffic and the paths of a lab."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.lab.topology import LOCAL, MAIN, Expect, Flow, Hop, Link, Namespace, Path, Service, Step

DEFAULT = "0.0.0.0/0"
ECHO_PORT = 9000
CLIENT, SERVER = "10.1.0.2", "10.2.0.2"


@dataclass(frozen=True)
class Udp:
    """How datagrams are sent, and how each ends as its sender sees it.

    `ends` is `answered`, `silent`, `icmp ERRNO` (an ICMP error comes back) or `ERRNO` (the send itself is
    refused).
    """

    count: int = 5
    ends: str = "answered"
    size: int = 32
    sockets: int = 1
    connect: bool = False
    broadcast: bool = False
    df: bool = False
    ttl: int = 0
    device: str = ""


def udp(label: str, netns: str, flow: Flow, expect: Expect, how: Udp | None = None) -> Step:
    """Return a step that sends `count` datagrams from each of its sockets (successive source ports)."""
    how = how or Udp()
    words = [flow.dst, str(flow.dport), "--count", str(how.count), "--size", str(how.size)]
    options: list[tuple[str, object]] = [
        ("--bind", flow.src), ("--sport", flow.sport), ("--mark", flow.mark), ("--tos", flow.tos),
        ("--uid", flow.uid), ("--ttl", how.ttl), ("--device", how.device),
        ("--sports", how.sockets if how.sockets > 1 else None),
    ]  # fmt: skip
    for option, value in options:
        words += [option, str(value)] if value else []
    flags = [
        ("--connect", how.connect), ("--broadcast", how.broadcast), ("--df", how.df),
        ("--replies", how.ends == "answered"), ("--icmp", how.ends.startswith("icmp ")),
    ]  # fmt: skip
    words += [flag for flag, wanted in flags if wanted]
    sent = how.count * how.sockets
    reported = f"sent {sent}, {how.ends} {sent}"
    if how.ends == "silent":
        reported = f"sent {sent}"
    elif how.ends.startswith("E"):
        reported = f"sent 0, {how.ends} {sent}"
    return Step(label, netns, ("udp-send", *words), flow, sent, expect, reported=reported)


def ping(label: str, netns: str, flow: Flow, expect: Expect, count: int = 3) -> Step:
    """Return a step of `count` echo requests, each answered."""
    source = ("-I", flow.src) if flow.src else ()
    return Step(label, netns, ("ping", "-c", str(count), *source, flow.dst), flow, count, expect)


def get(label: str, netns: str, flow: Flow, expect: Expect) -> Step:
    """Return a step of one HTTP request over TCP."""
    return Step(label, netns, ("get", flow.dst, str(flow.dport)), flow, None, expect, reported="200")


def echo(netns: str, *addresses: str, ports: str = str(ECHO_PORT)) -> Service:
    """Return a UDP server that answers every datagram."""
    return Service(netns, "udp echo server", ("udp-echo", ports, *addresses))


def http(netns: str, address: str, port: int = 80) -> Service:
    """Return an HTTP server."""
    return Service(netns, "http server", ("http-server", address, str(port)))


def icmp(dst: str, src: str | None = None) -> Flow:
    """Return the flow of a ping."""
    return Flow(dst, src, proto="icmp")


def tcp(dst: str, dport: int) -> Flow:
    """Return the flow of a TCP connection."""
    return Flow(dst, proto="tcp", dport=dport)


def to(dst: str, dport: int = ECHO_PORT, *, src: str | None = None, sport: int | None = None) -> Flow:
    """Return the flow of datagrams to the echo server."""
    return Flow(dst, src, sport=sport, dport=dport)


def send_default(netns: str, device: str, gateway: str, **more: object) -> Hop:
    """Return the hop of a host that sends by its default route in main."""
    known = {"rule": 32766, "table": MAIN, "gateway": gateway, "prefix": DEFAULT}
    return Hop(netns, "send", out_dev=device, **{**known, **more})  # type: ignore[arg-type]


def deliver_own(netns: str, device: str, address: str, **more: object) -> Hop:
    """Return the hop of a host that gets a packet for one of its addresses."""
    known = {"rule": 0, "table": LOCAL, "prefix": f"{address}/32"}
    return Hop(netns, "deliver", in_dev=device, **{**known, **more})  # type: ignore[arg-type]


def client_namespace(
    routes: tuple[str, ...] = ("default via 10.1.0.1 dev c0",), more_addresses: tuple[str, ...] = ()
) -> Namespace:
    """Return the client of the labs with one router: c, 10.1.0.2 on c0."""
    addresses = tuple(("c0", f"{address}/24") for address in ("10.1.0.2", *more_addresses))
    return Namespace("c", addresses=addresses, routes=routes)


def server_namespace(routes: tuple[str, ...] = ("default via 10.2.0.1 dev s0",)) -> Namespace:
    """Return the server of the labs with one router: s, 10.2.0.2 on s0."""
    return Namespace("s", addresses=(("s0", "10.2.0.2/24"),), routes=routes)


ROUTER_ADDRESSES = (("r0", "10.1.0.1/24"), ("r1", "10.2.0.1/24"))
ROUTER_LINKS = (Link("c:c0", "r:r0"), Link("r:r1", "s:s0"))

C_SENDS = send_default("c", "c0", "10.1.0.1")
C_GETS = deliver_own("c", "c0", CLIENT)
S_SENDS = send_default("s", "s0", "10.2.0.1")
S_GETS = deliver_own("s", "s0", SERVER)
R_BACK = Hop("r", "forward", "r1", "r0", rule=32766, table=MAIN, prefix="10.1.0.0/24")


def both_ways(there: Path, back: Path) -> Expect:
    """Return what to expect where every packet takes one path, and every answer another."""
    return Expect(paths=(there,), replies=(back,))
