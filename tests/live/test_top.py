"""`fibtrace top`: its counts are those of the packets that were sent, of the kernel's own counters, and of `trace`."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess

import pytest

from tests.live.networks import client_router_server
from tests.live.tracing import capture, fibtrace

SERVER = "10.2.0.2"
COUNT = 1000


@pytest.fixture(scope="module")
def net():
    """Client, router, server; the router has rules, a table of its own, and prefixes that share one gateway."""
    with client_router_server() as net:
        net.ip(
            "r",
            "rule add pref 100 from 10.1.0.0/24 to 10.2.0.0/16 lookup 100",
            "rule add pref 200 from 10.9.0.0/16 prohibit",
            "route add 10.2.0.0/24 dev r1 table 100",
            "route add blackhole 10.2.77.0/24 table 100",
            *(f"route add 10.3.{number}.0/24 via {SERVER}" for number in range(10)),
        )
        net.ip("s", "route add local 10.3.0.0/16 dev lo")
        net.ip("c", "addr add 10.9.0.1/32 dev lo")
        yield net


def top(net, command, *words, netns="r"):
    """Rows of one count while a command runs, the figures told on stderr, and the exit code."""
    done = fibtrace("top", "--netns", net[netns], "--format", "csv", *words, "--", *command)
    assert "error:" not in done.stderr, done.stderr
    told = re.search(
        r"^counted (\d+) decisions with (\d+) lookups and (\d+) drops .* (\d+) lost$",
        done.stderr,
        re.MULTILINE,
    )
    assert told, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    return rows, tuple(map(int, told.groups())), done.returncode


def hits(rows, by, column):
    """Hits of the rows of a kind, by a column."""
    return {row[column]: int(row["hits"]) for row in rows if row["by"] == by}


def forwarded(net):
    """How many packets the router has forwarded so far (IpForwDatagrams)."""
    lines = subprocess.run(
        net.inside("r", "cat", "/proc/net/snmp"), capture_output=True, text=True, check=True
    ).stdout
    names, values = (line.split() for line in lines.splitlines() if line.startswith("Ip:"))
    return int(values[names.index("ForwDatagrams")])


def test_a_thousand_packets_are_a_thousand_hits(net):
    """Rule 100, its route and its table count each packet once; rules together count every lookup."""
    before = forwarded(net)
    rows, (decisions, lookups, drops, lost), _ = top(
        net, net.udp("c", SERVER, 7777, "--count", COUNT), "--purpose", "input"
    )
    there = forwarded(net) - before
    by_rule = hits(rows, "rule", "rule")
    assert (by_rule["100"], lost, drops) == (COUNT, 0, 0)
    assert by_rule["0"] == decisions == there
    assert sum(by_rule.values()) == lookups == sum(hits(rows, "table", "table_id").values())
    assert hits(rows, "route", "prefix") == {"10.2.0.0/24": COUNT, "10.1.0.0/24": there - COUNT}
    assert hits(rows, "verdict", "verdict") == {"forward": there}
    assert hits(rows, "caller", "caller") == {"ip_route_input_slow": there}


def test_prefixes_of_one_gateway_are_told_apart(net):
    """Ten routes that are the same but for the prefix are counted each by its own packets."""
    code = "import socket\ns = socket.socket(2, 2)\nfor n in range(10):\n for i in range(n + 1):\n  s.sendto(b'x', (f'10.3.{n}.{i + 1}', 9))"  # noqa: E501
    rows, (*_, lost), _ = top(net, net.python("c", code), "--purpose", "input", "--dst", "10.3.0.0/16")
    assert lost == 0
    assert hits(rows, "route", "prefix") == {f"10.3.{number}.0/24": number + 1 for number in range(10)}


def test_a_route_that_refuses_is_counted_with_its_drops(net):
    """A blackhole route has its packets as hits, and the packets are dropped for a reason."""
    rows, (*_, drops, lost), _ = top(net, net.udp("c", "10.2.77.1", 7777, "--count", 20))
    assert (drops, lost) == (20, 0)
    assert hits(rows, "route", "route")["blackhole 10.2.77.0/24"] == 20
    assert [row["reason"].split(" (")[0] for row in rows if row["by"] == "reason"] == ["routing refused it"]


def test_a_rule_that_refuses_is_counted(net):
    """A prohibit rule searches no table: it is worked out from the walk that ended before it."""
    code = "import socket\ns = socket.socket(2, 2)\ns.bind(('10.9.0.1', 0))\nfor i in range(30): s.sendto(b'x', ('10.8.0.1', 9))"  # noqa: E501
    rows, (_, lookups, *_), _ = top(net, net.python("c", code), "--src", "10.9.0.0/16", "--purpose", "input")
    by_rule = hits(rows, "rule", "rule")
    assert by_rule["200"] == 30
    assert sum(by_rule.values()) == lookups + 30


def test_counts_are_those_of_a_trace(net, tmp_path):
    """What trace shows packet by packet, top counts: per rule and per prefix, for the same traffic."""
    traffic = net.udp("c", SERVER, 7777, "--count", 50)
    rows, *_ = top(net, traffic, "--purpose", "input")
    frame = capture(tmp_path, traffic, only=net.inodes).frame
    seen = frame[(frame["netns"] == net["r"]) & (frame["event"] == "lookup") & (frame["purpose"] == "input")]
    assert hits(rows, "rule", "rule") == {
        str(rule): int(n) for rule, n in seen["rule"].value_counts().items()
    }
    won = seen[seen["result"] == "hit"]["prefix"].value_counts()
    assert hits(rows, "route", "prefix") == {prefix: int(n) for prefix, n in won.items() if n}


def test_what_is_not_hit_is_listed(net):
    """--unused names rules and routes without a hit and since when; local routes only with --all."""
    command = net.udp("c", SERVER, 7777, "--count", 5)
    rows, *_ = top(net, command, "--unused", "--family", "4")
    assert {row["rule"] for row in rows if row["by"] == "rule"} == {"200", "32767"}
    routes = {row["route"] for row in rows if row["by"] == "route"}
    assert "blackhole 10.2.77.0/24" in routes
    assert "10.2.0.0/24 dev r1" in routes, "the one in main, which rule 100 keeps packets from"
    assert not any(route.startswith("local") for route in routes)
    assert all(int(row["since_ns"]) <= int(row["ts_ns"]) and row["unsure"] == "0" for row in rows)
    everything, *_ = top(net, command, "--unused", "--all")
    assert any(row["route"].startswith("local 127.0.0.1") for row in everything)


def test_a_change_in_the_middle_leaves_no_wrong_count(net):
    """Packets before and after a rule is added are counted by what was in force; what is in doubt is unknown."""
    code = (
        "import socket, subprocess, sys, time\n"
        "s = socket.socket(2, 2)\n"
        "def send():\n"
        " for i in range(300): s.sendto(b'x', ('10.3.1.1', 9))\n"
        "send()\n"
        "subprocess.run(f'ip -n {sys.argv[1]} rule add pref 90 to 10.3.1.0/24 lookup main'.split())\n"
        "end = time.monotonic() + 0.4\n"
        "while time.monotonic() < end: time.sleep(0.01)\n"
        "send()\n"
    )
    try:
        rows, (*_, lost), _ = top(
            net, net.python("c", code, net["r"]), "--purpose", "input", "--dst", "10.3.0.0/16"
        )
    finally:
        subprocess.run(["ip", "-n", net["r"], "rule", "del", "pref", "90"], check=True)
    by_rule = hits(rows, "rule", "rule")
    doubtful = by_rule.get("", 0)
    assert lost == 0
    assert by_rule["90"] == 300
    assert by_rule.get("32766", 0) + by_rule["0"] + by_rule["90"] + doubtful == 1200
    assert by_rule.get("32766", 0) <= 300


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7)])
def test_the_exit_code_of_the_command_is_ours(net, command, code):
    """Whatever the command ends with."""
    assert top(net, ["sh", "-c", command])[2] == code


def test_rows_of_jsonl_have_every_column(net):
    """JSON Lines has the columns of CSV, numbers as numbers, and null for what does not apply."""
    done = fibtrace(
        "top",
        "--netns",
        net["r"],
        "--format",
        "jsonl",
        "--purpose",
        "input",
        "--",
        *net.udp("c", SERVER, 7777, "--count", 3),
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["by"] for row in rows} == {"rule", "route", "table", "verdict", "caller"}
    assert all(row["netns"] == net["r"] and row["schema"] == 1 for row in rows)
    assert next(row["hits"] for row in rows if row["rule"] == 100) == 3
    assert all((row["rule"] is None) == (row["by"] != "rule") for row in rows)


REFUSED = [
    (["--port", "80"], "flow key"),
    (["--role", "router"], "path"),
    (["--by", "colour"], "colour"),
    (["--format", "xml"], "xml"),
    (["--interval", "0"], "interval"),
    (["--netns", "no-such-ns"], "no-such-ns"),
    (["--iif", "no-such-dev"], "no-such-dev"),
]


@pytest.mark.parametrize(("words", "named"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_cannot_be_meant_is_a_usage_error(words, named):
    """Exit 2, one message that names what is wrong, nothing on stdout."""
    done = fibtrace("top", *words, "--once")
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "Traceback" not in done.stderr
