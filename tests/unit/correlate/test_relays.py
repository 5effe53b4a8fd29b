"""Which packet a process wrote for the one it read: a TUN program in the namespace R, between r0 and its device."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.correlate.records import KINDS, LAYOUT, LOCAL, MS, R0, TUNNEL, Packet, R, Scene, hit
from tracer.correlate.paths import Correlator
from tracer.model.relay import CERTAIN, FROM, LIKELY, TO, Relay

INNER = Packet("10.2.0.2", "10.8.0.2", length=84)
VPN, COMM = 640, "openvpn"
AROUND = 66
_numbers = itertools.count(1)


def inner(**changes):
    """A packet for the TUN device, in an sk_buff of its own."""
    number = next(_numbers)
    return INNER.but(**{"skb": 0x10_0000 + number * 0x100, "ip_id": number, **changes})


def outer(length=84 + AROUND, **changes):
    """A packet that the process sends to its peer."""
    number = next(_numbers)
    ends = {"src": "10.1.0.1", "dst": "10.1.0.2", "sport": 1194, "dport": 1195}
    return INNER.but(
        **{
            **ends,
            "skb": 0x20_0000 + number * 0x100,
            "ip_id": number,
            "sock": 0xABC0,
            "length": length,
            **changes,
        }
    )


def vpn(scene, thread=0):
    """A thread of the process."""
    actor = scene.task(VPN, COMM, R)
    actor.base["context"] += thread * 0x1000
    return actor


def routed_into(scene, packet):
    """A packet comes in and is handed to the TUN device, where it waits."""
    scene.softirq(1).receive(packet, R0).decide(packet.key(R0), "input", hit(254, TUNNEL))
    scene.softirq(1).xmit(packet.but(ttl=63), TUNNEL)


def reads(scene, packet, thread=0):
    vpn(scene, thread).copy(packet.but(ttl=63), TUNNEL)


def sends(scene, packet, thread=0, device=R0):
    vpn(scene, thread).decide(packet.key(sport=0), "send", hit(254, device)).xmit(packet, device)


def gets(scene, packet):
    """A datagram comes in for the process."""
    actor = scene.softirq(1).receive(packet, R0).decide(packet.key(R0), "input", hit(255, R0, LOCAL))
    actor.told("READY", packet, R)


def run(scene, threads=1, *, partial=False):
    """The links by the number of the packet, with what `Relays` was told."""
    correlator = Correlator(KINDS, LAYOUT.record)
    correlator.relays.threads, correlator.relays.partial = (lambda _pid: threads), partial
    return correlator.feed(scene.records(), scene.now_ns, scene.context(), final=True).relays


def link(direction, packet, certainty=CERTAIN, *, loop=False):
    return (Relay(direction, packet, VPN, COMM, certainty, loop),)


def test_one_packet_read_and_one_written_are_linked_for_certain():
    """By one thread, the one before the other, in both paths."""
    scene, packet = Scene(), inner()
    routed_into(scene, packet)
    reads(scene, packet)
    sends(scene, outer())
    assert run(scene) == {1: link(TO, 2), 2: link(FROM, 1)}


def test_a_datagram_is_linked_to_the_packet_that_was_in_it():
    """The read of a socket names no packet: it is the one that the socket got first, if as long."""
    scene, packet = Scene(), outer(sock=0xABC0).reply(length=28 + 24 + 84, sock=0xABC0)
    gets(scene, packet)
    vpn(scene).told("READ", packet, R, length=24 + 84)
    vpn(scene).receive(inner(), TUNNEL)
    assert run(scene) == {1: link(TO, 2), 2: link(FROM, 1)}


def test_datagrams_of_other_lengths_are_no_datagram_that_was_read():
    """What a socket got and the process read unseen is passed over."""
    scene = Scene()
    first, second = (outer().reply(length=28 + 24 + size, sock=0xABC0) for size in (40, 84))
    gets(scene, first)
    gets(scene, second)
    vpn(scene).told("READ", second, R, length=24 + 84)
    vpn(scene).receive(inner(), TUNNEL)
    assert run(scene) == {2: link(TO, 3), 3: link(FROM, 2)}


def test_two_reads_and_two_writes_are_likely_in_their_order():
    """Nobody saw which of them was made of which."""
    scene, packets = Scene(), (inner(), inner())
    for packet in packets:
        routed_into(scene, packet)
    for packet in packets:
        reads(scene, packet)
    for _ in packets:
        sends(scene, outer())
    there = {1: link(TO, 3, LIKELY), 2: link(TO, 4, LIKELY)}
    assert run(scene) == there | {3: link(FROM, 1, LIKELY), 4: link(FROM, 2, LIKELY)}


@pytest.mark.parametrize("writes", [0, 1, 3])
def test_where_the_numbers_differ_nothing_is_said(writes):
    """Two packets read, and fewer or more written: one was thrown away, or another is the process's own."""
    scene, packets = Scene(), (inner(), inner())
    for packet in packets:
        routed_into(scene, packet)
    for packet in packets:
        reads(scene, packet)
    for _ in range(writes):
        sends(scene, outer())
    assert run(scene) == {}


