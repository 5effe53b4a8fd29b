"""The lab `docker-like`: containers on a bridge, masqueraded, with a published port, by the rules that Docker makes."""

from __future__ import annotations

from dataclasses import replace

from tracer.lab.steps import (
    C_GETS,
    CLIENT,
    Udp,
    both_ways,
    client_namespace,
    deliver_own,
    echo,
    get,
    http,
    send_default,
    tcp,
    to,
    udp,
)
from tracer.lab.topology import MAIN, Device, Expect, Flow, Hop, Lab, Link, Namespace, Path

_NET, _BRIDGE = "172.17.0.0/16", "172.17.0.1"
_A, _B = "172.17.0.2", "172.17.0.3"
_HOST = "10.1.0.1"
_PUBLISHED = 8080


def _container(name: str, address: str) -> Namespace:
    return Namespace(
        name, addresses=((f"{name}0", f"{address}/16"),), routes=(f"default via {_BRIDGE} dev {name}0",)
    )


_NFT = f"""
    table ip nat {{
        chain DOCKER {{
            iifname != "docker0" tcp dport {_PUBLISHED} dnat to {_A}:80
        }}
        chain PREROUTING {{
            type nat hook prerouting priority dstnat; policy accept;
            fib daddr type local jump DOCKER
        }}
        chain OUTPUT {{
            type nat hook output priority -100; policy accept;
            ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER
        }}
        chain POSTROUTING {{
            type nat hook postrouting priority srcnat; policy accept;
            ip saddr {_NET} oifname != "docker0" masquerade
        }}
    }}
"""
_OUT = Hop("r", "forward", "va", "r0", 32766, MAIN, None, "10.1.0.0/24")
_IN = Hop("r", "forward", "r0", "docker0", 32766, MAIN, None, _NET)
_A_SENDS = send_default("a", "a0", _BRIDGE)
_A_GETS = deliver_own("a", "a0", _A)


def _cached(path: Path) -> Path:
    """Return the same path where the ends, which have a connection, decide only once."""
    return (replace(path[0], cached=True), *path[1:-1], replace(path[-1], cached=True))


def _masqueraded() -> Expect:
    answer = Flow(_A, CLIENT, sport=9000)
    return both_ways(
        (_A_SENDS, _OUT, replace(C_GETS, flow=Flow(CLIENT, _HOST, dport=9000))),
        (
            Hop("c", "send", None, "c0", 32766, MAIN, None, "10.1.0.0/24", flow=replace(answer, dst=_HOST)),
            replace(_IN, flow=answer),
            replace(_A_GETS, flow=answer),
        ),
    )


def _published() -> Expect:
    inside = Flow(_A, CLIENT, "tcp", dport=80)
    answer = Flow(CLIENT, _A, "tcp", sport=80)
    c_sends = Hop("c", "send", None, "c0", 32766, MAIN, None, "10.1.0.0/24")
    return both_ways(
        _cached((c_sends, replace(_IN, flow=inside), replace(_A_GETS, flow=inside))),
        _cached(
            (
                replace(_A_SENDS, flow=answer),
                replace(_OUT, flow=answer),
                replace(C_GETS, flow=Flow(CLIENT, _HOST, "tcp", sport=_PUBLISHED)),
            )
        ),
    )


def _bridged() -> Expect:
    on_link = Hop("a", "send", None, "a0", 32766, MAIN, None, _NET)
    back = Hop("b", "send", None, "b0", 32766, MAIN, None, _NET)
    return both_ways(
        (on_link, Hop("r", "forward", "va", "vb"), deliver_own("b", "b0", _B)),
        (back, Hop("r", "forward", "vb", "va"), _A_GETS),
    )


DOCKER = Lab(
    name="docker-like",
    summary="two containers on a bridge - host - client; masquerade, a published port, a bridge that routes nothing",
    teaches="A bridge is one device of the host: what stays on it is not routed, what leaves it is, and is translated.",
    namespaces=(
        client_namespace(routes=()),
        Namespace(
            "r",
            devices=(Device("docker0", "bridge"),),
            masters=(("va", "docker0"), ("vb", "docker0")),
            addresses=(("r0", f"{_HOST}/24"), ("docker0", f"{_BRIDGE}/16")),
            nft=_NFT,
            forwarding=True,
        ),
        _container("a", _A),
        _container("b", _B),
    ),
    links=(Link("c:c0", "r:r0"), Link("a:a0", "r:va"), Link("b:b0", "r:vb")),
    services=(echo("c", CLIENT), echo("b", _B), http("a", _A)),
    steps=(
        udp("datagrams of a container to the world", "a", to(CLIENT), _masqueraded(), Udp(count=4)),
        get("a request to the published port", "c", tcp(_HOST, _PUBLISHED), _published()),
        udp("datagrams from container to container", "a", to(_B), _bridged(), Udp(count=4)),
    ),
)
