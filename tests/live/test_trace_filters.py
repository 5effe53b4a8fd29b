"""Each filter lets through exactly the paths that it should: compared with the same traffic traced without."""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest

from tests.live.networks import client_router_server

SERVER, CLIENT, NOWHERE = "10.2.0.2", "10.1.0.2", "203.0.113.1"
_EPHEMERAL = 32768


@pytest.fixture(scope="module")
def net():
    """The network, a server that answers, and a table that some packets are sent to."""
    with client_router_server() as net:
        net.ip("c", "addr add 10.1.0.3/24 dev c0")
        net.ip(
            "r",
            "route add 10.2.0.0/24 dev r1 table 100",
            "rule add pref 100 from 10.1.0.3 lookup 100",
            "neigh replace 10.1.0.3 lladdr 02:00:00:00:00:01 dev r0 nud permanent",
        )
        echo = subprocess.Popen(net.traffic("s", "udp-echo", 9000, SERVER), stdout=subprocess.PIPE, text=True)
        try:
            assert echo.stdout.readline() == "ready\n"
            yield net
        finally:
            echo.kill()
            echo.wait()
            echo.stdout.close()


def traffic(net):
    """Something of everything, always from the same ports."""
    return (
        net.inside("c", "ping", "-n", "-c", "1", "-W", "2", SERVER),
        net.udp("c", SERVER, 9000, "--sport", 5001, "--replies"),
        net.udp("c", SERVER, 9000, "--sport", 5002, "--mark", 0x15, "--replies"),
        net.udp("c", SERVER, 9000, "--sport", 5003, "--uid", 1000, "--replies"),
        net.udp("c", SERVER, 9000, "--sport", 5004, "--bind", "10.1.0.3"),
        net.udp("c", SERVER, 9009, "--sport", 5005, "--icmp"),
        net.udp("c", NOWHERE, 9000, "--sport", 5006),
        net.udp("c", CLIENT, 9000, "--sport", 5007),
        ("sh", "-c", " ".join([*net.traffic("c", "tcp-client", SERVER, 7000, "--sport", 5008), "|| true"])),
    )


def flow(path):
    """The packet without what differs from run to run."""
    proto, src, dst, *ports = path.flow()
    return proto, src, dst, *(port if port and port < _EPHEMERAL else None for port in ports)


def whole(path):
    """Everything that a path shows and that is the same in each run."""
    hops = []
    for hop in path.hops:
        decisions = tuple((decision.purpose, tuple(decision.walk())) for decision in hop.decisions)
        hops.append((hop.netns, hop.role, hop.in_dev, hop.out_dev, hop.verdict, decisions))
    return flow(path), tuple(hops)


@pytest.fixture(scope="module")
def unfiltered(net, tmp_path_factory):
    """The paths of the traffic, traced without any filter."""
    captured = net.trace(tmp_path_factory.mktemp("unfiltered"), *traffic(net))
    assert captured.code == 0
    assert {p.first["proto"] for p in captured.paths} == {"icmp", "udp", "tcp"}
    assert len(captured.paths) >= 15
    return captured.paths


def rows(path, column, *events):
    """The values of a column in the rows of these events (all without any)."""
    return {row[column] for row in path.rows if not events or row["event"] in events}


def ends(path):
    """Source and destination of the packet."""
    return {path.first["src"], path.first["dst"]}


