"""Traps 5 to 9, 11, 12 and 15: whose lookup it is, packets without lookups, what is no packet at all."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.live.networks import client_router_server, network, set_sysctls

PING = ("ping", "-n", "-c", "1", "-W", "2")
SERVER = "10.2.0.2"
SERVED = """
import socket, sys
count, port = int(sys.argv[1]), int(sys.argv[2])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for _ in range(count):
        sock.sendto(b"x", (sys.argv[3], port))
"""
BURST = """
import socket, struct, sys
UDP_SEGMENT = 103
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.setsockopt(17, UDP_SEGMENT, 20)
    sock.sendto(b"x" * 120, (sys.argv[1], 9))
"""
TCP = """
import socket, sys, threading
server = socket.create_server((sys.argv[1], 7000))
def serve():
    connection, _ = server.accept()
    while data := connection.recv(100):
        connection.sendall(data)
    connection.close()
thread = threading.Thread(target=serve)
thread.start()
with socket.create_connection((sys.argv[1], 7000)) as client:
    for _ in range(5):
        client.sendall(b"x")
        client.recv(100)
thread.join()
"""


def test_a_filter_by_port_finds_what_the_flow_key_does_not_tell(tmp_path):
    """Without rules for ports the router's key has none: the packet's port selects the path all the same."""
    with client_router_server() as net:
        sends = [net.udp("c", SERVER, port) for port in (9001, 9002)]
        bare = net.trace(tmp_path, *sends, words=["--dport", "9001"])
        net.ip("r", "rule add pref 100 ipproto tcp dport 443 lookup 100")
        asked = net.trace(tmp_path, *sends, words=["--dport", "9001"])
        keys = []
        for captured in (bare, asked):
            assert {path.first["dport"] for path in captured.of("udp")} == {9001}
            path = captured.only("udp", dport=9001)
            assert path.names == [net["c"], net["r"], net["s"]]
            keys.append({(row["proto"], row["dport"]) for row in path.hop(net["r"]).of("input")[0].lookups})
    assert keys == [{(None, None)}, {("udp", 9001)}]


def test_a_connected_socket_decides_once_until_routes_change(tmp_path):
    """Connected UDP: later datagrams say by which packet they were decided; after any route change one looks up."""
    code = """
import socket, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.connect((sys.argv[1], 9))
    for number in range(4):
        if number == 2:
            subprocess.run(["ip", "route", "add", "203.0.113.0/24", "via", "10.1.0.1"], check=True)
        try:
            sock.send(b"x")
        except ConnectionRefusedError:
            sock.send(b"x")
"""
    with client_router_server() as net:
        # Nothing tells the sender that nobody listens, which would also make its socket look up again.
        net.ip("s", "route del default")
        captured = net.trace(tmp_path, net.python("c", code, SERVER))
        paths = captured.of("udp", dst=SERVER)
    assert len(paths) == 4
    first, second, third, fourth = (path.hops[0].of("output")[-1] for path in paths)
    assert not first.cached
    assert second.row["reason"] == f"cached: decided by #{paths[0].packet} (socket route)"
    assert third.won["rule"] == 32766
    assert fourth.row["reason"] == f"cached: decided by #{paths[2].packet} (socket route)"
    assert all(path.complete for path in paths)


def test_an_established_connection_is_cached_at_both_ends_and_decided_in_the_router(tmp_path):
    """TCP: the ends name the packet that decided, by socket route and early demux; the router decides each."""
    with client_router_server() as net:
        code = """
import socket, sys
with socket.create_connection((sys.argv[1], 7000)) as client:
    for _ in range(8):
        client.sendall(b"x")
        client.recv(100)
