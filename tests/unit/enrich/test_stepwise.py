"""States between two readings are rebuilt from notifications, as far as these tell."""

from __future__ import annotations

import struct

from tracer.enrich.notifications import Arrived
from tracer.enrich.stepwise import between
from tracer.model.network import IPV4, NetworkState, Route, Rule

OLD = Rule(IPV4, 100, "lookup", table=7)
STATE = NetworkState(1, rules=(OLD,), tables={254: ()})


def arrived(ts_ns, kind, body, flags=0):
    """One notification, read at that time."""
    return Arrived(ts_ns, ts_ns - 1, struct.pack("IHHII", 16 + len(body), kind, flags, 0, 9) + body, None)


def rule(table, priority):
    """A rule without selectors: struct fib_rule_hdr, FRA_PRIORITY."""
    return struct.pack("BBBBBBBBI", IPV4, 0, 0, 0, table, 0, 0, 1, 0) + struct.pack("HHI", 8, 6, priority)


def route(ifindex, metric=0):
    """A route to 10.9.0.0/16 in main: struct rtmsg, RTA_DST, RTA_OIF, RTA_PRIORITY."""
    body = struct.pack("BBBBBBBBI", IPV4, 16, 0, 0, 254, 3, 253, 1, 0)
    body += struct.pack("HH4s", 8, 1, bytes((10, 9, 0, 0))) + struct.pack("HHI", 8, 4, ifindex)
    return body + struct.pack("HHI", 8, 6, metric)


def test_rules_come_behind_those_of_their_preference_and_go():
    """Each notification gives the state from its time on."""
    states = list(between(STATE, [arrived(5, 32, rule(8, 100)), arrived(9, 33, rule(7, 100))]))
    assert [[item.table for item in state.rules] for state in states] == [[7, 8], [8]]
    assert [(state.since_ns, state.unsure_ns) for state in states] == [(5, 4), (9, 8)]


def test_a_replaced_route_is_one_route():
    """Added, put in another's place, deleted: the state between is not lost."""
    told = [arrived(5, 24, route(2)), arrived(6, 24, route(3), 0x100), arrived(7, 25, route(3))]
    found = [[item.nexthops[0].ifindex for item in state.tables[254]] for state in between(STATE, told)]
    assert found == [[2], [3], []]


def test_what_cannot_be_applied_ends_it():
    """A device, or a second route of the same prefix: what comes after is read, not guessed."""
    link = arrived(6, 16, struct.pack("BxHiII", 0, 1, 2, 0, 0))
    assert len(list(between(STATE, [arrived(5, 24, route(2)), link, arrived(7, 24, route(3, 5))]))) == 1
    assert len(list(between(STATE, [arrived(5, 24, route(2)), arrived(6, 24, route(3))]))) == 1
    assert list(between(STATE, [arrived(5, 33, rule(9, 5))])) == []


def test_neighbours_do_not_end_it():
    """They are no part of the state."""
    neighbour = arrived(4, 28, struct.pack("BxxxiHBB", IPV4, 2, 2, 0, 1))
    (state,) = between(STATE, [neighbour, arrived(5, 24, route(2))])
    assert isinstance(state.tables[254][0], Route)
