"""The labs `errors` and `rpfilter`: packets that do not arrive, each for another reason."""

from __future__ import annotations

from tracer.lab.steps import (
    C_GETS,
    C_SENDS,
    CLIENT,
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
    icmp,
    ping,
    send_default,
    server_namespace,
    to,
    udp,
)
from tracer.lab.topology import LOCAL, MAIN, Expect, Flow, Hop, Lab, Link, Namespace, Path, Step

_C_SENDS = send_default("c", "c0", "10.1.0.1", prefix="10.0.0.0/8")
_R_THERE = Hop("r", "forward", "r0", "r1", rule=32766, table=MAIN, prefix="10.2.0.0/24")
# What a router says about a packet it drops is a packet of its own.
_R_SAYS = Hop("r", "send", out_dev="r0", rule=32766, table=MAIN, prefix="10.1.0.0/24")
# ip_error() tells one address five times, then once a second, whatever icmp_ratemask says: a source per
# step.
_SOURCES = tuple(f"10.1.0.{host}" for host in range(11, 16))


def _lost(label: str, flow: Flow, drop: Hop, how: Udp) -> Step:
    """Return datagrams that r drops, and the ICMP errors it sends if `how` says that they are seen."""
    told = how.ends.startswith("icmp")
    replies: tuple[Path, ...] = ((_R_SAYS, deliver_own("c", "c0", flow.src or CLIENT)),) if told else ()
    expect = Expect(paths=((_C_SENDS, drop),), replies=replies, reply_icmp=told)
    return udp(label, "c", flow, expect, how)


def _by_route(kind: str, flow: Flow, sees: str) -> Step:
    """Return datagrams that r drops because of a route of this kind in main."""
    prefix = flow.dst.rpartition(".")[0] + ".0/24"
    hop = Hop("r", "drop", "r0", rule=32766, table=MAIN, prefix=prefix, reason="NOT_SPECIFIED")
    return _lost(f"{kind} route in r", flow, hop, Udp(2, sees))


def _by_rule(kind: str, drop: Hop, flow: Flow, sees: str) -> Step:
    """Return datagrams that r drops because of a rule of this kind: no table is looked up for it."""
    return _lost(f"{kind} rule in r", flow, drop, Udp(2, sees))


def _ruled(rule: int | None, reason: str) -> Hop:
    return Hop("r", "drop", "r0", rule=rule, reason=reason)


def _not_forwarded(reason: str) -> Hop:
    """Return the drop of a packet whose route is fine."""
    return Hop("r", "drop", "r0", rule=32766, table=MAIN, prefix="10.2.0.0/24", reason=reason)


def _refused(kind: str, dst: str, errno_name: str) -> Step:
    """Return sends that c's own routing refuses: there is a decision and never a packet."""
    prefix = dst.rpartition(".")[0] + ".0/24"
    hop = Hop("c", "drop", error=errno_name)
    if kind != "no":
        hop = Hop("c", "drop", rule=32766, table=MAIN, prefix=prefix, error=errno_name)
    return udp(f"{kind} route in c", "c", to(dst), Expect(paths=((hop,),)), Udp(ends=errno_name))


