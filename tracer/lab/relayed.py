"""What the labs of user-space VPNs share: a client, a router, a VPN server and a server behind it, and the legs.

A packet of the client is routed into a TUN device and read there by the VPN's process, which sends another packet
around it; the process of the other side reads that one and writes the first into its own TUN device. For the kernel
these are three packets, each with a path of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tracer.lab.steps import (
    CLIENT,
    S_GETS,
    S_SENDS,
    SERVER,
    Udp,
    deliver_own,
    echo,
    get,
    http,
    icmp,
    ping,
    server_namespace,
    tcp,
    to,
    udp,
)
from tracer.lab.topology import (
    MAIN,
    Device,
    Expect,
    Flow,
    Hop,
    Lab,
    Leg,
    Link,
    Namespace,
    Path,
    Service,
    Step,
)

VPN = "10.12.0.1"
LINKS = (Link("c:c0", "r:r0"), Link("r:r1", "b:b0"), Link("b:b1", "s:s0"))
SERVICES = (echo("s", SERVER), http("s", SERVER))
INTERNET = Namespace("r", addresses=(("r0", "10.1.0.1/24"), ("r1", "10.12.0.2/24")), forwarding=True)
B_ROUTES = ("10.1.0.0/24 via 10.12.0.2 dev b0",)


@dataclass(frozen=True)
class Vpn:
    """A VPN between c and b: its device, the client's address in it, and how its own packets look.

    `into` is c's decision that leads into the tunnel, `around` that about the packet around it, `back_into` b's
    decision for the answer. `exact`: one packet around each packet.
    """

    device: str
    inside: str
    outer: Flow
    into: Hop
    around: Hop
    back_into: Hop
    exact: bool = True


def way_in(
    rule: int, table: int, prefix: str, device: str, gateway: str | None = None, **more: object
) -> Hop:
    """Return c's decision that leads into the tunnel."""
    return Hop("c", "send", None, device, rule, table, gateway, prefix, **more)  # type: ignore[arg-type]


def way_around(rule: int, table: int, prefix: str, **more: object) -> Hop:
    """Return c's decision about the packet around it, which leads to the router."""
    return Hop("c", "send", None, "c0", rule, table, "10.1.0.1", prefix, **more)  # type: ignore[arg-type]


def _ends_cached(*paths: Path) -> tuple[Path, ...]:
    """Return the paths as they are for connected sockets: whoever sends or gets decides once."""
    ends = {"send", "deliver"}
    return tuple(tuple(replace(hop, cached=hop.verdict in ends) for hop in path) for path in paths)


def legs(vpn: Vpn, flow: Flow) -> Expect:
    """Return what to expect of a packet of the client to the server, and of the answer: three legs each."""
    there = replace(flow, src=vpn.inside)
    back = Flow(vpn.inside, flow.dst, flow.proto, sport=flow.dport)
    outer_back = Flow(CLIENT, VPN, vpn.outer.proto, sport=vpn.outer.dport, dport=vpn.outer.sport)
    router = Hop("r", "forward", "r0", "r1", 32766, MAIN, None, "10.12.0.0/24")
    router_back = Hop("r", "forward", "r1", "r0", 32766, MAIN, None, "10.1.0.0/24")
    b_sends = Hop("b", "send", None, "b0", 32766, MAIN, "10.12.0.2", "10.1.0.0/24")
    unwrapped = Hop("b", "forward", vpn.device, "b1", 32766, MAIN, None, "10.2.0.0/24")
    inner: tuple[Path, ...] = ((vpn.into,), (unwrapped, S_GETS))
    inner_back: tuple[Path, ...] = ((S_SENDS, vpn.back_into), (deliver_own("c", vpn.device, vpn.inside),))
    outer: tuple[Path, ...] = (
        (vpn.around, router, deliver_own("b", "b0", VPN)),
        (b_sends, router_back, deliver_own("c", "c0", CLIENT)),
    )
    if flow.proto == "tcp":
        inner, inner_back = _ends_cached(*inner), _ends_cached(*inner_back)
    if vpn.outer.proto == "tcp":
        outer = _ends_cached(*outer)
    return Expect(
        legs=(
            Leg(there, inner[0]),
            Leg(replace(vpn.outer, src=CLIENT), outer[0], vpn.exact),
            Leg(there, inner[1]),
            Leg(back, inner_back[0]),
            Leg(outer_back, outer[1], vpn.exact),
            Leg(back, inner_back[1]),
        )
    )


def steps(vpn: Vpn) -> tuple[Step, ...]:
    """Return the traffic of the labs: ping, datagrams, HTTP, all to the server behind the tunnel."""
    return (
        ping("ping through the tunnel", "c", icmp(SERVER), legs(vpn, icmp(SERVER))),
        udp("datagrams through the tunnel", "c", to(SERVER), legs(vpn, to(SERVER)), Udp(count=7)),
        get("an HTTP request through the tunnel", "c", tcp(SERVER, 80), legs(vpn, tcp(SERVER, 80))),
    )


def own(vpn: Vpn) -> tuple[Flow, ...]:
    """Return the packets that the VPN's processes send to each other, whatever they carry."""
    back = Flow(CLIENT, VPN, vpn.outer.proto, sport=vpn.outer.dport)
    return (replace(vpn.outer, src=CLIENT), back)


def client(vpn: Vpn, maker: str, **more: object) -> Namespace:
    """Return the client, whose device of the tunnel is made by the service `maker`."""
    return Namespace(
        "c",
        devices=(Device(vpn.device, "tun", maker=maker),),
        addresses=(("c0", f"{CLIENT}/24"),),
        routes=("default via 10.1.0.1 dev c0",),
        **more,  # type: ignore[arg-type]
    )


def gateway(vpn: Vpn, maker: str, **more: object) -> Namespace:
    """Return the VPN server, which forwards between the tunnel and the server's net."""
    return Namespace(
        "b",
        devices=(Device(vpn.device, "tun", maker=maker),),
        addresses=(("b0", f"{VPN}/24"), ("b1", "10.2.0.1/24")),
        routes=B_ROUTES,
        forwarding=True,
        **more,  # type: ignore[arg-type]
    )


def network(
    vpn: Vpn, ends: tuple[Namespace, Namespace], services: tuple[Service, ...], **more: object
) -> Lab:
    """Return the lab of a VPN between the two `ends`."""
    return Lab(
        namespaces=(ends[0], INTERNET, ends[1], server_namespace()),
        links=LINKS,
        services=(*SERVICES, *services),
        steps=steps(vpn),
        own=own(vpn),
        **more,  # type: ignore[arg-type]
    )
