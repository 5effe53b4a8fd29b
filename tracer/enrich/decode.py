"""Rtnetlink messages into the model's values, by linux/rtnetlink.h, fib_rules.h and nexthop.h.

Decoded here and not by pyroute2, because its classes leave out attributes (FRA_DSCP, the port masks) and a
rule shown without one of its selectors would be a wrong answer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tracer.errors import BadMessage
from tracer.model.network import IPV4, IPV6, Address, Link, Neighbour, Nexthop, NexthopObject, Route, Rule

Attributes = Mapping[int, bytes]
ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
PERMANENT, INVERT, UNRESOLVED, IIF_DETACHED, OIF_DETACHED = 1, 2, 4, 8, 16  # FIB_RULE_*
KNOWN_FLAGS = PERMANENT | INVERT | UNRESOLVED | IIF_DETACHED | OIF_DETACHED
FLAGS = 0  # stands among the unknown attributes of a rule for flags that are not known
# FRA_* that are read below or say nothing about what a rule selects (18 padding)
KNOWN_RULE = frozenset({1, 2, 3, 4, 6, *range(10, 26), 28, 29, 30})
NEXTHOP_FLAGS = 0xFF  # RTNH_F_*; the rest of rtm_flags are RTM_F_*
IFF_UP = 1
IFLA_LINK_NETNSID = 37


class Message(NamedTuple):
    """One netlink message: `fields` is its fixed part, `attributes` the rest, by number."""

    type: int
    flags: int
    fields: Mapping[str, int]
    attributes: Attributes


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes nested in `data`: (number without flags, payload)."""
    offset = 0
    while offset + 4 <= len(data):
        length, number = struct.unpack_from("HH", data, offset)
        if length < 4:  # noqa: PLR2004 - the attribute's own header
            return
        yield number & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def number(data: bytes | None, default: int = 0, *, signed: bool = False) -> int:
    """A host-order number of whatever width it came in."""
    if data is not None and len(data) > 8:  # noqa: PLR2004 - nothing in rtnetlink is wider than 64 bits
        raise BadMessage(f"netlink: a number of {len(data)} bytes")
    return default if data is None else int.from_bytes(data, "little" if _LITTLE else "big", signed=signed)


_LITTLE = struct.pack("H", 1) == b"\1\0"


def text(data: bytes | None) -> str:
    """A zero-terminated name."""
    return (data or b"").split(b"\0", 1)[0].decode(errors="replace")


def _address(data: bytes | None) -> int:
    if data is not None and len(data) > 16:  # noqa: PLR2004 - IPv6
        raise BadMessage(f"netlink: an address of {len(data)} bytes")
    return int.from_bytes(data or b"", "big")


def _unpack(layout: str, data: bytes) -> tuple[int, ...]:
    """The numbers at the beginning of an attribute; raises BadMessage if it is too short."""
    try:
        return struct.unpack_from(layout, data)
    except struct.error as error:
        raise BadMessage(f"netlink: an attribute of {len(data)} bytes: {error}") from error


def _pair(data: bytes | None, layout: str) -> tuple[int, int] | None:
    if data is None:
        return None
    low, high = _unpack(layout, data)
    return low, high


def rule(message: Message) -> Rule:
    """A `struct fib_rule_hdr` message."""
    fields, found = message.fields, message.attributes
    flags = fields["flags"]
    return Rule(
        family=fields["family"],
        priority=number(found.get(6)),
        action=ACTIONS.get(fields["action"], f"action {fields['action']}"),
        table=number(found.get(15), fields["table"]),
        target=number(found.get(4)),
        src=_address(found.get(2)),
        src_len=fields["src_len"],
        dst=_address(found.get(1)),
        dst_len=fields["dst_len"],
        iif=text(found.get(3)),
        oif=text(found.get(17)),
        mark=number(found.get(10)),
        mask=number(found.get(16)),
        uid=_pair(found.get(20), "II"),
        ip_proto=number(found.get(22)),
        sport=_pair(found.get(23), "HH"),
        sport_mask=number(found.get(28)),
        dport=_pair(found.get(24), "HH"),
        dport_mask=number(found.get(29)),
        tos=fields["tos"],
        dscp=number(found.get(25)) if 25 in found else None,  # noqa: PLR2004 - FRA_DSCP
        dscp_mask=number(found.get(30), 0x3F),
        invert=bool(flags & INVERT),
        suppress_prefixlength=number(found.get(14), -1, signed=True),
        suppress_ifgroup=number(found.get(13), -1, signed=True),
        l3mdev=bool(number(found.get(19))),
        tun_id=_address(found.get(12)),
        realms=number(found.get(11)),
        protocol=number(found.get(21)),
        iif_detached=bool(flags & IIF_DETACHED),
        oif_detached=bool(flags & OIF_DETACHED),
        unresolved=bool(flags & UNRESOLVED),
        unknown=tuple(_unknown(flags, found)),
    )


def _unknown(flags: int, found: Attributes) -> Iterator[tuple[int, str]]:
    """What a newer kernel, or FIB_RULE_FIND_SADDR, says that the fields of a Rule cannot hold."""
    yield from ((key, value.hex()) for key, value in found.items() if key not in KNOWN_RULE)
    if flags & ~KNOWN_FLAGS:
        yield FLAGS, f"{flags & ~KNOWN_FLAGS:x}"


