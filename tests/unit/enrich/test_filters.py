"""Every term of a filter: what it asks of the kernel, and which finished paths it keeps."""

from __future__ import annotations

import ipaddress
import socket

import numpy as np
import pytest

from tests.unit.correlate.records import (
    C0,
    LAYOUT,
    LOCAL,
    R0,
    R1,
    S0,
    TCP,
    C,
    Packet,
    R,
    S,
    Scene,
    fails,
    hit,
    miss,
    stories,
)
from tracer.correlate.callers import Purpose
from tracer.correlate.verdicts import Role
from tracer.enrich.filters import Selection
from tracer.enrich.names import system_names
from tracer.enrich.resolve import FilterWords, resolve
from tracer.model.network import Network
from tracer.outputs.owners import Owners

TERMS = LAYOUT.enums["filter_term"]


def net(text):
    return ipaddress.ip_network(text)


def wire(**terms):
    return Selection(**terms).wire(LAYOUT, 1, 4711)


def active(record):
    return {name.removeprefix("TERM_") for name, bit in TERMS.items() if int(record["active"]) & bit}


# -- the kernel's part


def test_no_filter_asks_for_nothing():
    """But says who we are and how stacks are taken."""
    record = wire()
    assert active(record) == set()
    assert (int(record["own_pid"]), int(record["stacks"]), int(record["family"])) == (4711, 1, 0)


@pytest.mark.parametrize(
    ("name", "address", "mask"),
    [("src", "saddr", "smask"), ("dst", "daddr", "dmask"), ("host", "haddr", "hmask")],
)
def test_a_prefix_is_an_address_and_a_mask_and_a_family(name, address, mask):
    """In network order, the rest zero."""
    record = wire(**{name: net("10.1.0.0/20")})
    assert active(record) == {name.upper(), "FAMILY"}
    assert bytes(record[address]) == bytes([10, 1, 0, 0]) + bytes(12)
    assert bytes(record[mask]) == bytes([255, 255, 240, 0]) + bytes(12)
    assert record["family"] == socket.AF_INET


@pytest.mark.parametrize("name", ["proto", "port", "sport", "dport", "netns", "pid", "uid"])
def test_a_number_is_that_number(name):
    """Zero as well: what is absent is None."""
    for value in (0, 17):
        record = wire(**{name: value})
        assert active(record) == {name.upper()}
        assert int(record[name]) == value


def test_a_mark_has_a_mask():
    """Both go to the kernel."""
    record = wire(mark=(0x10, 0xF0))
    assert active(record) == {"MARK"}
    assert (int(record["mark"]), int(record["mark_mask"])) == (0x10, 0xF0)


def test_a_process_name_has_fifteen_bytes():
    """As the kernel has it: task->comm."""
    record = wire(comm="a-name-that-is-too-long")
    assert active(record) == {"COMM"}
    assert bytes(record["comm"]) == b"a-name-that-is-\0"
    assert bytes(wire(comm="curl")["comm"]) == b"curl".ljust(16, b"\0")


def test_input_devices_are_pairs_of_namespace_and_number():
    """As many as there is room for; with more, the finished paths alone are tested."""
    record = wire(iif=frozenset({(R, 3), (S, 2)}))
    assert active(record) == {"IN_DEVICE"}
    assert int(record["in_devices"]) == 2
    assert list(zip(record["in_netns"][:2].tolist(), record["in_device"][:2].tolist(), strict=True)) == [
        (R, 3),
        (S, 2),
    ]
    many = wire(iif=frozenset((n, 2) for n in range(17)))
    assert active(many) == set()
    assert active(wire(iif=frozenset((n, 2) for n in range(16)))) == {"IN_DEVICE"}


def test_what_only_a_finished_path_can_tell_is_not_asked_of_the_kernel():
    """Table, role, output device, drops, purpose."""
    record = wire(table=100, role=Role.ROUTER, oif=frozenset({(R, 3)}), drops=True, purpose=Purpose.QUERY)
    assert active(record) == set()


