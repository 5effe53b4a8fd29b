"""The follower notices what happens to namespaces, and leaves nothing behind in them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tracer.enrich.follower import Follower
from tracer.enrich.rules import FlowKey
from tracer.model.network import IPV4, Network

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
NAMES = tuple(f"fe-follow{os.getpid()}-{number}" for number in range(6))
NEW = f"fe-new{os.getpid()}"


def ip(name, *words):
    return subprocess.run(["ip", "-n", name, *words], capture_output=True, text=True, check=True).stdout


def batch(name, lines):
    subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def inode_of(name):
    return Path("/run/netns", name).stat().st_ino


@pytest.fixture
def chain():
    """Six namespaces in a row, each with a veth to the next."""
    try:
        for name in NAMES:
            subprocess.run(["ip", "netns", "add", name], check=True)
            ip(name, "link", "set", "lo", "up")
        for number, (left, right) in enumerate(pairwise(NAMES)):
            ip(left, "link", "add", "right", "type", "veth", "peer", "name", "left", "netns", right)
            for name, device, host in ((left, "right", 1), (right, "left", 2)):
                ip(name, "link", "set", device, "up")
                ip(name, "addr", "add", f"10.{number}.0.{host}/24", "dev", device)
        yield NAMES
    finally:
        for name in (*NAMES, NEW):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def test_start_reads_everything_quickly(chain):
    """Rules, tables, links with their peers, addresses and settings of six namespaces in less than 200 ms."""
    before = time.monotonic()
    follower = Follower()
    follower.start()
    seconds = time.monotonic() - before
    with follower:
        others = len(follower.network.inodes()) - len(chain)
        state = follower.network.latest(inode_of(chain[1]))
    print(f"start: {seconds * 1000:.0f} ms with {others} other namespaces")
    assert seconds < 0.2 * (1 + others / len(chain))
    assert state.name == chain[1]
    assert [rule.table for rule in state.rules] == [255, 254, 253]
    assert {route.prefix for route in state.tables[254]} == {"10.0.0.0/24", "10.1.0.0/24"}
    peers = {link.name: link.peer_netns for link in state.links.values() if link.kind == "veth"}
    assert peers == {"left": inode_of(chain[0]), "right": inode_of(chain[2])}
    assert {item.address for item in state.addresses if item.family == IPV4} >= {0x0A000002, 0x0A010001}
    assert state.settings.keys() >= {"all", "lo", "left", "right"}


def test_every_change_is_a_version_of_its_own_time(chain):
    """Routes, rules, devices, nexthop objects and settings; the history knows which state was when."""
    name = chain[1]
    inode = inode_of(name)
    with Follower() as follower:
        start = follower.network.latest(inode)
        assert start not in follower.poll()

        def changed(*words):
            before = time.monotonic_ns()
            ip(name, *words)
            (state,) = [state for state in follower.poll() if state.inode == inode]
            assert before <= state.since_ns <= time.monotonic_ns()
            new = [one for one in follower.network.versions(inode) if one.since_ns >= before]
            assert new[0].unsure_ns < before
            return state

        assert any(
            route.dst_len == 8 for route in changed("route", "add", "8.0.0.0/8", "dev", "left").tables[254]
        )
        assert [rule.priority for rule in changed("rule", "add", "pref", "7", "lookup", "99").rules][:2] == [
            0,
            7,
        ]
        assert not changed("rule", "del", "pref", "7").has_table(IPV4, 99)
        state = changed("route", "add", "9.0.0.0/8", "dev", "left", "table", "99")
        assert len(state.tables[99]) == 1
        state = changed("route", "flush", "table", "99")
        assert state.tables[99] == ()  # it stays, empty, and is looked up
        changed("nexthop", "add", "id", "5", "dev", "left")
        changed("route", "add", "7.0.0.0/8", "nhid", "5")
        state = changed("nexthop", "del", "id", "5")  # takes the route with it, without saying so
        assert not state.nexthops
        assert not any(route.nhid for route in state.tables[254])
        state = changed("link", "set", "left", "down")  # so does a device
        assert not any(route.dst_len == 8 for route in state.tables[254])
        sysctl = f"/proc/sys/net/ipv4/conf/{'left'}/rp_filter"
        subprocess.run(["ip", "netns", "exec", name, "sh", "-c", f"echo 1 > {sysctl}"], check=True)
        (state,) = [state for state in follower.poll() if state.inode == inode]
        assert state.rp_filter("left") == 1
        network = follower.network
    assert network.at(inode, start.since_ns) is start
    assert network.at(inode, 0) is start
    assert network.at(inode, time.monotonic_ns()) is state
    again = Network.deserialise(json.loads(json.dumps(network.serialise())))
    assert [item.to_dict() for item in again.versions(inode)] == [
        item.to_dict() for item in network.versions(inode)
    ]


def test_a_namespace_may_come_and_go(chain):
    """A new one is read by the next poll; a deleted one is let go, so that its devices go, too."""
    with Follower() as follower:
        subprocess.run(["ip", "netns", "add", NEW], check=True)
        inode = inode_of(NEW)
        ip(chain[0], "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", NEW)
        assert inode in {state.inode for state in follower.poll()}
        follower.poll()
        peers = {
            link.name: link.peer_netns for link in follower.network.latest(inode_of(chain[0])).links.values()
        }
        assert peers["out"] == inode
        subprocess.run(["ip", "netns", "del", NEW], check=True)
        deadline = time.monotonic() + 10
        gone = False
        while not gone and time.monotonic() < deadline:  # the kernel takes namespaces down in a worker
            follower.poll()
            names = {link.name for link in follower.network.latest(inode_of(chain[0])).links.values()}
            gone = "out" not in names
        assert gone
        assert follower.network.latest(inode).name == NEW
        assert follower.fibmatch(inode, FlowKey(daddr=1)) is None


def test_the_namespace_of_a_process_is_found_on_demand(chain):
    """An inode that nobody named is looked for among the processes, once per poll."""
    with Follower() as follower:
        process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo ready; read x"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "ready\n"
            inode = Path(f"/proc/{process.pid}/ns/net").stat().st_ino
            assert follower.ensure(inode).name == f"sh[{process.pid}]"
        finally:
            process.communicate("\n")
        follower.poll()
        assert inode not in follower._watched
        assert follower.ensure(4) is None


def test_a_table_too_large_to_read_is_only_named(chain):
    """Beyond the limit a table is `large`; the kernel is asked for its routes one by one."""
    name = chain[0]
    batch(name, [f"route add 100.64.{number}.0/24 dev right table 500" for number in range(60)])
    batch(name, [f"route add 100.65.{number}.0/24 dev right table 600" for number in range(5)])
    ip(name, "rule", "add", "lookup", "500")
    with Follower(routes_per_namespace=40) as follower:
        state = follower.network.latest(inode_of(name))
        assert state.large == {500}
        assert len(state.tables[600]) == 5
        assert state.has_table(IPV4, 500)
        found = follower.fibmatch(inode_of(name), FlowKey(daddr=0x64400707, proto=17))
        assert (found.prefix, found.table) == ("100.64.7.0/24", 500)
        batch(name, [f"route add 100.66.{number}.0/24 dev right table 600" for number in range(50)])
        follower.poll()
        assert follower.network.latest(inode_of(name)).large == {500, 600}


def test_a_big_table_is_patched_to_what_a_new_reader_sees(chain):
    """Notifications are applied to a table of 600 routes; the outcome equals a fresh dump."""
    name, inode = chain[0], inode_of(chain[0])
    batch(name, [f"route add 100.64.{number // 250}.{number % 250}/32 dev right" for number in range(600)])
    with Follower() as follower:
        batch(
            name,
            [
                "route add 8.0.0.0/8 dev right",
                "route del 100.64.0.9/32",
                "route replace 100.64.0.1/32 dev lo",
                "route add 100.64.0.2/32 dev lo metric 9",
                "route append 100.64.0.3/32 dev lo",
            ],
        )
        follower.poll()
        batch(name, ["route del 8.0.0.0/8 dev right", "route add 9.9.9.9/32 dev right"])
        follower.poll()
        ours = follower.network.latest(inode).tables[254]
    with Follower() as fresh:
        theirs = fresh.network.latest(inode).tables[254]
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)
    assert len(ours) > 600


def test_lost_notifications_lead_to_a_new_dump(chain):
    """A full socket buffer (ENOBUFS) loses notifications, not changes: the rule comes after it is full."""
    name, inode = chain[0], inode_of(chain[0])
    with Follower() as follower:
        follower._watched[inode].events._socket._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        batch(name, [f"route add 100.64.{number}.0/24 dev right table 700" for number in range(100)])
        ip(name, "rule", "add", "pref", "9", "lookup", "700")
        follower.poll()
        state = follower.network.latest(inode)
    assert len(state.tables[700]) == 100
    assert [rule.priority for rule in state.rules] == [0, 9, 32766, 32767]


def test_polling_quiet_namespaces_is_cheap(chain):
    """Called ten times a second it must not be felt: less than 2 ms a call here, printed."""
    with Follower() as follower:
        follower.poll()
        before = time.process_time()
        for _ in range(100):
            follower.poll()
        seconds = (time.process_time() - before) / 100
    print(f"poll: {seconds * 1e6:.0f} us")
    assert seconds < 0.002
