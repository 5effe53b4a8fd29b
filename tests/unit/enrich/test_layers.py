"""Which devices lie over others, and in which VRF a flow is, from links alone."""

from __future__ import annotations

from tracer.enrich.layers import above, tunnels
from tracer.enrich.selectors import FlowKey
from tracer.enrich.vrf import in_vrf
from tracer.model.network import IPV4, Link, NetworkState

STATE = NetworkState(
    9,
    links={
        link.ifindex: link
        for link in (
            Link(2, "e0", master=4),
            Link(3, "e1", master=4),
            Link(4, "bond0", "bond"),
            Link(5, "v5", "vlan", lower_ifindex=4),
            Link(6, "gre1", "gre"),
            Link(7, "wg0", "wireguard"),
            Link(8, "red", "vrf", vrf_table=1001),
            Link(9, "r0", master=8),
            Link(10, "br0", "bridge"),
            Link(11, "p0", master=10),
            Link(12, "six", "ip6gre"),
        )
    },
)


def vrfs(**key):
    return [flow.l3mdev for flow in in_vrf(STATE, FlowKey(IPV4, **key))]


def test_tunnels_have_the_protocols_of_their_outer_headers():
    """GRE or UDP around GRE, UDP around WireGuard, ESP around all; nothing else is a tunnel."""
    found = tunnels(STATE)
    assert set(found) == {9 << 32 | 6, 9 << 32 | 7, 9 << 32 | 12}
    assert found[9 << 32 | 12] == found[9 << 32 | 6]
    gre, wireguard = found[9 << 32 | 6], found[9 << 32 | 7]
    assert [bool(gre >> number & 1) for number in (47, 17, 50, 6)] == [True, True, True, False]
    assert [bool(wireguard >> number & 1) for number in (47, 17, 50, 6)] == [False, True, True, False]


def test_a_vlan_over_a_bond_lies_on_all_below():
    """On the bond, and on both of its devices; a bridge's ports hand packets to it by themselves.

    What IPv6 routes as come in by a VRF was received on its member.
    """
    assert above(STATE) == {(9, 4, 2), (9, 4, 3), (9, 5, 4), (9, 5, 2), (9, 5, 3), (9, 8, 9)}


def test_a_flow_is_in_the_vrf_of_its_device():
    """Of the output device before the input device; either may be the VRF itself."""
    assert vrfs(iif=9) == [8]
    assert vrfs(iif=8) == [8]
    assert vrfs(iif=1, oif=9) == [8]


def test_a_source_check_may_be_in_another_vrf_than_the_device_the_packet_leaves_by():
    """Its key has the device of the way out; the VRF is that of the way in."""
    assert [flow.l3mdev for flow in in_vrf(STATE, FlowKey(IPV4, iif=9), check=True)] == [8, 0, 8]
    assert [flow.l3mdev for flow in in_vrf(STATE, FlowKey(IPV4, iif=1), check=True)] == [0, 8]


def test_an_output_that_no_device_tells_of_may_be_in_any_vrf():
    """The kernel takes a VRF out of the key; another device rules it out."""
    assert vrfs(iif=1) == [0, 8]
    assert vrfs(iif=1, oif=11) == [0]
    assert [flow.l3mdev for flow in in_vrf(NetworkState(1), FlowKey(IPV4, iif=1))] == [0]
