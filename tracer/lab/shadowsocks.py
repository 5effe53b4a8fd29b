"""The lab `shadowsocks`: a proxy that programs ask for (SOCKS5), and one that a router puts in their way."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tracer.lab.programs import place
from tracer.lab.steps import (
    C_SENDS,
    CLIENT,
    DEFAULT,
    ECHO_PORT,
    S_GETS,
    SERVER,
    client_namespace,
    deliver_own,
    echo,
    get,
    http,
    server_namespace,
    tcp,
    to,
    udp,
)
from tracer.lab.topology import LOCAL, MAIN, Expect, Flow, Hop, Lab, Leg, Link, Namespace, Service, Step
from tracer.lab.topology import Path as Way

_SERVER, _LOCAL, _REDIR = "ss-server", "ss-local", "ss-redir"
_PROXY, _PORT = "10.12.0.1", 8388
_HOME, _OUTSIDE, _INSIDE = "10.1.0.1", "10.11.0.1", "10.2.0.1"
_SOCKS, _REDIRECTED = 1080, 1081
_READY = "running from root user"
_MARK = _RULE = _TABLE = 100
Proto = Literal["tcp", "udp"]
# TCP is sent to the router itself, under its address; a datagram keeps the address that it was sent to, so that the
# proxy can know it, and a rule makes that address local.
_NFT = f"""
    table ip lab {{
        chain tcp_redirect {{
            type nat hook prerouting priority dstnat; policy accept;
            iifname "a0" ip daddr 10.2.0.0/24 tcp dport 80 redirect to :{_REDIRECTED}
        }}
        chain udp_divert {{
            type filter hook prerouting priority mangle; policy accept;
            iifname != "a0" accept
            udp dport {ECHO_PORT} tproxy to 127.0.0.1:{_REDIRECTED} meta mark set {_MARK} accept
        }}
    }}
"""


def _prepare(directory: Path, _lock: int) -> None:
    common = {
        "server": _PROXY,
        "server_port": _PORT,
        "password": secrets.token_urlsafe(16),
        "method": "chacha20-ietf-poly1305",
        "mode": "tcp_and_udp",
    }
    for label, own in (
        (_SERVER, {}),
        (_LOCAL, {"local_address": "127.0.0.1", "local_port": _SOCKS}),
        (_REDIR, {"local_address": "0.0.0.0", "local_port": _REDIRECTED}),
    ):
        (place(directory, label) / "own.json").write_text(json.dumps(common | own))


def _ends_cached(way: Way) -> Way:
    """Return the way of a connection: whoever sends or gets its packets decides once."""
    return (replace(way[0], cached=True), *way[1:-1], replace(way[-1], cached=True))


def _from_proxy(proto: Proto, port: int) -> tuple[Leg, Leg]:
    """Return the legs between the proxy's server and the server behind it, there and back."""
    there: Way = (Hop("b", "send", None, "b1", 32766, MAIN, None, "10.2.0.0/24"), S_GETS)
    back: Way = (
        Hop("s", "send", None, "s0", 32766, MAIN, None, "10.2.0.0/24"),
        deliver_own("b", "b1", _INSIDE),
    )
    return (
        _leg(Flow(SERVER, _INSIDE, proto, dport=port), there),
        _leg(Flow(_INSIDE, SERVER, proto, sport=port), back),
    )


def _leg(flow: Flow, way: Way) -> Leg:
    return Leg(flow, way if flow.proto == "udp" or len(way) == 1 else _ends_cached(way))


def _to_proxy(proto: Proto, source: str, before: tuple[Way, Way]) -> tuple[Leg, Leg]:
    """Return the legs between who asks the proxy and its server; `before` is what is on either side of the router."""
    there: Way = (
        *before[0],
        Hop("r", "forward", "r0", "r1", 32766, MAIN, None, "10.12.0.0/24"),
        deliver_own("b", "b0", _PROXY),
    )
    net = source.rpartition(".")[0] + ".0/24"
    gateway = _OUTSIDE if source == CLIENT else None
    back: Way = (
        Hop("b", "send", None, "b0", 32766, MAIN, "10.12.0.2", net),
        Hop("r", "forward", "r1", "r0", 32766, MAIN, gateway, net),
        *before[1],
    )
    return (
        _leg(Flow(_PROXY, source, proto, dport=_PORT), there),
        _leg(Flow(source, _PROXY, proto, sport=_PORT), back),
    )


def _six(first: Leg, to_proxy: tuple[Leg, Leg], from_proxy: tuple[Leg, Leg], last: Leg) -> Expect:
    return Expect(legs=(first, to_proxy[0], from_proxy[0], from_proxy[1], to_proxy[1], last))


