"""A packet that gets a further header, or loses one, is one path; another packet at its address is not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.correlate.records import (
    C0,
    KINDS,
    LAYOUT,
    LOCAL,
    MS,
    R0,
    R1,
    S0,
    SECOND,
    TCP,
    TUNNEL,
    UDP,
    VLAN,
    C,
    Device,
    Packet,
    R,
    Scene,
    hit,
    stories,
)
from tracer.correlate.paths import Correlator
from tracer.correlate.tunnels import ESP, Layers, pack, unpack

GRE = 47
INNER = Packet()
ROUTED = INNER.but(ttl=63)
OUTER = Packet("10.11.0.1", "10.12.0.1", proto=GRE, sport=0, dport=0, ip_id=900, length=138)
IN_ESP = OUTER.but(proto=ESP, length=180)
KEY = TUNNEL.netns << 32 | TUNNEL.ifindex
LAYERS = {"layers": Layers.of({KEY: 1 << GRE | 1 << UDP}, {(R, VLAN.ifindex, R0.ifindex)})}


def wrapped(outer=OUTER, device=R1, *, decided=True):
    """Forwarded into the tunnel, and out of it by another device."""
    scene = Scene()
    soft = scene.softirq().receive(INNER, R0).decide(INNER.key(R0), "input", hit(254, TUNNEL))
    soft.xmit(ROUTED, TUNNEL)
    if decided:
        soft.decide(outer.key(sport=0, dport=0), "tunnel", hit(254, R1))
    soft.xmit(outer, device)
    return scene, soft


def unwrapped(inner, device=TUNNEL):
    """Received with its outer header, and again as what was in it."""
    scene = Scene()
    soft = scene.softirq().receive(OUTER, R1).decide(OUTER.key(R1), "input", hit(255, R1, LOCAL))
    soft.receive(inner, device).decide(inner.key(device), "input", hit(254, R0)).xmit(inner.but(ttl=63), R0)
    return scene


def paths(scene, **context):
    return [(story.hops, story.lines) for story in scene.stories(**(context or LAYERS))]


def test_a_wrapped_packet_has_both_decisions_in_one_hop():
    """Its own, then the tunnel's about the outer header; it leaves with that one."""
    scene, _ = wrapped()
    assert paths(scene) == [
        (
            ["r router forward"],
            [
                *("receive r0", "1 input 254 hit", "1 input decided", "send tun"),
                *("2 output 254 hit", "2 output decided", "forward r1"),
            ],
        )
    ]


def test_an_outer_header_without_a_lookup_has_the_route_of_its_tunnel():
    """The tunnel keeps it (dst_cache); the packet is named for which it was looked up."""
    scene, soft = wrapped()
    scene.wait(MS)
    soft.receive(INNER.but(skb=0x9000, ip_id=8), R0).decide(INNER.key(R0), "input", hit(254, TUNNEL))
    soft.xmit(ROUTED.but(skb=0x9000, ip_id=8), TUNNEL).xmit(OUTER.but(skb=0x9000, ip_id=901), R1)
    first, second = paths(scene)
    assert "2 output decided" in first[1]
    assert second[1][-3:] == ["send tun", "2 cached tunnel #1", "forward r1"]


def test_an_unwrapped_packet_is_decided_under_both_headers():
    """Delivered to the tunnel by the outer one, then routed on by its own."""
    assert paths(unwrapped(INNER)) == [
        (
            ["r router forward"],
            [
                "receive r1",
                "1 input 255 hit",
                "1 input decided",
                "2 input 254 hit",
                "2 input decided",
                "forward r0",
            ],
        )
    ]


def test_without_a_tunnel_these_are_two_packets():
    """The address of the sk_buff alone says nothing."""
    assert [len(hops) for hops, _ in paths(wrapped()[0], layers=Layers())] == [1, 1]
    assert [len(hops) for hops, _ in paths(unwrapped(INNER), layers=Layers())] == [1, 1]


@pytest.mark.parametrize(
    ("outer", "device"),
    [
        (OUTER.but(proto=TCP), R1),  # no protocol of this tunnel
        (OUTER.but(length=INNER.length), R1),  # no longer than what would be in it
        (OUTER.but(length=1000), R1),  # no header is that long
        (OUTER, C0),  # another namespace
        (OUTER, TUNNEL),  # the tunnel itself
    ],
)
def test_another_packet_at_the_same_address_is_not_the_wrapped_one(outer, device):
    """Protocol, length, namespace and device all have to fit."""
    scene, _ = wrapped(outer, decided=False, device=device)
    first, second = paths(scene)
    assert first[0] == ["r router forward"]
    assert len(second[0]) == 1


@pytest.mark.parametrize("end", ["drop", "consume"])
def test_a_packet_that_ended_in_its_tunnel_is_not_wrapped(end):
    """What comes next at its address is another one."""
    scene = Scene()
    soft = scene.softirq().receive(INNER, R0).xmit(ROUTED, TUNNEL)
    getattr(soft, end)(ROUTED, TUNNEL)
    soft.xmit(OUTER, R1)
    assert len(paths(scene)) == 2


def test_a_longer_packet_did_not_come_out_of_the_tunnel():
    """Unless it lies in the same memory: there what was received is joined to one (GRO)."""
    other = INNER.but(length=5000)
    scene = Scene()
    soft = scene.softirq().receive(OUTER, R1)
    soft.at("RECEIVE", other, TUNNEL, head=0x5000)
    assert len(paths(scene)) == 2
    assert len(paths(unwrapped(other))) == 1


