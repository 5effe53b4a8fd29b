"""A path is compared with the last one of its flow, and a difference is put down only to what could have made it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tracer.enrich.flowpaths import FlowPaths, Timeline
from tracer.model.change import Change, Changed
from tracer.model.path import Decision, Flow, Hop, Lookup, Path
from tracer.outputs.timeline import changed_words

MS = 1_000_000
INODE = 7
FLOW = Flow(4, "10.1.0.2", "10.9.0.1", "udp", 4000, 80, 0, 0)


def path(number, at_ms, rule, table, **facts):
    """One packet through one router, by one rule and route."""
    values = {"prefix": "0.0.0.0/0", "gateway": "10.2.0.1", "dev": "r1", "verdict": "forward"} | facts
    text = f"from all lookup {table}"
    lookup = Lookup(rule, text, str(table), table, table, "hit", values["prefix"], values["gateway"],
                    values["dev"], "unicast", "universe", 0, "inferred", at_ms * MS)  # fmt: skip
    made = Decision("input", "ip_route_input", False, "unicast", "observed", (lookup,), ts_ns=at_ms * MS)
    hop = Hop(
        "r",
        INODE,
        "router",
        "r0",
        values["dev"],
        values["verdict"],
        None,
        None,
        (made,),
        at_ms * MS,
        at_ms * MS,
    )
    return Path(number, at_ms * MS, True, 0, FLOW, (hop,), end_ns=at_ms * MS)


def change(at_ms, kind, op, text, **facts):
    """A change noticed within 2 ms."""
    return Change(at_ms * MS, (at_ms - 2) * MS, facts.pop("inode", INODE), kind, op, text, family=4, **facts)


RULE = change(50, "rule", "add", "+ rule 100: from all lookup 100", rule=100, table_id=100)


def compare(changes, *paths, limit=10):
    timeline = Timeline(limit)
    timeline.add(changes)
    flows = FlowPaths(timeline)
    return [flows.compare(one) for one in paths][-1]


def test_the_rule_that_was_added_between_is_named():
    """The words say what was, what is, after which change and how long before."""
    changed = compare([RULE], path(1, 10, 32766, 254), path(2, 850, 100, 100, gateway="10.3.0.2", dev="r2"))
    assert changed_words(changed) == (
        "path changed in r since #1: was rule 32766 table 254 via 10.2.0.1 dev r1; now rule 100 table 100 "
        "via 10.3.0.2 dev r2, after + rule 100: from all lookup 100 (0.8 s before)"
    )
    assert Changed.read(changed.to_dict()) == changed


@pytest.mark.parametrize(
    "other",
    [
        replace(RULE, ts_ns=5 * MS, unsure_ns=3 * MS),
        replace(RULE, ts_ns=95 * MS, unsure_ns=93 * MS),
        replace(RULE, netns_inode=8),
    ],
    ids=["before the first packet", "after the second", "in another namespace"],
)
def test_a_change_elsewhere_or_at_another_time_explains_nothing(other):
    """The difference is told, and that no change was seen between."""
    changed = compare([other], path(1, 10, 32766, 254), path(2, 90, 100, 100))
    assert (changed.causes, changed.certain, changed.known) == ((), False, True)
    assert "no change of rules, routes or devices seen between" in changed_words(changed)


def test_what_was_noticed_after_the_packet_may_have_been_before():
    """A notification read after the second packet counts as long as it may be older than that."""
    changed = compare([RULE], path(1, 10, 32766, 254), path(2, 49, 100, 100))
    assert changed.certain
    assert "(noticed 1.0 ms after)" in changed_words(changed)


def test_several_changes_are_possibilities():
    """With rule and route both new, neither is said to be the one."""
    route = change(40, "route", "add", "+ route default table 100", table_id=100, prefix="0.0.0.0/0")
    changed = compare([route, RULE], path(1, 10, 32766, 254), path(2, 90, 100, 100))
    assert [cause.text for cause in changed.causes] == [route.text, RULE.text]
    assert not changed.certain
    assert "possibly because of + route default table 100" in changed_words(changed)


def test_of_a_flapping_route_the_last_change_counts():
    """Added and deleted five times, it is named once, as it was last."""
    flaps = [
        change(
            20 + n, "route", "add" if n % 2 else "delete", f"{n} route", table_id=254, prefix="10.9.0.0/16"
        )
        for n in range(10)
    ]
    changed = compare(flaps, path(1, 10, 32766, 254), path(2, 90, 32766, 254, prefix="10.9.0.0/16"))
    assert [cause.text for cause in changed.causes] == ["9 route"]
    assert changed.certain


def test_another_member_of_a_multipath_route_is_no_change():
    """Only the nexthop differs and nothing was changed: the hash chose otherwise."""
    assert compare([], path(1, 10, 32766, 254), path(2, 90, 32766, 254, gateway="10.3.0.2", dev="r2")) is None


def test_another_flow_and_an_incomplete_path_are_not_compared():
    """Another source port is another flow; a path with a hole is no ground to say anything."""
    first, second = path(1, 10, 32766, 254), path(2, 90, 100, 100)
    other = replace(second, flow=replace(FLOW, sport=4001))
    assert compare([RULE], first, other) is None
    assert compare([RULE], first, replace(second, complete=False)) is None
    assert compare([RULE], first, replace(second, lost=3)) is None
    assert compare([RULE], first, second) is not None


def test_a_reused_decision_says_nothing_new():
    """A packet without lookups keeps what the one before it was decided by, also for the next comparison."""
    first, last = path(1, 10, 32766, 254), path(3, 90, 100, 100)
    hop = first.hops[0]
    cached = replace(hop, decisions=(replace(hop.decisions[0], cached=True, lookups=()),))
    changed = compare([RULE], first, replace(first, packet=2, start_ns=60 * MS, hops=(cached,)), last)
    assert (changed.was.rule, changed.now.rule, changed.certain) == (32766, 100, True)


def test_forgotten_and_lost_changes_make_it_uncertain():
    """With changes missing, the one that is known is a possibility."""
    lost = change(30, "lost", "change", "changes were lost")
    for changes in ([lost, RULE], [change(20 + n, "setting", "change", f"{n}") for n in range(12)] + [RULE]):
        changed = compare(changes, path(1, 10, 32766, 254), path(2, 90, 100, 100))
        assert not changed.certain
        assert "not all changes between are known" in changed_words(changed)


def test_the_flows_in_memory_are_bounded():
    """The flow that was seen longest ago is forgotten first."""
    flows = FlowPaths(Timeline(), limit=2)
    for port in (1, 2, 3):
        flows.compare(replace(path(port, 10, 32766, 254), flow=replace(FLOW, sport=port)))
    later = [replace(path(9, 90, 100, 100), flow=replace(FLOW, sport=port)) for port in (2, 1)]
    assert [flows.compare(one) is not None for one in later] == [True, False]
