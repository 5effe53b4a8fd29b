"""The labs `gre`, `vxlan` and `ipsec`: two sites whose gateways wrap what goes from one to the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from tracer.lab.steps import (
    C_GETS,
    C_SENDS,
    S_GETS,
    S_SENDS,
    SERVER,
    Udp,
    both_ways,
    client_namespace,
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
from tracer.lab.topology import LOCAL, MAIN, Device, Flow, Hop, Lab, Link, Namespace, Outer, Path, Step

_A, _B = "10.11.0.1", "10.12.0.1"
_A_NET, _B_NET = "10.11.0.0/24", "10.12.0.0/24"
_SITE_A, _SITE_B = "10.1.0.0/24", "10.2.0.0/24"
_LINKS = (Link("c:c0", "a:a0"), Link("a:a1", "r:r0"), Link("r:r1", "b:b0"), Link("b:b1", "s:s0"))
_INTERNET = Namespace("r", addresses=(("r0", "10.11.0.2/24"), ("r1", "10.12.0.2/24")), forwarding=True)
Proto = Literal["udp", "gre", "esp"]


def _gateway_a(**more: object) -> Namespace:
    """Return the gateway of the client's site, which knows the other one behind r."""
    addresses = (("a0", "10.1.0.1/24"), ("a1", f"{_A}/24"), *more.pop("addresses", ()))  # type: ignore[misc]
    routes = (f"{_B_NET} via 10.11.0.2 dev a1", *more.pop("routes"))  # type: ignore[misc]
    return Namespace("a", addresses=addresses, routes=routes, forwarding=True, **more)  # type: ignore[arg-type]


def _gateway_b(**more: object) -> Namespace:
    """Return the gateway of the server's site."""
    addresses = (("b0", f"{_B}/24"), ("b1", "10.2.0.1/24"), *more.pop("addresses", ()))  # type: ignore[misc]
    routes = (f"{_A_NET} via 10.12.0.2 dev b0", *more.pop("routes"))  # type: ignore[misc]
    return Namespace("b", addresses=addresses, routes=routes, forwarding=True, **more)  # type: ignore[arg-type]


def _there(proto: Proto, device: str | None, gateway: str | None = None) -> Path:
    """Return the way from c to s; `gateway` is what a's route to the other site names."""
    wraps = Outer(True, proto, device, 32766, MAIN, _B_NET, "10.11.0.2")
    unwraps = Outer(False, proto, device, 0, LOCAL, f"{_B}/32")
    outside = Flow(_B, _A, proto)
    return (
        C_SENDS,
        Hop("a", "forward", "a0", "a1", 32766, MAIN, gateway, _SITE_B, outer=wraps),
        Hop("r", "forward", "r0", "r1", 32766, MAIN, None, _B_NET, flow=outside),
        Hop("b", "forward", "b0", "b1", 32766, MAIN, None, _SITE_B, outer=unwraps),
        S_GETS,
    )


def _back(proto: Proto, device: str | None, gateway: str | None = None) -> Path:
    """Return the way from s to c."""
    wraps = Outer(True, proto, device, 32766, MAIN, _A_NET, "10.12.0.2")
    unwraps = Outer(False, proto, device, 0, LOCAL, f"{_A}/32")
    outside = Flow(_A, _B, proto)
    return (
        S_SENDS,
        Hop("b", "forward", "b1", "b0", 32766, MAIN, gateway, _SITE_A, outer=wraps),
        Hop("r", "forward", "r1", "r0", 32766, MAIN, None, _A_NET, flow=outside),
        Hop("a", "forward", "a1", "a0", 32766, MAIN, None, _SITE_A, outer=unwraps),
        C_GETS,
    )


def _ends_cached(path: Path) -> Path:
    return (replace(path[0], cached=True), *path[1:-1], replace(path[-1], cached=True))


def _steps(there: Path, back: Path) -> tuple[Step, ...]:
    """Return the traffic of all three labs."""
    web = both_ways(_ends_cached(there), _ends_cached(back))
    return (
        ping("ping the other site", "c", icmp(SERVER), both_ways(there, back)),
        udp("datagrams to the other site", "c", to(SERVER), both_ways(there, back), Udp(count=7)),
        get("an HTTP request to the other site", "c", tcp(SERVER, 80), web),
    )


