"""The lab `policy`: every kind of rule, each hit by one sort of traffic, and tables that lead elsewhere."""

from __future__ import annotations

from dataclasses import replace

from tracer.lab.steps import (
    CLIENT,
    DEFAULT,
    SERVER,
    Udp,
    both_ways,
    deliver_own,
    echo,
    get,
    http,
    icmp,
    ping,
    send_default,
    tcp,
    to,
    udp,
)
from tracer.lab.topology import MAIN, Expect, Flow, Hop, Lab, Link, LookupResult, Namespace, Path

_UPLINKS = (
    Namespace(
        "a",
        addresses=(("a0", "10.11.0.2/24"), ("a1", "10.21.0.1/24")),
        routes=("10.1.0.0/24 via 10.11.0.1", "10.4.0.0/24 via 10.11.0.1", "10.2.0.0/24 via 10.21.0.2"),
        forwarding=True,
    ),
    Namespace(
        "b",
        addresses=(("b0", "10.12.0.2/24"), ("b1", "10.22.0.1/24")),
        routes=("10.1.0.0/24 via 10.12.0.1", "10.4.0.0/24 via 10.12.0.1", "10.2.0.0/24 via 10.22.0.2"),
        forwarding=True,
    ),
)

_CLIENT = Namespace(
    "c",
    addresses=(
        *(("c0", f"10.1.0.{host}/24") for host in (2, 3, 4, 5)),
        ("c1", "10.4.0.2/24"),
    ),
    routes=(
        "default via 10.1.0.1 dev c0",
        "default via 10.4.0.1 dev c1 table 100",
        "default via 10.4.0.1 dev c1 table 1001",
    ),
    rules=("pref 100 fwmark 0x7 lookup 100", "pref 110 uidrange 1000-1000 lookup 1001"),
)

_ROUTER = Namespace(
    "r",
    addresses=(
        ("r0", "10.1.0.1/24"),
        ("r1", "10.11.0.1/24"),
        ("r2", "10.12.0.1/24"),
        ("r3", "10.4.0.1/24"),
    ),
    routes=(
        "default via 10.11.0.2 dev r1",
        "default via 10.11.0.2 dev r1 table 100",
        "default via 10.12.0.2 dev r2 table 200",
        "throw 10.2.0.0/24 table 300",
        "default via 10.11.0.2 dev r1 table 1000",
    ),
    rules=(
        "pref 100 from 10.1.0.3 lookup 100",
        "pref 110 fwmark 0x1/0xff lookup 1000",
        "pref 120 iif r3 lookup 1000",
        "pref 130 tos 0x10 lookup 100",
        "pref 140 ipproto udp dport 5000-5010 lookup 1000",
        "pref 145 iif r0 ipproto icmp lookup 100",
        "pref 150 iif r0 ipproto udp sport 6000-6010 lookup 100",
        "pref 160 from 10.1.0.4 lookup 300",
        "pref 170 from 10.1.0.4 lookup 100",
        "pref 400 from 10.1.0.5 lookup 1000",
        # After the target, which is to exist when the goto is made.
        "pref 180 from 10.1.0.5 goto 400",
        "pref 190 from 10.1.0.5 blackhole",
        # As wg-quick does it: what main knows better than by its default route stays, the rest goes by table
        # 200.
        "pref 500 lookup main suppress_prefixlength 0",
        "pref 510 not fwmark 0xca6c lookup 200",
    ),
    nft="""
        table ip lab {
            chain prerouting {
                type filter hook prerouting priority mangle; policy accept;
                iifname "r0" udp dport 7001 meta mark set 0x1
            }
        }
    """,
    forwarding=True,
)

_SERVER = Namespace(
    "s",
    addresses=(("s0", "10.21.0.2/24"), ("s1", "10.22.0.2/24"), ("lo", "10.2.0.2/32")),
    routes=("default via 10.21.0.1 dev s0",),
)

_VIA_A: Path = (
    Hop("a", "forward", "a0", "a1", rule=32766, table=MAIN, gateway="10.21.0.2", prefix="10.2.0.0/24"),
    deliver_own("s", "s0", SERVER),
)
_VIA_B: Path = (
    Hop("b", "forward", "b0", "b1", rule=32766, table=MAIN, gateway="10.22.0.2", prefix="10.2.0.0/24"),
    deliver_own("s", "s1", SERVER),
)
_SENDS = send_default("c", "c0", "10.1.0.1")
_SUPPRESSED: tuple[tuple[int, LookupResult], ...] = ((500, "suppressed"),)


def _by_a(rule: int, table: int, *passed: tuple[int, LookupResult], flow: Flow | None = None) -> Path:
    """Return the router's decision for uplink a and what follows."""
    hop = Hop(
        "r", "forward", "r0", "r1", rule=rule, table=table, gateway="10.11.0.2", prefix=DEFAULT, passed=passed
    )
    return (replace(hop, flow=flow), *_VIA_A)


