"""The walk, the route and the source check in lines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.enrich.test_rules import LOCAL, MAIN, ip
from tests.unit.outputs.worlds import NAMES
from tracer.enrich.checks import Check, changes, mode_text
from tracer.enrich.choice import Chosen, route_lines
from tracer.enrich.inference import Explained
from tracer.enrich.route_words import full_route_text
from tracer.enrich.selectors import FlowKey
from tracer.enrich.why import Found, merged_lines, walk_lines
from tracer.model.network import (
    IPV4,
    Address,
    DeviceSettings,
    Link,
    NetworkState,
    Nexthop,
    NexthopObject,
    Route,
    Rule,
)
from tracer.model.why import Why, from_text, to_text

LINKS = {1: Link(1, "lo", up=True), 2: Link(2, "e0", up=True, group=7), 3: Link(3, "e1", up=True)}
FLOW = FlowKey(saddr=ip("10.1.0.2"), daddr=ip("10.2.0.2"), iif=2)
DEFAULT = Route(IPV4, 254, nexthops=(Nexthop(2, IPV4, ip("10.1.0.1")),))


def state(*rules, routes=(DEFAULT,), **more):
    tables = dict.fromkeys((100, 254, 255), ())
    for route in routes:
        tables[route.table] = (*tables[route.table], route)
    return NetworkState(1, rules=(LOCAL, *rules, MAIN), tables=tables, links=LINKS,
                        table_names={254: "main", 255: "local"}, **more)  # fmt: skip


def told(known, *found, flow=FLOW):
    lines = walk_lines(known, flow, (Found(LOCAL, 255, "miss"), *found), NAMES)
    return [
        (line.rule, line.matched, line.result or line.lookup, line.text)
        for line in lines
        if line.kind == "rule"
    ]


def test_rules_stand_in_order_with_what_became_of_them():
    """Rules without a lookup say why there is none; those with one point to it."""
    rules = (
        Rule(IPV4, 10, "lookup", table=100, src=ip("10.9.0.0"), src_len=16),
        Rule(IPV4, 20, "nop"),
        Rule(IPV4, 30, "lookup", table=77),
        Rule(IPV4, 40, "goto", target=60),
        Rule(IPV4, 50, "blackhole"),
        Rule(IPV4, 60, "lookup", table=100),
    )
    found = (Found(rules[-1], 100, "throw"), Found(MAIN, 254, "hit", DEFAULT))
    assert told(state(*rules), *found) == [
        (0, True, 0, ""),
        (10, False, "no", "from 10.9.0.0/16 ∌ 10.1.0.2"),
        (20, True, "nop", ""),
        (30, True, "no table", "there is no table 77"),
        (40, True, "goto", "goes on at 60"),
        (60, True, 1, "a throw route: on with the next rule"),
        (32766, True, 2, ""),
    ]


def test_a_rule_that_ends_the_walk_is_its_last_line():
    """Nothing is said of the rules behind one that refuses."""
    refusing = Rule(IPV4, 10, "prohibit")
    assert told(state(refusing), Found(refusing, None, "prohibit"))[-1] == (10, True, 1, "")


@pytest.mark.parametrize(
    ("suppressing", "text"),
    [
        ({"suppress_prefixlength": 0}, "thrown away: prefix length 0 ≤ suppress_prefixlength 0"),
        ({"suppress_ifgroup": 7}, "thrown away: e0 is in group 7 (suppress_ifgroup)"),
    ],
)
def test_a_hit_that_is_thrown_away_says_why(suppressing, text):
    """By its prefix or by the group of its device."""
    rule = Rule(IPV4, 10, "lookup", table=254, **suppressing)
    found = (Found(rule, 254, "suppressed", DEFAULT), Found(MAIN, 254, "hit", DEFAULT))
    assert told(state(rule), *found)[1] == (10, True, 1, text)


def test_a_rule_that_cannot_be_evaluated_is_unknown_where_no_lookup_tells():
    """With the lookup that it led to, it is known to have matched; without, nothing is claimed."""
    rule = Rule(IPV4, 10, "lookup", table=100, unknown=((31, "00"),))
    hit = Found(MAIN, 254, "hit", DEFAULT)
    assert told(state(rule), hit)[1][:3] == (10, None, "unknown")
    assert told(state(rule), Found(rule, 100, "miss"), hit)[1][:3] == (10, True, 1)


def test_lookups_without_a_rule_end_the_claims():
    """Where no rule is known to have led to a lookup, every lookup still has its line, and that is said."""
    lines = walk_lines(state(), FLOW, (Found(LOCAL, 255, "miss"), Found(None, 254, "hit")), NAMES)
    assert [line.lookup for line in lines if line.kind == "rule"] == [0, 1]
    assert lines[-1].text == "which rules led to these lookups is not known"


def test_all_rules_in_vain_are_no_route():
    """The walk that found nothing goes through every rule and says so."""
    lines = walk_lines(state(), FLOW, (Found(LOCAL, 255, "miss"), Found(MAIN, 254, "miss")), NAMES)
    assert (lines[-1].kind, lines[-1].text) == ("walk", "no rule is left: no route")


def test_one_trie_asks_no_rule():
    """While no rule was ever added, no rule is said to have matched or not."""
    lines = merged_lines((Found(MAIN, 254, "hit"),))
    assert [line.kind for line in lines] == ["walk", "rule"]
    assert [line.matched for line in lines] == [None, None]


def lines_of(known, route, flow=FLOW, **chosen):
    return [
        (line.kind, line.text)
        for line in route_lines(known, flow, Chosen(route, **chosen), NAMES, output=True)
    ]


def test_routes_passed_over_are_named_with_the_reason():
    """A longer prefix that did not count is told, and why; one that counts as well is not."""
    dead = Route(IPV4, 254, ip("10.2.0.0"), 16, nexthops=(Nexthop(3, flags=1),))
    tos = Route(IPV4, 254, ip("10.2.0.0"), 24, tos=0x08, nexthops=(Nexthop(3),))
    other = Route(IPV4, 254, ip("10.3.0.0"), 24, nexthops=(Nexthop(3),))
    said = [
        text
        for kind, text in lines_of(state(routes=(DEFAULT, dead, tos, other)), DEFAULT)
        if "passed" in text
    ]
    assert [text.rpartition(": ")[2] for text in said] == ["dead", "tos 0x08 ≠ 0x00"]


def test_members_of_a_multipath_route_have_their_shares():
    """Weights, the dead one, the one that was taken, and what is hashed."""
    hops = (Nexthop(2, weight=1), Nexthop(3, weight=3), Nexthop(3, IPV4, 9, 1, flags=1))
    route = Route(IPV4, 254, nexthops=hops)
    known = state(routes=(route,), sysctls={"net.ipv4.fib_multipath_hash_policy": 1})
    said = [text for kind, text in lines_of(known, route, dev="e0") if kind == "nexthop"]
    assert said == [
        "one of 3, by a hash of addresses, protocol and ports (fib_multipath_hash_policy 1)",
        "dev e0 weight 1 (25 %): chosen",
        "dev e1 weight 3 (75 %)",
        "via 0.0.0.9 dev e1 weight 1 (0 %): dead",
    ]
    unknown = [text for kind, text in lines_of(state(routes=(route,)), route) if kind == "nexthop"]
    assert "is not known" in unknown[0]


def test_a_group_of_nexthop_objects_is_named():
    """The object, its members and weights."""
    objects = {
        1: NexthopObject(1, IPV4, 2),
        2: NexthopObject(2, IPV4, 3),
        5: NexthopObject(5, group=((1, 1), (2, 4))),
    }
    route = Route(IPV4, 254, nhid=5)
    said = lines_of(state(routes=(route,), nexthops=objects), route)
    assert ("nexthop", "nexthop object 5: a group of 1 (weight 1), 2 (weight 4)") in said


@pytest.mark.parametrize(
    ("route", "source"),
    [
        (replace(DEFAULT, prefsrc=ip("10.1.0.9")), "10.1.0.9: the preferred source (src) of the route"),
        (DEFAULT, "10.1.0.2: the address of e0 in the network of the gateway 10.1.0.1"),
        (Route(IPV4, 254, scope=253, nexthops=(Nexthop(2),)), "10.7.0.1: the first usable address of e0"),
        (
            Route(IPV4, 254, nexthops=(Nexthop(3),)),
            "10.7.0.1: the first usable address of e0, as e1 has none",
        ),
    ],
)
def test_the_source_says_where_it_is_from(route, source):
    """The route's own, the gateway's network, the first of the device, or that of another device."""
    addresses = (Address(IPV4, 2, ip("10.7.0.1"), 24), Address(IPV4, 2, ip("10.1.0.2"), 24))
    said = lines_of(state(routes=(route,), addresses=addresses), route, FLOW._replace(saddr=0))
    assert said[-1] == ("source", source)
    assert lines_of(state(routes=(route,)), route)[-1] == ("source", "10.1.0.2: named by the sender")


def test_a_route_is_printed_in_full():
    """Protocol, scope, source, metric, flags and metrics, in the order of `ip route`."""
    route = replace(
        DEFAULT, protocol=4, prefsrc=ip("10.1.0.2"), metric=50, flags=4, metrics=((1, 4), (2, 1400))
    )
    names = NAMES.__class__(
        **{**{f: getattr(NAMES, f) for f in NAMES.__dataclass_fields__}, "protocols": {4: "static"}}
    )
    assert full_route_text(route, state(), names) == (
        "default via 10.1.0.1 dev e0 proto static src 10.1.0.2 metric 50 onlink mtu lock 1400"
    )


def failed_check(result, **row):
    lookup = {"rule": 100, "rule_text": "from all lookup 100", "table": "100", "dev": "e1", **row}
    return Explained([lookup], {"result": result}, flow=FLOW)


def test_what_would_change_a_failed_check_fits_its_cause():
    """Loose mode is named only where it would help, and `accept_local` only for an own address."""
    known = state(settings={"all": DeviceSettings(), "e0": DeviceSettings(rp_filter=1)})
    assert mode_text(known, "e0") == "rp_filter on e0: strict (1), the larger of all 0 and e0 1"
    elsewhere = changes(known, failed_check("unicast"), Check("e0", failed=True))
    assert "table 100" in elsewhere[0]
    assert "loose" in elsewhere[1]
    assert not any(
        "loose" in text for text in changes(known, failed_check("no route"), Check("e0", failed=True))
    )
    assert "accept_local" in changes(known, failed_check("local"), Check("e0", failed=True))[0]
    marked = changes(known, failed_check("unicast"), Check("e0", 0x5, failed=True))
    assert "src_valid_mark" in marked[-1]


def test_lines_survive_the_way_through_rows():
    """What is written into the column comes back the same, and nothing is no text."""
    lines = (Why("rule", "", "observed", 10, "from all", True, "", 0), Why("source", "x"))
    assert from_text(to_text(lines)) == lines
    assert to_text(()) is None
