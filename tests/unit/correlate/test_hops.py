"""Why a packet needed no lookup at a hop, and drops that are none."""

from __future__ import annotations

import pytest

from tests.unit.correlate.records import C0, LOCAL, MS, R0, R1, S0, TCP, Packet, S, Scene, hit

PACKET = Packet()
LOOPED = 5  # PACKET_LOOPBACK


def cached(scene, **context):
    return [[line for line in story.lines if "cached" in line] for story in scene.stories(**context)]


def listed(*packets, decided=1):
    """A list of packets received at once by the router; the first ones are decided, the rest follow the hint."""
    scene = Scene()
    soft = scene.softirq()
    for packet in packets:
        soft.receive(packet, R0)
    for packet in packets[:decided]:
        soft.decide(packet.key(R0), "list", hit(254, R1))
    for packet in packets[decided:]:
        soft.decide(packet.check_key(R0), "check", hit(254, R0))
    for packet in packets:
        soft.xmit(packet.but(ttl=63), R1)
    return scene


def test_a_forwarded_packet_without_a_decision_had_the_route_of_the_one_before_it():
    """ip_route_use_hint: early demux finds sockets, and a packet that is forwarded has none here."""
    first, second = PACKET, PACKET.but(skb=0x9000, ip_id=8)
    assert cached(listed(first, second)) == [[], ["1 cached hint #1"]]


def test_a_hint_that_nobody_saw_is_not_invented():
    """Received alone, sent on without a decision: what it was decided by is unknown."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).xmit(PACKET.but(ttl=63), R1)
    assert cached(scene) == [["1 cached unseen #-1"]]


def test_a_delivered_segment_without_a_decision_was_found_by_early_demux():
    """The socket keeps its route."""
    scene = Scene()
    soft = scene.softirq()
    for number in (1, 2):
        packet = PACKET.but(proto=TCP, skb=0x1000 * number, ip_id=number)
        soft.receive(packet, S0)
        if number == 1:
            soft.decide(packet.key(S0), "input", hit(255, S0, LOCAL))
        soft.told("READY", packet.but(sock=5), S)
    assert cached(scene)[1] == ["1 cached early_demux #1"]


def test_the_senders_own_copy_keeps_its_route():
    """A broadcast is looped back to its sender."""
    scene = Scene()
    packet = PACKET.but(dst="10.1.0.255")
    scene.task(1).decide(packet.key(), "send", hit(255, C0, 3)).xmit(packet, C0)
    copy = packet.but(skb=0x9000)
    scene.softirq().at("RECEIVE", copy, C0, packet_type=LOOPED).drop(copy, C0)
    (_, own) = scene.stories()
    assert own.hops == ["c local drop"]


def test_a_broadcast_by_a_named_device_needs_no_lookup():
    """SO_BINDTODEVICE and 255.255.255.255: decided without a table."""
    scene = Scene()
    scene.task(1).xmit(PACKET.but(dst="255.255.255.255", sock=5), C0)
    assert cached(scene) == [["1 cached group_address #-1"]]


@pytest.mark.parametrize(
    ("location", "reason", "hop"),
    [(0xC0DE, 2, "s server deliver"), (0xC0DE, 3, "s server drop"), (0xBAD, 2, "s server drop")],
)
def test_tcp_frees_without_a_reason_what_it_has_used(location, reason, hop):
    """At those places, and only when no reason is given."""
    scene = Scene()
    packet = PACKET.but(proto=TCP)
    soft = scene.softirq().receive(packet, S0).decide(packet.key(S0), "input", hit(255, S0, LOCAL))
    soft.drop(packet, S0, reason=reason, location=location)
    (story,) = scene.stories(used={0xC0DE}, vague=frozenset({2}))
    assert story.hops == [hop]


def test_a_hint_reaches_only_inside_a_list():
    """ip_list_rcv_finish forgets it at the end: what came long before decided nothing for this one."""
    scene = Scene()
    soft = (
        scene.softirq()
        .receive(PACKET, R0)
        .decide(PACKET.key(R0), "input", hit(254, R1))
        .xmit(PACKET.but(ttl=63), R1)
    )
    scene.wait(200 * MS)
    second = PACKET.but(skb=0x9000, ip_id=9)
    soft.receive(second, R0).xmit(second.but(ttl=63), R1)
    assert "#1" not in " ".join(cached(scene)[1])


def test_a_packet_whose_source_was_checked_had_no_early_demux():
    """Also when it is delivered here: ip_route_use_hint checks the source, early demux does not."""
    scene = Scene()
    soft = scene.softirq()
    packets = [PACKET.but(skb=0x1000 * number, ip_id=number) for number in (1, 2)]
    for packet in packets:
        soft.receive(packet, S0)
    soft.decide(packets[0].key(S0), "list", hit(255, S0, LOCAL))
    soft.decide(packets[0].check_key(S0), "list-check", hit(254, S0))
    soft.decide(packets[1].check_key(S0, flow=9), "list-check", hit(254, S0))
    assert cached(scene) == [[], ["1 cached hint #1"]]
