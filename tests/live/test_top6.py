"""`fibtrace top` on IPv6: its counts are those of the packets, of the kernel's own counters, and of `trace`."""

from __future__ import annotations

import subprocess

import pytest

from tests.live.networks import client_router_server6
from tests.live.test_top import hits, top
from tests.live.tracing import capture, fibtrace

SERVER = "fd00:2::2"
COUNT = 1000
MANY = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for n in range(10):
    for i in range(n + 1):
        s.sendto(b"x", (f"fd00:3:{n + 1}::{i + 1}", 9))
"""
SOURCES = """
import socket
for low, count in (("1", 3), ("7fff", 5), ("8000", 7)):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind((f"fd00:9::{low}", 0))
    for _ in range(count):
        s.sendto(b"x", ("fd00:2::2", 9))
"""


@pytest.fixture(scope="module")
def net():
    """Client, router, server; the router's rules and routes differ in the first or in the last 64 bits."""
    with client_router_server6() as net:
        net.ip6(
            "r",
            "rule add pref 100 from fd00:1::/64 to fd00:2::/32 lookup 100",
            "rule add pref 150 from fd00:9::/113 lookup 100",
            "rule add pref 200 from fd00:8::/64 prohibit",
            "route add fd00:2::/64 dev r1 table 100",
            "route add blackhole fd00:2:77::/64 table 100",
            *(f"route add fd00:3:{number}::/64 via {SERVER}" for number in range(1, 11)),
        )
        net.ip6("c", *(f"addr add fd00:9::{low}/128 dev lo nodad" for low in ("1", "7fff", "8000")))
        net.ip6("c", "addr add fd00:8::1/128 dev lo nodad")
        net.ip6("s", "route add local fd00:3::/32 dev lo")
        net.ip("r", "route add 192.0.2.0/24 dev r1")
        yield net


def forwarded(net):
    """How many packets the router has forwarded so far (Ip6OutForwDatagrams)."""
    command = net.inside("r", "cat", "/proc/net/snmp6")
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return int(dict(line.split() for line in lines)["Ip6OutForwDatagrams"])


def test_a_thousand_packets_are_a_thousand_hits(net):
    """Rule 100, its route and its table count each packet once; rules together count every lookup."""
    before = forwarded(net)
    rows, (decisions, lookups, drops, lost), _ = top(
        net, net.udp("c", SERVER, 7777, "--count", COUNT), "--purpose", "input", "--dst", "fd00:2::/64"
    )
    there = forwarded(net) - before
    by_rule = hits(rows, "rule", "rule")
    assert (by_rule, lost, drops) == ({"0": COUNT, "100": COUNT}, 0, 0)
    assert decisions == COUNT <= there
    assert sum(by_rule.values()) == lookups == sum(hits(rows, "table", "table_id").values())
    assert hits(rows, "route", "prefix") == {"fd00:2::/64": COUNT}
    assert hits(rows, "verdict", "verdict") == {"forward": COUNT}
    assert hits(rows, "caller", "caller") == {"ip6_route_input": COUNT}
    assert {row["family"] for row in rows} == {"6"}
    assert {row["evidence"] for row in rows if row["by"] == "route"} == {"observed"}


def test_prefixes_of_one_gateway_are_told_apart(net):
    """Ten routes that are the same but for the prefix are counted each by its own packets."""
    rows, (*_, lost), _ = top(net, net.python("c", MANY), "--purpose", "input", "--dst", "fd00:3::/32")
    assert lost == 0
    assert hits(rows, "route", "prefix") == {f"fd00:3:{n}::/64": n for n in range(1, 11)}


def test_rules_tell_sources_apart_in_the_last_bits(net):
    """A rule from a /113 has the packets of its sources, and not those of the address right behind it."""
    rows, (_, lookups, _, lost), _ = top(
        net, net.python("c", SOURCES), "--purpose", "input", "--src", "fd00:9::/64"
    )
    by_rule = hits(rows, "rule", "rule")
    assert by_rule == {"0": 15, "150": 8, "32766": 7}
    assert (sum(by_rule.values()), lost) == (lookups, 0)


