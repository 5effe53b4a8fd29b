"""What function probes say goes into the lookups and packets that it is about."""

from __future__ import annotations

import numpy as np

from tests.unit.correlate.records import C0, KINDS, LAYOUT, R0, R1, Packet, Scene, hit, miss
from tracer.correlate import observed
from tracer.correlate.callers import Purpose
from tracer.correlate.decisions import decide
from tracer.correlate.observed import (
    CALL_OUTPUT,
    HINT_CHOSEN,
    HINT_SUPPRESSED,
    OUTCOME_FAILED,
    STAGE_DELIVER,
    fold,
)

PACKET = Packet()
ENUMS = LAYOUT.enums
INPUT, CHECK, OTHER = (ENUMS["call_kind"][f"CALL_{name}"] for name in ("INPUT", "CHECK", "OTHER"))


def folded(scene):
    """Records of a scene after folding."""
    return fold(scene.records(), KINDS)


def decisions(scene):
    """Numbers and purposes of the lookups of a scene with one context."""
    records = folded(scene)
    records = records[records["kind"] == KINDS.LOOKUP]
    nobody = np.zeros(0, np.uint64)
    found = decide(records, np.zeros(len(records), int), KINDS, scene.context().callers, nobody)
    return found.number.tolist(), [Purpose(p).name.lower() for p in found.purpose.tolist()]


def test_the_numbers_are_those_of_the_wire():
    """Constants of the correlation are the enum members of wire.h."""
    for name in ("RULE", "PREFIX", "SUPPRESSED", "CHOSEN"):
        assert getattr(observed, f"HINT_{name}") == ENUMS["record_hint"][f"HINT_{name}"]
    for name in ("INPUT", "OUTPUT", "CHECK"):
        assert getattr(observed, f"CALL_{name}") == ENUMS["call_kind"][f"CALL_{name}"]
    assert ENUMS["outcome"]["OUTCOME_FAILED"] == OUTCOME_FAILED
    assert ENUMS["stage"]["STAGE_DELIVER"] == STAGE_DELIVER


def test_a_suppression_is_of_the_last_hit_before_it():
    """The winner that follows in the same call is not thrown away."""
    scene = Scene()
    actor = scene.softirq()
    actor.decide(PACKET.key(R0), "input", hit(254, R0), call=5, call_kind=INPUT)
    scene.add("SUPPRESSED", {**actor.base, "call": 5, "call_kind": INPUT})
    actor.decide(PACKET.key(R0), "input", hit(100, R1), call=5, call_kind=INPUT)
    lookups = folded(scene)[[0, 2]]
    assert (lookups["hints"] & HINT_SUPPRESSED > 0).tolist() == [True, False]
    assert decisions(scene)[0] == [1, 1]


def test_the_nexthop_of_the_result_is_the_one_shown():
    """fib_select_path() chooses after the lookup; the route that came of it says what."""
    scene = Scene()
    task = scene.task(1)
    task.decide(PACKET.key(), "send", miss(255), hit(254, C0), call=9, call_kind=CALL_OUTPUT)
    scene.add("RESULT", {**task.base, "call": 9, "route_type": 1, "ifindex": 77, "gateway": "10.9.9.9",
                         "gateway_family": 2, "outcome": 1})  # fmt: skip
    records = folded(scene)
    assert records["ifindex"][:2].tolist() == [0, 77]
    assert bytes(records["gateway"][1][:4]) == bytes([10, 9, 9, 9])
    assert (records["hints"][:2] & HINT_CHOSEN > 0).tolist() == [False, True]


def test_the_destination_is_no_gateway_of_a_route_that_has_none():
    """The kernel writes it into a result that it could not cache; the device counts all the same."""
    scene = Scene()
    task = scene.task(1)
    task.decide(PACKET.key(), "send", hit(254, C0), call=9, call_kind=CALL_OUTPUT)
    scene.add("RESULT", {**task.base, "call": 9, "route_type": 1, "ifindex": 77, "gateway": PACKET.dst,
                         "gateway_family": 2, "outcome": 1})  # fmt: skip
    record = folded(scene)[0]
    assert (int(record["ifindex"]), int(record["gateway_family"]), bytes(record["gateway"])) == (
        77,
        0,
        bytes(16),
    )


