"""The lab `wireguard`: a client that reaches a net behind a VPN server, with the rules that wg-quick makes."""

from __future__ import annotations

from dataclasses import replace

from tracer.lab.steps import (
    DEFAULT,
    S_GETS,
    S_SENDS,
    SERVER,
    both_ways,
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
from tracer.lab.topology import LOCAL, MAIN, Device, Flow, Hop, Lab, Link, Namespace, Outer, Path, Peer

_CLIENT, _VPN = "10.1.0.2", "10.12.0.1"
_INSIDE = "10.9.0.2"
_MARK = 0xCA6C
_TABLE = 51820

_WRAPS_C = Outer(True, "udp", "wg0", 32766, MAIN, DEFAULT, "10.1.0.1", passed=((500, "suppressed"),))
_WRAPS_B = Outer(True, "udp", "wg0", 32766, MAIN, "10.1.0.0/24", "10.12.0.2")

_THERE: Path = (
    Hop("c", "send", None, "c0", 510, _TABLE, None, DEFAULT, passed=((500, "suppressed"),), outer=_WRAPS_C),
    Hop("r", "forward", "r0", "r1", 32766, MAIN, None, "10.12.0.0/24", flow=Flow(_VPN, _CLIENT)),
    Hop(
        "b", "forward", "b0", "b1", 32766, MAIN, None, "10.2.0.0/24",
        outer=Outer(False, "udp", "wg0", 0, LOCAL, f"{_VPN}/32"),
    ),
    S_GETS,
)  # fmt: skip
_BACK: Path = (
    S_SENDS,
    Hop("b", "forward", "b1", "b0", 32766, MAIN, None, "10.9.0.0/24", outer=_WRAPS_B),
    Hop("r", "forward", "r1", "r0", 32766, MAIN, None, "10.1.0.0/24", flow=Flow(_CLIENT, _VPN)),
    deliver_own("c", "c0", _INSIDE, outer=Outer(False, "udp", "wg0", 0, LOCAL, f"{_CLIENT}/32")),
)


def _ends_cached(path: Path) -> Path:
    return (replace(path[0], cached=True), *path[1:-1], replace(path[-1], cached=True))


WIREGUARD = Lab(
    name="wireguard",
    summary="client - router - VPN server - server; WireGuard, all of the client's traffic through it",
    teaches="The mark of the outer packets keeps them out of the table that leads into the tunnel.",
    namespaces=(
        Namespace(
            "c",
            devices=(Device("wg0", "wireguard"),),
            peers=(Peer("wg0", "b:wg0", "0.0.0.0/0", f"{_VPN}:51820", mark=_MARK),),
            addresses=(("c0", f"{_CLIENT}/24"), ("wg0", f"{_INSIDE}/24")),
            routes=("default via 10.1.0.1 dev c0", f"default dev wg0 table {_TABLE}"),
            rules=(
                "pref 500 lookup main suppress_prefixlength 0",
                f"pref 510 not fwmark {_MARK:#x} lookup {_TABLE}",
            ),
        ),
        Namespace("r", addresses=(("r0", "10.1.0.1/24"), ("r1", "10.12.0.2/24")), forwarding=True),
        Namespace(
            "b",
            devices=(Device("wg0", "wireguard"),),
            peers=(Peer("wg0", "c:wg0", f"{_INSIDE}/32"),),
            addresses=(("b0", f"{_VPN}/24"), ("b1", "10.2.0.1/24"), ("wg0", "10.9.0.1/24")),
            routes=("10.1.0.0/24 via 10.12.0.2 dev b0",),
            forwarding=True,
        ),
        server_namespace(),
    ),
    links=(Link("c:c0", "r:r0"), Link("r:r1", "b:b0"), Link("b:b1", "s:s0")),
    services=(echo("s", SERVER), http("s", SERVER)),
    steps=(
        # The first packet waits for the handshake.
        ping("ping through the tunnel", "c", icmp(SERVER), both_ways(_THERE, _BACK)),
        udp("datagrams through the tunnel", "c", to(SERVER), both_ways(_THERE, _BACK)),
        get(
            "an HTTP request through the tunnel",
            "c",
            tcp(SERVER, 80),
            both_ways(_ends_cached(_THERE), _ends_cached(_BACK)),
        ),
    ),
    own=(Flow(_VPN, _CLIENT, dport=51820), Flow(_CLIENT, _VPN, dport=51820)),
)