ERRORS = Lab(
    name="errors",
    summary="client - router - server; blackhole, unreachable, prohibit, no route, TTL, MTU, closed port",
    teaches="Each way to lose a packet: by a route or a rule, in the router or the sender, and who is told.",
    namespaces=(
        client_namespace(
            (
                "10.0.0.0/8 via 10.1.0.1 dev c0",
                "blackhole 10.6.1.0/24",
                "unreachable 10.6.2.0/24",
                "prohibit 10.6.3.0/24",
            ),
            more_addresses=_SOURCES,
        ),
        Namespace(
            "r",
            addresses=ROUTER_ADDRESSES,
            routes=("blackhole 10.3.1.0/24", "unreachable 10.3.2.0/24", "prohibit 10.3.3.0/24"),
            rules=(
                "pref 101 to 10.4.1.0/24 blackhole",
                "pref 102 to 10.4.2.0/24 unreachable",
                "pref 103 to 10.4.3.0/24 prohibit",
            ),
            forwarding=True,
        ),
        server_namespace(),
    ),
    links=(Link("c:c0", "r:r0"), Link("r:r1", "s:s0", mtu=1000)),
    services=(echo("s", SERVER),),
    steps=(
        ping(
            "what works",
            "c",
            icmp(SERVER),
            both_ways((_C_SENDS, _R_THERE, S_GETS), (S_SENDS, R_BACK, C_GETS)),
        ),
        _by_route("blackhole", to("10.3.1.1"), "silent"),
        _by_route("unreachable", to("10.3.2.1", src=_SOURCES[0]), "icmp EHOSTUNREACH"),
        _by_route("prohibit", to("10.3.3.1", src=_SOURCES[1]), "icmp EHOSTUNREACH"),
        _by_rule("blackhole", _ruled(101, "NOT_SPECIFIED"), to("10.4.1.1"), "silent"),
        _by_rule(
            "unreachable", _ruled(102, "IP_INNOROUTES"), to("10.4.2.1", src=_SOURCES[2]), "icmp ENETUNREACH"
        ),
        _by_rule(
            "prohibit", _ruled(103, "NOT_SPECIFIED"), to("10.4.3.1", src=_SOURCES[3]), "icmp EHOSTUNREACH"
        ),
        _lost(
            "no route in r",
            to("10.5.0.1", src=_SOURCES[4]),
            _ruled(None, "IP_INNOROUTES"),
            Udp(2, "icmp ENETUNREACH"),
        ),
        _lost("TTL of 1", to(SERVER), _not_forwarded("IP_INHDR"), Udp(5, "icmp EHOSTUNREACH", ttl=1)),
        _lost(
            "too big for the MTU of 1000, DF set",
            to(SERVER),
            _not_forwarded("PKT_TOO_BIG"),
            Udp(5, "icmp EMSGSIZE", df=True, size=1400),
        ),
        udp(
            "closed port",
            "c",
            to(SERVER, 9),
            Expect(
                paths=(
                    (
                        _C_SENDS,
                        _R_THERE,
                        Hop(
                            "s", "drop", "s0", rule=0, table=LOCAL, prefix=f"{SERVER}/32", reason="NO_SOCKET"
                        ),
                    ),
                ),
                replies=((S_SENDS, R_BACK, C_GETS),),
                reply_icmp=True,
            ),
            Udp(ends="icmp ECONNREFUSED"),
        ),
        _refused("blackhole", "10.6.1.1", "EINVAL"),
        _refused("unreachable", "10.6.2.1", "EHOSTUNREACH"),
        _refused("prohibit", "10.6.3.1", "EACCES"),
        _refused("no", "192.0.2.1", "ENETUNREACH"),
    ),
)

_STRANGER = "10.9.0.9"


def _aside(dev: str, gateway: str, dst: str) -> Hop:
    return send_default("c", dev, gateway, prefix=f"{dst}/32")


def _passes(dst: str, src: str | None, sends: Hop, router_dev: str) -> Expect:
    """Return the way there by an extra link and the way back by the first, where r expects 10.1.0.2."""
    back: Path = (S_SENDS, R_BACK, C_GETS)
    if src != CLIENT:
        net = (src or CLIENT).rpartition(".")[0] + ".0/24"
        back = (
            S_SENDS,
            Hop("r", "forward", "r1", router_dev, rule=32766, table=MAIN, prefix=net),
            deliver_own("c", sends.out_dev or "", src or CLIENT),
        )
    there = Hop("r", "forward", router_dev, "r1", rule=32766, table=MAIN, prefix="10.2.0.0/24")
    return both_ways((sends, there, deliver_own("s", "s0", dst)), back)


def _fails(sends: Hop, router_dev: str) -> Expect:
    """Return the drop: the route to the destination is fine, the source check is not."""
    drop = Hop(
        "r", "drop", router_dev, rule=32766, table=MAIN, prefix="10.2.0.0/24", reason="IP_RPFILTER"
    )  # fmt: skip
    return Expect(paths=((sends, drop),))


