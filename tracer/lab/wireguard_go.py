"""The lab `wireguard-go`: WireGuard in user space, with the rules, the routes and the marks that wg-quick makes."""

from __future__ import annotations

from pathlib import Path

from tracer.lab.programs import place
from tracer.lab.relayed import VPN, Vpn, client, gateway, network, way_around, way_in
from tracer.lab.steps import DEFAULT
from tracer.lab.tools import output_of
from tracer.lab.topology import MAIN, Flow, Hop, Service, Setup

_SERVER, _CLIENT = "wireguard-go server", "wireguard-go client"
_INSIDE = "10.9.0.2"
_PORT = _MARK = _TABLE = 51820
_SOCKET = "/run/wireguard/wg0.sock"
_PASSED = ((32764, "suppressed"),)
_CONFIG = """
[Interface]
PrivateKey = {private}
ListenPort = {port}
FwMark = {mark}

[Peer]
PublicKey = {public}
AllowedIPs = {allowed}
{endpoint}
"""
# What wg-quick loads: nobody on the link may send to the tunnel's address, and answers to marked packets get the
# mark, so that their source is checked by the rules that their packets went by.
_NFT = f"""
    table ip wg-quick-wg0 {{
        chain preraw {{
            type filter hook prerouting priority raw; policy accept;
            iifname != "wg0" ip daddr {_INSIDE} fib saddr type != local drop
        }}
        chain premangle {{
            type filter hook prerouting priority mangle; policy accept;
            meta l4proto udp meta mark set ct mark
        }}
        chain postmangle {{
            type filter hook postrouting priority mangle; policy accept;
            meta l4proto udp meta mark {_MARK} ct mark set meta mark
        }}
    }}
"""

_VPN = Vpn(
    device="wg0",
    inside=_INSIDE,
    outer=Flow(VPN, None, "udp", sport=_PORT, dport=_PORT),
    into=way_in(32765, _TABLE, DEFAULT, "wg0", passed=_PASSED),
    around=way_around(32766, MAIN, DEFAULT, passed=_PASSED, flow=Flow(VPN, mark=_MARK)),
    back_into=Hop("b", "forward", "b1", "wg0", 32766, MAIN, None, "10.9.0.0/24"),
    exact=False,  # it shakes hands with the first packet
)


def _prepare(directory: Path, lock: int) -> None:
    private = {label: output_of(lock, "wg", "genkey") for label in (_CLIENT, _SERVER)}
    public = {label: output_of(lock, "wg", "pubkey", said=key) for label, key in private.items()}
    for label, peer, mark, allowed, endpoint in (
        (_CLIENT, _SERVER, _MARK, "0.0.0.0/0", f"Endpoint = {VPN}:{_PORT}"),
        (_SERVER, _CLIENT, 0, f"{_INSIDE}/32", ""),
    ):
        text = _CONFIG.format(
            private=private[label],
            public=public[peer],
            port=_PORT,
            mark=mark,
            allowed=allowed,
            endpoint=endpoint,
        )
        (place(directory, label) / "wg0.conf").write_text(text)


def _service(netns: str, label: str) -> Service:
    return Service(netns, label, ("daemon", "wireguard-go", "-f", "wg0"), _SOCKET, relays=True, tun="wg0")


WIREGUARD_GO = network(
    _VPN,
    (
        client(
            _VPN,
            _CLIENT,
            rules=(
                "pref 32764 lookup main suppress_prefixlength 0",
                f"pref 32765 not fwmark {_MARK} lookup {_TABLE}",
            ),
            late=(
                f"addr add {_INSIDE}/24 dev wg0",
                "link set wg0 mtu 1420 up",
                f"route add default dev wg0 table {_TABLE}",
            ),
            sysctls=(("net.ipv4.conf.all.src_valid_mark", "1"),),
            nft=_NFT,
        ),
        gateway(_VPN, _SERVER, late=("addr add 10.9.0.1/24 dev wg0", "link set wg0 mtu 1420 up")),
    ),
    (_service("b", _SERVER), _service("c", _CLIENT)),
    name="wireguard-go",
    summary="client - router - VPN server - server; WireGuard in user space, with wg-quick's rules",
    teaches="Main may answer with anything but its default route; all that has no mark goes into the tunnel then.",
    prepare=_prepare,
    setups=tuple(Setup(label, ("wg", "setconf", "wg0", "wg0.conf")) for label in (_SERVER, _CLIENT)),
    requires=("wireguard-go", "wg", "nsenter"),
)
