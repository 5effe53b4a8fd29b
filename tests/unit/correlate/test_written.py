"""Packets that a process writes into a TUN device are received in its own context, and it goes on with other things."""

from __future__ import annotations

import pytest

from tests.unit.correlate.records import (
    BRIDGE,
    C0,
    KINDS,
    LAYOUT,
    MS,
    R0,
    R1,
    R2,
    TUNNEL,
    Packet,
    R,
    Scene,
    hit,
    miss,
    stories,
)  # fmt: skip
from tracer.correlate.paths import Correlator

PACKET = Packet()
SHARED = 2  # HINT_STACK_SHARED


@pytest.mark.parametrize("stack", ["input", "check", None])
def test_way_and_source_check_of_a_written_packet_are_told_apart(stack):
    """Both may have been given the one stack of their call site; which end is the packet's source tells them."""
    scene = Scene()
    task = scene.task(7, "openvpn", R).receive(PACKET, TUNNEL)
    task.decide(PACKET.key(TUNNEL), stack, miss(255), hit(254, R1), hints=SHARED)
    task.decide(PACKET.check_key(TUNNEL, flow=5), stack, miss(255), hit(220, TUNNEL), hints=SHARED)
    task.xmit(PACKET.but(ttl=63), R1)
    (path,) = scene.stories()
    assert [line.split()[1] for line in path.lines if line.endswith("decided")] == ["input", "source-check"]
    assert path.complete


def test_what_a_process_sends_after_it_has_read_is_of_no_packet_that_it_wrote():
    """A relay writes one packet, reads another, and sends a third in the freed sk_buff: whole however it is cut."""
    scene = Scene()
    task, user, soft = scene.task(7, "openvpn"), scene.task(8, "ping"), scene.softirq()
    written = PACKET.reply(skb=0x9000)
    task.receive(written, C0)
    scene.wait(30 * MS)
    inner, outer = PACKET.but(ip_id=20), PACKET.but(ip_id=21, dport=1194, sport=1195)
    user.decide(inner.key(), "send", hit(254, C0)).queue(inner, C0).xmit(inner, C0)
    task.copy(inner, C0).consume(inner, C0)
    task.decide(outer.key(), "send", hit(254, C0)).xmit(outer, C0)
    soft.receive(outer, R0).decide(outer.key(R0), "input", hit(254, R1)).xmit(outer.but(ttl=63), R1)
    records = scene.records()
    for cut in range(1, len(records)):
        correlator = Correlator(KINDS, LAYOUT.record)
        found = []
        for part in (records[:cut], records[cut:]):
            # The horizon of the first part is so late that what began before the pause is settled.
            horizon_ns = int(part["ts_ns"].max()) + 9 * MS
            found += stories(correlator.feed(part, horizon_ns, scene.context()))
        found += stories(correlator.feed(records[:0], horizon_ns, scene.context(), final=True))
        whole = [story.hops for story in found if "r router forward" in story.hops]
        assert whole == [["c client send", "r router forward"]], cut


def test_what_a_bridge_hands_on_is_not_routed():
    """The TTL stays and the device changes: no lookup is missing, and the host was no router for it."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).xmit(PACKET, R2)
    (path,) = scene.stories()
    assert path.hops == ["r none forward"]
    assert [line for line in path.lines if "cached" in line] == ["1 cached bridged #-1"]
    assert path.complete


def test_what_goes_through_a_bridge_and_is_routed_has_its_decision():
    """Handed from a port to the bridge's own device, decided there: nothing of it is bridged."""
    scene = Scene()
    soft = scene.softirq().receive(PACKET, R0).receive(PACKET, BRIDGE)
    soft.decide(PACKET.key(BRIDGE), "input", hit(254, R1)).xmit(PACKET.but(ttl=63), R1)
    (path,) = scene.stories()
    assert path.hops == ["r router forward"]
    assert not [line for line in path.lines if "cached" in line]