WHOLE = [
    ("--src 10.1.0.3", lambda p: p.first["src"] == "10.1.0.3"),
    ("--src 10.1.0.0/24", lambda p: p.first["src"].startswith("10.1.0.")),
    (f"--dst {NOWHERE}", lambda p: p.first["dst"] == NOWHERE),
    ("--host 10.2.0.0/24", lambda p: any(end.startswith("10.2.0.") for end in ends(p))),
    ("--host 10.1.0.2 --proto icmp", lambda p: CLIENT in ends(p) and p.first["proto"] == "icmp"),
    ("--proto tcp", lambda p: p.first["proto"] == "tcp"),
    ("--proto 17", lambda p: p.first["proto"] == "udp"),
    ("--port 5002", lambda p: 5002 in {p.first["sport"], p.first["dport"]}),
    ("--sport 9000", lambda p: p.first["sport"] == 9000),
    ("--dport 9000 --src 10.1.0.2", lambda p: p.first["dport"] == 9000 and p.first["src"] == CLIENT),
    ("--family 4", bool),
    ("--drops", lambda p: "drop" in rows(p, "verdict")),
    ("--table 100", lambda p: 100 in rows(p, "table_id", "lookup")),
    ("--role router", lambda p: "router" in rows(p, "role")),
    ("--role server", lambda p: "server" in rows(p, "role")),
    ("--role client", lambda p: "client" in rows(p, "role")),
    ("--role local", lambda p: "local" in rows(p, "role")),
    ("--oif r1", lambda p: "r1" in rows(p, "out_dev")),
    ("--mark 0x15", lambda p: 0x15 in rows(p, "mark")),
    ("--mark 0x10/0xf0", lambda p: any((mark or 0) & 0xF0 == 0x10 for mark in rows(p, "mark"))),
    ("--mark 0x14", lambda p: p is None),
]


@pytest.mark.parametrize(("words", "wanted"), WHOLE, ids=[words for words, _ in WHOLE])
def test_a_filter_lets_through_what_it_names(net, unfiltered, tmp_path, words, wanted):
    """The same paths, whole, as the unfiltered trace has of this kind; nothing else."""
    captured = net.trace(tmp_path, *traffic(net), words=words.split())
    assert Counter(map(whole, captured.paths)) == Counter(whole(p) for p in unfiltered if wanted(p))
    assert all(path.complete for path in captured.paths)


OF_THE_HOST = [
    ("--netns R", lambda p: any(name.endswith("-r") for name in p.names)),
    ("--iif r0", lambda p: "r0" in rows(p, "in_dev")),
    ("--iif r1 --netns R", lambda p: "r1" in rows(p, "in_dev")),
    ("--comm ping", lambda p: "ping" in rows(p, "comm")),
    ("--comm udp-echo", lambda p: "udp-echo" in rows(p, "comm")),
    ("--uid 1000", lambda p: 1000 in rows(p, "uid", "lookup")),
    ("--purpose input", lambda p: "input" in rows(p, "purpose", "lookup")),
    ("--purpose output", lambda p: "output" in rows(p, "purpose", "lookup")),
    ("--purpose source-check", lambda p: "source-check" in rows(p, "purpose", "lookup")),
]


@pytest.mark.parametrize(("words", "wanted"), OF_THE_HOST, ids=[words for words, _ in OF_THE_HOST])
def test_a_filter_by_place_or_owner_finds_every_packet(net, unfiltered, tmp_path, words, wanted):
    """The same packets as the unfiltered trace has of this kind, if only the part of their way that matches."""
    captured = net.trace(tmp_path, *traffic(net), words=[net["r"] if w == "R" else w for w in words.split()])
    packets = [
        path
        for path in captured.paths
        if any(row["event"] not in {"lookup", "decision"} for row in path.rows)
    ]
    assert Counter(map(flow, packets)) == Counter(flow(p) for p in unfiltered if wanted(p))


def test_a_filter_by_pid_finds_what_the_process_sends_and_gets(net, unfiltered, tmp_path):
    """The server's packets and those it gets, by its process id."""
    served = [path for path in unfiltered if "udp-echo" in rows(path, "comm")]
    (pid,) = {row["pid"] for path in served for row in path.rows if row["comm"] == "udp-echo"}
    captured = net.trace(tmp_path, *traffic(net), words=["--pid", str(pid)])
    assert Counter(map(flow, captured.paths)) == Counter(map(flow, served))
