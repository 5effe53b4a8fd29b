"""Which lookups are one decision, and what it was for."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from tests.unit.correlate.records import (
    C0,
    ICMP,
    KINDS,
    MS,
    R0,
    R1,
    C,
    Packet,
    R,
    Scene,
    fails,
    hit,
    miss,
)  # fmt: skip
from tracer.correlate.callers import Purpose
from tracer.correlate.decisions import decide, fill_netns

PACKET = Packet()


def decisions(scene, suppressing=()):
    """Decisions of a scene with one context: (numbers, purposes) of its rows."""
    records = scene.records()
    pairs = np.array([netns << 32 | table for netns, table in suppressing], np.uint64)
    found = decide(records, np.zeros(len(records), int), KINDS, scene.context().callers, pairs)
    return found.number.tolist(), [Purpose(p).name.lower() for p in found.purpose.tolist()]


def numbers(scene, suppressing=()):
    return decisions(scene, suppressing)[0]


def test_a_walk_goes_on_after_a_miss_and_ends_with_a_hit():
    """-EAGAIN is the only answer after which fib_rules_lookup tries the next rule."""
    scene = Scene()
    task = scene.task(1)
    task.decide(PACKET.key(), "send", miss(255), miss(100), hit(254, C0))
    task.decide(PACKET.key(), "send", miss(255), hit(254, C0))
    assert numbers(scene) == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EHOSTUNREACH, errno.EACCES])
def test_a_hard_error_ends_the_walk(error):
    """Blackhole, unreachable and prohibit routes end it: what follows is another decision."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", miss(255), fails(100, error), miss(101), hit(254, C0))
    assert numbers(scene) == [1, 1, 2, 2]


def test_a_walk_that_finds_nothing_ends_where_the_next_begins():
    """The first table again means a new decision, also with the same key in the same place."""
    scene = Scene()
    task = scene.task(1)
    for _ in range(3):
        task.decide(PACKET.key(), "send", miss(255), miss(254), miss(253))
    assert numbers(scene) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_hit_that_may_be_suppressed_does_not_end_the_walk():
    """Only in the table and namespace that a rule with suppress_prefixlength names."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", miss(255), hit(254, C0), hit(200, C0))
    assert numbers(scene) == [1, 1, 2]
    assert numbers(scene, suppressing=[(C, 254)]) == [1, 1, 1]
    assert numbers(scene, suppressing=[(R, 254)]) == [1, 1, 2]
    assert numbers(scene, suppressing=[(C, 200)]) == [1, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"saddr": "10.1.0.9"}, {"daddr": "10.1.0.9"}, {"iif": 7}, {"oif": 7}, {"mark": 7}, {"proto": 6}, {"flow": 7},
    ],
)  # fmt: skip
def test_another_key_is_another_decision(change):
    """Any part of the key, and its place in memory, tells decisions apart."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", miss(255)).decide(
        {**PACKET.key(), **change}, "send", hit(254, C0)
    )
    assert numbers(scene) == [1, 2]


def test_another_record_between_ends_the_walk():
    """A walk is not interrupted within its context."""
    scene = Scene()
    task = scene.task(1).decide(PACKET.key(), "send", miss(255))
    task.xmit(PACKET, C0).decide(PACKET.key(), "send", hit(254, C0))
    assert numbers(scene) == [1, 0, 2]


def test_contexts_do_not_mix():
    """The same key at the same time in two contexts: two decisions."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(flow=5), "send", miss(255))
    scene.task(2).decide(PACKET.key(flow=5), "send", hit(254, C0))
    records = scene.records()
    found = decide(records, np.array([0, 1]), KINDS, {}, np.zeros(0, np.uint64))
    assert found.number.tolist() == [1, 2]


def test_first_and_last_mark_the_ends():
    """Each decision has one of each; other rows have none."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "send", miss(255), hit(254, C0)).xmit(PACKET, C0).decide(
        PACKET.key(), "send", miss(255)
    )
    records = scene.records()
    found = decide(records, np.zeros(4, int), KINDS, {}, np.zeros(0, np.uint64))
    assert found.first.tolist() == [True, False, False, True]
    assert found.last.tolist() == [False, True, False, True]


