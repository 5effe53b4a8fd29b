"""Longest-prefix match without a kernel; tests/live compares it with `ip route get … fibmatch`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.enrich.routes import Observed, RouteTable, Selectors, match, route_text
from tracer.model.network import IPV4, IPV6, Link, NetworkState, Nexthop, NexthopObject, Route

E0, E1 = Nexthop(5), Nexthop(6)
LINKS = {5: Link(5, "e0"), 6: Link(6, "e1")}
TEN = 10 << 24


def route(dst=0, dst_len=0, **values):
    return Route(IPV4, 254, dst=dst, dst_len=dst_len, **{"nexthops": (E0,), **values})


def state_of(*routes, objects=()):
    return NetworkState(1, tables={254: routes}, links=LINKS, nexthops={item.id: item for item in objects})


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32)), max_size=20), st.integers(0, 255))
def test_the_longest_prefix_wins(prefixes, daddr):
    """The match equals a scan over all routes."""
    routes = [route(dst >> (32 - length) << (32 - length), length) for dst, length in prefixes]
    covering = [item for item in routes if daddr >> (32 - item.dst_len) == item.dst >> (32 - item.dst_len)]
    found = RouteTable(routes, {}).lookup(daddr)
    assert (found and found.dst_len) == (max(item.dst_len for item in covering) if covering else None)


def test_metric_tos_scope_device_and_dead_nexthops_decide():
    """Each restriction leads to the route that the kernel would take."""
    cheap, dear = route(TEN, 8, metric=5), route(TEN, 8, metric=9)
    assert RouteTable([dear, cheap], {}).lookup(TEN + 1) == cheap
    marked = route(TEN, 8, metric=99, tos=16)
    assert RouteTable([cheap, marked], {}).lookup(TEN + 1, Selectors(tos=16)) == marked
    assert RouteTable([cheap, marked], {}).lookup(TEN + 1, Selectors(tos=4)) == cheap
    other = route(nexthops=(E1,))
    assert RouteTable([cheap, other], {}).lookup(TEN + 1, Selectors(oif=6)) == other
    dead = route(TEN, 8, nexthops=(Nexthop(5, flags=1),), flags=1)
    assert RouteTable([dead, other], {}).lookup(TEN + 1) == other
    assert RouteTable([cheap], {}).lookup(TEN + 1, Selectors(scope=253)) is None


def test_a_route_that_fails_the_lookup_is_found():
    """throw and blackhole routes end the search of the table."""
    throw, default = route(TEN, 8, type=9, nexthops=()), route()
    state = state_of(throw, default)
    assert match(state, 254, TEN + 1, Observed(error=-11)) == throw
    assert match(state, 254, TEN + 1, Observed(error=-22)) is None
    assert match(state, 254, 1, Observed(error=-11)) is None


def test_a_nexthop_object_without_a_good_member_hides_its_leaf():
    """The kernel goes on with a shorter first address, past other routes of the same one."""
    objects = {1: NexthopObject(1, ifindex=5)}
    by_object = route(TEN, 16, nhid=1, nexthops=())
    hidden, behind = route(TEN, 8, nexthops=(E1,)), route(nexthops=(E1,))
    table = RouteTable([by_object, hidden, behind], objects)
    assert table.lookup(TEN + 1) == by_object
    assert table.lookup(TEN + 1, Selectors(oif=6)) == behind
    assert table.lookup(TEN + (1 << 16), Selectors(oif=6)) == hidden


HOP = Nexthop(5, IPV4, TEN + 9)
SEEN = Observed(type=1, protocol=3, scope=0, metric=7, gateway=TEN + 9, ifindex=5, nhid=0)


def test_a_route_that_agrees_is_returned():
    """All observed fields equal: this is the route."""
    mine = route(protocol=3, metric=7, nexthops=(HOP,))
    assert match(state_of(mine), 254, 1, SEEN) == mine
    assert match(state_of(mine), 253, 1, SEEN) is None


@pytest.mark.parametrize("field", ["type", "protocol", "scope", "metric", "gateway", "ifindex", "error"])
def test_one_field_that_differs_makes_the_route_unknown(field):
    """A stale table must never lend its prefix to a lookup that ended elsewhere."""
    mine = route(protocol=3, metric=7, nexthops=(HOP,))
    assert match(state_of(mine), 254, 1, SEEN._replace(**{field: 99})) is None


def test_any_nexthop_of_a_multipath_route_agrees():
    """The tracepoint shows the first good one, which need not be the first."""
    mine = route(nexthops=(HOP, Nexthop(6, IPV6, 1)))
    assert match(state_of(mine), 254, 1, Observed(gateway=1, ifindex=6)) == mine
    assert match(state_of(mine), 254, 1, Observed(gateway=1, ifindex=5)) is None


def test_nexthop_objects_are_matched_by_id():
    """The probe reads the member's id, the route has the group's, and no field of the route itself."""
    objects = (
        NexthopObject(1, ifindex=5),
        NexthopObject(2, ifindex=6),
        NexthopObject(9, group=((1, 1), (2, 3))),
    )
    mine = route(nhid=9, nexthops=(), protocol=3)
    state = state_of(mine, objects=objects)
    assert match(state, 254, 1, Observed(0, 0, 0, 0, 0, 6, 2)) == mine
    assert match(state, 254, 1, Observed(0, 0, 0, 0, 0, 6, 3)) is None
    assert match(state_of(route()), 254, 1, Observed(0, 0, 0, 0, 0, 5, 1)) is None


def test_route_text_is_what_ip_route_prints():
    """The forms that the tree shows, one by one."""
    state = state_of()
    assert route_text(route(nexthops=(HOP,)), state) == "default via 10.0.0.9 dev e0"
    assert route_text(route(TEN, 24), state) == "10.0.0.0/24 dev e0"
    assert route_text(route(TEN + 2, 32, type=2), state) == "local 10.0.0.2 dev e0"
    assert route_text(route(TEN, 24, type=6, nexthops=()), state) == "blackhole 10.0.0.0/24"
    two = (Nexthop(5, IPV4, TEN + 9), Nexthop(6, IPV6, 1, weight=3))
    assert route_text(route(nexthops=two), state) == (
        "default nexthop via 10.0.0.9 dev e0 weight 1 nexthop via inet6 ::1 dev e1 weight 3"
    )
    assert route_text(route(nhid=10, nexthops=(HOP,)), state) == "default nhid 10 via 10.0.0.9 dev e0"
    assert route_text(route(nexthops=(Nexthop(77),)), state) == "default dev if77"
