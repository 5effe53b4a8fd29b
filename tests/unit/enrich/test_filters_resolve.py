"""The words of a filter are resolved before anything is traced, or refused with what would do."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest

from tracer.correlate.callers import Purpose
from tracer.correlate.verdicts import Role
from tracer.enrich.names import Names
from tracer.enrich.resolve import FilterWords, resolve
from tracer.errors import BadRequest
from tracer.model.network import Link, Network, NetworkState

NAMES = Names(
    tables={254: "main", 255: "local", 100: "uplink"},
    protocols={},
    scopes={},
    groups={},
    dsfields={},
    ip_protocols={6: "tcp", 17: "udp", 1: "icmp"},
)


def network():
    """Two namespaces that share a device name, and an older version of one of them."""
    known = Network()
    known.add(NetworkState(11, name="a", links={9: Link(9, "gone0")}))
    known.add(NetworkState(11, name="a", since_ns=5, links={1: Link(1, "lo"), 2: Link(2, "eth0")}))
    known.add(NetworkState(12, name="b", links={1: Link(1, "lo"), 3: Link(3, "eth1"), 4: Link(4, "eth0")}))
    return known


def selection(**words):
    return resolve(FilterWords(**words), network(), NAMES)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ({"src": "10.1.0.2"}, "src", ipaddress.ip_network("10.1.0.2/32")),
        ({"dst": "10.1.0.9/24"}, "dst", ipaddress.ip_network("10.1.0.0/24")),
        ({"host": "0.0.0.0/0"}, "host", ipaddress.ip_network("0.0.0.0/0")),
        ({"proto": "tcp"}, "proto", 6),
        ({"proto": "UDP"}, "proto", 17),
        ({"proto": "255"}, "proto", 255),
        ({"port": 0}, "port", 0),
        ({"sport": 65535}, "sport", 65535),
        ({"dport": 53}, "dport", 53),
        ({"pid": 1}, "pid", 1),
        ({"uid": 4294967295}, "uid", 4294967295),
        ({"comm": "curl"}, "comm", "curl"),
        ({"mark": "0x10/0xf0"}, "mark", (0x10, 0xF0)),
        ({"mark": "7"}, "mark", (7, 0xFFFFFFFF)),
        ({"table": "uplink"}, "table", 100),
        ({"table": "1000"}, "table", 1000),
        ({"role": "server"}, "role", Role.SERVER),
        ({"role": "local"}, "role", Role.LOCAL),
        ({"purpose": "source-check"}, "purpose", Purpose.SOURCE_CHECK),
        ({"purpose": "query"}, "purpose", Purpose.QUERY),
        ({"drops": True}, "drops", True),
        ({"family": 4}, "family", 4),
        ({"family": 6}, "family", 6),
        ({"src": "fd00:1::/64"}, "src", ipaddress.ip_network("fd00:1::/64")),
        ({"netns": "b"}, "netns", 12),
        ({"netns": "12"}, "netns", 12),
        ({"iif": "eth0"}, "iif", frozenset({(11, 2), (12, 4)})),
        ({"iif": "eth0", "netns": "b"}, "iif", frozenset({(12, 4)})),
        ({"oif": "eth1"}, "oif", frozenset({(12, 3)})),
    ],
)
def test_a_word_becomes_what_it_names(words, name, value):
    """Names of this machine, of the newest configuration."""
    assert getattr(selection(**words), name) == value


def test_a_namespace_may_be_named_by_a_process_in_it():
    """Its own inode is what is meant."""
    own = Path("/proc/self/ns/net").stat().st_ino
    assert selection(netns=str(os.getpid())).netns == own


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"src": "10.1.0"}, "--src 10.1.0: not an address or prefix"),
        ({"dst": "10.1.0.0/33"}, "--dst 10.1.0.0/33: not an address or prefix"),
        ({"host": "example.org"}, "--host example.org: not an address or prefix"),
        ({"proto": "ip"}, "--proto ip: no such IP protocol"),
        ({"proto": "256"}, "--proto 256: no such IP protocol"),
        ({"port": 65536}, "--port 65536: must be between 0 and 65535"),
        ({"sport": -1}, "--sport -1: must be between 0 and 65535"),
        ({"dport": 70000}, "--dport 70000: must be between 0 and 65535"),
        ({"pid": -1}, "--pid -1: must be between 0 and 4294967295"),
        ({"uid": 4294967296}, "--uid 4294967296: must be between 0 and 4294967295"),
        ({"mark": "red"}, "--mark red: not a mark"),
        ({"mark": "1/"}, "--mark 1/: not a mark"),
        ({"mark": "1/x"}, "--mark 1/x: not a mark"),
        ({"mark": "0x100000000"}, "--mark 0x100000000: a mark has 32 bits"),
        ({"mark": "-1"}, "--mark -1: a mark has 32 bits"),
        (
            {"table": "nowhere"},
            "--table nowhere: no such table\n  known by name: local, main, uplink; any number works",
        ),
        ({"table": "0"}, "--table 0: no such table"),
        ({"table": "4294967296"}, "--table 4294967296: no such table"),
        ({"role": "hub"}, "--role hub: there is server, client, router, local"),
        ({"role": "none"}, "--role none: there is server, client, router, local"),
        ({"purpose": "fun"}, "--purpose fun: there is input, output, source-check, query, other"),
        ({"family": 5}, "--family 5: there is 4 and 6"),
        ({"netns": "z"}, "--netns z: no such network namespace\n  there is: a, b"),
        ({"netns": "999999999"}, "--netns 999999999: no namespace has this inode, and no process this pid"),
        ({"iif": "eth9"}, "--iif eth9: no such device\n  there is: eth0, eth1, lo"),
        ({"oif": "eth1", "netns": "a"}, "--oif eth1: no such device\n  there is: eth0, lo"),
        ({"iif": "gone0"}, "--iif gone0: no such device"),
    ],
)
def test_a_word_that_names_nothing_is_refused_with_what_would_do(words, message):
    """One message, that begins with the option and what was given."""
    with pytest.raises(BadRequest) as caught:
        selection(**words)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "words",
    [
        {"family": 4, "dst": "::/0"},
        {"family": 6, "src": "10.1.0.0/24"},
        {"src": "10.1.0.2", "dst": "fd00::1"},
    ],
)
def test_a_filter_of_both_families_is_refused(words):
    """No packet can match it: that is said at once."""
    with pytest.raises(BadRequest, match="both address families"):
        selection(**words)


@pytest.mark.parametrize("name", ["icmpv6", "icmp6", "ipv6-icmp", "58"])
def test_icmp_of_ipv6_has_several_names(name):
    """All of them are protocol 58."""
    assert selection(proto=name).proto == 58


def test_nothing_given_is_nothing_filtered():
    """And anything given is."""
    assert not FilterWords().given
    assert not FilterWords(drops=False).given
    assert FilterWords(drops=True).given
    assert FilterWords(uid=7).given
