"""IPv6 where it is not like IPv4: sources that routes ask for, extension headers, link-local ends, neighbours."""

from __future__ import annotations

import pytest

from tests.live.networks import client_router_server6

DEFAULT = "::/0"
SERVER = "fd00:2::2"
# A datagram with a header of destination options (a padding option) before it.
WITH_OPTIONS = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
for _ in range(int(sys.argv[3])):
    s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
"""
# A server on all addresses of both families: it gets IPv4 through a socket of IPv6.
BOTH = """
import os, socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", 9100))
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, 9100))
    server.recv(9)
"""


@pytest.fixture(scope="module")
def net():
    with client_router_server6() as made:
        yield made


def through(path):
    """What matters of a forwarded path: namespaces, verdicts, and the prefix that the router found."""
    return path.names, [hop.verdict for hop in path.hops], path.hops[1].routing.won["prefix"]


def test_as_many_packets_are_seen_as_were_sent(net, tmp_path):
    """23 datagrams, 23 whole paths, each with the route that the tables have, through a filter by prefix and port."""
    words = ["--dst", "fd00:2::/64", "--port", "9", "--proto", "udp"]
    done = net.trace(tmp_path, net.udp("c", SERVER, 9, "--count", 23), words=words)
    assert len(done.paths) == 23
    assert all(path.complete for path in done.paths)
    names = [net["c"], net["r"], net["s"]]
    assert [through(path) for path in done.paths] == [
        (names, ["send", "forward", "drop"], "fd00:2::/64") for _ in done.paths
    ]
    first = done.paths[0].hops
    assert first[0].routing.walk() == [(0, "local", "miss"), (32766, "main", "hit")]
    assert (first[0].routing.won["prefix"], first[0].routing.won["gateway"]) == (DEFAULT, "fd00:1::1")
    assert first[2].routing.won["route_type"] == "local"
    assert first[2].reason.startswith("no socket listens on udp port 9 ")


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["--family", "4"], 0),
        (["--family", "6", "--proto", "udp"], 2),
        (["--host", "fd00:1::2", "--dport", "9"], 2),
        (["--src", "fd00:3::/64"], 0),
        (["--dst", "fd00:2::3"], 0),
    ],
)
def test_filters_of_ipv6_are_exact(net, tmp_path, words, seen):
    """What differs in a bit behind the first 64 does not pass either."""
    done = net.trace(tmp_path, net.udp("c", SERVER, 9, "--count", 2), words=words)
    assert len(done.of("udp", src="fd00:1::2")) == seen


def test_a_route_that_asks_for_a_source_is_one_packet_tried_twice(net, tmp_path):
    """The first walk, without a source, finds nothing; the second belongs to the same packet and finds the route."""
    net.ip6("c", "route del default", "route add default from fd00:1::/64 via fd00:1::1 dev c0")
    try:
        done = net.trace(tmp_path, net.udp("c", SERVER, 9, "--count", 2))
    finally:
        net.ip6("c", "route del default from fd00:1::/64", "route add default via fd00:1::1")
    sent = done.of("udp", dst=SERVER)
    assert len(sent) == 2
    for path in sent:
        tried, decided = path.hops[0].of("output")
        assert [row["result"] for row in tried.lookups] == ["miss", "miss"]
        assert tried.lookups[0]["src"] == "::"
        assert (decided.won["result"], decided.won["prefix"], decided.won["src"]) == (
            "hit",
            DEFAULT,
            "fd00:1::2",
        )
        assert path.names == [net["c"], net["r"], net["s"]]


def test_a_refused_send_is_one_path(net, tmp_path):
    """Both tries to route it are told of one packet that was never made."""
    net.ip("c", "route add prohibit fd00:9::/64")
    done = net.trace(tmp_path, net.udp("c", "fd00:9::1", 9, "--count", 3))
    refused = done.of(dst="fd00:9::1")
    assert len(refused) == 3
    for path in refused:
        assert [decision.won["result"] for decision in path.hops[0].of("output")] == ["prohibit", "prohibit"]
        assert path.hops[0].verdict == "drop"
        assert path.hops[0].reason.startswith(
            "prohibit route fd00:9::/64 (rule 32766, table main): the sender"
        )


def test_ports_are_found_behind_extension_headers(net, tmp_path):
    """A filter by port sees datagrams with destination options before the UDP header."""
    done = net.trace(tmp_path, net.python("c", WITH_OPTIONS, SERVER, 9, 4), words=["--dport", "9"])
    assert len(done.paths) == 4
    for path in done.paths:
        assert (path.first["proto"], path.first["dport"]) == ("udp", 9)
        assert path.names == [net["c"], net["r"], net["s"]]


def test_fragments_take_the_same_way(net, tmp_path):
    """Each fragment is routed; only the first has the ports, the others the protocol."""
    done = net.trace(tmp_path, net.udp("c", SERVER, 9, "--size", 2000), words=["--proto", "udp"])
    forwarded = [path for path in done.paths if path.first["dst"] == SERVER]
    assert sorted(path.first["dport"] or 0 for path in forwarded) == [0, 9]
    assert {path.names[1] for path in forwarded} == {net["r"]}
    assert all(path.hops[1].verdict == "forward" for path in forwarded)


def test_link_local_ends_are_routed_by_their_device(net, tmp_path):
    """A ping of a link-local address: the local table of the receiver, and no router in between."""
    address = next(
        line.split()[1].split("/")[0] for line in net.show("r", "-6", "addr", "show", "r0") if "fe80" in line
    )
    command = net.inside("c", "ping", "-n", "-c", "3", "-i", "0.01", f"{address}%c0")
    done = net.trace(tmp_path, command, words=["--proto", "icmpv6", "--dst", address])
    asked = done.of("ipv6-icmp", dst=address)
    assert len(asked) == 3
    for path in asked:
        assert path.names == [net["c"], net["r"]]
        assert path.hops[0].routing.won["prefix"] == "fe80::/64"
        assert path.hops[1].routing.won["table"] == "local"
        assert path.hops[1].verdict == "deliver"


def test_neighbour_discovery_is_shown_where_it_is_asked_for(net, tmp_path):
    """Like ARP it is no path by default; by protocol it is, and says what it is and why no table was asked."""
    ask = ["ip", "-n", net["c"], "neigh", "replace", "fd00:1::9", "dev", "c0", "nud", "none"]
    send = net.udp("c", "fd00:1::9", 9)
    quiet = net.trace(tmp_path, send)
    assert [path.text() for path in quiet.paths if path.first["proto"] == "ipv6-icmp"] == []
    told = net.trace(tmp_path, ask, send, words=["--proto", "icmpv6"])
    assert "neighbour solicitation" in told.printed
    solicitations = [path for path in told.paths if path.first["dst"].startswith("ff02::1:ff")]
    reason = solicitations[0].hops[0].of("output")[0].row["reason"]
    assert reason == "no lookup: neighbour and listener discovery leave by the device they are about"


def test_a_socket_of_both_families_gets_both(net, tmp_path):
    """IPv4 through a socket of IPv6 is delivered to the same process."""
    done = net.trace(tmp_path, net.python("s", BOTH), words=["--dport", "9100"])
    ends = {path.first["dst"]: path.hops[-1].end for path in done.paths}
    assert set(ends) == {"127.0.0.1", "::1"}
    assert {end["verdict"] for end in ends.values()} == {"deliver"}
    assert len({end["pid"] for end in ends.values()}) == 1


def test_an_object_that_is_a_blackhole_drops(net, tmp_path):
    """The router drops what its route leads to, and names the route."""
    net.ip6("r", "nexthop add id 5 blackhole", "route add fd00:7::/64 nhid 5")
    done = net.trace(tmp_path, net.udp("c", "fd00:7::1", 9, "--count", 2))
    lost = done.of("udp", dst="fd00:7::1")
    assert len(lost) == 2
    for path in lost:
        assert path.hop(net["r"]).verdict == "drop"
        assert path.hop(net["r"]).reason.startswith("blackhole route fd00:7::/64 (rule 32766, table main)")
