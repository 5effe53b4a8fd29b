"""The labs `multipath` and `nat`: one decision with several ways, and packets that change on theirs."""

from __future__ import annotations

from dataclasses import replace

from tracer.lab.steps import (
    C_GETS,
    C_SENDS,
    CLIENT,
    R_BACK,
    ROUTER_ADDRESSES,
    ROUTER_LINKS,
    S_GETS,
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
    send_default,
    server_namespace,
    tcp,
    to,
    udp,
)
from tracer.lab.topology import MAIN, Expect, Flow, Hop, Lab, Link, Namespace, Path

_OTHER = "10.3.0.2"


def _spread(dst: str) -> Expect:
    """Return both ways to a destination, of which each packet takes one; the answers come back by a."""
    net = dst.rpartition(".")[0] + ".0/24"
    ways: list[Path] = []
    for uplink, dev, gateway, last, s_dev in (
        ("a", "r1", "10.11.0.2", "10.21.0.2", "s0"),
        ("b", "r2", "10.12.0.2", "10.22.0.2", "s1"),
    ):
        ways.append(
            (
                C_SENDS,
                Hop("r", "forward", "r0", dev, rule=32766, table=MAIN, gateway=gateway, prefix=net),
                Hop(
                    uplink,
                    "forward",
                    f"{uplink}0",
                    f"{uplink}1",
                    rule=32766,
                    table=MAIN,
                    gateway=last,
                    prefix=net,
                ),
                deliver_own("s", s_dev, dst),
            )
        )
    back: Path = (
        send_default("s", "s0", "10.21.0.1"),
        Hop("a", "forward", "a1", "a0", rule=32766, table=MAIN, gateway="10.11.0.1", prefix="10.1.0.0/24"),
        R_BACK,
        C_GETS,
    )
    return Expect(paths=tuple(ways), replies=(back,))


def _uplink(name: str, number: int) -> Namespace:
    server, router = f"10.2{number}.0.2", f"10.1{number}.0.1"
    return Namespace(
        name,
        addresses=((f"{name}0", f"10.1{number}.0.2/24"), (f"{name}1", f"10.2{number}.0.1/24")),
        routes=(f"10.1.0.0/24 via {router}", f"10.2.0.0/24 via {server}", f"10.3.0.0/24 via {server}"),
        forwarding=True,
    )


MULTIPATH = Lab(
    name="multipath",
    summary="client - router - two uplinks - server; an ECMP route, and a group of nexthop objects",
    teaches="One route, two nexthops: the ports of a flow choose (fib_multipath_hash_policy 1).",
    namespaces=(
        client_namespace(),
        Namespace(
            "r",
            addresses=(("r0", "10.1.0.1/24"), ("r1", "10.11.0.1/24"), ("r2", "10.12.0.1/24")),
            nexthops=("id 1 via 10.11.0.2 dev r1", "id 2 via 10.12.0.2 dev r2", "id 10 group 1/2"),
            routes=(
                "10.2.0.0/24 nexthop via 10.11.0.2 dev r1 nexthop via 10.12.0.2 dev r2",
                "10.3.0.0/24 nhid 10",
            ),
            sysctls=(("net.ipv4.fib_multipath_hash_policy", "1"),),
            forwarding=True,
        ),
        _uplink("a", 1),
        _uplink("b", 2),
        Namespace(
            "s",
            addresses=(
                ("s0", "10.21.0.2/24"),
                ("s1", "10.22.0.2/24"),
                ("lo", f"{SERVER}/32"),
                ("lo", f"{_OTHER}/32"),
            ),
            routes=("default via 10.21.0.1 dev s0",),
        ),
    ),
    links=(
        Link("c:c0", "r:r0"),
        Link("r:r1", "a:a0"),
        Link("r:r2", "b:b0"),
        Link("a:a1", "s:s0"),
        Link("b:b1", "s:s1"),
    ),
    services=(echo("s", SERVER, _OTHER),),
    steps=(
        udp("ECMP route, 24 flows", "c", to(SERVER, sport=20000), _spread(SERVER), Udp(count=1, sockets=24)),
        udp(
            "nexthop group, 24 flows", "c", to(_OTHER, sport=20000), _spread(_OTHER), Udp(count=1, sockets=24)
        ),
    ),
)

_ROUTER_OUTSIDE = "10.2.0.1"
# The server knows nothing of 10.1.0.0/24: what arrives with such a source gets no answer.
_S_ANSWERS = Hop("s", "send", out_dev="s0", rule=32766, table=MAIN, prefix="10.2.0.0/24")


def _masqueraded(there: Flow, *, cached: bool) -> Expect:
    outside = replace(there, src=_ROUTER_OUTSIDE)
    paths: Path = (
        replace(C_SENDS, cached=cached),
        Hop("r", "forward", "r0", "r1", rule=32766, table=MAIN, prefix="10.2.0.0/24"),
        replace(S_GETS, cached=cached, flow=outside),
    )
    # What s answers to r's address is translated back before r decides.
    answer = Flow(CLIENT, SERVER, there.proto, sport=there.dport)
    back: Path = (
        replace(_S_ANSWERS, cached=cached, flow=replace(answer, dst=_ROUTER_OUTSIDE)),
        replace(R_BACK, flow=answer),
        replace(C_GETS, cached=cached),
    )
    return both_ways(paths, back)


def _redirected() -> Expect:
    inside = Flow(CLIENT, SERVER, "tcp", dport=80)
    paths: Path = (
        replace(_S_ANSWERS, cached=True),
        replace(R_BACK, flow=inside),
        replace(C_GETS, cached=True, flow=inside),
    )
    answer = Flow(SERVER, CLIENT, "tcp", sport=80)
    back: Path = (
        replace(C_SENDS, cached=True, flow=answer),
        Hop("r", "forward", "r0", "r1", rule=32766, table=MAIN, prefix="10.2.0.0/24", flow=answer),
        replace(S_GETS, cached=True, flow=replace(answer, src=_ROUTER_OUTSIDE, sport=8080)),
    )
    return both_ways(paths, back)


NAT = Lab(
    name="nat",
    summary="client - router with nftables - server; masquerade one way, DNAT the other",
    teaches="DNAT happens before the decision, masquerade after it; the path goes on under other addresses.",
    namespaces=(
        client_namespace(),
        Namespace(
            "r",
            addresses=ROUTER_ADDRESSES,
            nft="""
                table ip lab {
                    chain prerouting {
                        type nat hook prerouting priority dstnat; policy accept;
                        iifname "r1" ip daddr 10.2.0.1 tcp dport 8080 dnat to 10.1.0.2:80
                    }
                    chain postrouting {
                        type nat hook postrouting priority srcnat; policy accept;
                        oifname "r1" masquerade
                    }
                }
            """,
            forwarding=True,
        ),
        server_namespace(routes=()),
    ),
    links=ROUTER_LINKS,
    services=(echo("s", SERVER), http("s", SERVER), http("c", CLIENT)),
    steps=(
        ping("ping through masquerade", "c", icmp(SERVER), _masqueraded(icmp(SERVER), cached=False)),
        udp("datagrams through masquerade", "c", to(SERVER), _masqueraded(to(SERVER), cached=False)),
        get(
            "an HTTP request through masquerade",
            "c",
            tcp(SERVER, 80),
            _masqueraded(tcp(SERVER, 80), cached=True),
        ),
        get("an HTTP request to the router, redirected to c", "s", tcp(_ROUTER_OUTSIDE, 8080), _redirected()),
    ),
)
