"""Whose packet a decision was made for, where it leaves later or changed."""

from __future__ import annotations

from tests.unit.correlate.records import C0, MS, R0, TCP, Packet, Scene, hit, miss
from tests.unit.correlate.test_attach import PACKET, lines_of, owned


def test_a_packet_that_waited_for_arp_leaves_elsewhere():
    """The task's decision, the softirq's transmission, the same flow."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", miss(255), hit(254, C0))
    scene.wait(MS)
    scene.softirq(1).xmit(PACKET, C0)
    assert lines_of(scene) == [
        (True, ["1 output 255 miss", "1 output 254 hit", "1 output decided", "send c0"])
    ]


def test_the_next_packet_of_a_server_does_not_take_the_decision_of_one_that_waited():
    """The same task answers another port: one end changed, as NAT would have it, but the first answer left."""
    scene = Scene()
    answer = PACKET.but(sport=9000, dport=20000)
    other = answer.but(skb=0x2000, dport=20001, ip_id=2)
    task = scene.task(1)
    task.decide(answer.key(), "send", hit(100, C0))
    scene.wait(MS)
    scene.softirq(1).xmit(answer, C0)
    scene.wait(MS)
    task.decide(other.key(), "send", hit(101, C0)).xmit(other, C0)
    assert [lines[:2] for _, lines in lines_of(scene)] == [
        ["1 output 100 hit", "1 output decided"],
        ["1 output 101 hit", "1 output decided"],
    ]


def test_the_answer_of_a_redirected_connection_has_its_decision():
    """The port that answers is another one than was asked, until NAT turns it back: source and port both differ."""
    scene = Scene()
    syn = PACKET.but(proto=TCP, sport=40000, dport=80)
    answer = Packet(src=syn.dst, dst=syn.src, proto=TCP, sport=80, dport=40000, skb=0x2000, ip_id=9)
    local = answer.but(src="10.1.0.1", sport=1080)
    soft = scene.softirq().receive(syn, R0)
    soft.decide(local.key(), "send", hit(254, R0)).xmit(answer, R0)
    assert ["output"] in owned(scene)
    other = answer.but(dport=40001)
    scene = Scene()
    soft = scene.softirq().receive(syn, R0)
    soft.decide(local.key(), "send", hit(254, R0)).xmit(other, R0)
    assert ["output"] not in owned(scene)


def test_several_waiting_packets_take_their_decisions_in_order():
    """First decided, first sent."""
    scene = Scene()
    waiting = [PACKET.but(skb=0x1000 * n, ip_id=n) for n in (1, 2, 3)]
    task = scene.task(1)
    for index, packet in enumerate(waiting):
        task.decide(packet.key(), "send", hit(100 + index, C0))
    soft = scene.softirq(1)
    for packet in waiting:
        soft.xmit(packet, C0)
    assert [line for _, (line, *_rest) in lines_of(scene)] == [
        "1 output 100 hit",
        "1 output 101 hit",
        "1 output 102 hit",
    ]
    assert [story.packet for story in scene.stories()] == [1, 2, 3]
