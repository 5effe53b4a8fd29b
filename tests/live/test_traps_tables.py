"""Traps 1 to 4, 10 and 14: which table owns a hit, suppressed hits, rules without lookups, nexthop objects."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.live.networks import client_router_server, network, set_sysctls

PING = ("ping", "-n", "-c", "1", "-W", "2")
SERVER = "10.2.0.2"
BIND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    try:
        sock.bind((sys.argv[1], 0))
    except OSError as error:
        print(error.errno)
"""


def in_netns(net, short, *words):
    return ("ip", "-n", net[short], *words)


def requests(captured, dst=SERVER):
    """The paths of echo requests, in the order they were sent."""
    return [path for path in captured.of("icmp", dst=dst) if path.hops[0].netns.endswith("-c")]


def test_local_and_main_share_a_trie_until_the_first_rule(tmp_path):
    """A local hit is of table local though main's trie was walked; after a first rule, for ever, 255 is walked."""
    with client_router_server() as net:
        ping = net.inside("c", *PING, SERVER)
        rule = ("pref", "100", "to", "203.0.113.9", "lookup", "100")
        steps = [ping]
        for verb in ("add", "del"):
            steps += [in_netns(net, short, "rule", verb, *rule) for short in "rs"]
            steps.append(ping)
        seen = requests(net.trace(tmp_path, *steps))
        assert len(seen) == 3
        delivered = [path.hop(net["s"]).routing for path in seen]
        forwarded = [path.hop(net["r"]).routing for path in seen]
    hit = [(0, "local", "hit")]
    assert [decision.walk() for decision in delivered] == [hit] * 3
    assert [decision.won["walked_table_id"] for decision in delivered] == [254, 255, 255]
    assert {decision.won["prefix"] for decision in delivered} == {f"{SERVER}/32"}
    merged, split = [(32766, "main", "hit")], [(0, "local", "miss"), (32766, "main", "hit")]
    assert [decision.walk() for decision in forwarded] == [merged, split, split]


def test_a_walk_through_local_may_end_in_a_route_of_main(tmp_path):
    """While they share a trie, asking table 255 for a remote address finds main's default route: shown as main's."""
    with client_router_server() as net:
        bind = net.python("c", BIND, "8.8.8.8")
        captured = net.trace(tmp_path, bind, words=["--purpose", "other"])
        (lookup,) = [
            row
            for path in captured.paths
            for row in path.rows
            if row["event"] == "lookup" and row["dst"] == "8.8.8.8"
        ]
    assert (lookup["table"], lookup["walked_table_id"], lookup["result"]) == ("main", 255, "hit")
    assert (lookup["prefix"], lookup["gateway"]) == ("0.0.0.0/0", "10.1.0.1")
    assert lookup["rule"] is None
    assert lookup["purpose"] == "other"


def test_a_suppressed_hit_is_not_the_winner(tmp_path):
    """suppress_prefixlength and suppress_ifgroup: the hit is shown as suppressed, a later rule decides."""
    with client_router_server() as net:
        net.ip(
            "r",
            "route add default via 10.2.0.2",
            "route add default via 10.2.0.2 table 51820",
            "rule add pref 5208 lookup main suppress_prefixlength 0",
            "rule add pref 5209 not fwmark 0xca6c lookup 51820",
        )
        net.ip(
            "c",
            "link set c0 group 77",
            "route add 10.0.0.0/8 via 10.1.0.1 table 100",
            "rule add pref 500 lookup 100 suppress_ifgroup 77",
        )
        net.ip("s", "addr add 198.51.100.1/32 dev lo")
        pings = [net.inside("c", *PING, dst) for dst in (SERVER, "198.51.100.1")]
        captured = net.trace(tmp_path, *pings)
        (near,), (far,) = requests(captured), requests(captured, "198.51.100.1")
        client, router, remote = near.hop(net["c"]), near.hop(net["r"]), far.hop(net["r"])
        remote_client = far.hop(net["c"])
    miss = (0, "local", "miss")
    assert client.routing.walk() == [miss, (500, "100", "suppressed"), (32766, "main", "hit")]
    assert client.routing.won["prefix"] == "0.0.0.0/0"
    assert client.routing.lookups[1]["prefix"] == "10.0.0.0/8"
    assert remote_client.routing.walk() == [miss, (500, "100", "miss"), (32766, "main", "hit")]
    assert router.routing.walk() == [miss, (5208, "main", "hit")]
    assert remote.routing.walk() == [miss, (5208, "main", "suppressed"), (5209, "51820", "hit")]
    assert remote.routing.row["result"] == "unicast"