def _by_b() -> Path:
    """Return the way of all else: main's default route is suppressed, table 200 leads to uplink b."""
    hop = Hop(
        "r",
        "forward",
        "r0",
        "r2",
        rule=510,
        table=200,
        gateway="10.12.0.2",
        prefix=DEFAULT,
        passed=_SUPPRESSED,
    )
    return (hop, *_VIA_B)


def _back(client: str = CLIENT, router_dev: str = "r0", client_dev: str = "c0") -> Path:
    """Return the way of the answers: by uplink a, and by rule 500, as its hit is no default route."""
    net = client.rpartition(".")[0] + ".0/24"
    return (
        send_default("s", "s0", "10.21.0.1"),
        Hop("a", "forward", "a1", "a0", rule=32766, table=MAIN, gateway="10.11.0.1", prefix=net),
        Hop("r", "forward", "r1", router_dev, rule=500, table=MAIN, prefix=net),
        deliver_own("c", client_dev, client),
    )


def _from(client: str, rest: Path) -> Expect:
    return both_ways((_SENDS, *rest), _back(client))


def _by_c1(rule: int, table: int) -> Expect:
    """Return the way of what c itself sends by its other device; in r the device decides."""
    sends = send_default("c", "c1", "10.4.0.1", rule=rule, table=table)
    router = replace(_by_a(120, 1000)[0], in_dev="r3")
    # The mark and the user are the sender's and do not cross the veth.
    seen_by_router = replace(router, flow=Flow(SERVER, "10.4.0.2", dport=9000))
    return both_ways((sends, seen_by_router, *_VIA_A), _back("10.4.0.2", "r3", "c1"))


def _web() -> Expect:
    there, back = (_SENDS, *_by_b()), _back()
    return both_ways(
        (replace(there[0], cached=True), *there[1:-1], replace(there[-1], cached=True)),
        (replace(back[0], cached=True), *back[1:-1], replace(back[-1], cached=True)),
    )


POLICY = Lab(
    name="policy",
    summary="client - router with 14 rules - two uplinks - server; one sort of traffic for each rule",
    teaches="Which rule sends which packet to which table, and what throw, goto and suppress do.",
    namespaces=(_CLIENT, _ROUTER, *_UPLINKS, _SERVER),
    links=(
        Link("c:c0", "r:r0"),
        Link("c:c1", "r:r3"),
        Link("r:r1", "a:a0"),
        Link("r:r2", "b:b0"),
        Link("a:a1", "s:s0"),
        Link("b:b1", "s:s1"),
    ),
    services=(echo("s", SERVER, ports="9000,5005,7001"), http("s", SERVER)),
    steps=(
        ping("protocol: icmp, rule 145", "c", icmp(SERVER), _from(CLIENT, _by_a(145, 100))),
        udp("nothing special: suppressed in main, rule 510", "c", to(SERVER), _from(CLIENT, _by_b())),
        get("a TCP connection, rule 510", "c", tcp(SERVER, 80), _web()),
        udp("source 10.1.0.3, rule 100", "c", to(SERVER, src="10.1.0.3"), _from("10.1.0.3", _by_a(100, 100))),
        udp(
            "mark set by nftables in r, rule 110",
            "c",
            to(SERVER, 7001),
            _from(CLIENT, _by_a(110, 1000, flow=Flow(SERVER, CLIENT, dport=7001, mark=1))),
        ),
        udp("tos 0x10, rule 130", "c", Flow(SERVER, dport=9000, tos=0x10), _from(CLIENT, _by_a(130, 100))),
        udp("destination port 5005, rule 140", "c", to(SERVER, 5005), _from(CLIENT, _by_a(140, 1000))),
        udp("source port 6003, rule 150", "c", to(SERVER, sport=6003), _from(CLIENT, _by_a(150, 100))),
        udp(
            "throw in table 300, then rule 170",
            "c",
            to(SERVER, src="10.1.0.4"),
            _from("10.1.0.4", _by_a(170, 100, (160, "throw"))),
        ),
        udp(
            "goto over a blackhole, rule 400",
            "c",
            to(SERVER, src="10.1.0.5"),
            _from("10.1.0.5", _by_a(400, 1000)),
        ),
        udp("mark set by the socket, rule 100 in c", "c", Flow(SERVER, dport=9000, mark=7), _by_c1(100, 100)),
        udp("user 1000, rule 110 in c", "c", Flow(SERVER, dport=9000, uid=1000), _by_c1(110, 1001)),
        udp(
            "connected socket, rule 510",
            "c",
            to(SERVER),
            both_ways(
                (replace(_SENDS, cached=True), *_by_b()), (*_back()[:-1], replace(_back()[-1], cached=True))
            ),
            Udp(count=5, connect=True),
        ),
    ),
)
