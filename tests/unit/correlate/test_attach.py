"""Whose packet a decision was made for."""

from __future__ import annotations

import pytest

from tests.unit.correlate.records import (
    C0,
    ICMP,
    LOCAL,
    R0,
    R1,
    S0,
    SECOND,
    TCP,
    C,
    Packet,
    S,
    Scene,
    fails,
    hit,
    miss,
)  # fmt: skip

PACKET = Packet()
ROUTED = PACKET.but(ttl=63)


def lines_of(scene, **context):
    """The lines of each path of a packet, and of decisions that belong to none."""
    return [(story.packet > 0, story.lines) for story in scene.stories(**context)]


def owned(scene, **context):
    """For each path: which purposes its decisions had."""
    return [
        [line.split()[1] for line in story.lines if line.endswith("decided")] if story.packet > 0 else "alone"
        for story in scene.stories(**context)
    ]


@pytest.mark.parametrize("stacks", [("input", "check"), (None, None)])
def test_a_router_decides_input_and_checks_the_source(stacks):
    """Both belong to the packet being received, with stacks and without."""
    scene = Scene()
    soft = scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), stacks[0], miss(255), hit(254, R1))
    soft.decide(PACKET.check_key(R0, flow=5), stacks[1], miss(255), hit(254, R0)).xmit(ROUTED, R1)
    assert lines_of(scene) == [
        (True, ["receive r0", "1 input 255 miss", "1 input 254 hit", "1 input decided",
                "2 source-check 255 miss", "2 source-check 254 hit", "2 source-check decided", "forward r1"]),
    ]  # fmt: skip


def test_input_of_another_device_is_another_packets():
    """The flow key's device is the packet's."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).decide(PACKET.key(R1), "input", hit(254, R1))
    assert owned(scene) == [[], "alone"]


def test_input_of_other_ends_is_another_packets():
    """One end may differ (NAT), not both."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0).decide(PACKET.key(R0, daddr="10.9.9.9"), "input", hit(254, R1))
    soft.receive(PACKET.but(skb=0x9000, ip_id=9), R0)
    soft.decide(PACKET.key(R0, daddr="10.9.9.9", saddr="10.9.9.8"), "input", hit(254, R1))
    assert owned(scene) == [["input"], [], "alone"]


def test_input_without_a_packet_is_alone():
    """A decision seen without its packet belongs to nobody."""
    scene = Scene()
    scene.softirq(0).receive(PACKET, R0)
    scene.softirq(1).decide(PACKET.key(R0), "input", hit(254, R1))
    assert owned(scene) == [[], "alone"]


def test_an_arp_request_is_not_the_packet_of_its_lookup():
    """arp_process routes the sender's address; nobody's packet."""
    scene = Scene()
    scene.softirq().receive(PACKET.but(ethertype=0x0806), R0).decide(
        PACKET.key(R0), "input", hit(255, R0, LOCAL)
    )
    assert owned(scene)[-1] == "alone"


def test_a_list_is_announced_whole_before_its_first_is_routed():
    """Decisions come in the order of the packets; equal packets get one each."""
    scene = Scene()
    soft = scene.softirq()
    batch = [PACKET.but(skb=0x1000 * n, ip_id=n, sport=40000 + n % 2) for n in (1, 2, 3)]
    for packet in batch:
        soft.receive(packet, R0)
    for packet in batch:
        soft.decide(packet.key(R0), "list", miss(255), hit(254, R1))
        soft.decide(packet.check_key(R0), "check", hit(254, R0))
    for packet in batch:
        soft.xmit(packet.but(ttl=63), R1)
    assert owned(scene) == [["input", "source-check"]] * 3


def test_a_list_is_found_when_it_is_routed_and_sent_one_by_one():
    """The kernel routes each sublist, then forwards it: sends come between the decisions."""
    scene = Scene()
    soft = scene.softirq()
    batch = [PACKET.but(skb=0x1000 * n, ip_id=n, dst=f"10.2.0.{n}") for n in (1, 2, 3)]
    for packet in batch:
        soft.receive(packet, R0)
    for packet in batch:
        soft.decide(packet.key(R0), "list", hit(254, R1)).xmit(packet.but(ttl=63), R1)
    assert owned(scene) == [["input"]] * 3


