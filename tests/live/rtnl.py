"""Rtnetlink requests written by hand, many in one system call: the model's rules and routes into the kernel.

Not by fibtrace's own encoder or decoder, so that a mistake in these shows as a difference.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tracer.enrich.selectors import FlowKey
from tracer.model.network import IPV4, NexthopObject, Route, Rule

NEW_ROUTE, DEL_ROUTE, GET_ROUTE, NEW_RULE, DEL_RULE, NEW_NEXTHOP, DEL_NEXTHOP = 24, 25, 26, 32, 33, 104, 105
REQUEST, ACK, CREATE, EXCL, APPEND = 1, 4, 0x400, 0x200, 0x800
ACTIONS = {"lookup": 1, "goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}
FIB_MATCH, LOOKUP_TABLE = 0x2000, 0x1000
CHUNK = 60


class Reply(NamedTuple):
    """The answer to one request: the errno (0 for none), and the message, if it brought one."""

    error: int
    message: bytes = b""


def attribute(number: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("HH", len(payload) + 4, number) + payload + bytes(-len(payload) % 4)


def _address(family: int, value: int) -> bytes:
    return value.to_bytes(4 if family == IPV4 else 16, "big")


def _u32(value: int) -> bytes:
    return struct.pack("I", value)


def rule_body(rule: Rule) -> bytes:
    """`struct fib_rule_hdr` with its attributes."""
    table = rule.table if rule.table < 256 else 0
    body = struct.pack(
        "BBBBBBBBI", rule.family, rule.dst_len, rule.src_len, rule.tos, table, 0, 0,
        ACTIONS[rule.action], 2 if rule.invert else 0,
    )  # fmt: skip
    body += attribute(6, _u32(rule.priority))
    if rule.action == "lookup":
        body += attribute(15, _u32(rule.table))
    if rule.action == "goto":
        body += attribute(4, _u32(rule.target))
    for number, length, value in ((1, rule.dst_len, rule.dst), (2, rule.src_len, rule.src)):
        body += attribute(number, _address(rule.family, value)) if length else b""
    for number, name in ((3, rule.iif), (17, rule.oif)):
        body += attribute(number, name.encode() + b"\0") if name else b""
    if rule.mask:
        body += attribute(10, _u32(rule.mark)) + attribute(16, _u32(rule.mask))
    return body + _rare(rule)


def any_rule_body(rule: Rule) -> bytes:
    """To delete one rule of the same preference, whichever: more words would match yet another by their absence."""
    return struct.pack("BBBBBBBBI", rule.family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(6, _u32(rule.priority))


def _rare(rule: Rule) -> bytes:
    body = attribute(20, struct.pack("II", *rule.uid)) if rule.uid else b""
    body += attribute(22, bytes((rule.ip_proto,))) if rule.ip_proto else b""
    for number, ports, mask_number, mask in (
        (23, rule.sport, 28, rule.sport_mask),
        (24, rule.dport, 29, rule.dport_mask),
    ):
        if ports:
            body += attribute(number, struct.pack("HH", *ports))
            body += attribute(mask_number, struct.pack("H", mask)) if mask else b""
    if rule.dscp is not None:
        body += attribute(25, bytes((rule.dscp,)))
        body += attribute(30, bytes((rule.dscp_mask,))) if rule.dscp_mask != 0x3F else b""
    body += attribute(12, rule.tun_id.to_bytes(8, "big")) if rule.tun_id else b""
    for number, value in ((14, rule.suppress_prefixlength), (13, rule.suppress_ifgroup)):
        body += attribute(number, struct.pack("i", value)) if value >= 0 else b""
    return body


def route_body(route: Route) -> bytes:
    """`struct rtmsg` with its attributes."""
    family = route.family
    body = struct.pack(
        "BBBBBBBBI", family, route.dst_len, route.src_len, route.tos, 0, route.protocol, route.scope,
        route.type, 0,
    )  # fmt: skip
    body += attribute(15, _u32(route.table))
    body += attribute(1, _address(family, route.dst)) if route.dst_len else b""
    body += attribute(2, _address(family, route.src)) if route.src_len else b""
    body += attribute(6, _u32(route.metric)) if route.metric else b""
    body += attribute(7, _address(family, route.prefsrc)) if route.prefsrc else b""
    body += attribute(20, bytes((route.pref,))) if route.pref else b""
    if route.nhid:
        return body + attribute(30, _u32(route.nhid))
    if len(route.nexthops) > 1:
        return body + attribute(9, b"".join(_multipath(family, hop) for hop in route.nexthops))
    for hop in route.nexthops:
        body += _gateway(hop) + attribute(4, _u32(hop.ifindex))
    return body


def _gateway(hop: object) -> bytes:
    return attribute(5, _address(hop.gateway_family, hop.gateway)) if hop.gateway_family else b""


def _multipath(family: int, hop: object) -> bytes:
    gateway = _gateway(hop)
    return struct.pack("HBBi", 8 + len(gateway), 0, hop.weight - 1, hop.ifindex) + gateway


def nexthop_body(item: NexthopObject) -> bytes:
    """`struct nhmsg` with its attributes."""
    body = struct.pack("BBBBI", 0 if item.group else item.family, 0, 3, 0, 0) + attribute(1, _u32(item.id))
    if item.group:
        return body + attribute(2, b"".join(struct.pack("IBBH", n, w - 1, 0, 0) for n, w in item.group))
    if item.blackhole:
        return body + attribute(4, b"")
    gateway = attribute(6, _address(item.gateway_family, item.gateway)) if item.gateway_family else b""
    return body + attribute(5, _u32(item.ifindex)) + gateway


def question_body(flow: FlowKey, *, fibmatch: bool) -> bytes:
    """RTM_GETROUTE for a flow."""
    v4 = flow.family == IPV4
    bits, flags = (32, LOOKUP_TABLE) if v4 else (128, 0)
    source = bits if flow.saddr else 0
    flags |= FIB_MATCH if fibmatch else 0
    body = struct.pack("BBBBBBBBI", flow.family, bits, source, flow.tos, 0, 0, 0, 0, flags)
    body += attribute(1, _address(flow.family, flow.daddr)) + attribute(25, _u32(flow.uid))
    body += attribute(2, _address(flow.family, flow.saddr)) if flow.saddr else b""
    for number, value, layout in (
        (3, flow.iif if flow.iif != 1 else 0, "I"), (4, flow.oif, "I"), (16, flow.mark, "I"),
        (27, flow.proto, "B"), (28, flow.sport, ">H"), (29, flow.dport, ">H"),
    ):  # fmt: skip
        body += attribute(number, struct.pack(layout, value)) if value else b""
    return body


class Rtnl:
    """A socket in the current namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(
            socket.SOL_SOCKET, 33, 1 << 25
        )  # SO_RCVBUFFORCE: the answers to a whole batch
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Done."""
        self._socket.close()

    def send(self, requests: Iterable[tuple[int, int, bytes]]) -> list[Reply]:
        """Requests (kind, flags, body), in few system calls; one reply each, in order."""
        waiting, replies = list(requests), []
        for start in range(0, len(waiting), CHUNK):
            replies += self._exchange(waiting[start : start + CHUNK])
        return replies

    def _exchange(self, requests: Sequence[tuple[int, int, bytes]]) -> list[Reply]:
        data, first = b"", self._sequence + 1
        for kind, flags, body in requests:
            self._sequence += 1
            data += struct.pack("IHHII", len(body) + 16, kind, flags | REQUEST, self._sequence, 0) + body
        self._socket.send(data)
        found: dict[int, Reply] = {}
        while len(found) < len(requests):
            for sequence, reply in _replies(self._socket.recv(1 << 16)):
                found.setdefault(sequence, reply)
        return [found[first + index] for index in range(len(requests))]


def _replies(data: bytes) -> Iterable[tuple[int, Reply]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _, sequence = struct.unpack_from("IHHI", data, offset)
        if kind == 2:
            (code,) = struct.unpack_from("i", data, offset + 16)
            yield sequence, Reply(-code)
        else:
            yield sequence, Reply(0, data[offset : offset + length])
        offset += (length + 3) & ~3


def expect_done(replies: Iterable[Reply], *harmless: int) -> list[bool]:
    """Which requests were carried out; fails on an error that is none of `harmless`."""
    done = []
    for index, reply in enumerate(replies):
        assert reply.error in {0, *harmless}, f"{index}: {errno.errorcode.get(reply.error, reply.error)}"
        done.append(not reply.error)
    return done