def test_ipsec_by_policy_wraps_what_was_received():
    """No device stands for it; a packet of a local socket at that address is another one."""
    for sock, count in ((0, 1), (5, 2)):
        scene = Scene()
        soft = scene.softirq().receive(INNER, R0).decide(INNER.key(R0), "input", hit(254, R1))
        soft.decide(IN_ESP.key(proto=0), "tunnel", hit(254, R1)).xmit(IN_ESP.but(sock=sock), R1)
        assert len(paths(scene, layers=Layers())) == count


def test_ipsec_by_policy_unwraps_on_the_same_device():
    """Received as ESP, then as what was in it."""
    scene = Scene()
    soft = scene.softirq().receive(IN_ESP, R1).decide(IN_ESP.key(R1), "input", hit(255, R1, LOCAL))
    soft.receive(INNER, R1).decide(INNER.key(R1), "input", hit(254, R0)).xmit(ROUTED, R0)
    ((hops, lines),) = paths(scene, layers=Layers())
    assert hops == ["r router forward"]
    assert [line for line in lines if "decided" in line] == ["1 input decided", "2 input decided"]


def test_the_senders_process_is_not_the_worker_that_encrypts():
    """A worker sends the outer packet, in a context of its own; both decisions are of one hop."""
    scene, tunnel = Scene(), Device(C, 7, "wg")
    packet = INNER.but(sock=5)
    scene.task(812).decide(packet.key(), "send", hit(254, tunnel)).xmit(packet, tunnel)
    outer = OUTER.but(proto=UDP)
    scene.task(33, "kworker").decide(outer.key(), "tunnel", hit(254, C0)).xmit(outer, C0)
    context = scene.context(layers=Layers.of({C << 32 | 7: 1 << UDP}, ()))
    correlator = Correlator(KINDS, LAYOUT.record)
    steps = correlator.feed(scene.records(), scene.now_ns, context, final=True)
    (story,) = stories(steps)
    assert story.hops == ["c client send"]
    assert [line for line in story.lines if "decided" in line] == ["1 output decided", "2 output decided"]
    assert steps.records["pid"][steps.hops.process_row].tolist() == [812]


@pytest.mark.parametrize("before", ["XMIT", "RECEIVE"])
def test_a_path_waits_for_a_packet_that_is_in_a_tunnel(before):
    """Workers take longer than the path of any other packet is kept open."""
    scene = Scene()
    if before == "XMIT":
        rows = ((INNER, R0, "RECEIVE"), (ROUTED, TUNNEL, "XMIT"), (OUTER, R1, "XMIT"))
    else:
        rows = ((OUTER, R1, "RECEIVE"), (INNER, TUNNEL, "RECEIVE"), (ROUTED, R0, "XMIT"))
    for packet, device, kind in rows:
        scene.softirq().at(kind, packet, device)
        if kind == before:
            scene.wait(300 * MS)
    records, context = scene.records(), scene.context(**LAYERS)
    correlator = Correlator(KINDS, LAYOUT.record)
    told = [correlator.feed(records[i : i + 1], int(records["ts_ns"][i]), context) for i in range(3)]
    told.append(correlator.feed(records[:0], scene.now_ns + 4 * SECOND, context))
    assert [len(steps) > 0 for steps in told] == [False, False, False, True]
    assert len(stories(told[-1])) == 1


def test_what_a_vlan_receives_is_known_by_the_device_below():
    """Announced once, on the link; the flow key names the VLAN."""
    scene = Scene()
    scene.softirq().receive(INNER, R0).decide(INNER.key(VLAN), "input", hit(254, R1)).xmit(ROUTED, R1)
    assert paths(scene)[0][1] == ["receive r0", "1 input 254 hit", "1 input decided", "forward r1"]
    assert "1 cached unseen #-1" in paths(scene, layers=Layers())[0][1]


def test_both_headers_on_the_whole_way_are_one_path():
    """Wrapped in one namespace, routed by its outer header in the next."""
    scene, soft = wrapped()
    soft.receive(OUTER, S0).decide(OUTER.key(S0), "input", hit(254, S0)).xmit(OUTER.but(ttl=63), S0)
    assert [hops for hops, _ in paths(scene)] == [["r router forward", "s router forward"]]


def test_number_leg_and_depth_survive_packing():
    """Also a negative depth, and no packet stays none."""
    notes = np.zeros(3, [("packet", "<i8"), ("leg", "u1"), ("depth", "i1")])
    unpack(pack(np.array([0, 7, 1 << 40]), np.array([0, 2, 255]), np.array([0, -1, 3])), notes)
    assert notes.tolist() == [(0, 0, 0), (7, 2, -1), (1 << 40, 255, 3)]


def test_a_source_check_of_the_outer_header_says_nothing_of_the_inner_one():
    """Early demux may have found the socket of what came out of the tunnel."""
    scene = unwrapped(INNER)
    soft = scene.softirq()
    scene.wait(2 * MS)
    outer, inner = OUTER.but(skb=0x9000, ip_id=901), INNER.but(skb=0x9000, ip_id=8, proto=TCP)
    soft.receive(outer, R1).decide(outer.key(R1), "input", hit(255, R1, LOCAL))
    soft.decide(outer.check_key(R1), "check", hit(254, R1)).receive(inner, TUNNEL)
    second = scene.stories(**LAYERS)[1]
    assert second.lines[-2:] == ["3 cached early_demux #-1", "deliver"]
    assert second.complete