def test_a_source_check_after_a_hint_belongs_to_its_packet():
    """ip_route_use_hint checks the source and makes no decision: what was decided before is another packet's."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0).decide(PACKET.key(R0), "input", hit(254, R1)).xmit(ROUTED, R1)
    second = PACKET.but(skb=0x9000, ip_id=9)
    soft.receive(second, R0).decide(second.check_key(R0), "check", hit(254, R0)).xmit(second.but(ttl=63), R1)
    assert owned(scene) == [["input"], ["source-check"]]


def test_output_belongs_to_the_next_packet_of_the_context():
    """And only to the first that leaves."""
    scene = Scene()
    task = scene.task(1).decide(PACKET.key(), "send", miss(255), hit(254, C0)).xmit(PACKET, C0)
    task.xmit(PACKET.but(skb=0x9000, ip_id=8), C0)
    assert owned(scene) == [["output"], []]


def test_output_of_another_task_is_not_taken():
    """Two tasks send the same flow at the same time: each packet has the decision of its own context."""
    scene = Scene()
    one, two = scene.task(1), scene.task(2)
    one.decide(PACKET.key(), "send", hit(254, C0))
    two.decide(PACKET.key(), "send", hit(100, C0))
    two.xmit(PACKET.but(skb=0x9000, ip_id=8), C0)
    one.xmit(PACKET, C0)
    assert sorted((story.lines[0], story.packet) for story in scene.stories()) == [
        ("1 output 100 hit", 1),
        ("1 output 254 hit", 2),
    ]


@pytest.mark.parametrize(
    ("key", "takes"),
    [
        ({}, True), ({"saddr": "0.0.0.0"}, True), ({"proto": 0}, True), ({"sport": 0, "dport": 0}, True),
        ({"daddr": "10.2.0.9"}, True), ({"saddr": "10.1.0.9"}, True), ({"dport": 54}, True),
        ({"daddr": "10.2.0.9", "saddr": "0.0.0.0"}, False), ({"proto": TCP}, False),
        ({"dport": 54, "saddr": "10.1.0.9"}, False),
        ({"sport": 40001}, False), ({"daddr": "10.2.0.9", "sport": 0}, False),
    ],
)  # fmt: skip
def test_output_is_taken_by_a_packet_that_fits_its_key(key, takes):
    """Unknown parts fit anything; NAT may have changed one end while the port tells the flow; else nothing."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(**key), "send", hit(254, C0)).xmit(PACKET, C0)
    assert (["output"] in owned(scene)) is takes


def test_a_forwarded_packet_takes_no_output_decision():
    """An ICMP error's decision inside the input of a packet is not the packet's."""
    scene = Scene()
    soft = scene.softirq()
    expired = PACKET.but(ttl=1)
    error = Packet("10.1.0.1", PACKET.src, proto=ICMP, sport=0, dport=0, skb=0x9000, ip_id=50)
    soft.receive(expired, R0).decide(expired.key(R0), "input", miss(255), hit(254, R1))
    soft.decide(error.key(), "icmp", miss(255), hit(254, R0)).xmit(error, R0).drop(expired, R0)
    assert owned(scene) == [["input"], ["output"]]
    assert [story.hops for story in scene.stories()] == [["r router drop"], ["r client send"]]


def test_the_three_decisions_of_a_connect_belong_to_its_syn():
    """Without a port, with it, and once more for the route of the socket."""
    scene = Scene()
    syn = PACKET.but(proto=TCP, dport=80, sock=0x77)
    task = scene.task(812)
    task.decide(syn.key(sport=0), "connect", miss(255), hit(254, C0)).decide(
        syn.key(), "connect", miss(255), hit(254, C0)
    )
    task.decide(syn.key(flow=3), "connect", miss(255), hit(254, C0)).xmit(syn, C0)
    assert owned(scene) == [["output", "output", "output"]]