def test_a_filter_looks_at_all_128_bits(net):
    """A prefix of /113 leaves out the source right behind it; one of IPv4 leaves out every lookup of IPv6."""
    command = net.python("c", SOURCES)
    rows, *_ = top(net, command, "--purpose", "input", "--src", "fd00:9::/113")
    assert hits(rows, "route", "prefix") == {"fd00:2::/64": 8}
    for words in (["--family", "4"], ["--src", "0.0.0.0/0"]):
        rows, (decisions, *_), _ = top(net, command, *words)
        assert (rows, decisions) == ([], 0)


def test_a_rule_that_refuses_is_counted(net):
    """A prohibit rule searches no table: it is worked out from the walk that ended before it."""
    code = "import socket\ns = socket.socket(10, 2)\ns.bind(('fd00:8::1', 0))\nfor i in range(30): s.sendto(b'x', ('fd00:2::2', 9))"  # noqa: E501
    rows, (_, lookups, *_), _ = top(net, net.python("c", code), "--src", "fd00:8::/64", "--purpose", "input")
    by_rule = hits(rows, "rule", "rule")
    assert by_rule == {"0": 30, "200": 30}
    assert sum(by_rule.values()) == lookups + 30


def test_a_route_that_refuses_is_counted_with_its_drops(net):
    """A blackhole route has its packets as hits, and the packets are dropped for a reason."""
    rows, (*_, drops, lost), _ = top(
        net, net.udp("c", "fd00:2:77::1", 7777, "--count", 20), "--dst", "fd00:2:77::/64"
    )
    assert (drops, lost) == (20, 0)
    assert hits(rows, "route", "prefix") == {"fd00:2:77::/64": 20}


def test_a_send_that_is_tried_twice_is_one_refusal(net):
    """Without a source a refused send is looked up again with one: two decisions, one drop."""
    net.ip("c", "route add prohibit fd00:66::/64")
    rows, (decisions, *_), _ = top(
        net, net.udp("c", "fd00:66::1", 9, "--count", 3), "--dst", "fd00:66::/64", netns="c"
    )
    assert decisions == 6
    assert hits(rows, "verdict", "verdict") == {"drop": 3}
    assert hits(rows, "route", "prefix") == {"fd00:66::/64": 6}


def test_counts_are_those_of_a_trace(net, tmp_path):
    """What trace shows packet by packet, top counts: per rule and per prefix, for the same traffic."""
    traffic = net.udp("c", SERVER, 7777, "--count", 50)
    rows, *_ = top(net, traffic, "--purpose", "input", "--dst", SERVER)
    frame = capture(tmp_path, traffic, "--dst", SERVER, only=net.inodes).frame
    seen = frame[(frame["netns"] == net["r"]) & (frame["event"] == "lookup") & (frame["purpose"] == "input")]
    counted = {str(rule): int(n) for rule, n in seen["rule"].value_counts().items()}
    assert hits(rows, "rule", "rule") == counted == {"0": 50, "100": 50}
    won = seen[seen["result"] == "hit"]["prefix"].value_counts()
    assert hits(rows, "route", "prefix") == {prefix: int(n) for prefix, n in won.items() if n}


def test_what_is_not_hit_is_listed_by_family(net):
    """--unused names rules and routes of both families, or of the one that is asked for."""
    command = net.udp("c", SERVER, 7777, "--count", 5)
    rows, *_ = top(net, command, "--unused")
    never = {(row["family"], row["rule"]) for row in rows if row["by"] == "rule"}
    assert {("4", "32767"), ("6", "150"), ("6", "200")} <= never
    assert not never & {("6", "0"), ("6", "100")}
    routes = {(row["family"], row["prefix"]) for row in rows if row["by"] == "route"}
    assert {("4", "192.0.2.0/24"), ("6", "fd00:3:1::/64"), ("6", "fd00:2:77::/64")} <= routes
    for family in ("4", "6"):
        chosen, *_ = top(net, command, "--unused", "--family", family)
        assert {row["family"] for row in chosen} == {family}


def test_prefixes_of_both_families_are_a_usage_error():
    """No lookup has addresses of both families, so such a filter is refused."""
    done = fibtrace("top", "--once", "--src", "fd00::/8", "--dst", "10.0.0.0/8")
    assert (done.returncode, done.stdout) == (2, "")
    assert "both address families" in done.stderr
