"""The lab `multihomed`: a server with two uplinks that answers by the one the question came by."""

from __future__ import annotations

from dataclasses import replace

from tracer.lab.steps import (
    C_GETS,
    C_SENDS,
    CLIENT,
    Udp,
    both_ways,
    client_namespace,
    deliver_own,
    echo,
    get,
    http,
    icmp,
    ping,
    tcp,
    to,
    udp,
)
from tracer.lab.topology import MAIN, Expect, Flow, Hop, Lab, Leg, Link, Namespace, Path

_UPLINKS = {"a": 1, "b": 2}
_ANY_PORT = 9001


def _address(uplink: str) -> str:
    """Return the server's address at an uplink."""
    return f"10.2{_UPLINKS[uplink]}.0.2"


def _uplink(name: str) -> Namespace:
    number = _UPLINKS[name]
    return Namespace(
        name,
        addresses=((f"{name}0", f"10.1{number}.0.2/24"), (f"{name}1", f"10.2{number}.0.1/24")),
        routes=(f"10.1.0.0/24 via 10.1{number}.0.1 dev {name}0",),
        forwarding=True,
    )


def _there(uplink: str) -> Path:
    number = _UPLINKS[uplink]
    net = f"10.2{number}.0.0/24"
    return (
        C_SENDS,
        Hop("r", "forward", "r0", f"r{number}", 32766, MAIN, f"10.1{number}.0.2", net),
        Hop(uplink, "forward", f"{uplink}0", f"{uplink}1", 32766, MAIN, None, net),
        deliver_own("s", f"s{number - 1}", _address(uplink)),
    )


def _back(uplink: str, rule: int, table: int) -> Path:
    number = _UPLINKS[uplink]
    return (
        Hop("s", "send", None, f"s{number - 1}", rule, table, f"10.2{number}.0.1", "0.0.0.0/0"),
        Hop(uplink, "forward", f"{uplink}1", f"{uplink}0", 32766, MAIN, f"10.1{number}.0.1", "10.1.0.0/24"),
        Hop("r", "forward", f"r{number}", "r0", 32766, MAIN, None, "10.1.0.0/24"),
        C_GETS,
    )


def _same_way(uplink: str, *, connection: bool = False) -> Expect:
    """Return question and answer by one uplink: the answer has its address as source, and a rule for that."""
    number = 100 + _UPLINKS[uplink]
    there, back = _there(uplink), _back(uplink, number, number)
    if connection:
        there = (replace(there[0], cached=True), *there[1:-1], replace(there[-1], cached=True))
        back = (replace(back[0], cached=True), *back[1:-1], replace(back[-1], cached=True))
    return both_ways(there, back)


def _other_way() -> Expect:
    """Return what becomes of a question by b to a socket that is bound to no address: main answers, by a.

    No rule says anything of a packet that has no source yet; the route that main gives chooses its address.
    """
    there, back = _there("b"), _back("a", 32766, MAIN)
    unbound = Flow(CLIENT, "0.0.0.0", sport=_ANY_PORT)
    return Expect(
        legs=(
            Leg(Flow(_address("b"), CLIENT, dport=_ANY_PORT), there),
            Leg(Flow(CLIENT, _address("a"), sport=_ANY_PORT), (replace(back[0], flow=unbound), *back[1:])),
        )
    )


MULTIHOMED = Lab(
    name="multihomed",
    summary="client - router - two uplinks - server; answers leave by the uplink of the question",
    teaches="Rules by source address choose the uplink of an answer, and of the source check; with no source, none.",
    namespaces=(
        client_namespace(),
        Namespace(
            "r",
            addresses=(("r0", "10.1.0.1/24"), ("r1", "10.11.0.1/24"), ("r2", "10.12.0.1/24")),
            routes=("10.21.0.0/24 via 10.11.0.2 dev r1", "10.22.0.0/24 via 10.12.0.2 dev r2"),
            forwarding=True,
        ),
        _uplink("a"),
        _uplink("b"),
        Namespace(
            "s",
            addresses=(("s0", f"{_address('a')}/24"), ("s1", f"{_address('b')}/24")),
            routes=(
                "default via 10.21.0.1 dev s0",
                "default via 10.21.0.1 dev s0 table 101",
                "default via 10.22.0.1 dev s1 table 102",
            ),
            rules=(f"pref 101 from {_address('a')} lookup 101", f"pref 102 from {_address('b')} lookup 102"),
            # Strict, and all the same nothing is dropped: the check goes by the rules of the answer.
            sysctls=(("net.ipv4.conf.s0.rp_filter", "1"), ("net.ipv4.conf.s1.rp_filter", "1")),
        ),
    ),
    links=(
        Link("c:c0", "r:r0"),
        Link("r:r1", "a:a0"),
        Link("r:r2", "b:b0"),
        Link("a:a1", "s:s0"),
        Link("b:b1", "s:s1"),
    ),
    services=(
        echo("s", _address("a"), _address("b")),
        http("s", _address("b")),
        echo("s", "0.0.0.0", ports=str(_ANY_PORT)),
    ),
    steps=(
        ping("ping by uplink a", "c", icmp(_address("a")), _same_way("a")),
        ping("ping by uplink b", "c", icmp(_address("b")), _same_way("b")),
        udp("datagrams by uplink b", "c", to(_address("b")), _same_way("b")),
        get("an HTTP request by uplink b", "c", tcp(_address("b"), 80), _same_way("b", connection=True)),
        udp(
            "datagrams by b to a socket of all addresses",
            "c",
            to(_address("b"), _ANY_PORT),
            _other_way(),
            Udp(count=4),
        ),
    ),
)