_STRICT = _aside("c1", "10.5.1.1", "10.2.0.11")
_LOOSE = _aside("c2", "10.5.2.1", "10.2.0.12")
_OFF = _aside("c3", "10.5.3.1", "10.2.0.13")
_LOOSE_STRANGER = _aside("c2", "10.5.2.1", "10.2.0.14")

RPFILTER = Lab(
    name="rpfilter",
    summary="client with four links to a router that checks sources: strict, loose and not at all",
    teaches="The same asymmetric packet: dropped by a strict check, passed by a loose one and by none.",
    namespaces=(
        Namespace(
            "c",
            addresses=(
                ("c0", "10.1.0.2/24"),
                ("c1", "10.5.1.2/24"),
                ("c2", "10.5.2.2/24"),
                ("c3", "10.5.3.2/24"),
                ("lo", f"{_STRANGER}/32"),
            ),
            routes=(
                "default via 10.1.0.1 dev c0",
                "10.2.0.11 via 10.5.1.1 dev c1 src 10.1.0.2",
                "10.2.0.12 via 10.5.2.1 dev c2 src 10.1.0.2",
                "10.2.0.13 via 10.5.3.1 dev c3 src 10.1.0.2",
                f"10.2.0.14 via 10.5.2.1 dev c2 src {_STRANGER}",
            ),
            # Ask for the gateway with an address of its own net: a strict check drops ARP requests too.
            sysctls=(("net.ipv4.conf.all.arp_announce", "2"),),
        ),
        Namespace(
            "r",
            addresses=(
                *ROUTER_ADDRESSES,
                ("r2", "10.5.1.1/24"),
                ("r3", "10.5.2.1/24"),
                ("r4", "10.5.3.1/24"),
            ),
            sysctls=(("net.ipv4.conf.r2.rp_filter", "1"), ("net.ipv4.conf.r3.rp_filter", "2")),
            forwarding=True,
        ),
        Namespace(
            "s",
            addresses=tuple(("s0", f"10.2.0.{host}/24") for host in (2, 11, 12, 13, 14)),
            routes=("default via 10.2.0.1 dev s0",),
        ),
    ),
    links=(*ROUTER_LINKS, Link("c:c1", "r:r2"), Link("c:c2", "r:r3"), Link("c:c3", "r:r4")),
    services=(echo("s", SERVER, *(f"10.2.0.{host}" for host in (11, 12, 13, 14))),),
    steps=(
        ping(
            "what works",
            "c",
            icmp(SERVER),
            both_ways(
                (
                    C_SENDS,
                    Hop("r", "forward", "r0", "r1", rule=32766, table=MAIN, prefix="10.2.0.0/24"),
                    S_GETS,
                ),
                (S_SENDS, R_BACK, C_GETS),
            ),
        ),
        udp(
            "strict, source of this link: passes",
            "c",
            to("10.2.0.11", src="10.5.1.2"),
            _passes("10.2.0.11", "10.5.1.2", _STRICT, "r2"),
        ),
        udp(
            "strict, source of another link: dropped",
            "c",
            to("10.2.0.11", src=CLIENT),
            _fails(_STRICT, "r2"),
            Udp(ends="silent"),
        ),
        udp(
            "loose, source of another link: passes",
            "c",
            to("10.2.0.12", src=CLIENT),
            _passes("10.2.0.12", CLIENT, _LOOSE, "r3"),
        ),
        udp(
            "loose, source without a route: dropped",
            "c",
            to("10.2.0.14", src=_STRANGER),
            _fails(_LOOSE_STRANGER, "r3"),
            Udp(ends="silent"),
        ),
        udp(
            "off, source of another link: passes",
            "c",
            to("10.2.0.13", src=CLIENT),
            _passes("10.2.0.13", CLIENT, _OFF, "r4"),
        ),
    ),
)
