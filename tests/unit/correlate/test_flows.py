"""Where no lookup happens: sockets keep routes, early demux finds sockets, and who owns a socket."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.correlate.records import (
    C0,
    KINDS,
    LAYOUT,
    LO,
    LOCAL,
    MS,
    R0,
    R1,
    S0,
    SECOND,
    TCP,
    US,
    C,
    Packet,
    R,
    S,
    Scene,
    hit,
    miss,
    stories,
)
from tracer.correlate import flows
from tracer.correlate.flows import BEFORE_THE_TRACE, Decided, Sockets, flow_keys
from tracer.correlate.paths import Correlator

SEGMENT = Packet(proto=TCP, dport=80, sock=0x77)


def cached(scene):
    """The cached lines of each path."""
    return [[line for line in story.lines if "cached" in line] for story in scene.stories()]


def test_a_connected_socket_sends_by_the_decision_of_its_first_packet():
    """The second segment names the first."""
    scene = Scene()
    task = scene.task(1).decide(SEGMENT.key(), "connect", miss(255), hit(254, C0)).xmit(SEGMENT, C0)
    task.xmit(SEGMENT.but(skb=0x9000, ip_id=8), C0)
    assert [story.lines for story in scene.stories()][1] == ["1 cached socket #1", "send c0"]
    assert [story.complete for story in scene.stories()] == [True, True]


def test_a_route_from_before_the_trace_is_said_to_be_so():
    """Nobody saw the decision."""
    scene = Scene()
    scene.task(1).xmit(SEGMENT, C0)
    assert cached(scene) == [[f"1 cached socket #{BEFORE_THE_TRACE}"]]


def test_early_demux_names_the_packet_that_was_decided_in_this_namespace():
    """The same flow was forwarded elsewhere; what counts is the decision here."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(SEGMENT, R0).decide(SEGMENT.key(R0), "input", hit(254, R1)).xmit(SEGMENT.but(ttl=63), R1)
    soft.receive(SEGMENT.but(ttl=63), S0)
    assert cached(scene) == [[f"2 cached early_demux #{BEFORE_THE_TRACE}"]]
    soft.receive(SEGMENT.but(ttl=63, skb=0x9000, ip_id=9), S0)
    soft.decide(SEGMENT.key(S0), "input", hit(255, S0, LOCAL))
    soft.receive(SEGMENT.but(ttl=63, skb=0xA000, ip_id=10), S0)
    assert cached(scene)[2] == ["1 cached early_demux #2"]


def test_the_latest_decision_is_the_one_in_use():
    """A flow is decided anew when routes change."""
    scene = Scene()
    task = scene.task(1)
    for skb in (1, 2):
        task.decide(SEGMENT.key(), "send", hit(254, C0)).xmit(SEGMENT.but(skb=0x1000 * skb, ip_id=skb), C0)
    task.xmit(SEGMENT.but(skb=0x9000, ip_id=9), C0)
    assert cached(scene)[2] == ["1 cached socket #2"]


def test_a_decision_is_remembered_long_after_its_packet_is_told():
    """In a later batch, with nothing held of the first."""
    scene = Scene()
    scene.task(1).decide(SEGMENT.key(), "connect", hit(254, C0)).xmit(SEGMENT, C0)
    correlator = Correlator(KINDS, LAYOUT.record)
    first = scene.records()
    correlator.feed(first, scene.now_ns, scene.context())
    told = stories(correlator.feed(first[:0], scene.now_ns + 10 * SECOND, scene.context()))
    assert len(told) == 1
    assert correlator.held == 0
    scene.rows.clear()
    scene.wait(20 * SECOND).task(1).xmit(SEGMENT.but(skb=0x9000, ip_id=8), C0)
    told = stories(correlator.feed(scene.records(), scene.now_ns, scene.context(), final=True))
    assert told[0].lines[0] == "1 cached socket #1"


def test_a_flow_the_other_way_is_another_flow():
    """The answer's route is not the question's."""
    scene = Scene()
    scene.task(1).decide(SEGMENT.key(), "send", hit(254, C0)).xmit(SEGMENT, C0)
    scene.softirq().receive(SEGMENT.reply(), C0)
    assert cached(scene)[1] == [f"1 cached early_demux #{BEFORE_THE_TRACE}"]


def test_loopback_keeps_the_route_of_the_output_decision():
    """Local traffic is decided once, on the way out."""
    scene = Scene()
    packet = Packet("127.0.0.1", "127.0.0.1", sock=0x5)
    scene.task(1).decide(packet.key(), "send", hit(255, LO, LOCAL)).xmit(packet, LO)
    scene.softirq().receive(packet, LO).told("READY", packet, C)
    assert [story.lines for story in scene.stories()] == [
        ["1 output 255 hit", "1 output decided", "2 cached loopback #-1", "deliver"]
    ]
    assert [story.hops for story in scene.stories()] == [["c local deliver"]]


@pytest.mark.parametrize("group", ["224.0.0.251", "239.1.1.1", "255.255.255.255"])
def test_group_addresses_need_no_lookup(group):
    """Broadcast and multicast input is decided by the address alone."""
    scene = Scene()
    scene.softirq().receive(Packet(dst=group), S0)
    assert [line.split()[2] for (line,) in cached(scene)] == ["group_address"]


