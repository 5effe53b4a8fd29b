"""What an expectation comes to: it holds, it does not and where, or it cannot be judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.expect.made import designed, judged, written
from tests.unit.outputs.builder import LOCAL_MISS, hit, lookup
from tracer.expect.judge import State
from tracer.expect.terms import Truth

WEB = {"src": "10.1.0.0/24", "dst": "10.2.0.2", "proto": "tcp", "dport": 80}
TO_R1 = {"netns": "r", "rule": 100, "table": 100, "prefix": "default", "gateway": "10.2.0.2", "dev": "r1"}
MAIN = hit(32766, "from all lookup main", "main", "0.0.0.0/0 via 10.1.0.1 dev eth0")
OUTER = "outer header"

HOLDS = {
    "steps in order": {"via": [{"netns": "c", "dev": "c0"}, TO_R1, {"netns": "s", "table": "local"}]},
    "a rule by its text": {"via": [{"rule": "from  10.1.0.0/24 lookup 100"}]},
    "a rule's text behind its preference": {"via": [{"rule": "100:"}]},
    "the end of a stay": {"via": [{"netns": "r", "in_dev": "r0", "out_dev": "r1", "verdict": "forward"}]},
    "a decision, then the end of the same stay": {"via": [TO_R1, {"netns": "r", "out_dev": "r1"}]},
    "a lookup that was gone past, by its result": {"via": [{"netns": "r", "rule": 0, "result": "miss"}]},
    "a source check, by its purpose": {"via": [{"purpose": "source-check", "dev": "r0"}]},
    "no gateway": {"via": [{"netns": "s", "gateway": False}]},
    "one of several": {"via": [{"netns": ["x", "r"], "dev": ["r0", "r1"]}]},
    "the verdict at the end": {"verdict": "deliver"},
    "the process at the end": {"via": [{"comm": "nginx", "verdict": "deliver"}]},
    "all namespaces": {"hops": ["c", "r", "s"]},
    "never another device": {"never": [{"dev": "eth0"}, {"out_dev": "eth0"}]},
    "never a table only gone past": {"never": [{"netns": "r", "table": "local"}]},
    "never the way back": {"never": [{"netns": "r", "dev": "r0"}]},
    "exactly one": {"count": 1},
    "soon": {"within_ms": 1},
}


@pytest.mark.parametrize("case", HOLDS)
def test_what_the_path_did_holds(case):
    """For the design's path, each in its own way of saying it."""
    result = judged({"flow": WEB, **HOLDS[case]}, designed())
    assert (result.state, result.why) == (State.PASSED, "1 packet"), result.offence


FAILS = {
    "another rule": ({"via": [TO_R1 | {"rule": 200}]}, "via, its step, in r", ["rule"]),
    "rule and device": (
        {"via": [{"netns": "c"}, TO_R1 | {"rule": 200, "dev": "r2"}]}, "via, step 2, in r", ["rule", "dev"]
    ),
    "the wrong order": (
        {"via": [{"netns": "s", "rule": 0}, TO_R1]}, "via, step 2: the path has no further step of this sort", None
    ),
    "a lookup that did not decide": ({"via": [{"netns": "r", "rule": 0}]}, "via, its step, in r", ["rule"]),
    "a source check": ({"never": [{"purpose": "source-check"}]}, "never, its step, in r", []),
    "a device": ({"never": [{"dev": "x"}, {"netns": "r", "dev": "r1"}]}, "never, step 2, in r", []),
    "the verdict": ({"verdict": "drop"}, "the end, in s", ["verdict"]),
    "a reason where there is none": ({"reason": "rp_filter"}, "the end, in s", ["reason"]),
    "a namespace too few": ({"hops": ["c", "r"]}, "hops", ["3"]),
    "another namespace": ({"hops": ["c", "x", "s"]}, "hops", ["2"]),
    "too slow": ({"within_ms": 0.001}, "time", ["within_ms"]),
    "a leak before all else": ({"via": [{"rule": 1}], "never": [TO_R1]}, "never, its step, in r", []),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILS)
def test_the_first_difference_is_named(case):
    """Where it is, and which keys differ there."""
    keys, where, differing = FAILS[case]
    result = judged({"flow": WEB, **keys}, designed())
    assert (result.state, result.why) == (State.FAILED, "1 of 1 packet differs")
    problem = result.offence.problem
    assert problem.where == where
    if differing is not None:
        assert [line.key for line in problem.lines if line.truth is Truth.NO] == differing


