"""One decision, explained: which rule led to each lookup, which route it ended in, and what came of it."""

from __future__ import annotations

import socket

import pytest

from tests.unit.correlate.records import BRIDGE, KINDS, LOCAL, R0, R1, Packet, R, Scene, fails, hit, miss
from tests.unit.outputs.worlds import LOCAL_RULE, MAIN_RULE, NAMES, SOURCE_RULE, route, state
from tracer.correlate.callers import Purpose
from tracer.enrich.inference import address, choose_nexthop, device, explain_decision
from tracer.model.network import Nexthop, NexthopObject, Route, Rule

IPV4 = int(socket.AF_INET)
PACKET = Packet()
OBJECT = 4


def explain(*searches, key=None, states=None, purpose=Purpose.INPUT, **fields):
    """The lookups of one input decision in the router, or with another key."""
    scene = Scene()
    scene.softirq().decide(PACKET.key(R0) if key is None else key, "input", *searches, **fields)
    records = list(scene.records())
    assert all(record["kind"] == KINDS.LOOKUP for record in records)
    return explain_decision(
        records, purpose, "ip_route_input_slow", states if states is not None else (state(R),), NAMES
    )


def told(explained, *names):
    return [tuple(row.get(name) for name in names) for row in explained.lookups]


@pytest.mark.parametrize(
    ("family", "raw", "text"),
    [
        (0, bytes(16), ""),
        (2, bytes([10, 1, 0, 2]) + bytes(12), "10.1.0.2"),
        (10, b"\xfe\x80" + bytes(13) + b"\1", "fe80::1"),
    ],
)
def test_addresses_of_either_family_become_text(family, raw, text):
    """IPv4 in the first four bytes; no family is no address."""
    assert address(family, raw) == text


def test_devices_have_names_or_numbers():
    """None for no device."""
    assert device(state(R), R1.ifindex) == "r1"
    assert device(state(R), 77) == "if77"
    assert device(None, 3) == "if3"
    assert device(state(R), 0) is None


def test_each_lookup_gets_its_rule_and_its_prefix():
    """Both are inferred and marked so."""
    found = explain(miss(255), hit(100, R1))
    assert told(found, "rule", "rule_text", "result", "prefix", "evidence") == [
        (0, "from all lookup local", "miss", None, "inferred"),
        (100, "from 10.1.0.0/24 lookup 100", "hit", "0.0.0.0/0", "inferred"),
    ]
    assert (found.decision["result"], found.decision["prefix"], found.decision["dev"]) == (
        "unicast",
        "0.0.0.0/0",
        "r1",
    )
    assert (found.rule, found.merged) == (SOURCE_RULE, False)
    assert found.devices == {"r1"}


def test_a_gateway_of_the_other_family_is_shown():
    """IPv4 through IPv6 (RFC 5549)."""
    gateway = int.from_bytes(socket.inet_pton(socket.AF_INET6, "fe80::9"), "big")
    through = Route(IPV4, 100, nexthops=(Nexthop(3, 10, gateway),))
    known = state(R, tables={254: (), 255: (), 100: (through,)})
    scene = Scene()
    scene.softirq().decide(PACKET.key(R0), "input", miss(255), hit(100, R1))
    records = scene.records()
    records["gateway_family"][1] = 10
    records["gateway"][1] = list(gateway.to_bytes(16, "big"))
    found = explain_decision(list(records), Purpose.INPUT, "", (known,), NAMES)
    assert told(found, "gateway", "prefix")[1] == ("fe80::9", "0.0.0.0/0")


def test_without_a_configuration_only_what_was_seen_is_told():
    """Tables by number, devices by index, and no rule."""
    found = explain(miss(255), hit(100, R1), states=())
    assert told(found, "rule", "rule_text", "prefix", "table", "dev", "evidence")[1] == (
        None,
        None,
        None,
        "100",
        "if3",
        "observed",
    )
    assert found.route is None
    assert found.rule is None