def test_a_failed_check_is_told_to_its_lookup_alone():
    """Nothing is chosen by a check that failed, and the decision before it did not fail."""
    scene = Scene()
    actor = scene.softirq()
    actor.decide(PACKET.key(R0), "input", hit(254, R1), call=1, call_kind=INPUT)
    actor.decide(PACKET.check_key(R0), "check", hit(254, R1), call=2, call_kind=CHECK)
    scene.add("RESULT", {**actor.base, "call": 2, "error": -18, "outcome": OUTCOME_FAILED})
    records = folded(scene)
    assert records["outcome"][:2].tolist() == [0, OUTCOME_FAILED]
    assert not (records["hints"] & HINT_CHOSEN).any()


def test_a_stage_is_of_the_packet_last_received_at_its_address():
    """Not of an earlier packet in the same sk_buff, and not of one that only leaves."""
    scene = Scene()
    actor = scene.softirq()
    actor.receive(PACKET, R0).receive(PACKET.but(ip_id=8), R0)
    scene.add("STAGE", {**actor.base, "routed": PACKET.skb, "stage": STAGE_DELIVER})
    actor.xmit(PACKET.but(skb=4096), R1)
    scene.add("STAGE", {**actor.base, "routed": 4096, "stage": STAGE_DELIVER})
    assert folded(scene)["stage"][[0, 1, 3]].tolist() == [0, STAGE_DELIVER, 0]


def test_without_function_probes_nothing_is_touched():
    """The very same array comes back."""
    scene = Scene()
    scene.softirq().receive(PACKET, R0)
    records = scene.records()
    assert fold(records, KINDS) is records


def test_a_call_is_one_decision_whatever_its_lookups_look_like():
    """Two calls with the same key in the same place are two; one call goes on after a hit that was thrown away."""
    scene = Scene()
    task = scene.task(1)
    task.decide(PACKET.key(), "send", miss(255), call=1, call_kind=CALL_OUTPUT)
    task.decide(PACKET.key(), "send", miss(100), call=2, call_kind=CALL_OUTPUT)
    task.decide(PACKET.key(), "send", hit(254, C0), hit(200, C0), call=3, call_kind=CALL_OUTPUT)
    assert decisions(scene)[0] == [1, 2, 3, 3]


def test_the_call_tells_the_purpose_where_there_is_no_stack():
    """Input, output and check as they were called; a route that is not the packet's own is another's."""
    scene = Scene()
    actor = scene.softirq()
    for number, kind in enumerate((INPUT, CALL_OUTPUT, CHECK, OTHER), 1):
        actor.decide(PACKET.key(R0), None, hit(254, R1), call=number, call_kind=kind)
    assert decisions(scene)[1] == ["input", "output", "source_check", "other"]


def test_only_the_stack_knows_a_trial_from_an_output():
    """icmp_route_lookup() tries a route with FLOWI_FLAG_ANYSRC: it is in an output call, and no packet's."""
    scene = Scene()
    scene.task(1).decide(PACKET.key(), "icmp", hit(254, C0), call=1, call_kind=CALL_OUTPUT, flow_flags=1)
    scene.task(1).decide(PACKET.key(), "arp", hit(254, C0), call=2, call_kind=CALL_OUTPUT)
    assert decisions(scene)[1] == ["other", "other"]


def test_the_call_names_the_packet_where_a_list_was_announced():
    """Each decision goes to the packet it was called for, not to the one received last."""
    scene = Scene()
    first, second = PACKET, PACKET.but(skb=PACKET.skb + 0x200, ip_id=9, src="10.1.0.3")
    actor = scene.softirq().receive(first, R0).receive(second, R0)
    for number, packet in enumerate((first, second), 1):
        actor.decide(packet.key(R0), "list", hit(254, R1), call=number, call_kind=INPUT, routed=packet.skb)
    actor.xmit(first.but(ttl=63), R1).xmit(second.but(ttl=63), R1)
    found = scene.stories()
    assert [story.lines for story in found] == [
        ["receive r0", "1 input 254 hit", "1 input decided", "forward r1"]
    ] * 2