def test_an_expectation_that_nothing_tested_is_a_failure():
    """Unless it expects that there is no such packet."""
    other = {"flow": {"dst": "192.0.2.1"}}
    result = judged({**other, "never": [{"dev": "eth0"}]}, designed())
    assert (result.state, result.why) == (State.FAILED, "no packet seen")
    assert judged({**other, "count": 0}, designed()).state is State.PASSED
    result = judged({"flow": WEB, "count": 0}, designed())
    assert (result.state, result.why) == (State.FAILED, "1 packet seen, expected exactly 0")


@pytest.mark.parametrize(
    ("count", "state"),
    [(3, State.PASSED), (2, State.FAILED), (4, State.FAILED), ({"min": 2}, State.PASSED),
     ({"min": 4}, State.FAILED), ({"max": 3}, State.PASSED), ({"max": 2}, State.FAILED),
     ({"min": 1, "max": 3}, State.PASSED)],
)  # fmt: skip
def test_packets_are_counted(count, state):
    """Exactly, at least, at most."""
    assert judged({"flow": WEB, "count": count}, designed(), designed(), designed()).state is state


def test_one_of_many_is_enough_to_fail():
    """It is the first one that differs which is shown."""
    bad = designed(packet=18, flow=replace(designed().flow, sport=5))
    result = judged({"flow": WEB, "never": [{"netns": "x"}], "via": [{"netns": "r"}]}, designed(), bad)
    assert result.state is State.PASSED
    hops = (replace(bad.hops[0], netns="x"), *bad.hops[1:])
    result = judged({"flow": WEB, "never": [{"netns": "x"}]}, designed(), replace(bad, hops=hops), bad)
    assert (result.why, result.offence.path.packet) == ("1 of 3 packets differs", 18)


# -- what was not seen


def test_lost_records_leave_nothing_certain_but_a_failure_that_was_seen():
    """A pass and a count become doubtful, a leak that was seen stays one."""
    lost = "3 records lost"
    result = judged({"flow": WEB, "via": [TO_R1]}, designed(), lost=lost)
    assert (result.state, result.why) == (
        State.UNJUDGED,
        "3 records lost: packets of this flow may not have been seen",
    )
    assert judged({"flow": WEB, "count": 2}, designed(), lost=lost).state is State.UNJUDGED
    assert judged({"flow": {"dst": "192.0.2.1"}, "count": 1}, designed(), lost=lost).state is State.UNJUDGED
    assert judged({"flow": WEB, "never": [{"dev": "r1"}]}, designed(), lost=lost).state is State.FAILED
    assert judged({"flow": WEB, "via": [{"rule": 5}]}, designed(), lost=lost).state is State.FAILED


def test_a_path_says_itself_that_records_were_lost():
    """In a file, nothing else does: then nothing of the file is certain."""
    other = designed(packet=18, lost=2, complete=False, flow=replace(designed().flow, dst="192.0.2.1"))
    result = judged({"flow": WEB, "verdict": "deliver"}, designed(), other)
    assert (result.state, result.why) == (State.UNJUDGED, "1 of 2 packets, 2 records lost")


def test_an_incomplete_path_speaks_only_for_what_was_seen_of_it():
    """Seen steps count for `via` and against `never`; the rest cannot be judged."""
    path = designed(complete=False)
    part = replace(path, hops=(*path.hops[:2], replace(path.hops[2], verdict=None, ended_ns=None)))
    assert judged({"flow": WEB, "via": [TO_R1]}, part).state is State.PASSED
    for keys in (
        {"via": [{"netns": "s", "verdict": "deliver"}]}, {"via": [{"rule": 7}]}, {"never": [{"dev": "x"}]},
        {"verdict": "deliver"}, {"verdict": "drop"}, {"hops": ["c", "r", "s"]}, {"within_ms": 5},
    ):  # fmt: skip
        result = judged({"flow": WEB, **keys}, part)
        assert (result.state, result.why) == (State.UNJUDGED, "1 of 1 packet"), keys
        assert "incomplete" in result.offence.problem.where or "not all of it" in result.offence.problem.where
    assert judged({"flow": WEB, "never": [{"dev": "r1"}]}, part).state is State.FAILED
    assert judged({"flow": WEB, "within_ms": 0.001}, part).state is State.FAILED


