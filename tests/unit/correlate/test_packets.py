"""One packet keeps its sk_buff from device to device, and the kernel gives its address to the next one."""

from __future__ import annotations

import pytest

from tests.unit.correlate.records import (
    BRIDGE,
    C0,
    KINDS,
    LAYOUT,
    LO,
    MS,
    R0,
    R1,
    R2,
    S0,
    SECOND,
    TCP,
    Packet,
    S,
    Scene,
    stories,
)  # fmt: skip
from tracer.correlate.paths import Correlator

PACKET = Packet()


def packets(scene):
    """The records of each packet in words, packets in the order in which they began."""
    steps, _ = scene.run()
    rows = {}
    names = dict(zip([f["ts_ns"] for _, f in scene.rows], [k.lower() for k, _ in scene.rows], strict=True))
    for record, notes in zip(steps.records, steps.notes, strict=True):
        if notes["packet"] > 0:
            rows.setdefault(int(notes["packet"]), []).append(names[int(record["ts_ns"])])
    return [rows[number] for number in sorted(rows)]


def test_a_packet_is_one_across_veth_and_forwarding():
    """Sent, received in another namespace, forwarded with its TTL one less, received in a third."""
    scene = Scene()
    scene.task(1).xmit(PACKET, C0)
    soft, routed = scene.softirq(), PACKET.but(ttl=63)
    soft.receive(PACKET, R0).queue(routed, R1).xmit(routed, R1).receive(routed, S0)
    soft.consume(routed, S0)
    assert packets(scene) == [["xmit", "receive", "queue", "xmit", "receive", "consume"]]


def test_numbers_are_given_in_the_order_of_time():
    """Also when the addresses of the sk_buffs are in another order."""
    scene = Scene()
    for index, skb in enumerate((0x3000, 0x1000, 0x2000)):
        scene.softirq(index).receive(PACKET.but(skb=skb, ip_id=index), R0)
    steps, correlator = scene.run()
    assert [(int(n), int(r["skb"])) for n, r in zip(steps.notes["packet"], steps.records, strict=True)] == [
        (1, 0x3000), (2, 0x1000), (3, 0x2000),
    ]  # fmt: skip
    assert correlator.packets == 3


def test_an_address_reused_after_delivery_is_another_packet():
    """UDP and TCP free the sk_buff without an event: the next sight of the address is another packet."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, S0)
    scene.task(9, netns=S).copy(PACKET, S0)
    soft.receive(PACKET.but(ip_id=8), S0)
    assert packets(scene) == [["receive", "copy"], ["receive"]]


@pytest.mark.parametrize(
    "change", [{"ip_id": 8}, {"sport": 8}, {"dport": 8}, {"src": "10.1.0.9"}, {"dst": "10.2.0.9"}, {"ttl": 7}]
)
def test_an_address_reused_before_any_end_is_another_packet(change):
    """What came in cannot come in again at the same device, and another flow is another packet."""
    scene = Scene()
    scene.task(1).xmit(PACKET, C0)
    scene.softirq().receive(PACKET.but(**change), R0)
    assert packets(scene) == [["xmit"], ["receive"]]


@pytest.mark.parametrize("end", ["drop", "consume"])
def test_a_freed_packet_does_not_go_on(end):
    """Not even with all the same in it."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0)
    getattr(soft, end)(PACKET, R0)
    soft.xmit(PACKET.but(ttl=63), R1)
    assert packets(scene) == [["receive", end], ["xmit"]]


def test_a_reply_in_the_same_sk_buff_is_another_packet():
    """A local answer may get the address of the question a microsecond later."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0).xmit(PACKET.reply(skb=PACKET.skb), R0)
    assert packets(scene) == [["receive"], ["xmit"]]


def test_a_qdisc_keeps_the_packet():
    """Queued, then sent by another CPU much later."""
    scene = Scene()
    scene.task(1).queue(PACKET, C0)
    scene.wait(20 * MS)
    scene.softirq(1).xmit(PACKET, C0)
    assert packets(scene) == [["queue", "xmit"]]


def test_a_bridge_hands_the_packet_on():
    """Received on the port, received on the bridge, with the TTL as it was."""
    scene = Scene()
    scene.softirq().receive(PACKET, R2).receive(PACKET, BRIDGE).xmit(PACKET.but(ttl=63), R1)
    assert packets(scene) == [["receive", "receive", "xmit"]]


def test_a_bridge_sends_the_packet_on_by_its_port():
    """Switched from port to port, or sent by the bridge device and then by its port."""
    scene = Scene()
    scene.softirq().receive(PACKET, R2).xmit(PACKET, R1)
    other = PACKET.but(skb=0x9000, ip_id=99)
    scene.softirq().xmit(other, BRIDGE).xmit(other, R2)
    assert packets(scene) == [["receive", "xmit"], ["xmit", "xmit"]]


def test_a_slow_machine_takes_its_time_between_two_devices():
    """Nothing else happened on that CPU: the VLAN device handed it to the one below, however late."""
    scene = Scene()
    task = scene.task(1).xmit(PACKET, BRIDGE)
    scene.wait(30 * MS)
    task.xmit(PACKET, R2)
    assert packets(scene) == [["xmit", "xmit"]]


def test_long_after_the_bridge_the_address_is_another_packets():
    """A bridge takes microseconds: what comes in a second later is a repetition."""
    scene = Scene()
    scene.softirq().receive(PACKET, R2)
    scene.wait(SECOND)
    scene.softirq().receive(PACKET, BRIDGE)
    assert packets(scene) == [["receive"], ["receive"]]


def test_nat_changes_the_ends_but_not_the_packet():
    """DNAT before the routing, masquerading after it: identity and TTL tell."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0).xmit(PACKET.but(ttl=63, dst="10.2.0.9", dport=5353), R1)
    other = PACKET.but(skb=0x9000, ip_id=99)
    soft.receive(other, R0).xmit(other.but(ttl=63, src="10.2.0.1", sport=61000), R1)
    assert packets(scene) == [["receive", "xmit"], ["receive", "xmit"]]