def test_a_decision_that_failed_is_taken_by_no_packet():
    """The sender got an error; the packet of the same flow a moment later has another decision."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", fails(100, 22))
    scene.softirq(1).xmit(PACKET, C0)
    assert ["output"] not in owned(scene)


def test_a_decision_of_another_namespace_is_not_taken():
    """Containers use the same addresses."""
    scene = Scene()
    scene.task(1, netns=S).decide(PACKET.key(), "send", hit(254, S0))
    scene.softirq(1).xmit(PACKET, C0)
    assert ["output"] not in owned(scene)


def test_a_decision_made_after_the_packet_left_is_not_its_own():
    """Time goes one way."""
    scene = Scene()
    scene.softirq(1).xmit(PACKET, C0)
    scene.task(1).decide(PACKET.key(), "send", hit(254, C0))
    assert owned(scene) == [[], "alone"]


def test_a_socket_told_of_data_got_the_packet_being_received():
    """Its port and protocol agree; that of another port has nothing to do with it."""
    scene = Scene()
    packet = PACKET.but(sock=0x55)
    soft = scene.softirq().receive(packet, S0).decide(packet.key(S0), "input", hit(255, S0, LOCAL))
    soft.told("READY", packet.but(dport=99, sock=0x66), S).told("READY", packet, S)
    steps, _ = scene.run()
    assert [int(sock) for sock in steps.hops.socket] == [0x55]
    assert steps.hops.observed.tolist() == [True]


def test_a_ping_tells_a_raw_socket_by_protocol():
    """ICMP has no ports."""
    scene = Scene()
    reply = Packet("10.2.0.2", "10.1.0.2", proto=ICMP, sport=0, dport=0, sock=0x55)
    scene.softirq().receive(reply, C0).decide(reply.key(C0), "input", hit(255, C0, LOCAL)).told(
        "READY", reply.but(dport=7), C
    )
    assert scene.run()[0].hops.observed.tolist() == [True]


def test_queries_are_nobodys():
    """`ip route get` asks for a packet that is none."""
    scene = Scene()
    scene.task(1, "ip").decide(PACKET.key(), "getroute", miss(255), hit(254, C0)).xmit(PACKET, C0)
    assert "alone" in owned(scene)
    assert [] in owned(scene)


def test_nftables_asks_about_the_packet_in_hand():
    """`fib saddr` in a chain: the packet's ends, either way round, whatever the device of the key."""
    scene = Scene()
    soft = scene.softirq().receive(PACKET, R0)
    soft.decide({**PACKET.check_key(R0), "iif": 0}, "nft", hit(254, R0)).decide(
        PACKET.key(R0), "input", hit(254, R1)
    ).xmit(ROUTED, R1)
    assert owned(scene) == [["other", "input"]]


def test_address_lookups_are_nobodys():
    """inet_addr_type asks for the kind of an address."""
    scene = Scene()
    scene.task(1).decide({"daddr": PACKET.dst}, "address", miss(255)).decide(
        PACKET.key(), "send", hit(254, C0)
    ).xmit(PACKET, C0)
    assert owned(scene) == ["alone", ["output"]]


def test_softirq_interrupts_a_sender_without_confusion():
    """A packet is routed between the decision and the transmission of a task on the same CPU."""
    scene = Scene()
    task, soft = scene.task(1), scene.softirq()
    other = PACKET.but(src="10.1.0.9", skb=0x9000)
    task.decide(PACKET.key(), "send", miss(255))
    soft.receive(other, R0).decide(other.key(R0), "input", hit(254, R1))
    task.decide(PACKET.key(), "send", hit(254, C0))
    soft.xmit(other.but(ttl=63), R1)
    task.xmit(PACKET, C0)
    assert owned(scene) == [["output"], ["input"]]


def test_of_two_namespaces_with_the_same_flow_each_has_its_own_decision():
    """Two containers with the same addresses wait at the same time."""
    scene = Scene()
    scene.task(1, netns=S).decide(PACKET.key(), "send", hit(100, S0))
    scene.task(2).decide(PACKET.key(), "send", hit(254, C0))
    scene.softirq(1).xmit(PACKET, C0).xmit(PACKET.but(skb=0x9000, ip_id=8), S0)
    assert [(lines[0], lines[-1]) for _, lines in lines_of(scene)] == [
        ("1 output 100 hit", "send s0"),
        ("1 output 254 hit", "send c0"),
    ]


def test_a_softirq_may_take_its_time():
    """Its run is numbered: however long it was interrupted, its lookup is of the packet that it received."""
    scene = Scene()
    run = scene.softirq()
    run.base["context"] |= 7 << 16
    run.receive(PACKET, R0)
    scene.wait(SECOND)
    run.decide(PACKET.key(R0), "input", hit(254, R1)).xmit(PACKET.but(ttl=63), R1)
    assert [story.lines for story in scene.stories()] == [
        ["receive r0", "1 input 254 hit", "1 input decided", "forward r1"]
    ]
