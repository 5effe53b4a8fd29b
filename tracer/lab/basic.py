"""The labs `router`, `server` and `local`: the three roles of a host."""

from __future__ import annotations

from dataclasses import replace

from tracer.lab.steps import (
    C_GETS,
    C_SENDS,
    CLIENT,
    DEFAULT,
    R_BACK,
    ROUTER_ADDRESSES,
    ROUTER_LINKS,
    S_GETS,
    S_SENDS,
    SERVER,
    Udp,
    both_ways,
    client_namespace,
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
from tracer.lab.topology import LOCAL, MAIN, Expect, Flow, Hop, Lab, Link, Namespace, Path, Service, Step

_R_THERE = Hop("r", "forward", "r0", "r1", rule=100, table=100, gateway=SERVER, prefix=DEFAULT)
_THERE: Path = (C_SENDS, _R_THERE, S_GETS)
_BACK: Path = (S_SENDS, R_BACK, C_GETS)


def _cached(path: Path) -> Path:
    """Return the same path where the ends, which have a connected socket, decide only once."""
    return (replace(path[0], cached=True), *path[1:-1], replace(path[-1], cached=True))


ROUTER = Lab(
    name="router",
    summary="client - router - server; TCP, UDP and ICMP through a router with one rule",
    teaches="The three roles of a host; the router decides by rule 100 and checks every packet's source.",
    namespaces=(
        client_namespace(),
        Namespace(
            "r",
            addresses=ROUTER_ADDRESSES,
            # Rule 100 is for the router's own address 10.1.0.1 too. Without its net in table 100 the source
            # check of what comes to that address would find c behind r1, and drop even c's ARP requests.
            routes=("default via 10.2.0.2 dev r1 table 100", "10.1.0.0/24 dev r0 table 100"),
            rules=("pref 100 from 10.1.0.0/24 lookup 100",),
            sysctls=(("net.ipv4.conf.r0.rp_filter", "1"), ("net.ipv4.conf.r1.rp_filter", "1")),
            forwarding=True,
        ),
        server_namespace(),
    ),
    links=ROUTER_LINKS,
    services=(echo("s", SERVER), http("s", SERVER)),
    steps=(
        ping("ping the server", "c", icmp(SERVER), both_ways(_THERE, _BACK)),
        udp("datagrams, each decided", "c", to(SERVER), both_ways(_THERE, _BACK), Udp(count=23)),
        udp(
            "datagrams of a connected socket, decided once",
            "c",
            to(SERVER),
            both_ways(
                (replace(C_SENDS, cached=True), _R_THERE, S_GETS),
                (S_SENDS, R_BACK, replace(C_GETS, cached=True)),
            ),
            Udp(count=7, connect=True),
        ),
        get("an HTTP request", "c", tcp(SERVER, 80), both_ways(_cached(_THERE), _cached(_BACK))),
    ),
)

_PEER = "10.1.0.3"
_ON_LINK = "10.1.0.0/24"
_TWO_HOSTS = (
    Namespace("c", addresses=(("c0", "10.1.0.2/24"),), routes=("224.0.0.0/4 dev c0",)),
    Namespace("s", addresses=(("s0", "10.1.0.3/24"),)),
)
_C_TO_PEER = Hop("c", "send", out_dev="c0", rule=32766, table=MAIN, prefix=_ON_LINK)
_S_TO_PEER = Hop("s", "send", out_dev="s0", rule=32766, table=MAIN, prefix=_ON_LINK)
_PEER_GETS = deliver_own("s", "s0", _PEER)
_TO_PEER: Path = (_C_TO_PEER, _PEER_GETS)
_FROM_PEER: Path = (_S_TO_PEER, C_GETS)


def _tcp_client(number: int) -> Step:
    return Step(
        f"connection {number}",
        "c",
        ("tcp-client", _PEER, "7000", "--size", "2000"),
        tcp(_PEER, 7000),
        None,
        both_ways(_cached(_TO_PEER), _cached(_FROM_PEER)),
        reported="received 2000 bytes",
    )


SERVER_LAB = Lab(
    name="server",
    summary="a TCP server whose listen and accept are seen, and a UDP server; the client on the same link",
    teaches="A server decides once per connection, for its SYN-ACK; a UDP server decides for every answer.",
    namespaces=_TWO_HOSTS,
    links=(Link("c:c0", "s:s0"),),
    steps=(
        Step(
            "tcp server: listen, accept 3",
            "s",
            ("tcp-server", _PEER, "7000", "--count", "3"),
            background=True,
        ),
        Step("udp server: 6 datagrams", "s", ("udp-echo", "7001", _PEER, "--count", "6"), background=True),
        *(_tcp_client(number) for number in (1, 2, 3)),
        udp(
            "datagrams to the UDP server", "c", to(_PEER, 7001), both_ways(_TO_PEER, _FROM_PEER), Udp(count=6)
        ),
    ),
)


def _to_self(prefix: str) -> Expect:
    """Output decides by the local table; the packet keeps that through lo, and input decides nothing."""
    hop = Hop("c", "deliver", out_dev="lo", rule=0, table=LOCAL, prefix=prefix)
    return Expect(paths=((hop,),), replies=((hop,),))


_GROUP, _OTHER_GROUP = "239.1.2.3", "239.9.9.9"
_TO_GROUP = Hop("c", "send", out_dev="c0", rule=32766, table=MAIN, prefix="224.0.0.0/4")
_TO_ALL = Hop("c", "send", out_dev="c0", rule=0, table=LOCAL, prefix="10.1.0.255/32")
_ALL_GET = Hop("s", "deliver", in_dev="s0", rule=0, table=LOCAL, prefix="10.1.0.255/32")
# A copy of a broadcast is looped back to its sender, with its decision still attached, and finds no socket
# there.
_LOOPED = (Hop("c", "drop", in_dev="c0", cached=True, reason="NOT_SPECIFIED"),)

LOCAL_LAB = Lab(
    name="local",
    summary="a host to itself, by 127.0.0.1 and by its own address; broadcast and multicast on its link",
    teaches="Own addresses are decided at output, by the local table; multicast by membership.",
    namespaces=_TWO_HOSTS,
    links=(Link("c:c0", "s:s0"),),
    services=(
        echo("c", "127.0.0.1", CLIENT),
        http("c", "127.0.0.1"),
        # 0.0.0.0: a socket bound to one address gets no broadcast.
        Service(
            "s",
            "udp echo server, member of 239.1.2.3",
            ("udp-echo", "9000", "0.0.0.0", "--join", "239.1.2.3", "10.1.0.3"),
        ),
    ),
    steps=(
        ping("ping 127.0.0.1", "c", icmp("127.0.0.1"), _to_self("127.0.0.1/32")),
        udp("datagrams to 127.0.0.1", "c", to("127.0.0.1"), _to_self("127.0.0.1/32")),
        udp("datagrams to the own address", "c", to(CLIENT), _to_self(f"{CLIENT}/32")),
        get("an HTTP request to itself", "c", tcp("127.0.0.1", 80), _to_self("127.0.0.1/32")),
        udp(
            "broadcast on the link",
            "c",
            to("10.1.0.255"),
            Expect(paths=((_TO_ALL, _ALL_GET),), replies=(_FROM_PEER,), copies=(_LOOPED,)),
            Udp(count=3, broadcast=True),
        ),
        udp(
            "limited broadcast, no lookup at all",
            "c",
            Flow("255.255.255.255", dport=9000),
            Expect(
                paths=((Hop("c", "send", out_dev="c0"), Hop("s", "deliver", in_dev="s0")),),
                replies=(_FROM_PEER,),
                copies=(_LOOPED,),
            ),
            Udp(count=3, broadcast=True, device="c0"),
        ),
        udp(
            "multicast to a member",
            "c",
            to(_GROUP),
            Expect(paths=((_TO_GROUP, Hop("s", "deliver", in_dev="s0")),), replies=(_FROM_PEER,)),
            Udp(count=3),
        ),
        udp(
            "multicast to nobody",
            "c",
            to(_OTHER_GROUP),
            Expect(paths=((_TO_GROUP, Hop("s", "drop", in_dev="s0", reason="NOT_SPECIFIED")),)),
            Udp(count=3, ends="silent"),
        ),
    ),
)
