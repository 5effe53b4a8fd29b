"""The labs `openvpn` and `openvpn-tcp`: OpenVPN 2.6 by a TUN device, all of the client's traffic through it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tracer.lab.programs import place
from tracer.lab.relayed import VPN, Vpn, client, gateway, network, way_around, way_in
from tracer.lab.tools import output_of
from tracer.lab.topology import MAIN, Flow, Hop, Lab, Service

_SERVER, _CLIENT = "openvpn server", "openvpn client"
_INSIDE, _INSIDE_NET, _GATEWAY = "10.8.0.2", "10.8.0.0/24", "10.8.0.1"
_READY = "Initialization Sequence Completed"
# disable-dco: where the kernel has a module for it, packets would not come to the process at all.
_COMMON = """
dev tun0
dev-type tun
disable-dco
proto {proto}
cert own.crt
key own.key
peer-fingerprint {peer}
data-ciphers AES-256-GCM
tcp-nodelay
verb 3
"""
_OF_SERVER = """
mode server
tls-server
dh none
local {vpn}
port 1194
topology subnet
server 10.8.0.0 255.255.255.0
push "redirect-gateway def1"
"""
_OF_CLIENT = """
client
remote {vpn} 1194
lport 1195
"""


def _certificate(directory: Path, name: str, lock: int) -> str:
    """Make a key and its own certificate; returns the fingerprint that the other side is told."""
    directory.mkdir(exist_ok=True)
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout own.key -out own.crt"
    output_of(lock, "openssl", *words.split(), "-days", "2", "-subj", f"/CN={name}", cwd=directory)
    words = "x509 -in own.crt -noout -fingerprint -sha256"
    return output_of(lock, "openssl", *words.split(), cwd=directory).partition("=")[2]


def _prepare(proto: str, directory: Path, lock: int) -> None:
    places = {label: place(directory, label) for label in (_SERVER, _CLIENT)}
    prints = {label: _certificate(own, label.split()[1], lock) for label, own in places.items()}
    for label, peer, text, role in (
        (_SERVER, _CLIENT, _OF_SERVER, "tcp4-server"),
        (_CLIENT, _SERVER, _OF_CLIENT, "tcp4-client"),
    ):
        common = _COMMON.format(proto=role if proto == "tcp" else "udp4", peer=prints[peer])
        (places[label] / "own.conf").write_text(common + text.format(vpn=VPN))


def _openvpn(proto: Literal["udp", "tcp"]) -> Lab:
    vpn = Vpn(
        device="tun0",
        inside=_INSIDE,
        outer=Flow(VPN, None, proto, sport=1195, dport=1194),
        into=way_in(32766, MAIN, "0.0.0.0/1", "tun0", _GATEWAY),
        around=way_around(32766, MAIN, f"{VPN}/32"),
        back_into=Hop("b", "forward", "b1", "tun0", 32766, MAIN, None, _INSIDE_NET),
        exact=proto == "udp",
    )
    program = ("daemon", "openvpn", "--config", "own.conf")
    return network(
        vpn,
        (client(vpn, _CLIENT), gateway(vpn, _SERVER)),
        (
            Service("b", _SERVER, program, _READY, relays=True, tun="tun0"),
            Service("c", _CLIENT, program, _READY, after=True, relays=True, tun="tun0"),
        ),
        name="openvpn" if proto == "udp" else "openvpn-tcp",
        summary=f"client - router - VPN server - server; OpenVPN over {proto.upper()}, all traffic through it",
        teaches="Two halves of the Internet win over the default route; a host route keeps the outer packets out.",
        prepare=lambda directory, lock: _prepare(proto, directory, lock),
        requires=("openvpn", "openssl"),
    )


OPENVPN = _openvpn("udp")
OPENVPN_TCP = _openvpn("tcp")