def test_the_first_state_that_explains_the_walk_is_taken():
    """If none does, the likeliest names the devices, and no rule is told."""
    without = state(R, rules=(LOCAL_RULE, MAIN_RULE), links={})
    assert told(explain(miss(255), hit(100, R1), states=(without, state(R))), "rule", "dev")[1] == (100, "r1")
    assert told(explain(miss(255), hit(100, R1), states=(without,)), "rule", "dev")[1] == (None, "if3")


def test_a_throw_is_told_from_a_miss_by_the_route():
    """The kernel returns -EAGAIN for both."""
    known = state(
        R,
        tables={254: (route("0.0.0.0/0", dev=3),), 255: (), 100: (route("10.2.0.0/16", table=100, type=9),)},
    )
    found = explain(miss(255), miss(100), hit(254, R1), states=(known,))
    assert told(found, "rule", "result", "prefix") == [
        (0, "miss", None),
        (100, "throw", "10.2.0.0/16"),
        (32766, "hit", "0.0.0.0/0"),
    ]


def test_a_hit_that_the_rule_suppressed_is_told():
    """The walk went on after a hit."""
    rules = (
        LOCAL_RULE,
        Rule(IPV4, 500, "lookup", table=254, suppress_prefixlength=0),
        Rule(IPV4, 510, "lookup", table=100),
    )
    known = state(
        R,
        rules=rules,
        tables={254: (route("0.0.0.0/0", dev=2),), 255: (), 100: (route("0.0.0.0/0", table=100, dev=3),)},
    )
    found = explain(miss(255), hit(254, R0), hit(100, R1), states=(known,))
    assert told(found, "rule", "result") == [(0, "miss"), (500, "suppressed"), (510, "hit")]
    assert found.decision["dev"] == "r1"


@pytest.mark.parametrize(
    ("kind", "error", "result"),
    [(6, 22, "blackhole"), (7, 113, "unreachable"), (8, 13, "prohibit")],
)
def test_a_route_that_refuses_is_named(kind, error, result):
    """By its type and prefix, which the lookup did not show."""
    known = state(R, tables={254: (), 255: (), 100: (route("10.2.0.0/16", table=100, type=kind),)})
    found = explain(miss(255), fails(100, error), states=(known,))
    assert told(found, "result", "prefix", "route_type", "rule")[1] == (result, "10.2.0.0/16", result, 100)
    assert found.decision["result"] == result
    assert found.extra is None
    assert found.devices == frozenset()


@pytest.mark.parametrize(("action", "error"), [("blackhole", -22), ("unreachable", -101), ("prohibit", -13)])
def test_a_rule_that_refuses_gets_a_row_of_its_own(action, error):
    """It ends the walk without a lookup."""
    known = state(R, rules=(LOCAL_RULE, Rule(IPV4, 60, action)))
    found = explain(miss(255), states=(known,))
    assert (found.extra["rule"], found.extra["result"], found.extra["error"], found.extra["evidence"]) == (
        60,
        action,
        error,
        "inferred",
    )
    assert found.decision["result"] == action
    assert found.rule.priority == 60


def test_a_walk_that_ran_out_of_rules_found_no_route():
    """Whatever the last lookup was."""
    found = explain(miss(255), miss(254), key=Packet(src="10.9.9.9", dst="10.99.0.1").key(R0))
    assert found.decision["result"] == "no route"
    assert found.extra is None


def test_an_unknown_error_is_shown_as_the_kernel_gave_it():
    """By its name, or as a number."""
    assert told(explain(fails(254, 12)), "result") == [("ENOMEM",)]
    assert told(explain(fails(254, 4000)), "result") == [("-4000",)]


def test_a_nexthop_object_shows_nothing_that_was_not_read():
    """Type and scope of the route are unknown then, unless the configuration has the route with that object."""
    known = state(
        R,
        tables={254: (), 255: (), 100: (Route(IPV4, 100, nhid=5, scope=0),)},
        nexthops={5: NexthopObject(5, IPV4, ifindex=3)},
    )
    found = explain(miss(255), hit(100, R1), states=(known,), hints=OBJECT, nexthop_id=5)
    assert told(found, "prefix", "route_type", "scope")[1] == ("0.0.0.0/0", "unicast", "universe")
    other = explain(miss(255), hit(100, R1), states=(known,), hints=OBJECT, nexthop_id=6)
    assert told(other, "prefix", "route_type", "scope")[1] == (None, None, None)