"""
        serve = subprocess.Popen(
            net.traffic("s", "tcp-server", SERVER, 7000, "--count", 1), stdout=subprocess.PIPE, text=True
        )
        try:
            assert serve.stdout.readline() == "ready\n"
            captured = net.trace(tmp_path, net.python("c", code, SERVER))
            assert serve.wait(timeout=10) == 0
        finally:
            serve.kill()
            serve.stdout.close()
        there = captured.of("tcp", dst=SERVER)
        sent = [path.hop(net["c"]).of("output")[-1] for path in there]
        routed = [path.hop(net["r"]).of("input") for path in there]
        got = [path.hop(net["s"]).of("input")[-1] for path in there]
    assert len(there) >= 10
    assert [decision.cached for decision in sent] == [False] + [True] * (len(sent) - 1)
    assert {d.row["reason"] for d in sent[1:]} == {f"cached: decided by #{there[0].packet} (socket route)"}
    assert [[d.cached for d in decisions] for decisions in routed] == [[False]] * len(there)
    demuxed = [decision for decision in got if decision.cached]
    assert len(demuxed) >= 7
    assert all(decision.row["reason"].endswith("(early demux)") for decision in demuxed)


def test_loopback_is_decided_at_output_only(tmp_path):
    """Through lo the input makes no lookup, and the path says that and nothing of an earlier packet."""
    with network("c") as net:
        captured = net.trace(tmp_path, net.python("c", TCP, "127.0.0.1"))
        paths = captured.of("tcp")
    assert len(paths) >= 14
    for path in paths:
        (hop,) = path.hops
        (last,) = hop.of("input")
        assert last.cached
        assert last.row["reason"] == "no lookup: the loopback device keeps the route of the output decision"
    assert paths[0].hops[0].of("output")[0].walk() == [(0, "local", "hit")]


def test_packets_of_one_burst_use_the_route_of_the_first(tmp_path):
    """List receive: six announced at once, one looked up, five by its hint; each looked up once rules exist."""
    with client_router_server() as net:
        segmentation = ("tx-udp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation")
        off = [word for feature in ("tso", *segmentation) for word in (feature, "off")]
        subprocess.run(net.inside("c", "ethtool", "-K", "c0", *off), check=True, stdout=subprocess.DEVNULL)
        subprocess.run(net.inside("r", "ethtool", "-K", "r0", "gro", "on"), check=True)
        burst = net.python("c", BURST, SERVER)
        hinted = net.trace(tmp_path, burst).of("udp", dst=SERVER)
        net.ip("r", "rule add pref 100 to 203.0.113.9 lookup 100")
        looked_up = net.trace(tmp_path, burst).of("udp", dst=SERVER)
        routed = [[path.hop(net["r"]).of("input") for path in paths] for paths in (hinted, looked_up)]
        names = {tuple(path.names) for path in (*hinted, *looked_up)}
    assert names == {(net["c"], net["r"], net["s"])}
    assert [len(paths) for paths in routed] == [6, 6]
    assert [len(decisions) for paths in routed for decisions in paths] == [1] * 12
    assert [d.cached for (d,) in routed[0]] == [False] + [True] * 5
    reason = f"cached: decided by #{hinted[0].packet} (route hint of the packet before)"
    assert {d.row["reason"] for (d,) in routed[0][1:]} == {reason}
    assert [d.cached for (d,) in routed[1]] == [False] * 6


def test_a_source_check_is_named_as_what_it_is(tmp_path):
    """With rp_filter 0 there is none without rules and one with rules: its ends swapped, never a decision to go."""
    with client_router_server() as net:
        ping = net.inside("c", *PING, SERVER)
        before = net.trace(tmp_path, ping).only("icmp", dst=SERVER).hop(net["r"])
        net.ip("r", "rule add pref 100 from 10.2.0.0/24 lookup 100", "route add 10.1.0.0/24 dev r0 table 100")
        after = net.trace(tmp_path, ping).only("icmp", dst=SERVER).hop(net["r"])
    assert before.check is None
    assert [decision.purpose for decision in after.decisions] == ["input", "source-check"]
    assert after.check.walk() == [(0, "local", "miss"), (100, "100", "hit")]
    assert {(row["src"], row["dst"]) for row in after.check.lookups} == {(SERVER, "10.1.0.2")}
    assert after.check.row["reason"] == "off: same device, pass"
    assert after.routing.walk() == [(0, "local", "miss"), (32766, "main", "hit")]


NOISE = {
    "query": [("ip", "route", "get", "8.8.8.8"), ("ip", "route", "get", "10.1.0.2")],
    "other": [("ip", "route", "add", "203.0.113.0/24", "via", "10.1.0.1"), ("bind", "10.1.0.2")],
}
BIND = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind((sys.argv[1], 0))"


def noise(net, purpose):
    """The command lines that make lookups of this purpose without a packet."""
    for name, *words in NOISE[purpose]:
        yield net.python("c", BIND, *words) if name == "bind" else net.inside("c", name, *words)


def test_lookups_without_a_packet_are_hidden_unless_asked_for(tmp_path):
    """`ip route get`, bind, a gateway's check, ARP: nothing by default; each under the purpose that it has."""
    with client_router_server() as net:
        everything = [*noise(net, "query"), *noise(net, "other")]
        net.ip("c", "neigh del 10.1.0.1 dev c0")
        arping = net.inside("c", *PING, "10.1.0.1")
        quiet = net.trace(tmp_path, *everything)
        assert quiet.paths == []
        net.ip("c", "route del 203.0.113.0/24")
        with_arp = net.trace(tmp_path, arping)
        assert {path.first["proto"] for path in with_arp.paths} == {"icmp"}
        shown = {}
        for purpose in NOISE:
            captured = net.trace(tmp_path, *noise(net, purpose), words=["--purpose", purpose])
            shown[purpose] = {
                (d.purpose, d.row["caller"]) for p in captured.paths for d in p.hops[0].decisions
            }
            assert len(captured.paths) >= 2
    assert shown["query"] == {("query", "inet_rtm_getroute")}
    assert {purpose for purpose, _ in shown["other"]} == {"other"}
    callers = sorted(caller.lstrip("_") for _, caller in shown["other"])
    assert [caller[:9] for caller in callers] == ["fib_check", "inet_bind"]  # what of them is inlined differs