def test_a_rule_that_is_not_known_is_neither_right_nor_wrong():
    """Nor is a route of a table that was too large to read, or a decision whose outcome was not seen."""
    unknown = hit(None, None, "main", "10.2.0.0/24 dev r1", prefix=None)

    def fill(rows, **own):
        rows.hop("r", "router").receive("r0").decide("input", unknown, **own).end("forward", "r1")

    path = written(fill)
    for keys in (
        {"via": [{"rule": 100}]},
        {"never": [{"prefix": "10.2.0.0/24"}]},
        {"via": [{"rule": "from all"}]},
    ):
        result = judged(keys, path)
        assert (result.state, result.offence.problem.truth) == (State.UNJUDGED, Truth.UNKNOWN)
        assert result.offence.problem.where.endswith("not all of it is known")
        assert [line.seen for line in result.offence.problem.lines] == ["?"]
    assert judged({"via": [{"table": "main", "dev": "r1"}]}, path).state is State.PASSED
    assert judged({"via": [{"rule": 100, "dev": "r2"}]}, path).state is State.FAILED


def test_a_packet_that_may_be_of_the_flow_is_not_counted_and_not_passed_over():
    """Its ports are not known: a fragment whose first part was not seen."""
    path = designed(flow=replace(designed().flow, dport=None))
    assert judged({"flow": WEB, "via": [TO_R1]}, path).state is State.UNJUDGED
    assert judged({"flow": WEB, "via": [TO_R1], "count": 0}, path).state is State.UNJUDGED
    result = judged(
        {"flow": WEB, "never": [TO_R1]}, designed(flow=replace(designed().flow, dst="10.9.0.1")), path
    )
    assert result.state is State.UNJUDGED
    assert result.failed == 0


# -- decisions that were made for another packet


def first_and_later(reason, *, later_dev="c0", hop="c"):
    """A packet whose output was decided, and one that used what was decided before."""
    out = hit(100, "from all lookup 100", "100", "0.0.0.0/0 via 10.1.0.1 dev c0")

    def connects(rows):
        rows.hop("c", "client").decide("output", MAIN).decide("output", LOCAL_MISS, out).end("send", "c0")

    def sends(rows):
        rows.hop(hop, "client").decide("output", reason=reason, result=None).end("send", later_dev)

    return written(connects, 7), written(sends, 8)


def test_a_cached_decision_is_that_of_the_packet_it_was_made_for():
    """The last one of that packet in the same namespace, which is the one that a socket keeps."""
    keys = {"via": [{"rule": 100, "table": 100, "dev": "c0"}], "count": 2}
    assert judged(keys, *first_and_later("cached: decided by #7 (socket route)")).state is State.PASSED
    keys = {"via": [{"rule": 100, "cached": True}]}
    assert judged(keys, *first_and_later("cached: decided by #7 (socket route)")).failed == 1


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("cached: decided by #5 (socket route)", {}),
        ("cached: decided before the trace (socket route)", {}),
        ("no lookup seen", {}),
        ("cached: decided by #7 (socket route)", {"later_dev": "c1"}),
    ],
)
def test_a_cached_decision_of_which_too_little_is_known_cannot_be_judged(reason, changes):
    """Of a packet that was not seen, or where the packet then left by another device."""
    result = judged({"via": [{"rule": 100}]}, *first_and_later(reason, **changes))
    assert (result.state, result.unjudged) == (State.UNJUDGED, 1)


def test_what_netfilter_routed_again_is_not_what_the_socket_keeps():
    """A packet whose mark was changed on its way out is routed anew each time; the socket keeps the first route."""
    again = hit(200, "from all fwmark 0x1 lookup 200", "200", "0.0.0.0/0 via 10.1.0.1 dev c0")

    def first(rows):
        rows.hop("c", "client").decide("output", hit(32766, "from all", "main", "0.0.0.0/0 dev c0"))
        rows.decide("output", again, caller="ip_route_me_harder").end("send", "c0")

    def later(rows):
        rows.hop("c", "client").decide("output", reason="cached: decided by #7 (socket route)", result=None)
        rows.decide("output", again, caller="ip_route_me_harder").end("send", "c0")

    seen = written(first, 7), written(later, 8)
    kept = {"rule": 32766, "dev": "c0", "cached": True}
    in_order = {"via": [{"rule": 32766}, {"rule": 200}], "never": [{"rule": 200, "cached": True}]}
    assert judged(in_order, *seen).state is State.PASSED
    assert judged({"never": [kept]}, *seen).failed == 1


