"""Which devices lie over others: tunnels that put a header around a packet, and parts of a device such as a VLAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.correlate.tunnels import ESP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.model.network import Link, NetworkState

_IPIP, _UDP, _IPV6, _GRE = 4, 17, 41, 47
# Protocols of the outer header by the kind of the device. Any may be in UDP (FOU), or encrypted by IPsec.
_PROTOCOLS = {
    "ipip": {_IPIP}, "sit": {_IPIP, _IPV6}, "gre": {_GRE}, "gretap": {_GRE}, "erspan": {_GRE}, "vti": set(),
    "ip6tnl": {_IPIP, _IPV6}, "ip6gre": {_GRE}, "ip6gretap": {_GRE}, "ip6erspan": {_GRE}, "vti6": set(),
    "xfrm": set(), "vxlan": set(), "geneve": set(), "bareudp": set(), "gtp": set(), "wireguard": set(), "ovpn": set(),
}  # fmt: skip
_TUNNELS = {
    kind: sum(1 << number for number in protocols | {_UDP, ESP}) for kind, protocols in _PROTOCOLS.items()
}
# What comes in by these is received once, on the device below (__netif_receive_skb_core goes around again).
_PARTS = frozenset({"vlan", "macvlan", "ipvlan"})
# The VRF too: an IPv6 packet is routed as come in by it (vrf_ip6_rcv), not by its member.
_BUNDLES = frozenset({"bond", "team", "vrf"})


def tunnels(state: NetworkState) -> dict[int, int]:
    """The tunnels of a namespace: netns << 32 | ifindex to the bits of the protocols of their outer headers."""
    return {
        state.inode << 32 | link.ifindex: _TUNNELS[link.kind]
        for link in state.links.values()
        if link.kind in _TUNNELS
    }


def above(state: NetworkState) -> set[tuple[int, int, int]]:
    """(namespace, device, device below) of a namespace, also over several steps."""
    return {
        (state.inode, link.ifindex, lower)
        for link in state.links.values()
        for lower in _below(state, link, set())
    }


def _below(state: NetworkState, link: Link, seen: set[int]) -> Iterator[int]:
    lowers = [link.lower_ifindex] if link.kind in _PARTS and link.lower_ifindex else []
    if link.kind in _BUNDLES:
        lowers += [other.ifindex for other in state.links.values() if other.master == link.ifindex]
    for lower in lowers:
        if lower not in seen:
            seen.add(lower)
            yield lower
            if lower in state.links:
                yield from _below(state, state.links[lower], seen)