def test_arp_is_named_as_other(tmp_path):
    """The input decision of an ARP request belongs to no packet: it is there with --purpose other only."""
    with client_router_server() as net:
        net.ip("c", "neigh del 10.1.0.1 dev c0")
        net.ip("r", "neigh del 10.1.0.2 dev r0")
        captured = net.trace(tmp_path, net.inside("c", *PING, "10.1.0.1"), words=["--purpose", "other"])
        callers = {d.row["caller"] for p in captured.paths for hop in p.hops for d in hop.decisions if d.row}
    assert "arp_process" in callers


def test_the_same_flow_key_again_and_again_is_one_decision_each(tmp_path):
    """A loop of sendto has its key at one address: fifty packets, fifty whole walks; so has a loop of queries."""
    with client_router_server() as net:
        net.ip("s", "route del default")
        sends = net.trace(tmp_path, net.python("c", SERVED, 50, 9, SERVER)).of("udp", dst=SERVER)
        asking = "for i in $(seq 50); do echo route get 8.8.8.8; done | ip -batch - >/dev/null"
        queries = net.trace(tmp_path, net.inside("c", "sh", "-c", asking), words=["--purpose", "query"]).paths
    walk = [(32766, "main", "hit")]
    for paths, purpose in ((sends, "output"), (queries, "query")):
        assert len(paths) == 50
        decisions = [[d for d in path.hops[0].decisions if d.purpose == purpose] for path in paths]
        assert [[d.walk() for d in group] for group in decisions] == [[walk]] * 50
        assert all(path.complete for path in paths)


def test_a_failed_lookup_has_its_namespace(tmp_path):
    """Without a route there is no device to tell the namespace: of a sender, of a router, and of a query."""
    with client_router_server() as net:
        net.ip("s", "route del default")
        net.ip("c", "route replace default via 10.1.0.1")
        sends = [net.udp("c", "203.0.113.1", 9), net.udp("s", "203.0.113.2", 9)]
        captured = net.trace(tmp_path, *sends)
        routed, refused = (captured.only("udp", dst=f"203.0.113.{host}") for host in (1, 2))
        assert (routed.names, refused.names) == ([net["c"], net["r"]], [net["s"]])
        ask = net.inside("s", "sh", "-c", "ip route get 8.8.4.4 2>/dev/null || true")
        (query,) = net.trace(tmp_path, ask, words=["--purpose", "query"]).paths
        assert query.names == [net["s"]]
    assert routed.hops[1].verdict == refused.hops[0].verdict == "drop"
    assert routed.hops[1].routing.won["result"] == refused.hops[0].routing.won["result"] == "miss"


@pytest.mark.parametrize("kind", ["unreachable", "prohibit"])
def test_an_icmp_error_is_a_packet_of_its_own(tmp_path, kind):
    """It is sent in the middle of the dropped packet's input: each path has its own decision, none the other's."""
    with client_router_server() as net:
        net.ip("r", f"route add {kind} 192.0.2.0/24")
        captured = net.trace(tmp_path, net.udp("c", "192.0.2.1", 9, "--icmp"))
        dropped, told = captured.only("udp", dst="192.0.2.1"), captured.only("icmp", dst="10.1.0.2")
        assert dropped.names == [net["c"], net["r"]]
        assert told.names == [net["r"], net["c"]]
    assert [d.purpose for d in dropped.hops[1].decisions] == ["input"]
    assert dropped.hops[1].routing.walk() == [(32766, "main", kind)]
    assert dropped.hops[1].reason.startswith(f"{kind} route 192.0.2.0/24 (rule 32766, table main)")
    assert [d.purpose for d in told.hops[0].decisions] == ["output"]
    assert told.hops[0].routing.won["prefix"] == "10.1.0.0/24"
    assert told.hops[0].verdict == "send"