def test_a_route_without_a_gateway_shows_none_after_one_with(tmp_path):
    """On-link and local hits right after gateway hits: the kernel's own trace text would repeat that gateway."""
    with client_router_server() as net:
        pings = [net.inside("c", *PING, dst) for dst in (SERVER, "10.1.0.1", SERVER, "10.1.0.2")]
        captured = net.trace(tmp_path, *pings)
        onlink, own = requests(captured, "10.1.0.1"), captured.of("icmp", src="10.1.0.2", dst="10.1.0.2")
        assert [path.hops[0].routing.won["gateway"] for path in requests(captured)] == ["10.1.0.1"] * 2
    for path, prefix in ((onlink[0], "10.1.0.0/24"), (own[0], "10.1.0.2/32")):
        won = path.hops[0].of("output")[0].won
        assert (won["prefix"], won["gateway"]) == (prefix, None)


@pytest.mark.parametrize(
    ("action", "errno", "error"), [("prohibit", 13, -13), ("unreachable", 101, -101), ("blackhole", 22, -22)]
)
def test_a_rule_with_an_error_action_ends_the_walk(tmp_path, action, errno, error):
    """No lookup event tells of it: the walk ends with the rule all the same, for a sender and in a router."""
    with client_router_server() as net:
        net.ip("c", f"rule add pref 50 to 192.0.2.1 {action}")
        net.ip("r", f"rule add pref 60 to 192.0.2.2 {action}")
        sends = [net.udp("c", f"192.0.2.{host}", 9) for host in (1, 2)]
        captured = net.trace(tmp_path, *sends)
        refused, dropped = (captured.only("udp", dst=f"192.0.2.{host}") for host in (1, 2))
        assert [refused.names, dropped.names] == [[net["c"]], [net["c"], net["r"]]]
    for decision, rule in ((refused.hops[0].routing, 50), (dropped.hops[1].routing, 60)):
        assert decision.walk() == [(0, "local", "miss"), (rule, None, action)]
        assert (decision.won["error"], decision.won["evidence"]) == (error, "inferred")
        assert decision.row["result"] == action
    assert refused.hops[0].reason.startswith(f"rule 50 (from all to 192.0.2.1 {action}) says {action}")
    assert dropped.hops[1].reason.startswith(f"rule 60 (from all to 192.0.2.2 {action}) says {action}")
    assert errno == -error


def test_nexthop_objects_are_found_behind_their_group(tmp_path):
    """A route by nexthop id, by group, and by a blackhole object: table, prefix and nexthop are right."""
    with client_router_server() as net:
        net.ip(
            "r",
            "nexthop add id 1 via 10.2.0.2 dev r1",
            "nexthop add id 2 via 10.2.0.3 dev r1",
            "nexthop add id 3 blackhole",
            "nexthop add id 10 group 1/2",
            "route add 192.0.2.1 nhid 1 table 300",
            "route add 192.0.2.0/28 nhid 10 table 300",
            "route add 192.0.2.64/26 nhid 3 table 300",
            "rule add pref 10 to 192.0.2.0/24 lookup 300",
        )
        set_sysctls(net["s"], "net.ipv4.ip_forward=0")  # or s sends them back
        sends = [net.udp("c", f"192.0.2.{host}", 9) for host in (1, 2, 65)]
        captured = net.trace(tmp_path, *sends)
        one, group, black = (
            captured.only("udp", dst=f"192.0.2.{host}").hop(net["r"]).routing for host in (1, 2, 65)
        )
    walk = [(0, "local", "miss"), (10, "300", "hit")]
    assert one.walk() == group.walk() == walk
    assert black.walk() == [walk[0], (10, "300", "blackhole")]
    assert (one.won["prefix"], one.row["gateway"], one.row["dev"]) == ("192.0.2.1/32", "10.2.0.2", "r1")
    assert group.won["prefix"] == "192.0.2.0/28"
    assert group.row["gateway"] in {None, "10.2.0.2", "10.2.0.3"}
    assert black.won["prefix"] == "192.0.2.64/26"
    assert black.row["result"] == "blackhole"


# (rule, what is sent so that it decides): every selector that iproute2 6.1 can write for IPv4.
SELECTORS = [
    ("from 10.1.0.11 lookup 100", ["--bind", "10.1.0.11"]),
    ("from 10.1.0.16/29 lookup 100", ["--bind", "10.1.0.17"]),
    ("to 198.51.100.1 lookup 100", "198.51.100.1"),
    ("to 198.51.101.0/24 lookup 100", "198.51.101.7"),
    ("tos 0x10 lookup 100", ["--tos", "0x10"]),
    ("fwmark 0x5 lookup 100", ["--mark", "5"]),
    ("fwmark 0x30/0xf0 lookup 100", ["--mark", "0x3f"]),
    ("oif c0 lookup 100", ["--device", "c0"]),
    ("iif lo uidrange 1234-1240 lookup 100", ["--uid", "1236"]),
    ("ipproto udp dport 4000-4010 lookup 100", 4005),
    ("ipproto udp sport 5000 dport 5001 lookup 100", (5001, ["--sport", "5000"])),
    ("ipproto tcp lookup 70000", "tcp"),
    ("to 198.51.102.0/24 fwmark 0x7 goto 30000", ("198.51.102.1", ["--mark", "7"])),
    ("to 198.51.103.1 lookup 100 realms 3/4", "198.51.103.1"),
    ("ipproto udp sport 6000-6999 lookup 70000", ["--sport", "6500"]),
    # Last: while the kernel still looks for a source address, 0.0.0.0 is "not from" there too.
    ("not from 10.1.0.0/24 lookup 100", ["--bind", "203.0.113.5"]),
]


