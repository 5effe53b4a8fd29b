"""The labs `vrf`, `vlan` and `dummy`: devices that are only a part of another one, or of none."""

from __future__ import annotations

from dataclasses import replace

from tracer.lab.steps import (
    C_GETS,
    C_SENDS,
    CLIENT,
    R_BACK,
    ROUTER_LINKS,
    S_GETS,
    S_SENDS,
    SERVER,
    both_ways,
    client_namespace,
    deliver_own,
    echo,
    get,
    http,
    icmp,
    ping,
    send_default,
    server_namespace,
    tcp,
    to,
    udp,
)
from tracer.lab.topology import MAIN, Device, Hop, Lab, Link, Namespace, Path

_RED, _BLUE = 1001, 1002
_L3MDEV = 1000
_LEAK_FROM, _LEAK_TO = "10.4.0.2", "10.3.0.2"


def _in_vrf(table: int, in_dev: str, out_dev: str, prefix: str, gateway: str | None = None) -> Hop:
    """Return what the router does in a VRF: the rule of the VRFs leads to the table of the incoming device's."""
    return Hop("r", "forward", in_dev, out_dev, _L3MDEV, table, gateway, prefix)


_RED_THERE: Path = (C_SENDS, _in_vrf(_RED, "r0", "r1", "10.2.0.0/24"), S_GETS)
_RED_BACK: Path = (S_SENDS, _in_vrf(_RED, "r1", "r0", "10.1.0.0/24"), C_GETS)
_BLUE_THERE: Path = (
    send_default("a", "a0", "10.1.0.1"),
    _in_vrf(_BLUE, "r2", "r3", "10.2.0.0/24"),
    deliver_own("b", "b0", SERVER),
)
_BLUE_BACK: Path = (
    send_default("b", "b0", "10.2.0.1"),
    _in_vrf(_BLUE, "r3", "r2", "10.1.0.0/24"),
    deliver_own("a", "a0", "10.1.0.2"),
)
_LEAK_THERE: Path = (
    C_SENDS,
    _in_vrf(_RED, "r0", "r3", "10.3.0.0/24", SERVER),
    deliver_own("b", "b0", _LEAK_TO),
)
_LEAK_BACK: Path = (
    send_default("b", "b0", "10.2.0.1"),
    _in_vrf(_BLUE, "r3", "r0", "10.4.0.0/24"),
    deliver_own("c", "c0", _LEAK_FROM),
)

VRF = Lab(
    name="vrf",
    summary="two clients and two servers of the same addresses - router with two VRFs; a leak between these",
    teaches="The device a packet comes in on belongs to a VRF, and that names the table; a route may lead out of it.",
    namespaces=(
        client_namespace(more_addresses=(_LEAK_FROM,)),
        Namespace("a", addresses=(("a0", "10.1.0.2/24"),), routes=("default via 10.1.0.1 dev a0",)),
        Namespace(
            "r",
            devices=(Device("red", "vrf", f"table {_RED}"), Device("blue", "vrf", f"table {_BLUE}")),
            masters=(("r0", "red"), ("r1", "red"), ("r2", "blue"), ("r3", "blue")),
            addresses=(
                ("r0", "10.1.0.1/24"),
                ("r0", "10.4.0.1/24"),
                ("r1", "10.2.0.1/24"),
                ("r2", "10.1.0.1/24"),
                ("r3", "10.2.0.1/24"),
            ),
            routes=(
                f"10.3.0.0/24 via {SERVER} dev r3 table {_RED} onlink",
                f"10.4.0.0/24 dev r0 table {_BLUE}",
            ),
            forwarding=True,
        ),
        server_namespace(),
        Namespace(
            "b",
            addresses=(("b0", f"{SERVER}/24"), ("lo", f"{_LEAK_TO}/32")),
            routes=("default via 10.2.0.1 dev b0",),
        ),
    ),
    links=(Link("c:c0", "r:r0"), Link("r:r1", "s:s0"), Link("a:a0", "r:r2"), Link("r:r3", "b:b0")),
    services=(echo("s", SERVER), http("s", SERVER), echo("b", SERVER, _LEAK_TO)),
    steps=(
        ping("ping in red", "c", icmp(SERVER), both_ways(_RED_THERE, _RED_BACK)),
        udp("datagrams in red", "c", to(SERVER), both_ways(_RED_THERE, _RED_BACK)),
        get(
            "an HTTP request in red",
            "c",
            tcp(SERVER, 80),
            both_ways(
                (replace(C_SENDS, cached=True), _RED_THERE[1], replace(S_GETS, cached=True)),
                (replace(S_SENDS, cached=True), _RED_BACK[1], replace(C_GETS, cached=True)),
            ),
        ),
        udp("the same addresses in blue", "a", to(SERVER), both_ways(_BLUE_THERE, _BLUE_BACK)),
        udp(
            "from red to blue by a leaked route",
            "c",
            to(_LEAK_TO, src=_LEAK_FROM),
            both_ways(_LEAK_THERE, _LEAK_BACK),
        ),
    ),
)

