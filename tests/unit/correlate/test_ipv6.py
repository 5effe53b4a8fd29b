"""Packets of IPv6 as paths: the halves of an address, tries that are repeated, errors, and what neighbours are told."""

from __future__ import annotations

import errno

import pytest

from tests.unit.correlate.records import (
    C0,
    LOCAL,
    MULTICAST,
    R0,
    R1,
    S0,
    TUNNEL,
    UDP,
    Packet,
    R,
    Scene,
    fails,
    hit,
    miss,
)  # fmt: skip
from tracer.correlate.tunnels import Layers

ICMPV6 = 58
PACKET = Packet("fd00:1::2", "fd00:2::2", ethertype=0x86DD)
WANTING = PACKET.key(saddr="::")


def test_a_packet_is_followed_over_a_router():
    """Send, forward, deliver, each with its own walk through local and main."""
    scene, packet = Scene(), PACKET.but()
    scene.task(812).decide(WANTING, "send6", miss(255), hit(254, C0)).xmit(packet, C0)
    softirq = scene.softirq().receive(packet, R0)
    softirq.decide(packet.key(iif=R0), "input6", miss(255), hit(254, R1))
    forwarded = packet.but(ttl=63)
    softirq.xmit(forwarded, R1).receive(forwarded, S0)
    softirq.decide(forwarded.key(iif=S0), "input6", hit(255, S0, LOCAL))
    (story,) = scene.stories()
    assert story.hops == ["c client send", "r router forward", "s server deliver"]
    assert story.complete


def test_a_packet_that_moves_into_another_sk_buff_goes_on():
    """skb_expand_head() clones it for more headroom, and frees the first as used: no delivery, no new packet."""
    scene, packet = Scene(), PACKET.but()
    scene.task(812).decide(WANTING, "send6", miss(255), hit(254, C0)).xmit(packet, C0)
    softirq = scene.softirq().receive(packet, R0)
    softirq.decide(packet.key(iif=R0), "input6", miss(255), hit(254, R1))
    forwarded = packet.but(ttl=63, skb=PACKET.skb + 0x700, length=114)
    softirq.consume(packet.but(ttl=63), R1).xmit(forwarded, R1).receive(forwarded, S0)
    softirq.decide(forwarded.key(iif=S0), "input6", hit(255, S0, LOCAL))
    (story,) = scene.stories()
    assert story.hops == ["c client send", "r router forward", "s server deliver"]
    assert story.complete


def test_a_packet_that_moves_and_is_wrapped_has_two_legs():
    """The decision about its outer header is not that of its sender, which waited for its neighbour's address."""
    scene, packet = Scene(), PACKET.but()
    scene.task(812).decide(WANTING, "send6", miss(255), hit(254, C0))
    scene.softirq(1).xmit(packet, C0)
    softirq = scene.softirq().receive(packet, R0)
    softirq.decide(packet.key(iif=R0), "input6", miss(255), hit(254, TUNNEL))
    moved = packet.but(ttl=63, skb=PACKET.skb + 0x700, length=114)
    outer = moved.but(src="fd00:5::1", dst="fd00:6::1", dport=4789, length=180)
    softirq.consume(packet.but(ttl=63), TUNNEL).xmit(moved, TUNNEL)
    softirq.decide(outer.key(), "send6", miss(255), hit(254, R1)).xmit(outer, R1)
    layers = Layers.of({TUNNEL.netns << 32 | TUNNEL.ifindex: 1 << UDP}, ())
    (story,) = scene.stories(layers=layers)
    assert [line for line in story.lines if line.endswith("decided")] == [
        "1 output decided",
        "2 input decided",
        "3 output decided",
    ]


def test_a_packet_sent_after_one_that_its_driver_freed_is_another():
    """It looks like it in all; but the one before was sent already."""
    scene, packet = Scene(), PACKET.but(sock=5)
    task = scene.task(812).decide(WANTING, "send6", miss(255), hit(254, C0)).xmit(packet, C0)
    task.consume(packet, C0).xmit(packet.but(skb=PACKET.skb + 0x700), C0)
    assert len(scene.stories()) == 2


def test_a_packet_that_is_longer_than_by_a_header_is_another():
    """A clone has only the device's header more."""
    scene, packet = Scene(), PACKET.but()
    softirq = scene.softirq().receive(packet, R0).consume(packet, R0)
    softirq.xmit(packet.but(skb=PACKET.skb + 0x700, length=200), R0)
    assert len(scene.stories()) == 2