def test_no_records_are_no_decisions():
    """An empty batch and one without lookups."""
    assert decisions(Scene()) == ([], [])
    scene = Scene()
    scene.task(1).xmit(PACKET, C0)
    assert decisions(scene) == ([0], ["unknown"])


@pytest.mark.parametrize(
    ("stack", "iif", "purpose"),
    [
        ("input", R0, "input"), ("check", R0, "source_check"), ("send", None, "output"), ("arp", R0, "other"),
        ("getroute", None, "query"), ("getroute", R0, "query"),
        # The stack of another call at the same site: the key says otherwise, and the key is right.
        ("input", None, "output"), ("send", R0, "input"),
    ],
)  # fmt: skip
def test_the_stack_says_what_it_was_for_where_the_key_agrees(stack, iif, purpose):
    """A shared stack that contradicts the key is not believed."""
    scene = Scene()
    scene.softirq().decide(PACKET.key(iif), stack, hit(254, R1))
    assert decisions(scene)[1] == [purpose]


def test_a_trial_of_an_icmp_error_is_no_output_decision():
    """icmp_route_lookup first looks for the ICMP's own way, then tries others: by flag or by protocol told apart."""
    scene = Scene()
    soft = scene.softirq()
    soft.decide(PACKET.key(), "icmp", hit(254, R1), flow_flags=1)
    soft.decide(PACKET.key(flow=9, proto=ICMP), "icmp", hit(254, R1))
    soft.decide(PACKET.key(flow=10), "icmp", hit(254, R1))
    assert decisions(scene)[1] == ["other", "output", "other"]


@pytest.mark.parametrize(
    ("key", "purpose"),
    [
        (PACKET.key(R0), "input"),
        (PACKET.key(), "output"),
        (PACKET.key(iif=None, flow_scope=253), "other"),
        ({"daddr": "10.1.0.2"}, "other"),
        (PACKET.key(R0, oif=2), "source_check"),
    ],
)  # fmt: skip
def test_without_a_stack_the_key_says_what_it_was_for(key, purpose):
    """Input has a device, output loopback, address lookups nothing, link scope is a gateway's check."""
    scene = Scene()
    scene.softirq().decide(key, None, hit(254, R1))
    assert decisions(scene)[1] == [purpose]


def test_without_a_stack_the_swapped_key_after_input_is_its_source_check():
    """The same ends the other way, in softirq, after the input decision; a packet the other way is none."""
    scene = Scene()
    soft = scene.softirq()
    soft.decide(PACKET.key(R0), None, hit(254, R1)).decide(PACKET.check_key(R0, flow=3), None, hit(254, R0))
    soft.decide(Packet(src="10.3.0.1").key(R0, flow=4), None, hit(254, R1))
    assert decisions(scene)[1] == ["input", "source_check", "input"]


def test_lookups_without_a_device_get_the_namespace_of_their_decision():
    """The miss says nothing; the hit's device does, also where the task is elsewhere."""
    scene = Scene()
    scene.task(1, netns=R).decide(PACKET.key(), "send", miss(255), hit(254, C0))
    assert filled(scene) == [C, C]


def test_a_failed_walk_in_softirq_gets_the_namespace_of_the_packet():
    """There the current task is only what was interrupted."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", miss(255), miss(254))
    assert filled(scene)[1:] == [R, R]


def test_a_failed_walk_of_a_task_gets_the_namespace_of_the_task():
    """For want of anything better."""
    scene = Scene()
    scene.task(1, netns=R).decide(PACKET.key(), "send", miss(255), miss(254))
    assert filled(scene) == [R, R]


def filled(scene):
    records = scene.records()
    group = np.zeros(len(records), int)
    fill_netns(
        records, group, decide(records, group, KINDS, scene.context().callers, np.zeros(0, np.uint64)), KINDS
    )
    return records["netns"].tolist()


def test_a_packet_received_long_ago_gives_no_namespace():
    """A timer's lookup in the same softirq is not about it: unknown stays unknown."""
    scene = Scene()
    soft = scene.softirq().receive(PACKET, R0).xmit(PACKET.but(ttl=63), R1)
    scene.wait(200 * MS)
    soft.decide(PACKET.reply().key(), "icmp", miss(254))
    assert filled(scene)[-1] == 0