def test_where_no_decision_was_made_none_is_expected():
    """A looped copy keeps its route: no rule was followed for it."""
    path = written(
        lambda rows: rows.hop("c", "server").receive("lo")
        .decide("input", reason="no lookup: the loopback device keeps the route", result=None).end("deliver")
    )  # fmt: skip
    assert judged({"never": [{"rule": 100}]}, path).state is State.PASSED
    assert judged({"via": [{"rule": 100}]}, path).state is State.FAILED


# -- headers, addresses


def tunnelled():
    """A packet that goes into a tunnel and by another device over the wire."""
    wire = hit(32766, "from all lookup main", "main", "0.0.0.0/0 via 192.0.2.1 dev eth0")

    def fill(rows):
        rows.hop("c", "client").decide("output", hit(100, "lookup 100", "100", "0.0.0.0/0 dev wg0"))
        rows.row("send", out_dev="wg0").decide("output", wire, reason=OUTER).end("send", "eth0")
        rows.hop("r", "router").receive("r0").decide("input", MAIN, reason=OUTER).end("forward", "r1")

    return written(fill)


def test_the_header_of_a_tunnel_is_not_the_packet():
    """What a tunnel sends over the wire is no leak; `outer` is how to speak about it."""
    path = tunnelled()
    assert (
        judged({"never": [{"netns": "c", "dev": "eth0"}, {"netns": "c", "out_dev": "eth0"}]}, path).state
        is State.PASSED
    )
    assert (
        judged({"via": [{"netns": "c", "dev": "wg0"}, {"netns": "c", "out_dev": "wg0"}]}, path).state
        is State.PASSED
    )
    outer = [
        {"outer": True, "dev": "eth0"},
        {"outer": True, "out_dev": "eth0"},
        {"outer": True, "out_dev": "r1"},
    ]
    assert judged({"via": outer}, path).state is State.PASSED
    assert judged({"never": outer[:1]}, path).state is State.FAILED
    result = judged({"via": [{"netns": "r", "out_dev": "r1"}]}, path)
    assert [line.key for line in result.offence.problem.lines if line.truth is Truth.NO] == ["outer"]


FLOWS = [
    ({"src": "10.1.0.2", "sport": 41234, "port": 80, "host": "10.2.0.0/16", "family": 4}, True),
    ({"netns": "r", "iif": "r0", "oif": "r1", "role": "router", "table": 100, "comm": "curl", "pid": 640}, True),
    ({"mark": 0, "tos": 0}, True), ({"mark": "0x0/0xf"}, True), ({"mark": 1}, False), ({"comm": "curly"}, False),
    ({"proto": 6}, True), ({"proto": "TCP"}, True), ({"proto": "udp"}, False), ({"dport": "79-81"}, True),
    ({"port": 81}, False), ({"oif": "r0"}, False), ({"table": "default"}, False), ({"host": "10.9.0.0/16"}, False),
    ({"src": "10.2.0.2"}, False), ({"family": 6}, False), ({"src": "2001:db8::/32"}, False), ({}, True),
]  # fmt: skip


@pytest.mark.parametrize(("flow", "of"), FLOWS, ids=str)
def test_flows_are_told_in_the_words_of_the_filters(flow, of):
    """A source check, whose addresses are swapped, makes no packet one of the way back."""
    assert judged({"flow": flow, "count": int(of)}, designed()).state is State.PASSED


def test_a_flow_is_also_what_it_is_translated_to():
    """Its addresses hold together, before or behind NAT, and not one from here and one from there."""
    path = written(
        lambda rows: rows.hop("r", "router").receive("r0").decide("input", MAIN)
        .end("forward", "eth0", src="203.0.113.1", sport=1024)
    )  # fmt: skip
    for flow, count in (
        ({"src": "10.1.0.2", "sport": 41234}, 1), ({"src": "203.0.113.1", "sport": 1024}, 1),
        ({"src": "203.0.113.1", "sport": 41234}, 0),
    ):  # fmt: skip
        assert judged({"flow": flow, "count": count}, path).state is State.PASSED


def test_a_rule_that_refuses_has_no_table():
    """It ends the walk itself: nothing was searched, and `false` says so."""
    path = written(
        lambda rows: (
            rows.hop("c", "client").decide("output", lookup(50, "prohibit", None, "prohibit")).end("drop")
        )
    )
    wanted = {"rule": 50, "table": False, "gateway": False, "prefix": False, "dev": False, "verdict": "drop"}
    assert judged({"via": [wanted]}, path).state is State.PASSED
    assert judged({"via": [{"table": "main"}]}, path).state is State.FAILED
