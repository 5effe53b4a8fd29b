"""What is said of an IPv6 lookup: the route that was read, found again in the configuration, and nothing beside it."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from ipaddress import IPv6Address

import numpy as np
import pytest

from tests.unit.correlate.records import R0, R1, Packet, R, Scene, fails, hit, miss
from tests.unit.outputs.worlds import NAMES, state
from tracer.correlate.callers import Purpose
from tracer.correlate.observed import HINT_PREFIX
from tracer.enrich.inference import explain_decision
from tracer.enrich.intervals import leading, numbers6
from tracer.enrich.packet_names import packet_info
from tracer.enrich.reasons import drop_words
from tracer.model.network import IPV6, Nexthop, NexthopObject, Route, Rule

PACKET = Packet("fd00:1::2", "fd00:2::2", ethertype=0x86DD)
RULES = (
    Rule(IPV6, 0, "lookup", 255),
    Rule(IPV6, 100, "lookup", 7, src=int(IPv6Address("fd00:1::")), src_len=64),
)


def number(text):
    return int(IPv6Address(text))


def route(table=7, length=64, **more):
    own = {"dst": number("fd00:2::"), "dst_len": length, "metric": 1024, "protocol": 3}
    ways = (Nexthop(R1.ifindex, IPV6, number("fd00:9::1")),)
    return Route(IPV6, table, **{**own, "nexthops": ways, **more})


def world(*routes, **more):
    return replace(state(R), rules6=RULES, tables6={255: (), 7: routes}, **more)


def seen(**more):
    """Fields of a record whose route was read."""
    found = {"hints": HINT_PREFIX, "prefix_length": 64, "priority": 1024, "route_protocol": 3}
    gateway = {"gateway": "fd00:9::1", "gateway_family": socket.AF_INET6}
    return {**found, **gateway, **more}


def explain(search, fields, *known):
    scene = Scene()
    scene.softirq().decide(PACKET.key(R0), "input6", miss(255))
    scene.softirq().decide(PACKET.key(R0), "input6", search, **fields)
    return explain_decision(list(scene.records()), Purpose.INPUT, "ip6_route_input", known, NAMES)


def test_prefix_and_route_are_observed_and_the_rule_is_inferred():
    """The prefix was read, so only the rule marks the lookup as inferred."""
    found = explain(hit(7, R1), seen(), world(route()))
    last = found.lookups[-1]
    assert (last["rule"], last["rule_text"]) == (100, "from fd00:1::/64 lookup 7")
    assert (last["prefix"], last["gateway"], last["dev"]) == ("fd00:2::/64", "fd00:9::1", "r1")
    assert found.route == route()
    assert last["evidence"] == "inferred"


@pytest.mark.parametrize(
    "other",
    [
        route(length=48),
        route(dst=number("fd00:3::")),
        route(metric=10),
        route(protocol=9),
        route(src=number("fd00:1::"), src_len=64),
        route(nexthops=(Nexthop(R1.ifindex, IPV6, number("fd00:9::2")),)),
        route(type=2),
    ],
)
def test_a_route_that_differs_is_not_taken_for_it(other):
    """The prefix stands as it was read; the route of the configuration is another."""
    found = explain(hit(7, R1), seen(), world(other))
    assert found.lookups[-1]["prefix"] == "fd00:2::/64"
    assert found.route is None


def test_a_route_for_a_source_is_told_from_one_for_all():
    """By the length of the source prefix that was read."""
    mine = route(src=number("fd00:1::"), src_len=64)
    assert explain(hit(7, R1), seen(length=64), world(route(), mine)).route == mine


def test_a_route_through_an_object_is_found_by_its_nexthop():
    """Its table, type, protocol and metric are known, unlike in IPv4."""
    objects = {5: NexthopObject(5, IPV6, R1.ifindex, IPV6, number("fd00:9::1"))}
    known = route(nhid=5, nexthops=())
    found = explain(hit(7, R1), seen(nexthop_id=5), world(known, nexthops=objects))
    assert found.route == known
    assert found.lookups[-1]["route_type"] == "unicast"


@pytest.mark.parametrize(
    ("error", "kind", "result"),
    [
        (errno.EHOSTUNREACH, 7, "unreachable"),
        (errno.EACCES, 8, "prohibit"),
        (errno.EINVAL, 6, "blackhole"),
        (errno.EAGAIN, 9, "throw"),
    ],
)
def test_a_route_that_refuses_is_named(error, kind, result):
    """A search that ends in it is no miss, and its prefix is known."""
    found = explain(fails(7, error), seen(route_type=kind, owner_table=7), world())
    last = found.lookups[-1]
    assert (last["result"], last["prefix"], last["route_type"]) == (result, "fd00:2::/64", result)


def test_intervals_of_ipv6_are_those_of_the_rules():
    """Addresses between which no rule can tell have one number."""
    texts = ("fd00:0:ffff::", "fd00:1::", "fd00:1::2", "fd00:1:0:1::", "ffff::")
    packed = np.frombuffer(b"".join(IPv6Address(text).packed for text in texts), np.uint8).reshape(-1, 16)
    before, first, second, after, last = numbers6(world(), packed).tolist()
    assert before < first == second < after == last


def test_leading_bits_are_those_of_the_prefix():
    """Also with lengths that end within a byte, and all or none of the bits."""
    packed = np.frombuffer(IPv6Address("ffff:ffff::ffff").packed * 3, np.uint8).reshape(-1, 16)
    kept = leading(packed, np.array([20, 128, 0]))
    assert [str(IPv6Address(row.tobytes())) for row in kept] == ["ffff:f000::", "ffff:ffff::ffff", "::"]


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (128 << 8, "echo request"), (135 << 8, "neighbour solicitation"), (1 << 8, "no route"),
        (1 << 8 | 4, "port unreachable"), (3 << 8, "hop limit exceeded"), (2 << 8, "packet too big"),
        (143 << 8, "multicast listener report"), (200 << 8 | 7, "type 200 code 7"), (0, None),
    ],
)  # fmt: skip
def test_messages_of_icmpv6_have_names(detail, words):
    """RFC 4443 and 4861."""
    assert packet_info(58, detail) == words


@pytest.mark.parametrize(
    ("place", "facts", "words"),
    [
        (("IP_INHDR", "ip6_forward"), {"ttl": "1"}, "the hop limit ran out"),
        (
            ("IP_INADDRERRORS", "ip6_forward"),
            {"src": "fe80::1"},
            "a packet from a link-local address is not forwarded",
        ),
        (
            ("NOT_SPECIFIED", "ip6_mc_input"),
            {"dst": "ff05::1", "in_dev": "r0"},
            "no member of the multicast group ff05::1",
        ),
        (("IP_INNOROUTES", "ip6_pkt_discard"), {"dst": "fd00::1"}, "no route to fd00::1"),
    ],
)
def test_drops_of_ipv6_have_words(place, facts, words):
    """By the kernel's reason and where it frees the packet."""
    reason, location = place
    assert drop_words(f"SKB_DROP_REASON_{reason}", location, None, facts).startswith(words)