def test_240_is_no_group():
    """Class E is ordinary."""
    scene = Scene()
    scene.softirq().receive(Packet(dst="240.0.0.1"), S0)
    assert [line.split()[2] for (line,) in cached(scene)] == ["early_demux"]


def test_a_flow_is_told_by_all_of_its_parts():
    """Namespace, ends, protocol and ports; not the sk_buff, the TTL or the identification."""
    base = Packet()
    others = [
        base.but(src="10.1.0.3"),
        base.but(dst="10.2.0.3"),
        base.but(proto=TCP),
        base.but(sport=1),
        base.but(dport=1),
    ]
    scene = Scene()
    for packet in (base, base.but(skb=1, ttl=3, ip_id=99), *others, base):
        scene.softirq().receive(packet, R0)
    records = scene.records()
    netns = records["netns"].copy()
    netns[-1] += 1
    keys = flow_keys(records, netns).tolist()
    assert keys[0] == keys[1]
    assert len(set(keys)) == 7


def test_decided_resolves_in_the_order_of_time():
    """Before the first decision nothing is known; after it the latest counts, across calls."""
    decided = Decided()
    keys = np.array([5, 6, 5, 5, 6, 5], np.uint64)
    packets = np.array([1, 2, 3, 4, 5, 6])
    has = np.array([False, True, True, False, False, False])
    assert decided.resolve(keys, packets, has).tolist() == [-1, 0, 0, 3, 2, 3]
    later = decided.resolve(np.array([6, 7, 5], np.uint64), np.array([7, 8, 9]), np.zeros(3, bool))
    assert later.tolist() == [2, -1, 3]
    assert decided.resolve(keys[:0], packets[:0], has[:0]).tolist() == []


def test_decided_forgets_the_oldest_half_when_full(monkeypatch):
    """Memory stays bounded; the newest flows are known."""
    monkeypatch.setattr(flows, "_LIMIT", 10)
    decided = Decided()
    for key in range(11):
        decided.resolve(np.array([key], np.uint64), np.array([key + 100]), np.array([True]))
    asked = decided.resolve(np.arange(11).astype(np.uint64), np.zeros(11, int), np.zeros(11, bool)).tolist()
    assert asked[:5] == [-1] * 5
    assert asked[5:] == list(range(105, 111))


def owners(scene):
    sockets = Sockets()
    sockets.learn(scene.records())
    return sockets


def test_the_owner_of_a_socket_is_who_used_it_at_the_time():
    """Last seen before, else first seen after: the kernel reuses addresses of sockets."""
    scene = Scene()
    scene.task(10, "old").told("OWNER", SEGMENT, S)
    scene.wait(MS)
    scene.task(20, "new").told("OWNER", SEGMENT, S)
    sockets, (first, second) = owners(scene), [fields["ts_ns"] for _, fields in scene.rows]
    assert sockets.owner(0x77, first - US) == (10, "old")
    assert sockets.owner(0x77, first) == (10, "old")
    assert sockets.owner(0x77, second - 1) == (10, "old")
    assert sockets.owner(0x77, second) == (20, "new")
    assert sockets.owner(0x78, second) is None


def test_a_softirq_owns_no_socket():
    """There the current task is only what was interrupted."""
    scene = Scene()
    scene.softirq().told("STATE", SEGMENT, S)
    assert owners(scene).owner(0x77, scene.now_ns) is None


def test_the_socket_of_an_incoming_packet_is_found_by_its_flow():
    """In its own namespace only."""
    scene = Scene()
    scene.task(10).told("STATE", SEGMENT, S)
    scene.softirq().receive(SEGMENT, S0).receive(SEGMENT.reply(), S0)
    sockets, packets = Sockets(), scene.records()[1:]
    sockets.learn(scene.records()[:1])
    assert sockets.of_incoming(packets, np.array([S, S])).tolist() == [0x77, 0]
    assert sockets.of_incoming(packets, np.array([R, R])).tolist() == [0, 0]
    assert sockets.of_incoming(packets[:0], np.zeros(0, int)).tolist() == []


def test_sockets_are_forgotten_when_there_are_too_many(monkeypatch):
    """A host that opens a million connections does not fill the memory."""
    monkeypatch.setattr(flows, "_LIMIT", 20)
    sockets = Sockets()
    for number in range(100):
        scene = Scene()
        scene.task(10).told("OWNER", SEGMENT.but(sock=number + 1, sport=number + 1), S)
        sockets.learn(scene.records())
    assert len(sockets._owners) + len(sockets._by_flow) <= 22
    assert sockets.owner(100, scene.now_ns) == (10, "curl")


def test_a_delivered_packet_without_a_reader_has_the_socket_of_its_flow():
    """The segment is taken over in softirq; the socket was seen when it was established."""
    scene = Scene()
    scene.task(640, "nginx", S).told("STATE", SEGMENT, S)
    scene.softirq().receive(SEGMENT.but(sock=0), S0).decide(SEGMENT.key(S0), "input", hit(255, S0, LOCAL))
    steps, correlator = scene.run()
    assert steps.hops.socket.tolist() == [0x77]
    assert correlator.sockets.owner(0x77, scene.now_ns) == (640, "nginx")