def test_addresses_that_differ_behind_the_first_half_are_others():
    """A decision about a neighbour in the same net is not the packet's."""
    scene, packet = Scene(), PACKET.but()
    scene.softirq().receive(packet, R0).decide(
        PACKET.but(src="fd00:1::3", dst="fd00:2::3").key(iif=R0), "input6", miss(255), hit(254, R1)
    )
    assert ["receive r0" in story.lines[0] for story in scene.stories()] == [True, False]


def test_a_try_without_a_source_belongs_to_the_packet_of_the_next():
    """ip6_dst_lookup_tail() routes again with the address it would send from: one packet, two decisions."""
    scene, packet = Scene(), PACKET.but()
    task = scene.task(812).decide(WANTING, "send6", miss(255), miss(254))
    task.decide(packet.key(), "send6", miss(255), hit(254, C0)).xmit(packet, C0)
    (story,) = scene.stories()
    assert story.hops == ["c client send"]
    assert [line for line in story.lines if line.endswith("decided")] == [
        "1 output decided",
        "2 output decided",
    ]


def test_a_send_that_is_refused_twice_is_one_path():
    """No packet comes of it, and it is told once; another send is another path."""
    scene = Scene()
    task = scene.task(812)
    for _ in range(2):
        task.decide(WANTING, "send6", miss(255), fails(254, errno.EACCES))
        task.decide(PACKET.key(), "send6", miss(255), fails(254, errno.EACCES))
    assert [story.hops for story in scene.stories()] == [["c client drop"], ["c client drop"]]


def test_a_try_that_a_later_packet_takes_takes_the_one_before_along():
    """The packet waited for its neighbour's address and leaves in a softirq."""
    scene, packet = Scene(), PACKET.but()
    task = scene.task(812).decide(WANTING, "send6", miss(255), miss(254))
    task.decide(packet.key(), "send6", miss(255), hit(254, C0))
    scene.softirq(1).xmit(packet, C0)
    (story,) = scene.stories()
    assert len([line for line in story.lines if line.endswith("decided")]) == 2


def test_a_try_belongs_to_a_packet_whose_destination_was_translated():
    """Only the second try shares an end with the packet, and brings the first along."""
    scene, packet = Scene(), PACKET.but()
    asked = PACKET.but(dst="fd00:9::9")
    task = scene.task(812).decide(asked.key(saddr="::"), "send6", miss(255), miss(254))
    task.decide(asked.key(), "send6", miss(255), hit(254, C0)).xmit(packet, C0)
    (story,) = scene.stories()
    assert len([line for line in story.lines if line.endswith("decided")]) == 2


def test_of_the_routes_for_an_icmpv6_error_the_last_is_its_own():
    """icmp6_send() asks for the same key to find out whether it may send; a key of another protocol is not its own."""
    scene, packet = Scene(), PACKET.but()
    error = PACKET.reply(proto=ICMPV6, sport=0, dport=0, detail=1 << 8, skb=PACKET.skb + 0x800)
    softirq = scene.softirq().receive(packet, R0)
    softirq.decide(packet.key(iif=R0), "input6", miss(255), fails(254, errno.EHOSTUNREACH))
    key = error.key(detail=1 << 8)
    for _ in range(2):
        softirq.decide(key, "limit6", miss(255), hit(254, R0))
    softirq.decide(packet.reply().key(), "limit6", miss(255), hit(254, R0))
    softirq.xmit(error, R0).drop(packet, R0)
    told = next(story for story in scene.stories() if story.hops[0].endswith("send"))
    assert len([line for line in told.lines if line.endswith("output decided")]) == 1


@pytest.mark.parametrize(("kind", "via"), [(135, "link"), (143, "link"), (128, "socket")])
def test_what_neighbours_are_told_asks_no_table(kind, via):
    """It is said so; other messages without a lookup are cached ones."""
    scene = Scene()
    packet = PACKET.but(dst="ff02::1", proto=ICMPV6, sport=0, dport=0, detail=kind << 8, sock=9)
    scene.softirq().xmit(packet, C0).receive(packet, R0).decide(
        packet.key(iif=R0), "input6", hit(255, R0, MULTICAST)
    )
    (story,) = scene.stories()
    assert story.lines[0].startswith(f"1 cached {via} ")
    assert story.hops[1] == "r server deliver"


def test_the_namespace_of_a_miss_is_that_of_the_lookup():
    """The tracepoint names it: nothing is taken from the task."""
    scene = Scene()
    scene.softirq().decide(PACKET.key(), "send6", miss(255), miss(254), netns=R)
    steps, _ = scene.run()
    assert set(steps.records["netns"][steps.row].tolist()) == {R}