def test_an_address_lookup_asks_no_rule():
    """inet_addr_type searches one table: its key is all zero, its lookup has no rule."""
    found = explain(miss(255), key={"daddr": "10.2.0.2"}, purpose=Purpose.OTHER)
    assert told(found, "rule", "rule_text", "result") == [(None, None, "miss")]


def test_local_and_main_in_one_trie_are_told_by_the_owner():
    """The kernel walked main and found a route of local: both are shown, and the rule is local's."""
    rules = (LOCAL_RULE, MAIN_RULE, Rule(IPV4, 32767, "lookup", table=253))
    known = state(R, rules=rules)
    packet = Packet(dst="10.1.0.1")
    found = explain(hit(254, R0, LOCAL), key=packet.key(R0), states=(known,), owner_table=255)
    assert told(found, "table", "table_id", "walked_table_id", "rule", "prefix") == [
        ("local", 255, 254, 0, "10.1.0.1/32")
    ]
    assert found.merged


@pytest.mark.parametrize(
    ("hints", "stack", "evidence"),
    [(0, "input", "observed"), (2, "input", "inferred"), (0, None, "inferred")],
)
def test_the_purpose_is_observed_only_with_a_stack_of_its_own(hints, stack, evidence):
    """A shared stack, or none, is an inference."""
    scene = Scene()
    scene.softirq().decide(PACKET.key(R0), stack, hit(254, R1), hints=hints)
    found = explain_decision(list(scene.records()), Purpose.INPUT, "", (), NAMES)
    assert found.decision["evidence"] == evidence


def test_every_device_of_a_multipath_route_is_known():
    """A source check passes through any of them."""
    both = Route(IPV4, 100, nexthops=(Nexthop(2), Nexthop(3)))
    known = state(R, tables={254: (), 255: (), 100: (both,)})
    assert explain(miss(255), hit(100, R1), states=(known,)).devices == {"r0", "r1"}


def gatewayed(*ways):
    """A route of several nexthops, given as (device, last byte of the gateway)."""
    nexthops = tuple(
        Nexthop(dev.ifindex, IPV4 if last else 0, 0x0A020000 + last if last else 0) for dev, last in ways
    )
    return state(R, tables={254: (), 255: (), 100: (Route(IPV4, 100, nexthops=nexthops),)})


@pytest.mark.parametrize(
    ("ways", "used", "dev", "gateway"),
    [
        (((R1, 0), (R0, 7)), R0, "r0", "10.2.0.7"),
        (((R1, 0), (R0, 7)), R1, "r1", None),
        (((R1, 0), (R0, 7), (R0, 8)), R0, "r0", None),
        (((R1, 0), (R0, 7)), BRIDGE, None, None),
    ],
)
def test_of_a_multipath_route_the_nexthop_used_is_shown(ways, used, dev, gateway):
    """By the device the packet left by; a gateway only when that tells which."""
    known = gatewayed(*ways)
    found = explain(miss(255), hit(100, R1), states=(known,))
    choose_nexthop(found, known, used.ifindex)
    assert told(found, "dev", "gateway")[1] == (dev, gateway)
    assert (found.decision["dev"], found.decision["gateway"]) == (dev, gateway)
    assert found.decision["evidence"] == "inferred"


def test_a_single_nexthop_stays_what_the_probe_saw():
    """Whatever device the packet left by; the same without a configuration."""
    found = explain(miss(255), hit(100, R1))
    choose_nexthop(found, state(R), R0.ifindex)
    assert told(found, "dev")[1] == ("r1",)
    assert found.decision["evidence"] == "observed"
    choose_nexthop(found, None, R0.ifindex)
    assert told(found, "dev")[1] == ("r1",)