_TRUNK = (Device("c5", "vlan", "id 5", over="c0"),), (Device("r5", "vlan", "id 5", over="r0"),)
_VLAN_THERE: Path = (
    send_default("c", "c5", "10.1.0.1"),
    Hop("r", "forward", "r0", "r1", 32766, MAIN, None, "10.2.0.0/24"),
    S_GETS,
)
_VLAN_BACK: Path = (S_SENDS, replace(R_BACK, out_dev="r5"), C_GETS)

VLAN = Lab(
    name="vlan",
    summary="client - router - server; the client's link carries a VLAN",
    teaches="Routes, rules and filters name the VLAN's device, whatever link its frames come over.",
    namespaces=(
        Namespace(
            "c",
            devices=_TRUNK[0],
            addresses=(("c5", "10.1.0.2/24"),),
            routes=("default via 10.1.0.1 dev c5",),
        ),
        Namespace(
            "r",
            devices=_TRUNK[1],
            addresses=(("r5", "10.1.0.1/24"), ("r1", "10.2.0.1/24")),
            forwarding=True,
        ),
        server_namespace(),
    ),
    links=ROUTER_LINKS,
    services=(echo("s", SERVER), http("s", SERVER)),
    steps=(
        ping("ping over the VLAN", "c", icmp(SERVER), both_ways(_VLAN_THERE, _VLAN_BACK)),
        udp("datagrams over the VLAN", "c", to(SERVER), both_ways(_VLAN_THERE, _VLAN_BACK)),
        get(
            "an HTTP request over the VLAN",
            "c",
            tcp(SERVER, 80),
            both_ways(
                (replace(_VLAN_THERE[0], cached=True), _VLAN_THERE[1], replace(S_GETS, cached=True)),
                (replace(S_SENDS, cached=True), _VLAN_BACK[1], replace(C_GETS, cached=True)),
            ),
        ),
    ),
)

_ANYCAST = "10.3.0.53"


def _anycast(
    name: str, device: str, gateway: str, client: str, decided: tuple[int, int]
) -> tuple[Namespace, Path, Path]:
    """Return a server with the service address, the way there, and the way back."""
    server = Namespace(
        name,
        devices=(Device("svc0", "dummy"),),
        addresses=((f"{name}0", f"{gateway}/24"), ("svc0", f"{_ANYCAST}/32")),
        routes=(f"default via {gateway[:-1]}1 dev {name}0",),
    )
    there = (
        C_SENDS,
        Hop("r", "forward", "r0", device, *decided, gateway, f"{_ANYCAST}/32"),
        deliver_own(name, f"{name}0", _ANYCAST),
    )
    back = (
        send_default(name, f"{name}0", f"{gateway[:-1]}1"),
        Hop("r", "forward", device, "r0", 32766, MAIN, None, "10.1.0.0/24"),
        deliver_own("c", "c0", client),
    )
    return server, there, back


_OTHER = "10.1.0.3"
_NEAR, _NEAR_THERE, _NEAR_BACK = _anycast("a", "r1", "10.11.0.2", CLIENT, (32766, MAIN))
_FAR, _FAR_THERE, _FAR_BACK = _anycast("b", "r2", "10.12.0.2", _OTHER, (100, 100))

DUMMY = Lab(
    name="dummy",
    summary="client - router - two servers that have one service address, each on a dummy device (anycast)",
    teaches="An address on a dummy device is as local as any; which server gets a packet is the router's decision.",
    namespaces=(
        client_namespace(more_addresses=(_OTHER,)),
        Namespace(
            "r",
            addresses=(("r0", "10.1.0.1/24"), ("r1", "10.11.0.1/24"), ("r2", "10.12.0.1/24")),
            routes=(
                f"{_ANYCAST}/32 via 10.11.0.2 dev r1 metric 10",
                f"{_ANYCAST}/32 via 10.12.0.2 dev r2 metric 20",
                f"{_ANYCAST}/32 via 10.12.0.2 dev r2 table 100",
            ),
            rules=(f"pref 100 from {_OTHER} lookup 100",),
            forwarding=True,
        ),
        _NEAR,
        _FAR,
    ),
    links=(Link("c:c0", "r:r0"), Link("r:r1", "a:a0"), Link("r:r2", "b:b0")),
    services=(echo("a", _ANYCAST), echo("b", _ANYCAST), http("a", _ANYCAST)),
    steps=(
        ping("ping the service", "c", icmp(_ANYCAST), both_ways(_NEAR_THERE, _NEAR_BACK)),
        udp("datagrams to the nearest server", "c", to(_ANYCAST), both_ways(_NEAR_THERE, _NEAR_BACK)),
        get(
            "an HTTP request to the service",
            "c",
            tcp(_ANYCAST, 80),
            both_ways(
                (replace(C_SENDS, cached=True), _NEAR_THERE[1], replace(_NEAR_THERE[2], cached=True)),
                (replace(_NEAR_BACK[0], cached=True), _NEAR_BACK[1], replace(C_GETS, cached=True)),
            ),
        ),
        udp(
            "source 10.1.0.3, to the other server",
            "c",
            to(_ANYCAST, src=_OTHER),
            both_ways(_FAR_THERE, _FAR_BACK),
        ),
    ),
)