def _by_socks() -> Expect:
    """c's own proxy is asked over lo, and asks the server's from c."""
    a_there = Hop("a", "forward", "a0", "a1", 32766, MAIN, "10.11.0.2", "10.12.0.0/24")
    a_back = Hop("a", "forward", "a1", "a0", 32766, MAIN, None, "10.1.0.0/24")
    home = "127.0.0.1"
    lo: Way = (Hop("c", "deliver", out_dev="lo", rule=0, table=LOCAL, prefix=f"{home}/32"),)
    return _six(
        _leg(Flow(home, home, "tcp", dport=_SOCKS), lo),
        _to_proxy("tcp", CLIENT, ((C_SENDS, a_there), (a_back, deliver_own("c", "c0", CLIENT)))),
        _from_proxy("tcp", 80),
        _leg(Flow(home, home, "tcp", sport=_SOCKS), lo),
    )


def _diverted(flow: Flow, taken: Hop, answers: Hop) -> Expect:
    """c knows of no proxy: its router a takes the packet for itself, and answers in the server's name."""
    a_sends = Hop("a", "send", None, "a1", 32766, MAIN, "10.11.0.2", "10.12.0.0/24")
    c_gets = deliver_own("c", "c0", CLIENT)
    proto: Proto = "tcp" if flow.proto == "tcp" else "udp"
    return _six(
        _leg(replace(flow, src=CLIENT), (C_SENDS, taken)),
        _to_proxy(proto, _OUTSIDE, ((a_sends,), (deliver_own("a", "a1", _OUTSIDE),))),
        _from_proxy(proto, flow.dport or 0),
        _leg(Flow(CLIENT, SERVER, proto, sport=flow.dport), (answers, c_gets)),
    )


_REDIRECTED_FLOW = Flow(CLIENT, _HOME, "tcp", sport=_REDIRECTED)
# No host has another's address: its answer with that source is decided all the same, as one without a source.
_TRANSPARENT = Flow(CLIENT, "0.0.0.0", sport=ECHO_PORT)
_A_ANSWERS = Hop("a", "send", None, "a0", 32766, MAIN, None, "10.1.0.0/24")
_REDIRECT = deliver_own("a", "a0", _HOME, flow=Flow(_HOME, CLIENT, "tcp", dport=_REDIRECTED))
_TPROXY = Hop(
    "a",
    "deliver",
    "a0",
    None,
    _RULE,
    _TABLE,
    None,
    DEFAULT,
    flow=Flow(SERVER, CLIENT, dport=ECHO_PORT, mark=_MARK),
)


def _service(netns: str, program: str, *options: str) -> Service:
    return Service(netns, program, ("daemon", program, "-c", "own.json", *options), _READY, relays=True)


SHADOWSOCKS = Lab(
    name="shadowsocks",
    summary="client - home router - router - proxy - server; Shadowsocks by SOCKS5, by REDIRECT and by TPROXY",
    teaches="A proxy ends each connection and makes another: REDIRECT changes the address, TPROXY a rule's table.",
    namespaces=(
        client_namespace(),
        Namespace(
            "a",
            addresses=(("a0", f"{_HOME}/24"), ("a1", f"{_OUTSIDE}/24")),
            routes=(
                "default via 10.11.0.2 dev a1",
                "10.12.0.0/24 via 10.11.0.2 dev a1",
                f"local default dev lo table {_TABLE}",
            ),
            rules=(f"pref {_RULE} fwmark {_MARK} lookup {_TABLE}",),
            nft=_NFT,
            forwarding=True,
        ),
        Namespace(
            "r",
            addresses=(("r0", "10.11.0.2/24"), ("r1", "10.12.0.2/24")),
            routes=(f"10.1.0.0/24 via {_OUTSIDE} dev r0",),
            forwarding=True,
        ),
        Namespace(
            "b",
            addresses=(("b0", f"{_PROXY}/24"), ("b1", f"{_INSIDE}/24")),
            routes=("10.1.0.0/24 via 10.12.0.2 dev b0", "10.11.0.0/24 via 10.12.0.2 dev b0"),
        ),
        server_namespace(routes=()),
    ),
    links=(Link("c:c0", "a:a0"), Link("a:a1", "r:r0"), Link("r:r1", "b:b0"), Link("b:b1", "s:s0")),
    services=(
        echo("s", SERVER),
        http("s", SERVER),
        _service("b", _SERVER),
        _service("c", _LOCAL),
        _service("a", _REDIR),
    ),
    steps=(
        Step(
            "an HTTP request by SOCKS5",
            "c",
            ("get", SERVER, "80", f"socks5://127.0.0.1:{_SOCKS}"),
            tcp("127.0.0.1", _SOCKS),
            None,
            _by_socks(),
            reported="200",
        ),
        get(
            "an HTTP request, redirected",
            "c",
            tcp(SERVER, 80),
            _diverted(tcp(SERVER, 80), _REDIRECT, replace(_A_ANSWERS, flow=_REDIRECTED_FLOW)),
        ),
        udp(
            "datagrams, diverted",
            "c",
            to(SERVER),
            _diverted(to(SERVER), _TPROXY, replace(_A_ANSWERS, flow=_TRANSPARENT)),
        ),
    ),
    prepare=_prepare,
    requires=("ss-server", "ss-local", "ss-redir", "curl"),
)