def test_a_family_is_asked_for():
    """By itself, and not twice."""
    assert active(wire(family=4)) == {"FAMILY"}
    assert active(wire(family=4, src=net("10.0.0.0/8"))) == {"FAMILY", "SRC"}


# -- finished paths


def scene():
    """A datagram through the router to nginx, a TCP segment refused by the router, a failed send, a query."""
    made = Scene()
    asked = Packet(dport=53, sport=40000, mark=0x15)
    made.task(812, "curl", C).decide(asked.key(uid=1000), "send", miss(255), hit(254, C0)).xmit(asked, C0)
    soft = made.softirq().receive(asked, R0).decide(asked.key(R0), "input", miss(255), hit(100, R1))
    soft.decide(asked.check_key(R0), "check", hit(254, R0)).xmit(asked.but(ttl=63), R1)
    soft.receive(asked.but(ttl=63), S0).decide(asked.key(S0), "input", hit(255, S0, LOCAL))
    made.task(640, "nginx", S).copy(asked.but(ttl=63), S0)
    refused = Packet("10.9.0.1", "10.2.0.7", proto=TCP, sport=999, dport=80, skb=0x9000)
    soft.receive(refused, R1).decide(refused.key(R1), "input", miss(255), hit(254, R0)).drop(refused, R1)
    made.task(7, "ping", C).decide(Packet(dst="10.7.0.1").key(uid=5), "send", miss(255), fails(200, 22))
    made.task(9, "ip", C).decide(Packet(dst="10.8.0.1").key(), "getroute", hit(254, C0))
    return made


DATAGRAM, REFUSED, FAILED, QUERY = range(4)


def kept(of_process=None, made=None, **terms):
    """Which paths of the scene are kept, by their place in time."""
    steps, correlator = (made or scene()).run()
    owners = Owners(lambda *_key: None)
    owners.find(steps, correlator.sockets)
    mask = Selection(**terms).keep(steps, of_process or owners.matches(terms.get("comm")))
    assert len(mask) == len(steps)
    order = sorted(range(len(stories(steps))), key=lambda index: stories(steps)[index].start_ns)
    path = np.cumsum(np.concatenate(([True], steps.packet[1:] != steps.packet[:-1]))) - 1
    for number in range(int(path[-1]) + 1):
        assert len(set(mask[path == number].tolist())) == 1, "a path is kept whole or not at all"
    return {place for place, index in enumerate(order) if mask[path == index].all()}


def test_the_socket_that_tells_of_a_delivery_is_not_the_packet():
    """A socket's own port is its source: that does not make it the source of what came to it."""
    made = Scene()
    asked = Packet(dport=9000, sport=5003, sock=0x77)
    soft = made.softirq().receive(asked, S0).decide(asked.key(S0), "input", hit(255, S0, LOCAL))
    soft.told("READY", asked, S)
    steps, _ = made.run()
    assert "deliver" in str(stories(steps)[0].hops)
    assert kept(made=made, sport=9000) == set()
    assert kept(made=made, dport=9000) == {0}