def test_softirq_and_tasks_on_two_cpus_do_not_mix(tmp_path):
    """Both ends send 1500 datagrams at once, each on a CPU of its own: every path whole, none with foreign lookups."""
    count = 1500
    with client_router_server() as net:
        for short in "cs":  # nobody listens, and nobody shall tell
            set_sysctls(net[short], "net.ipv4.icmp_ratemask=8", "net.ipv4.icmp_ratelimit=1000000")
        net.ip("r", "rule add pref 100 to 203.0.113.9 lookup 100")
        one = shlex.join(["taskset", "-c", "0", *net.python("c", SERVED, count, 9001, SERVER)])
        other = shlex.join(["taskset", "-c", "1", *net.python("s", SERVED, count, 9002, "10.1.0.2")])
        script = f"{one} & {other} & wait"
        captured = net.trace(tmp_path, ("sh", "-c", script))
        there, back = (
            captured.of("udp", dst=SERVER, dport=9001),
            captured.of("udp", dst="10.1.0.2", dport=9002),
        )
        names = {tuple(path.names) for path in there}, {tuple(path.names) for path in back}
        assert names == ({(net["c"], net["r"], net["s"])}, {(net["s"], net["r"], net["c"])})
    assert (len(there), len(back)) == (count, count)
    split = [(0, "local", "miss"), (32766, "main", "hit")]
    for path in (*there, *back):
        sender, router, receiver = path.hops
        assert path.complete
        assert [(d.purpose, d.walk()) for d in sender.decisions] == [("output", [(32766, "main", "hit")])]
        assert [(d.purpose, d.walk()) for d in router.decisions] == [
            ("input", split),
            ("source-check", split),
        ]
        assert [(d.purpose, d.walk()) for d in receiver.decisions] == [("input", [(0, "local", "hit")])]


def test_nat_changes_the_ends_of_one_path(tmp_path):
    """DNAT and masquerade in r: one path, decided by the new ends; a filter by the old address finds all of it."""
    nft = """
        table ip ft {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                ip daddr 198.51.100.7 dnat to 10.2.0.2
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname "r1" masquerade
            }
        }
    """
    with client_router_server() as net:
        subprocess.run(net.inside("r", "nft", "-f", "-"), input=nft, text=True, check=True)
        sends = [net.inside("c", *PING, dst) for dst in ("198.51.100.7", SERVER)]
        captured = net.trace(tmp_path, *sends, words=["--dst", "198.51.100.7"])
        path = captured.only("icmp", dst="198.51.100.7")
        assert path.names == [net["c"], net["r"], net["s"]]
        assert [path.packet for path in captured.of("icmp", dst=SERVER)] == []
        reply = captured.of("icmp", src=SERVER)
        assert [item.names for item in reply] in ([], [[net["s"], net["r"], net["c"]]])
    assert path.hops[1].routing.won["dst"] == SERVER
    received = path.hops[2].rows[0]
    assert (received["src"], received["dst"]) == ("10.2.0.1", SERVER)
    assert path.hops[0].routing.won["dst"] == "198.51.100.7"


def test_an_answer_in_the_same_sk_buff_is_a_packet_of_its_own(tmp_path):
    """The kernel reuses the memory of a request for the reply: a hundred pings are two hundred paths."""
    with client_router_server() as net:
        ping = net.inside("c", "ping", "-n", "-q", "-c", "100", "-i", "0.002", SERVER)
        captured = net.trace(tmp_path, ping)
        asked, answered = captured.of("icmp", dst=SERVER), captured.of("icmp", src=SERVER)
        assert {tuple(path.names) for path in asked} == {(net["c"], net["r"], net["s"])}
        assert {tuple(path.names) for path in answered} == {(net["s"], net["r"], net["c"])}
    assert (len(asked), len(answered)) == (100, 100)
    assert all(path.complete for path in (*asked, *answered))
