"""What became of a packet at each hop, what the host was for it, and whether all of it was seen."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from tests.unit.correlate.records import (
    BRIDGE,
    BROADCAST,
    C0,
    ICMP,
    LO,
    LOCAL,
    MULTICAST,
    R0,
    R1,
    R2,
    S0,
    TCP,
    Packet,
    R,
    S,
    Scene,
    fails,
    hit,
    miss,
)
from tracer.correlate.verdicts import take

PACKET = Packet()
ROUTED = PACKET.but(ttl=63)


def hops(scene, **context):
    return [story.hops for story in scene.stories(**context)]


def arrived(kind=LOCAL, packet=PACKET):
    """A packet that came in at the server and was routed to the host itself."""
    scene = Scene()
    soft = scene.softirq().receive(packet, S0).decide(packet.key(S0), "input", hit(255, S0, kind))
    return scene, soft


@pytest.mark.parametrize("kind", [LOCAL, BROADCAST, MULTICAST])
def test_what_is_routed_to_the_host_is_delivered_to_a_server(kind):
    """Local, broadcast and multicast routes end here."""
    scene, _ = arrived(kind)
    assert hops(scene) == [["s server deliver"]]


def test_a_delivery_is_observed_only_when_someone_took_the_packet():
    """Else it is inferred from the route."""
    for what, observed in (("none", False), ("copy", True), ("consume", True), ("ready", True)):
        scene, soft = arrived(packet=PACKET.but(sock=5))
        if what == "copy":
            scene.task(9, netns=S).copy(PACKET, S0)
        elif what == "consume":
            soft.consume(PACKET, S0)
        elif what == "ready":
            soft.told("READY", PACKET.but(sock=5), S)
        assert scene.run()[0].hops.observed.tolist() == [observed], what


def test_what_is_routed_on_and_leaves_is_forwarded_by_a_router():
    """In by one device, out by another."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", hit(254, R1)).xmit(ROUTED, R1)
    assert hops(scene) == [["r router forward"]]


def test_what_is_routed_on_and_never_seen_again_has_no_verdict():
    """It is told as incomplete, not as delivered."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", hit(254, R1))
    assert [(story.hops, story.complete) for story in scene.stories()] == [(["r router none"], False)]


def test_a_drop_is_a_drop_whatever_was_routed():
    """With the decision that caused it and the record of the drop."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", miss(255), miss(254)).drop(PACKET, R0)
    steps, _ = scene.run()
    assert hops(scene) == [["r router drop"]]
    assert steps.records["walked_table"][steps.hops.cause].tolist() == [254]
    assert steps.records["kind"][steps.hops.drop_row].tolist() == [5]
    assert [story.lines[-1] for story in scene.stories()] == ["drop r0"]


def test_the_cause_of_a_drop_is_no_lookup_of_another_purpose():
    """An address lookup in between is nobody's cause."""
    scene = Scene()
    soft = scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", miss(255), hit(254, R1))
    soft.decide(PACKET.check_key(R0), "check", hit(254, R1)).decide(
        {**PACKET.check_key(R0), "iif": 0}, "nft", hit(99, R1)
    )
    soft.drop(PACKET, R0)
    steps, _ = scene.run()
    assert steps.notes["purpose"][steps.hops.cause].tolist() == [3]


def test_only_the_last_drop_of_a_hop_is_told():
    """Fragments and clones are dropped one by one."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", hit(254, R1)).drop(PACKET, R0)
    assert [sum(line.startswith("drop") for line in story.lines) for story in scene.stories()] == [1]


def test_a_drop_after_the_process_read_it_is_the_end_of_its_life():
    """skb_free_datagram frees with kfree_skb on some kernels: delivered it is."""
    scene, soft = arrived()
    scene.task(9, netns=S).copy(PACKET, S0)
    soft.drop(PACKET, S0)
    assert hops(scene) == [["s server deliver"]]


def test_a_purge_is_no_drop():
    """A socket that closes empties its queue: the packet had been delivered."""
    scene, soft = arrived()
    soft.drop(PACKET, S0, reason=77)
    assert hops(scene) == [["s server drop"]]
    assert hops(scene, purges=frozenset({77})) == [["s server deliver"]]


def test_what_was_made_to_ask_the_kernel_is_no_packet():
    """`ip route get` frees its sk_buff as dropped."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", hit(254, C0)).drop(PACKET, C0, location=0xABC)
    assert hops(scene) == [["c client drop"]]
    assert not any("drop" in hop for path in hops(scene, no_packets={0xABC}) for hop in path)


def test_a_packet_dropped_on_its_way_out_is_a_drop_of_the_client():
    """Netfilter or a qdisc: the decision was made, the packet never left."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", miss(255), hit(254, C0)).drop(PACKET, C0)
    assert [(story.hops, story.lines[-1]) for story in scene.stories()] == [(["c client drop"], "drop c0")]


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EHOSTUNREACH, errno.EACCES, errno.EAGAIN])
def test_a_send_that_failed_is_a_drop_without_a_packet(error):
    """The sender got an error: a path of one hop that says so."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", miss(255), fails(100, error))
    (story,) = scene.stories()
    assert story.packet < 0
    assert story.hops == ["c client drop"]
    assert story.lines[-1] == "drop"