@pytest.mark.parametrize(
    ("terms", "paths"),
    [
        ({}, {DATAGRAM, REFUSED, FAILED}),
        ({"src": net("10.1.0.0/24")}, {DATAGRAM, FAILED}),
        ({"src": net("10.9.0.1/32")}, {REFUSED}),
        ({"src": net("10.2.0.0/24")}, set()),
        ({"dst": net("10.2.0.0/24")}, {DATAGRAM, REFUSED}),
        ({"dst": net("10.1.0.0/24")}, set()),
        ({"host": net("10.2.0.2/32")}, {DATAGRAM}),
        ({"host": net("10.9.0.0/16")}, {REFUSED}),
        ({"proto": 6}, {REFUSED}),
        ({"proto": 17}, {DATAGRAM, FAILED}),
        ({"sport": 999}, {REFUSED}),
        ({"dport": 999}, set()),
        ({"port": 999}, {REFUSED}),
        ({"port": 53}, {DATAGRAM, FAILED}),
        ({"sport": 40000, "dst": net("10.2.0.2/32")}, {DATAGRAM}),
        ({"src": net("10.9.0.0/16"), "dport": 53}, set()),
        ({"family": 4}, {DATAGRAM, REFUSED, FAILED}),
        ({"family": 6}, set()),
        ({"netns": R}, {DATAGRAM, REFUSED}),
        ({"netns": S}, {DATAGRAM}),
        ({"only_namespaces": frozenset({S, 99})}, {DATAGRAM}),
        ({"mark": (0x15, 0xFFFFFFFF)}, {DATAGRAM}),
        ({"mark": (0x10, 0xF0)}, {DATAGRAM}),
        ({"mark": (0x14, 0xFFFFFFFF)}, set()),
        ({"table": 100}, {DATAGRAM}),
        ({"table": 200}, {FAILED}),
        ({"table": 253}, set()),
        ({"role": Role.ROUTER}, {DATAGRAM, REFUSED}),
        ({"role": Role.SERVER}, {DATAGRAM}),
        ({"role": Role.CLIENT}, {DATAGRAM, FAILED}),
        ({"role": Role.LOCAL}, set()),
        ({"drops": True}, {REFUSED, FAILED}),
        ({"drops": True, "role": Role.ROUTER}, {REFUSED}),
        ({"purpose": Purpose.QUERY}, {QUERY}),
        ({"purpose": Purpose.SOURCE_CHECK}, {DATAGRAM}),
        ({"purpose": Purpose.INPUT}, {DATAGRAM, REFUSED}),
        ({"purpose": Purpose.OUTPUT}, {DATAGRAM, FAILED}),
        ({"iif": frozenset({(R, R0.ifindex)})}, {DATAGRAM}),
        ({"iif": frozenset({(R, R1.ifindex)})}, {REFUSED}),
        ({"iif": frozenset({(C, C0.ifindex)})}, set()),
        ({"oif": frozenset({(R, R1.ifindex)})}, {DATAGRAM}),
        ({"oif": frozenset({(C, C0.ifindex), (S, 9)})}, {DATAGRAM}),
        ({"oif": frozenset({(R, R0.ifindex)})}, set()),
        ({"pid": 812}, {DATAGRAM}),
        ({"pid": 640}, {DATAGRAM}),
        ({"pid": 1}, set()),
        ({"comm": "nginx"}, {DATAGRAM}),
        ({"comm": "curl", "pid": 812}, {DATAGRAM}),
        ({"comm": "curl", "pid": 640}, set()),
        ({"comm": "sshd"}, set()),
        ({"uid": 1000}, {DATAGRAM}),
        ({"uid": 5}, {FAILED}),
        ({"uid": 4}, set()),
    ],
)  # fmt: skip
def test_a_term_keeps_the_paths_it_names(terms, paths):
    """And no other; several terms must all hold."""
    assert kept(**terms) == paths


def test_an_address_must_hold_together_with_its_port():
    """A path whose request has the address and whose check has the port is not meant."""
    made = Scene()
    packet = Packet(sport=1, dport=2)
    soft = made.softirq().receive(packet, R0).decide(packet.key(R0), "input", hit(254, R1))
    soft.decide(packet.check_key(R0), "check", hit(254, R0)).xmit(packet.but(ttl=63), R1)
    assert kept(made=made, src=net("10.1.0.2/32"), sport=1) == {0}
    assert kept(made=made, src=net("10.1.0.2/32"), sport=2) == set()
    assert kept(made=made, src=net("10.2.0.2/32"), sport=2) == set()


def test_no_steps_are_no_mask():
    """An empty batch."""
    steps, _ = Scene().run()
    assert Selection(drops=True).keep(steps, lambda _steps: (np.zeros(0), np.zeros(0))).tolist() == []


def test_a_process_is_found_by_the_name_the_kernel_has():
    """Fifteen bytes of it: that is all there is to compare."""
    made = Scene()
    packet = Packet()
    made.task(5, "systemd-resolve", C).decide(packet.key(), "send", hit(254, C0)).xmit(packet, C0)
    known = resolve(FilterWords(comm="systemd-resolved"), Network(), system_names())
    assert known.comm == "systemd-resolve"
    assert kept(made=made, comm=known.comm) == {0}