def command_for(net, what):
    """The command line that sends what a selector asks for."""
    dst, port, options = SERVER, 9, []
    for part in what if isinstance(what, tuple) else (what,):
        if part == "tcp":
            return net.traffic("c", "tcp-client", dst, 9)
        if isinstance(part, str):
            dst = part
        elif isinstance(part, int):
            port = part
        else:
            options = part
    return net.udp("c", dst, port, *options)


def test_each_selector_of_a_rule_is_shown_as_ip_rule_shows_it(tmp_path):
    """Each selector decides for a packet of its own; that rule is named with the text that `ip rule` prints."""
    with client_router_server() as net:
        rules = [f"rule add pref {1000 + number} {rule}" for number, (rule, _) in enumerate(SELECTORS)]
        rules.sort(key=lambda rule: "goto" in rule)  # after their target
        net.ip(
            "c",
            *(f"addr add {a} dev c0" for a in ("10.1.0.11/24", "10.1.0.17/24", "203.0.113.5/32")),
            *(f"route add default via 10.1.0.1 table {table}" for table in (100, 70000)),
            "rule add pref 30000 lookup 100",
            *rules,
        )
        show = subprocess.run(
            ["ip", "-n", net["c"], "rule"], capture_output=True, text=True, check=True
        ).stdout
        listed = dict(re.fullmatch(r"(\d+):\t(.*?) *", line).groups() for line in show.splitlines())
        captured = net.trace(tmp_path, *(("sh", "-c", f"{quiet(command_for(net, w))}") for _, w in SELECTORS))
        firsts = [path.hop(net["c"]).routing for path in captured.paths if path.hops[0].netns == net["c"]]
    texts = {row["rule"]: row["rule_text"] for d in firsts for row in d.lookups}
    assert {str(rule): text for rule, text in texts.items()} == {
        pref: text for pref, text in listed.items() if int(pref) in texts
    }
    decided = [decision.won["rule"] for decision in firsts]
    wanted = [30000 if "goto" in rule else 1000 + n for n, (rule, _) in enumerate(SELECTORS)]
    assert decided == wanted


def quiet(command):
    """A command as shell words whose failure (a refused connection) is no matter."""
    import shlex

    return f"{shlex.join(command)} >/dev/null || true"


def test_tables_above_255_and_their_absence(tmp_path):
    """A rule to a table that never existed gives no lookup; one whose table was flushed misses, by its number."""
    with client_router_server() as net:
        net.ip(
            "c",
            "rule add pref 10 lookup 500",
            "rule add pref 11 lookup 501000",
            "route add 192.0.2.0/24 via 10.1.0.1 table 501000",
            "route flush table 501000",
        )
        (path,) = requests(net.trace(tmp_path, net.inside("c", *PING, SERVER)))
        routing = path.hop(net["c"]).routing
    assert routing.walk() == [(0, "local", "miss"), (11, "501000", "miss"), (32766, "main", "hit")]


def test_a_strict_check_names_the_lookup_that_failed(tmp_path):
    """The drop by rp_filter says by which device, rule and table the source is reached, and the mode."""
    with network("cr", "c:c0 r:r0", "c:c1 r:r1") as net:
        net.ip("c", "addr add 10.1.0.2/24 dev c0", "addr add 10.4.0.2/24 dev c1")
        net.ip("c", "route add 192.0.2.1 via 10.4.0.1 src 10.1.0.2")
        net.ip("r", "addr add 10.1.0.1/24 dev r0", "addr add 10.4.0.1/24 dev r1")
        net.ip("r", "route add 192.0.2.0/24 dev r0")
        set_sysctls(net["c"], "net.ipv4.conf.all.arp_announce=2")
        set_sysctls(net["r"], "net.ipv4.conf.r1.rp_filter=1")
        captured = net.trace(tmp_path, net.udp("c", "192.0.2.1", 9))
        hop = captured.only("udp", dst="192.0.2.1").hop(net["r"])
    assert hop.verdict == "drop"
    assert hop.reason.startswith(
        "source check failed: 10.1.0.2 is reached through r0 (rule 32766, table main), "
        "the packet came in on r1, rp_filter is strict on r1 (SKB_DROP_REASON_IP_RPFILTER"
    )
