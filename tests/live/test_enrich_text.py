"""Rules and routes are printed exactly as iproute2 prints them."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from tracer.enrich import netns
from tracer.enrich.follower import Follower
from tracer.enrich.routes import route_text
from tracer.enrich.rules import rule_text
from tracer.model.network import IPV4, IPV6

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
NAME = f"fe-text{os.getpid()}"
RULES = (
    "from 10.0.0.0/8 lookup 100",
    "from 10.1.2.3 lookup 1000",
    "to 10.0.0.0/8 table main",
    "to 1.2.3.4 lookup 7",
    "not from 1.2.3.4 to 5.6.0.0/16 lookup 7",
    "from 0.0.0.0/8 lookup 7",
    "fwmark 1 lookup 7",
    "fwmark 0x10/0xff lookup 7",
    "fwmark 0/0x1 lookup 7",
    "not fwmark 0xca6c lookup 51820",
    "iif lo lookup 7",
    "iif e0 oif e1 lookup 7",
    "iif absent lookup 7",
    "oif absent lookup 7",
    "uidrange 5-10 lookup 7",
    "ipproto tcp lookup 7",
    "ipproto 47 lookup 7",
    "ipproto 200 lookup 7",
    "ipproto udp sport 53 lookup 7",
    "sport 1000-2000 dport 80 lookup 7",
    "tos 0x10 lookup 7",
    "tos 4 lookup 7",
    "goto 30000 pref 20000",
    "goto 32766",
    "nop",
    "blackhole",
    "unreachable",
    "prohibit",
    "from 9.0.0.0/8 prohibit",
    "lookup main suppress_prefixlength 0",
    "lookup 7 suppress_prefixlength 24 suppress_ifgroup 5",
    "lookup default suppress_ifgroup 0",
    "tun_id 77 lookup 7",
    "l3mdev",
    "lookup 7 protocol static",
    "lookup 7 protocol 77",
    "lookup 7 realms 1/2",
    "lookup 7 realms 3",
    (
        "not from 1.2.3.4/31 tos 8 fwmark 3/7 iif lo oif e0 uidrange 5-5 ipproto 6 sport 5-6 dport 8 "
        "lookup 1000 suppress_prefixlength 0 suppress_ifgroup 7"
    ),
)
RULES6 = (
    "from 2001:db8::/32 lookup 100",
    "to 2001:db8::1 lookup 7",
    "fwmark 1 prohibit",
    "iif e0 lookup 7",
    "tos 0x10 lookup 7",
)
ROUTES = (
    "10.9.0.0/16 via 10.0.0.2",
    "default via 10.0.0.2 metric 5",
    "default dev e1 metric 7",
    "10.8.0.1 dev e1",
    "blackhole 198.51.100.0/24",
    "unreachable 198.51.101.0/24",
    "prohibit 198.51.102.1",
    "throw 198.51.103.0/24",
    "10.7.0.0/16 tos 0x10 via 10.0.0.2",
    "10.6.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop dev e1 weight 2",
    "10.5.0.0/16 nhid 1",
    "10.4.0.0/16 nhid 10",
    "10.3.0.0/16 nhid 3",
    "10.2.0.0/16 via inet6 fe80::1 dev e0",
    "multicast 224.1.0.0/16 dev e0",
    "10.1.0.0/16 dev e0 scope link src 10.0.0.1",
    "local 10.55.0.0/24 dev lo",
    "broadcast 10.56.0.255 dev e0",
    "0.0.0.0/8 dev e0",
)
END = re.compile(r" (proto|scope|metric|src|table|dead|linkdown|onlink|mtu)( |$).*")


def ip(*words, check=True):
    return subprocess.run(["ip", "-n", NAME, *words], capture_output=True, text=True, check=check).stdout


@pytest.fixture(scope="module")
def namespace():
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    try:
        for device in ("lo", "e0", "e1"):
            if device == "e0":
                ip("link", "add", "e0", "type", "veth", "peer", "name", "e1")
            ip("link", "set", device, "up")
        ip("addr", "add", "10.0.0.1/24", "dev", "e0")
        yield NAME
    finally:
        subprocess.run(["ip", "netns", "del", NAME], check=True)


def state_of(name):
    with Follower() as follower:
        return follower.network.latest(Path("/run/netns", name).stat().st_ino)


def test_every_rule_is_printed_as_ip_rule_prints_it(namespace):
    """All forms of selectors and actions, both families."""
    for rule in RULES:
        ip("rule", "add", *rule.split())
    for rule in RULES6:
        ip("-6", "rule", "add", *rule.split())
    state = state_of(namespace)
    for family, option in ((IPV4, "-4"), (IPV6, "-6")):
        theirs = ip(option, "rule").splitlines()
        rules = state.rules_of(family)
        ours = [f"{rule.priority}:\t{rule_text(rule, state.table_names)}" for rule in rules]
        assert ours == [line.rstrip() for line in theirs]
    assert len(state.rules) == len(RULES) + 3


@pytest.mark.parametrize("table", ["77", "main", "local"])
def test_every_route_is_printed_as_ip_route_prints_it(namespace, table):
    """All types, both gateway families, multipath and nexthop objects; up to protocol and scope."""
    ip("nexthop", "replace", "id", "1", "via", "10.0.0.9", "dev", "e0")
    ip("nexthop", "replace", "id", "2", "via", "10.0.0.8", "dev", "e0")
    ip("nexthop", "replace", "id", "3", "blackhole")
    ip("nexthop", "replace", "id", "10", "group", "1,3/2,7")
    for route in ROUTES if table == "77" else ():
        ip("route", "replace", "table", table, *route.split())
    state = state_of(namespace)
    text = ip("-4", "route", "show", "table", table)
    joined = [line.rstrip() for line in text.replace("\n\tnexthop", " nexthop").splitlines()]
    theirs = [shortened(line) for line in joined]
    number = {"main": 254, "local": 255}.get(table) or int(table)
    assert [route_text(route, state) for route in state.tables[number]] == theirs
    assert len(theirs) == {"77": len(ROUTES), "main": 1}.get(table, len(theirs))


def shortened(line):
    """The line without proto, scope and what else route_text leaves out."""
    start, *nexthops = line.split(" nexthop ")
    return " nexthop ".join(
        [END.sub("", f"{start} ").strip(), *(END.sub("", hop).strip() for hop in nexthops)]
    )


def test_selectors_that_iproute2_does_not_know_are_shown(namespace):
    """A DSCP with mask and a masked port, set as newer tools do, are part of the text (trap 14)."""

    def add():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            body = struct.pack("BBBBBBBBI", IPV4, 0, 0, 0, 9, 0, 0, 1, 0)
            for number, value in (
                (6, struct.pack("I", 4)),
                (25, b"\x2a"),
                (30, b"\x3e"),
                (24, struct.pack("HH", 0x50, 0x50)),
                (29, struct.pack("H", 0xF0)),
            ):
                body += struct.pack("HH", 4 + len(value), number) + value.ljust((len(value) + 3) & ~3, b"\0")
            sock.send(struct.pack("IHHII", 16 + len(body), 32, 0x605, 1, 0) + body)
            return struct.unpack_from("i", sock.recv(4096), 16)[0]

    with Path("/run/netns", namespace).open() as file:
        error = netns.run_in(file.fileno(), add)
    if error == -22:
        pytest.skip("this kernel has no DSCP or port masks in rules (before 6.16)")
    assert error == 0
    state = state_of(namespace)
    rule = next(rule for rule in state.rules if rule.priority == 4)
    assert rule_text(rule, {9: "nine"}) == "from all dport 0x50/0xf0 dscp 0x2a/0x3e lookup nine"
    assert threading.active_count() == 1