def route(message: Message) -> Route:
    """A `struct rtmsg` message."""
    fields, found = message.fields, message.attributes
    family = fields["family"]
    nexthops = tuple(_multipath(family, found[9])) if 9 in found else _single(family, fields["flags"], found)  # noqa: PLR2004
    return Route(
        family=family,
        table=number(found.get(15), fields["table"]),
        dst=_address(found.get(1)),
        dst_len=fields["dst_len"],
        type=fields["type"],
        scope=fields["scope"],
        protocol=fields["proto"],
        metric=number(found.get(6)),
        tos=fields["tos"],
        prefsrc=_address(found[7]) if 7 in found else None,  # noqa: PLR2004 - RTA_PREFSRC
        nhid=number(found.get(30)),
        flags=fields["flags"] & NEXTHOP_FLAGS,
        encap=number(found.get(21)),
        src=_address(found.get(2)),
        src_len=fields["src_len"],
        nexthops=nexthops,
        metrics=tuple(_metrics(found[8])) if 8 in found else (),  # noqa: PLR2004 - RTA_METRICS
        pref=number(found.get(20)),
        expired=_is_expired(found.get(12)),
    )


def _metrics(data: bytes) -> Iterator[tuple[int, int | str]]:
    """RTAX_* nested in RTA_METRICS; the congestion control (16) is a name, the rest are numbers."""
    for key, value in walk(data):
        yield key, text(value) if key == 16 else number(value)  # noqa: PLR2004 - RTAX_CC_ALGO


def _is_expired(data: bytes | None) -> bool:
    """RTA_CACHEINFO (`struct rta_cacheinfo`): a route that expires is listed until the next collection."""
    return data is not None and _unpack("IIi", data)[2] < 0


def _single(family: int, flags: int, found: Attributes) -> tuple[Nexthop, ...]:
    if not found.keys() & {4, 5, 18}:
        return ()
    gateway_family, gateway = _gateway(family, found)
    return (Nexthop(number(found.get(4)), gateway_family, gateway, 1, flags & NEXTHOP_FLAGS),)


def _multipath(family: int, data: bytes) -> Iterator[Nexthop]:
    """RTA_MULTIPATH: `struct rtnexthop` each, with attributes of its own."""
    offset = 0
    while offset + 8 <= len(data):
        length, flags, hops, ifindex = struct.unpack_from("HBBi", data, offset)
        if length < 8:  # noqa: PLR2004 - sizeof(struct rtnexthop)
            return
        gateway_family, gateway = _gateway(family, dict(walk(data[offset + 8 : offset + length])))
        yield Nexthop(ifindex, gateway_family, gateway, hops + 1, flags)
        offset += (length + 3) & ~3


def _gateway(family: int, found: Attributes) -> tuple[int, int]:
    """(family, address) of RTA_GATEWAY, or of RTA_VIA, whose family differs from the route's."""
    if 5 in found:  # noqa: PLR2004 - RTA_GATEWAY
        return family, _address(found[5])
    if 18 in found:  # noqa: PLR2004 - RTA_VIA
        return number(found[18][:2]), _address(found[18][2:])
    return 0, 0


def link(message: Message) -> Link:
    """A `struct ifinfomsg` message."""
    fields, found = message.fields, message.attributes
    info = dict(walk(found.get(18, b"")))
    kind = text(info.get(1))
    data = dict(walk(info.get(2, b""))) if kind == "vrf" else {}
    return Link(
        ifindex=fields["index"],
        name=text(found.get(3)),
        kind=kind,
        up=bool(fields["flags"] & IFF_UP),
        group=number(found.get(27)),
        master=number(found.get(10)),
        peer_ifindex=number(found.get(5)) if kind == "veth" else 0,
        peer_nsid=number(found.get(IFLA_LINK_NETNSID), -1, signed=True),
        vrf_table=number(data.get(1)),
        flags=fields["flags"],
        lower_ifindex=number(found.get(5)) if kind != "veth" and IFLA_LINK_NETNSID not in found else 0,
    )


def address(message: Message) -> Address:
    """A `struct ifaddrmsg` message; IFA_LOCAL is the own address of a point-to-point device."""
    fields, found = message.fields, message.attributes
    own = _address(found.get(2, found.get(1)))
    other = _address(found.get(1))
    return Address(
        family=fields["family"],
        ifindex=fields["index"],
        address=own,
        prefix_len=fields["prefixlen"],
        scope=fields["scope"],
        peer=other if other != own else 0,
        flags=number(found.get(8), fields["flags"]),
    )


def neighbour(message: Message) -> Neighbour:
    """A `struct ndmsg` message."""
    fields, found = message.fields, message.attributes
    return Neighbour(
        family=fields["family"],
        ifindex=fields["ifindex"],
        address=_address(found.get(1)),
        state=fields["state"],
        link_address=found.get(2, b"").hex(),
        flags=fields["flags"],
    )


def nexthop_object(message: Message) -> NexthopObject:
    """A `struct nhmsg` message."""
    fields, found = message.fields, message.attributes
    gateway = found.get(6)
    group = found.get(2, b"")
    if len(group) % 8:
        raise BadMessage(f"netlink: a group of nexthops of {len(group)} bytes")
    members = struct.iter_unpack("IBBH", group)
    return NexthopObject(
        id=number(found.get(1)),
        family=fields["family"],
        ifindex=number(found.get(5)),
        gateway_family=0 if gateway is None else (IPV4 if len(gateway) == 4 else IPV6),  # noqa: PLR2004
        gateway=_address(gateway),
        blackhole=4 in found,  # noqa: PLR2004 - NHA_BLACKHOLE
        # weight is sent minus one; its high byte exists since 6.12
        group=tuple((member, (high << 8 | low) + 1) for member, low, high, _ in members),
        flags=fields["flags"] & NEXTHOP_FLAGS,
    )