def _lab(
    name: str, says: tuple[str, str], gateways: tuple[Namespace, Namespace], ways: tuple[Path, Path]
) -> Lab:
    summary, teaches = says
    return Lab(
        name=name,
        summary=f"client - gateway - router - gateway - server; {summary}",
        teaches=teaches,
        namespaces=(client_namespace(), gateways[0], _INTERNET, gateways[1], server_namespace()),
        links=_LINKS,
        services=(echo("s", SERVER), http("s", SERVER)),
        steps=_steps(*ways),
    )


def _gre(local: str, remote: str) -> tuple[Device, ...]:
    return (Device("tun1", "gre", f"local {local} remote {remote} ttl 64"),)


GRE = _lab(
    "gre",
    (
        "a GRE tunnel between the gateways",
        "A packet is routed twice where it is wrapped: to the tunnel, and its new header to the router.",
    ),
    (
        _gateway_a(devices=_gre(_A, _B), routes=(f"{_SITE_B} dev tun1",)),
        _gateway_b(devices=_gre(_B, _A), routes=(f"{_SITE_A} dev tun1",)),
    ),
    (_there("gre", "tun1"), _back("gre", "tun1")),
)

_VX_A, _VX_B = ("10.9.0.1", "02:00:00:00:00:0a"), ("10.9.0.2", "02:00:00:00:00:0b")


def _vxlan(local: str, remote: str, own: tuple[str, str], other: tuple[str, str]) -> dict[str, object]:
    """Return a VXLAN device with its neighbour known, so that no ARP goes through the tunnel."""
    options = f"id 42 local {local} remote {remote} dstport 4789"
    return {
        "devices": (Device("vx0", "vxlan", options, address=own[1]),),
        "addresses": (("vx0", f"{own[0]}/24"),),
        "neighbours": (f"{other[0]} lladdr {other[1]} dev vx0 nud permanent",),
    }


VXLAN = _lab(
    "vxlan",
    (
        "a VXLAN between the gateways",
        "The route names a neighbour on the VXLAN; the datagram around the frame has a route of its own.",
    ),
    (
        _gateway_a(routes=(f"{_SITE_B} via {_VX_B[0]} dev vx0",), **_vxlan(_A, _B, _VX_A, _VX_B)),
        _gateway_b(routes=(f"{_SITE_A} via {_VX_A[0]} dev vx0",), **_vxlan(_B, _A, _VX_B, _VX_A)),
    ),
    (_there("udp", "vx0", _VX_B[0]), _back("udp", "vx0", _VX_A[0])),
)

_SPI = {_A: "0x1001", _B: "0x1002"}
_KEY = {_A: f"0x{'a1' * 20}", _B: f"0x{'b2' * 20}"}


def _xfrm(own: tuple[str, str], other: tuple[str, str]) -> tuple[str, ...]:
    """Return states and policies of a gateway: address and net of its own side, and of the other."""
    (here, net), (there, far_net) = own, other
    states = [
        f"state add src {src} dst {dst} proto esp spi {_SPI[src]} reqid 1 mode tunnel "
        f"aead rfc4106(gcm(aes)) {_KEY[src]} 128"
        for src, dst in ((here, there), (there, here))
    ]
    policies = [
        f"policy add src {nets[0]} dst {nets[1]} dir {way} "
        f"tmpl src {ends[0]} dst {ends[1]} proto esp reqid 1 mode tunnel"
        for way, nets, ends in (
            ("out", (net, far_net), (here, there)),
            ("fwd", (far_net, net), (there, here)),
            ("in", (far_net, net), (there, here)),
        )
    ]
    return (*states, *policies)


IPSEC = _lab(
    "ipsec",
    (
        "ESP in tunnel mode between the gateways, by policy",
        "No device stands for the tunnel: the policy wraps what is routed, and then the new header is routed.",
    ),
    (
        _gateway_a(routes=(f"{_SITE_B} via 10.11.0.2 dev a1",), xfrm=_xfrm((_A, _SITE_A), (_B, _SITE_B))),
        _gateway_b(routes=(f"{_SITE_A} via 10.12.0.2 dev b0",), xfrm=_xfrm((_B, _SITE_B), (_A, _SITE_A))),
    ),
    (_there("esp", None, "10.11.0.2"), _back("esp", None, "10.12.0.2")),
)
