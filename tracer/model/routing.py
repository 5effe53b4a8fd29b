"""Rules, routes, links and addresses as plain immutable values that go into a capture and back.

Addresses are host-order integers (128 bit for IPv6); `family` is the kernel's AF_INET (2) or AF_INET6 (10).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

IPV4 = int(socket.AF_INET)
IPV6 = int(socket.AF_INET6)
ROUTE_TYPES = (
    "unspec", "unicast", "local", "broadcast", "anycast", "multicast",
    "blackhole", "unreachable", "prohibit", "throw", "nat", "xresolve",
)  # fmt: skip


def address_text(family: int, address: int) -> str:
    """The address as people write it; `family` is AF_INET or AF_INET6."""
    size, kind = (4, socket.AF_INET) if family == IPV4 else (16, socket.AF_INET6)
    return socket.inet_ntop(kind, address.to_bytes(size, "big"))


class Record:
    """Gives a frozen dataclass a JSON form: a dict of the fields that differ from their default."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything that differs from the defaults, in values that `json` can write."""
        out = {}
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if value != item.default:
                out[item.name] = plain(value)
        return out

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; names it does not know are ignored, so that newer captures open."""
        known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: _frozen(value) for name, value in values.items() if name in known})


def plain(value: Any) -> Any:
    """The value as JSON has it: records as dicts, tuples and sets as lists."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, (tuple, frozenset)):
        return [plain(item) for item in (sorted(value) if isinstance(value, frozenset) else value)]
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Rule(Record):
    """One line of `ip rule`; `unknown` holds attributes this program cannot read, as (number, hex)."""

    family: int
    priority: int
    action: str
    table: int = 0
    target: int = 0
    src: int = 0
    src_len: int = 0
    dst: int = 0
    dst_len: int = 0
    iif: str = ""
    oif: str = ""
    mark: int = 0
    mask: int = 0
    uid: tuple[int, int] | None = None
    ip_proto: int = 0
    sport: tuple[int, int] | None = None
    sport_mask: int = 0
    dport: tuple[int, int] | None = None
    dport_mask: int = 0
    tos: int = 0
    dscp: int | None = None
    dscp_mask: int = 0x3F
    invert: bool = False
    suppress_prefixlength: int = -1
    suppress_ifgroup: int = -1
    l3mdev: bool = False
    tun_id: int = 0
    realms: int = 0
    protocol: int = 0
    iif_detached: bool = False
    oif_detached: bool = False
    unresolved: bool = False
    unknown: tuple[tuple[int, str], ...] = ()

    @property
    def suppresses(self) -> bool:
        """Whether a hit through this rule can be thrown away (`fib4_rule_suppress`)."""
        return self.suppress_prefixlength >= 0 or self.suppress_ifgroup >= 0


@dataclass(frozen=True, slots=True)
class Nexthop(Record):
    """One nexthop of a route; `gateway` 0 means on link; `flags` are RTNH_F_*."""

    ifindex: int = 0
    gateway_family: int = 0
    gateway: int = 0
    weight: int = 1
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Route(Record):
    """One route of one table; `type`, `scope` and `protocol` are the kernel's numbers.

    `pref` is the router preference of IPv6 as RTA_PREF has it: 0 medium, 1 high, 3 low; `metrics` are (RTAX_*,
    value): mtu, advmss and so on.
    """

    family: int
    table: int
    dst: int = 0
    dst_len: int = 0
    type: int = 1
    scope: int = 0
    protocol: int = 0
    metric: int = 0
    tos: int = 0
    prefsrc: int | None = None
    nhid: int = 0
    flags: int = 0
    encap: int = 0
    src: int = 0
    src_len: int = 0
    nexthops: tuple[Nexthop, ...] = ()
    pref: int = 0
    expired: bool = False
    metrics: tuple[tuple[int, int | str], ...] = ()

    @property
    def prefix(self) -> str:
        """The destination with its length, `0.0.0.0/0` for a default route."""
        return f"{address_text(self.family, self.dst)}/{self.dst_len}"

    @property
    def type_name(self) -> str:
        """The type as `ip route` spells it."""
        return ROUTE_TYPES[self.type] if self.type < len(ROUTE_TYPES) else str(self.type)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        nexthops = tuple(Nexthop.from_dict(item) for item in values.get("nexthops", ()))
        metrics = _frozen(values.get("metrics", []))
        return cls(**{**values, "nexthops": nexthops, "metrics": metrics})


@dataclass(frozen=True, slots=True)
class Link(Record):
    """One device; the peer is known for veth: `peer_netns` is an inode, 0 for unknown.

    `lower_ifindex` is the device that this one is made on (a VLAN), where that is in the same namespace.
    """

    ifindex: int
    name: str
    kind: str = ""
    up: bool = False
    group: int = 0
    master: int = 0
    peer_ifindex: int = 0
    peer_netns: int = 0
    peer_nsid: int = -1
    vrf_table: int = 0
    flags: int = 0
    lower_ifindex: int = 0


@dataclass(frozen=True, slots=True)
class Address(Record):
    """One address of a device; `peer` is the other end's where that differs, `flags` are IFA_F_*."""

    family: int
    ifindex: int
    address: int
    prefix_len: int
    scope: int = 0
    peer: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour(Record):
    """One line of `ip neigh`: `state` is NUD_*, `link_address` hexadecimal."""

    family: int
    ifindex: int
    address: int
    state: int = 0
    link_address: str = ""
    flags: int = 0


@dataclass(frozen=True, slots=True)
class NexthopObject(Record):
    """One line of `ip nexthop`; `group` holds (member id, weight)."""

    id: int
    family: int = 0
    ifindex: int = 0
    gateway_family: int = 0
    gateway: int = 0
    blackhole: bool = False
    group: tuple[tuple[int, int], ...] = ()
    flags: int = 0


@dataclass(frozen=True, slots=True)
class DeviceSettings(Record):
    """`net.ipv4.conf.DEVICE`; the device `all` is among them."""

    rp_filter: int = 0
    forwarding: int = 0
    accept_local: int = 0
    src_valid_mark: int = 0
    route_localnet: int = 0
    ignore_routes_with_linkdown: int = 0
    log_martians: int = 0
    send_redirects: int = 0


@dataclass(frozen=True, slots=True)
class DeviceSettings6(Record):
    """`net.ipv6.conf.DEVICE`; the device `all` is among them."""

    forwarding: int = 0
    disable_ipv6: int = 0
    accept_ra: int = 0
    use_tempaddr: int = 0
    ignore_routes_with_linkdown: int = 0