@pytest.mark.parametrize("length", [84, 100, 1000])
def test_a_packet_that_nothing_fits_around_is_not_linked(length):
    """A keepalive is shorter than what was read with a header around it, a packet of many joined ones longer."""
    scene, packet = Scene(), inner()
    routed_into(scene, packet)
    reads(scene, packet)
    sends(scene, outer(length))
    assert run(scene) == {}


def test_a_late_write_is_not_the_packet_read():
    """What the process sends of itself after a while is no packet that it relays."""
    scene, packet = Scene(), inner()
    routed_into(scene, packet)
    reads(scene, packet)
    scene.wait(40 * MS)
    sends(scene, outer())
    assert run(scene) == {}


def test_with_several_threads_a_packet_must_grow_as_the_one_before():
    """The first write may be a handshake: only what grew alike is linked, likely where another thread wrote it."""
    scene = Scene()
    for thread, length in ((0, 190), (0, 84 + AROUND), (0, 84 + AROUND), (1, 84 + AROUND)):
        packet = inner()
        routed_into(scene, packet)
        reads(scene, packet)
        sends(scene, outer(length), thread)
        scene.wait(50 * MS)
    likely = {7: link(TO, 8, LIKELY), 8: link(FROM, 7, LIKELY)}
    assert run(scene, threads=8) == {5: link(TO, 6), 6: link(FROM, 5)} | likely


def test_a_packet_routed_into_the_device_it_was_read_from_is_a_loop():
    """The process reads its own packets again, for ever."""
    scene, packet, around = Scene(), inner(), outer()
    routed_into(scene, packet)
    reads(scene, packet)
    sends(scene, around, device=TUNNEL)
    assert run(scene) == {1: link(TO, 2, loop=True), 2: link(FROM, 1, loop=True)}


def test_with_a_filter_there_are_no_links():
    """The packet between may be one that was kept out."""
    scene, packet = Scene(), inner()
    routed_into(scene, packet)
    reads(scene, packet)
    sends(scene, outer())
    assert run(scene, partial=True) == {}


def test_what_a_process_sends_without_a_tun_device_is_no_relay():
    """A server reads a datagram and answers it."""
    scene, packet = Scene(), outer().reply(sock=0xABC0, length=128)
    gets(scene, packet)
    vpn(scene).told("READ", packet, R, length=100)
    sends(scene, outer())
    assert run(scene) == {}


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_links_do_not_depend_on_how_records_are_cut(size):
    """Ten packets in batches of any size."""
    scene = Scene()
    for _ in range(10):
        packet = inner()
        routed_into(scene, packet)
        reads(scene, packet)
        sends(scene, outer())
        scene.wait(2 * MS)
    correlator, records, found = Correlator(KINDS, LAYOUT.record), scene.records(), {}
    correlator.relays.threads = lambda _pid: 1
    for begin in range(0, len(records), size):
        part = records[begin : begin + size]
        found |= correlator.feed(part, int(part["ts_ns"].max()), scene.context()).relays
    found |= correlator.feed(records[:0], scene.now_ns, scene.context(), final=True).relays
    assert found == {n: link(TO, n + 1) if n % 2 else link(FROM, n - 1) for n in range(1, 21)}