def test_a_clone_has_an_sk_buff_and_a_life_of_its_own():
    """A tap's clone shares the head and is consumed by itself: no packet of its own, and no end of the other."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0).at("CONSUME", PACKET.but(skb=0x7000), R0, head=PACKET.skb + 0x80)
    soft.xmit(PACKET.but(ttl=63), R1)
    assert packets(scene) == [["receive", "xmit"]]


def test_ends_without_a_beginning_are_no_packets():
    """What was consumed or read but never seen before came from before the trace."""
    scene = Scene()
    scene.softirq().consume(PACKET, R0)
    scene.task(1).copy(PACKET.but(skb=0x9000), C0)
    assert packets(scene) == []


def test_a_drop_without_a_decision_or_a_flow_is_no_path():
    """A packet from before the trace, or a socket's queue being emptied."""
    scene = Scene()
    scene.softirq().drop(PACKET, R0)
    assert packets(scene) == []


def test_loopback_keeps_the_packet():
    """Sent and received on lo, the same sk_buff."""
    scene = Scene()
    packet = PACKET.but(src="127.0.0.1", dst="127.0.0.1")
    scene.task(1).xmit(packet, LO)
    scene.softirq().receive(packet, LO)
    assert packets(scene) == [["xmit", "receive"]]


def test_a_packet_out_of_loopback_is_not_forwarded():
    """The answer that reuses the address of a question of TTL one more is another packet."""
    scene = Scene()
    packet = Packet("127.0.0.1", "127.0.0.1", proto=TCP, ip_id=0)
    scene.softirq().receive(packet, LO).xmit(packet.but(ttl=63), LO)
    assert packets(scene) == [["receive"], ["xmit"]]


def test_two_forwarders_in_a_row_take_one_each():
    """TTL 64, 63, 62 on the way through two routers."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0).xmit(PACKET.but(ttl=63), R1).receive(PACKET.but(ttl=63), S0).xmit(
        PACKET.but(ttl=62), S0
    )
    assert packets(scene) == [["receive", "xmit", "receive", "xmit"]]


def test_a_ttl_of_zero_is_not_forwarded_as_255():
    """One less than zero is no TTL: the second is another packet."""
    scene = Scene()
    scene.softirq().receive(PACKET.but(ttl=0), R0).xmit(PACKET.but(ttl=255), R1)
    assert packets(scene) == [["receive"], ["xmit"]]


def test_records_without_an_address_family_are_no_packets():
    """ARP, which the probes read only as far as its EtherType."""
    scene = Scene()
    scene.softirq().at("RECEIVE", PACKET, R0, family=0)
    assert packets(scene) == []


def test_a_packet_goes_on_across_batches():
    """The last record of every open packet is remembered until it is finished."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0)
    scene.wait(15 * MS)
    soft.xmit(PACKET.but(ttl=63), R1)
    scene.wait(15 * MS)
    soft.receive(PACKET.but(ttl=63), S0)
    records = scene.records()
    correlator = Correlator(KINDS, LAYOUT.record)
    told = [correlator.feed(records[i : i + 1], int(records["ts_ns"][i]), scene.context()) for i in range(3)]
    told.append(correlator.feed(records[:0], scene.now_ns + SECOND, scene.context()))
    assert [len(steps) > 0 for steps in told] == [False, False, False, True]
    assert [story.hops for story in stories(told[-1])] == [["r router forward", "s server deliver"]]
    assert correlator.held == 0


def test_what_was_freed_is_not_freed_again():
    """An end behind an end is of another packet, that nobody saw before."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).consume(PACKET, R0).drop(PACKET, R0)
    assert packets(scene) == [["receive", "consume"]]
