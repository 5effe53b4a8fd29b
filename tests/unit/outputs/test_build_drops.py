"""Rows about drops: which lookup caused it, and how a source check ended."""

from __future__ import annotations

import pytest

from tests.unit.correlate.records import R0, R1, Packet, R, Scene, fails, hit, miss
from tests.unit.outputs.worlds import network, rows, state, world
from tracer.model.network import Rule

PACKET = Packet()


def columns(found, *names):
    return [tuple(row.get(name) for name in names) for row in found]


def test_a_drop_by_the_source_check_says_so():
    """With the lookup that caused it; the check's own row says fail."""
    scene = Scene()
    packet = PACKET.but(src="10.2.0.9")
    soft = scene.softirq().receive(packet, R0).decide(packet.key(R0), "input", miss(255), hit(254, R1))
    soft.decide(packet.check_key(R0), "check", miss(255), hit(254, R1)).drop(packet, R0, reason=7, location=1)
    found = rows(scene)
    assert found[-2]["reason"] == "strict: reached through r1, fail"
    assert (found[-1]["event"], found[-1]["verdict"], found[-1]["reason"]) == (
        "drop",
        "drop",
        (
            "source check failed: 10.2.0.9 is reached through r1 (rule 32766, table main), the packet came in on r0, "
            "rp_filter is strict on r0 (SKB_DROP_REASON_IP_RPFILTER in ip_rcv_finish_core)"
        ),
    )


@pytest.mark.parametrize(("reason", "location", "end"), [(2, 1, "fail"), (2, 9, "pass"), (3, 1, "pass")])
def test_a_vague_reason_counts_only_where_the_check_is_made(reason, location, end):
    """Kernels before 6.16 say NOT_SPECIFIED in ip_rcv_finish; a drop elsewhere is another."""
    scene = Scene()
    soft = scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", miss(255), hit(100, R1))
    soft.decide(PACKET.check_key(R0), "check", miss(255), hit(254, R0)).drop(
        PACKET, R0, reason=reason, location=location
    )
    assert rows(scene)[-2]["reason"] == f"strict: same device, {end}"


def test_a_send_that_failed_is_a_drop_with_words():
    """No packet was made."""
    scene = Scene()
    scene.task(7, "ping").decide(PACKET.key(), "send", miss(255), miss(254))
    found = rows(scene)
    assert columns(found, "event", "result")[2] == ("decision", "no route")
    assert found[-1]["reason"] == "no route to 10.2.0.2: the sender got an error, no packet was made"
    assert (found[-1]["verdict"], found[-1]["role"]) == ("drop", "client")


def test_a_rule_that_refuses_has_a_row_of_its_own():
    """The kernel searches no table for it; it is inferred from the walk that ended."""
    refusing = Rule(2, 200, "prohibit", src=0x0A010000, src_len=24)
    known = state(R, rules=(state(R).rules[0], refusing))
    scene = Scene()
    soft = (
        scene.softirq()
        .receive(PACKET, R0)
        .decide(PACKET.key(R0), "input", miss(255))
        .drop(PACKET, R0, reason=8, location=2)
    )
    assert soft.netns == 0
    found = rows(scene, world(network(known)))
    names = ("event", "rule", "result", "error", "evidence", "step")
    assert columns(found[1:4], *names) == [
        ("lookup", 0, "miss", -11, "inferred", 2),
        ("lookup", 200, "prohibit", -13, "inferred", 3),
        ("decision", None, "prohibit", None, "observed", 4),
    ]
    assert found[-1]["reason"].startswith("rule 200 (from 10.1.0.0/24 prohibit) says prohibit (")


def test_a_blackhole_route_is_named_by_its_prefix():
    """Its error is all that is observed."""
    scene = Scene()
    packet = PACKET.but(dst="10.7.1.1")
    scene.softirq().receive(packet, R0).decide(packet.key(R0), "input", miss(255), fails(100, 22)).drop(
        packet, R0, 2, 2
    )
    found = rows(scene)
    assert columns(found, "result", "prefix", "route_type", "rule")[2] == (
        "blackhole",
        "10.7.0.0/16",
        "blackhole",
        100,
    )
    assert found[-1]["reason"].startswith("blackhole route 10.7.0.0/16 (rule 100, table 100) (")
