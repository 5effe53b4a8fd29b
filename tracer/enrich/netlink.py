"""Rtnetlink sockets in any namespace: dumps, questions, notifications. The only importer of pyroute2.

pyroute2 gives the layouts of messages and the constants, and writes requests. Its sockets are not used: each
of them carries an asyncio loop, and opening one in a namespace took 9 ms where a plain socket takes 0.2.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyroute2.netlink import nlmsg, rtnl
from pyroute2.netlink.exceptions import NetlinkError as NetlinkError  # noqa: PLC0414 - for those above
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtgenmsg import rtgenmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg_base

from tracer.enrich.decode import Message, walk
from tracer.errors import BadMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOL_NETLINK, ADD_MEMBERSHIP, GET_STRICT_CHECK = 270, 1, 12
REQUEST, DUMP, DUMP_INTERRUPTED = 1, 0x300, 0x10
DONE, ERROR = 3, 2
NEXTHOP, NEW_NEXTHOP, GET_NEXTHOP = "nexthop", 104, 106
RTM_F_FIB_MATCH, RTM_F_LOOKUP_TABLE = 0x2000, 0x1000  # without the latter the answer always says main
BUFFER = 1 << 18
RCVBUFFORCE, QUEUE = 33, 1 << 23  # some 10,000 notifications
ARENA = 1 << 22
_HEADER = 16  # sizeof(struct nlmsghdr)
ATTRIBUTES = tuple((number, str(number), "cdata") for number in range(1, 128))
GROUPS: Final = (
    rtnl.RTNLGRP_LINK,
    rtnl.RTNLGRP_IPV4_IFADDR,
    rtnl.RTNLGRP_IPV6_IFADDR,
    rtnl.RTNLGRP_IPV4_ROUTE,
    rtnl.RTNLGRP_IPV6_ROUTE,
    rtnl.RTNLGRP_IPV4_RULE,
    rtnl.RTNLGRP_IPV6_RULE,
    rtnl.RTNLGRP_IPV4_NETCONF,
    32,  # RTNLGRP_NEXTHOP
)
NEIGHBOURS: Final = rtnl.RTNLGRP_NEIGH


def _message_class(layout: Any) -> Any:
    """A message with the fixed part of `layout` and every attribute as bytes."""
    return type("RawMessage", (nlmsg,), {"fields": layout, "nla_map": ATTRIBUTES, "prefix": ""})


RULE = _message_class(fibmsg.fields)
ROUTE = _message_class(rtmsg_base.fields)
LINK = _message_class(ifinfmsg.fields)
ADDRESS = _message_class(ifaddrmsg.fields)
NEIGHBOUR = _message_class(ndmsg.fields)
GENERIC = _message_class(rtgenmsg.fields)
NEXTHOP_MESSAGE = _message_class(
    (("family", "B"), ("scope", "B"), ("proto", "B"), ("resvd", "B"), ("flags", "I"))
)
CLASSES = {
    **dict.fromkeys((rtnl.RTM_NEWRULE, rtnl.RTM_DELRULE, rtnl.RTM_GETRULE), RULE),
    **dict.fromkeys((rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE, rtnl.RTM_GETROUTE), ROUTE),
    **dict.fromkeys((rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK, rtnl.RTM_GETLINK), LINK),
    **dict.fromkeys((rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR, rtnl.RTM_GETADDR), ADDRESS),
    **dict.fromkeys((rtnl.RTM_NEWNEIGH, rtnl.RTM_DELNEIGH, rtnl.RTM_GETNEIGH), NEIGHBOUR),
    **dict.fromkeys((rtnl.RTM_NEWNSID, rtnl.RTM_DELNSID, rtnl.RTM_GETNSID), GENERIC),
    **dict.fromkeys((NEW_NEXTHOP, NEW_NEXTHOP + 1, GET_NEXTHOP), NEXTHOP_MESSAGE),
}


class Block(NamedTuple):
    """Raw messages one after the other, and where each begins."""

    data: bytes
    starts: list[int]


class RouteSocket:
    """One NETLINK_ROUTE socket in the namespace that is current when it is made.

    It keeps that namespace alive until it is closed.
    """

    def __init__(self, groups: Sequence[int] = ()) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sequence = 0
        try:
            # Strict checking is what makes the kernel filter a dump by table (since 4.20).
            self._socket.setsockopt(SOL_NETLINK, GET_STRICT_CHECK, 1)
            self._socket.bind((0, 0))  # before joining: bind() resets the groups
            if groups:
                with contextlib.suppress(OSError):  # it needs CAP_NET_ADMIN; without, the queue is small
                    self._socket.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, QUEUE)
            for group in groups:
                self._socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For select()."""
        return self._socket.fileno()

    def close(self) -> None:
        """Lets go of the namespace."""
        self._socket.close()

    def receive(self) -> bytes | None:
        """A datagram that has arrived on the groups, None if none has. Raises OSError ENOBUFS if some were lost."""
        try:
            return self._socket.recv(BUFFER, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def dump(
        self, kind: int, fields: dict[str, int], attributes: dict[int, bytes] | None = None
    ) -> list[Message]:
        """All objects of a kind (RTM_GET…); asked again when the kernel says that they changed meanwhile.

        Raises:
            NetlinkError: the kernel refused; `code` is the errno.
        """
        for _ in range(8):
            found, interrupted = self._ask(kind, REQUEST | DUMP, fields, attributes or {})
            if not interrupted:
                break
        return found

    def ask(self, kind: int, fields: dict[str, int], attributes: dict[int, bytes]) -> list[Message]:
        """The answer to one question. Raises NetlinkError if it is an error."""
        return self._ask(kind, REQUEST, fields, attributes)[0]

    def stream(self, kind: int, fields: dict[str, int]) -> Iterator[Block]:
        """All objects of a kind as raw messages, in blocks of some megabytes. Raises NetlinkError."""
        self._sequence += 1
        self._socket.send(_request(kind, REQUEST | DUMP, self._sequence, (fields, {})))
        done = False
        while not done:
            arena, used, starts = bytearray(ARENA), 0, list[int]()
            view = memoryview(arena)
            words = view.cast("I")
            while not done and used + BUFFER <= ARENA:
                end = used + self._socket.recv_into(view[used : used + BUFFER])
                while used < end:
                    kind = words[(used >> 2) + 1] & 0xFFFF
                    if kind in {ERROR, DONE}:
                        _raise(arena, used)
                        done = True
                        break
                    starts.append(used)
                    used += (_checked(words[used >> 2], end - used) + 3) & ~3
            if starts:
                yield Block(bytes(view[:used]), starts)

    def _ask(
        self, kind: int, flags: int, fields: dict[str, int], attributes: dict[int, bytes]
    ) -> tuple[list[Message], bool]:
        self._sequence += 1
        self._socket.send(_request(kind, flags, self._sequence, (fields, attributes)))
        found: list[Message] = []
        interrupted = False
        while True:
            data = self._socket.recv(BUFFER)
            for message in parse(data, self._sequence):
                interrupted |= bool(message.flags & DUMP_INTERRUPTED)
                if message.type == DONE:
                    return found, interrupted
                found.append(message)
            if not flags & DUMP and found:
                return found, interrupted


def _request(kind: int, flags: int, sequence: int, body: tuple[dict[str, int], dict[int, bytes]]) -> bytes:
    message = CLASSES[kind]()
    for name, value in body[0].items():
        message[name] = value
    message["attrs"] = [(str(number), value) for number, value in body[1].items()]
    message["header"] = {"type": kind, "flags": flags, "sequence_number": sequence, "pid": 0}
    message.encode()
    return bytes(message.data)


def parse(data: bytes, sequence: int | None = None) -> Iterator[Message]:
    """The messages of one datagram; with `sequence`, only those that answer it. Raises NetlinkError."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, number = struct.unpack_from("IHHI", data, offset)
        if length < 16:  # noqa: PLR2004 - sizeof(struct nlmsghdr)
            return
        if sequence in {None, number}:
            if kind in {ERROR, DONE} and length >= 20:  # noqa: PLR2004 - with an errno behind the header
                _raise(data, offset)
            yield _decode(data, offset, kind, flags)
        offset += (length + 3) & ~3


def _checked(length: int, arrived: int) -> int:
    """The length of a message, which would never end the walk over a block if it were zero."""
    if not _HEADER <= length <= arrived:
        raise BadMessage(f"netlink: a message of {length} bytes, and {arrived} arrived")
    return length


def _raise(data: bytes | bytearray, offset: int) -> None:
    (code,) = struct.unpack_from("i", data, offset + 16)
    if code:
        raise NetlinkError(-code, os.strerror(-code))


class _Layout(NamedTuple):
    """The fixed part of a message: pyroute2's field table, compiled."""

    names: tuple[str, ...]
    form: struct.Struct

    @classmethod
    def of(cls, message_class: Any) -> _Layout:
        """Padding, which pyroute2 names with underscores, has a format but no value."""
        names = tuple(name for name, *_ in message_class.fields if not name.startswith("__"))
        return cls(names, struct.Struct("=" + "".join(form for _, form, *_ in message_class.fields)))


LAYOUTS = {kind: _Layout.of(message_class) for kind, message_class in CLASSES.items()}


def _decode(data: bytes, offset: int, kind: int, flags: int) -> Message:
    """Without pyroute2's message objects, which cost four times as much: a table may have 20,000 routes."""
    layout = LAYOUTS.get(kind)
    if layout is None:
        return Message(kind, flags, {}, {})
    (length,) = struct.unpack_from("I", data, offset)
    if length < 16 + layout.form.size or offset + length > len(data):
        raise BadMessage(
            f"netlink: a message of kind {kind} has {length} bytes, and {len(data) - offset} arrived"
        )
    values = layout.form.unpack_from(data, offset + 16)
    attributes = data[offset + 16 + ((layout.form.size + 3) & ~3) : offset + length]
    return Message(kind, flags, dict(zip(layout.names, values, strict=True)), dict(walk(attributes)))


def is_gone(error: NetlinkError) -> bool:
    """Whether the answer means "no such table, route or family" and not a failure."""
    return error.code in {errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ESRCH}