def test_a_decision_that_nobody_used_has_no_verdict():
    """Connect on a UDP socket decides and sends nothing."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", hit(254, C0))
    (story,) = scene.stories()
    assert (story.packet < 0, story.hops, story.lines[-1]) == (True, ["c client none"], "1 output decided")


def test_a_packet_to_the_host_itself_is_local():
    """Out and in by loopback is one hop, delivered; its route is local."""
    scene = Scene()
    packet = Packet("10.1.0.2", "10.1.0.2")
    scene.task(1).decide(packet.key(), "send", hit(255, LO, LOCAL)).xmit(packet, LO)
    scene.softirq().receive(packet, LO)
    assert hops(scene) == [["c local deliver"]]


def test_a_bridge_port_and_its_bridge_are_one_hop():
    """Handed on within the namespace."""
    scene = Scene()
    scene.softirq().receive(PACKET, R2).receive(PACKET, BRIDGE).decide(
        PACKET.key(BRIDGE), "input", hit(254, R1)
    ).xmit(ROUTED, R1)
    (story,) = scene.stories()
    assert story.hops == ["r router forward"]
    assert story.lines[0] == "receive r2"


def test_a_packet_back_in_a_namespace_is_in_another_hop():
    """Out of the router, through the server's, and in again."""
    scene = Scene()
    soft = scene.softirq()
    soft.receive(PACKET, R0).decide(PACKET.key(R0), "input", hit(254, R1)).xmit(ROUTED, R1)
    soft.receive(ROUTED, S0).decide(ROUTED.key(S0), "input", hit(254, S0)).xmit(ROUTED.but(ttl=62), S0)
    soft.receive(ROUTED.but(ttl=62), R1).decide(PACKET.key(R1), "input", hit(255, R1, LOCAL))
    assert hops(scene) == [["r router forward", "s router forward", "r server deliver"]]
    assert [line[0] for line in scene.stories()[0].lines if "decided" in line] == ["1", "2", "3"]


def test_the_first_transmission_is_the_one_told():
    """Through a qdisc it is queued and sent: one line."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", hit(254, C0)).queue(PACKET, C0).xmit(PACKET, C0)
    assert [story.lines[-1] for story in scene.stories()] == ["send c0"]
    assert [sum("send" in line for line in story.lines) for story in scene.stories()] == [1]


def test_the_process_of_a_hop_is_who_sent_or_read():
    """Seen in their own system calls; in softirq nobody is."""
    scene = Scene()
    scene.task(812).decide(PACKET.key(), "send", hit(254, C0)).xmit(PACKET, C0)
    scene.softirq().receive(PACKET, S0).decide(PACKET.key(S0), "input", hit(255, S0, LOCAL))
    scene.task(640, "nginx", S).copy(PACKET, S0)
    steps, _ = scene.run()
    assert steps.records["pid"][steps.hops.process_row].tolist() == [812, 640]
    scene, _ = arrived()
    assert scene.run()[0].hops.process_row.tolist() == [-1]


def test_a_forwarded_packet_has_no_process():
    """Whoever was interrupted has nothing to do with it."""
    scene = Scene()
    scene.task(5, netns=R).receive(PACKET, R0).decide(PACKET.key(R0), "input", hit(254, R1)).xmit(ROUTED, R1)
    assert scene.run()[0].hops.process_row.tolist() == [-1]


def test_the_namespace_of_a_failed_send_is_the_tasks():
    """There is no device to say it."""
    scene = Scene()
    scene.task(1, netns=S).decide(PACKET.key(), "send", miss(255), miss(254))
    assert scene.run()[0].hops.netns.tolist() == [S]


def test_a_packet_from_nowhere_is_incomplete():
    """It leaves without a decision, without a socket, and its flow was never seen."""
    scene = Scene()
    scene.softirq().xmit(Packet(proto=ICMP, sport=0, dport=0), R0)
    scene.softirq().xmit(Packet(proto=TCP, sock=5, skb=0x9000), R0)
    assert [story.complete for story in scene.stories()] == [False, True]


def test_decisions_are_numbered_within_their_path():
    """From one, cached ones as well."""
    scene = Scene()
    for number in (1, 2):
        packet = PACKET.but(skb=0x1000 * number, ip_id=number, sport=number)
        scene.task(1).decide(packet.key(), "send", miss(255), hit(254, C0)).xmit(packet, C0)
        scene.softirq().receive(packet, R0)
    for story in scene.stories():
        assert [line.split()[0] for line in story.lines if "decided" in line or "cached" in line] == [
            "1",
            "2",
        ]


def test_steps_may_be_taken_by_a_mark():
    """Rows and hops stay as they are."""
    scene, _ = arrived()
    steps, _ = scene.run()
    keep = np.arange(len(steps)) % 2 == 0
    half = take(steps, keep)
    assert len(half) == keep.sum()
    assert half.event.tolist() == steps.event[keep].tolist()
    assert half.hops is steps.hops
    assert take(steps, np.ones(len(steps), bool)) is steps


def test_nothing_gives_nothing():
    """An empty scene has no steps."""
    steps, correlator = Scene().run()
    assert len(steps) == 0
    assert correlator.held == 0
