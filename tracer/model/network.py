"""The network configuration of every namespace over time: which was in force when a packet was routed."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tracer.errors import MALFORMED, BadCapture
from tracer.model.routing import (
    IPV4,
    IPV6,
    Address,
    DeviceSettings,
    DeviceSettings6,
    Link,
    Neighbour,
    Nexthop,
    NexthopObject,
    Route,
    Rule,
    address_text,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "IPV4", "IPV6", "Address", "DeviceSettings", "DeviceSettings6", "Link", "Neighbour", "Network",
    "NetworkState", "Nexthop", "NexthopObject", "Route", "Rule", "address_text",
]  # fmt: skip


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class NetworkState:
    """One network namespace from `since_ns` (CLOCK_MONOTONIC) on; equal by identity, so it can key a cache.

    `tables` has the IPv4 tables that exist and were small enough to read; `large` names those that exist and
    were not read. `tables6` and `large6` are the same for IPv6. `unsure_ns` is the last moment at which the
    state before this one was still certain: between the two, either may have been in force. `neighbours` is
    None where they were not read; `sysctls` has those that belong to no device, by name (`net.ipv4.ip_forward`).
    """

    inode: int
    name: str = ""
    since_ns: int = 0
    unsure_ns: int = 0
    rules: tuple[Rule, ...] = ()
    rules6: tuple[Rule, ...] = ()
    tables: Mapping[int, Sequence[Route]] = field(default_factory=_empty)
    tables6: Mapping[int, Sequence[Route]] = field(default_factory=_empty)
    large: frozenset[int] = frozenset()
    large6: frozenset[int] = frozenset()
    links: Mapping[int, Link] = field(default_factory=_empty)
    addresses: tuple[Address, ...] = ()
    nexthops: Mapping[int, NexthopObject] = field(default_factory=_empty)
    settings: Mapping[str, DeviceSettings] = field(default_factory=_empty)
    settings6: Mapping[str, DeviceSettings6] = field(default_factory=_empty)
    sysctls: Mapping[str, int] = field(default_factory=_empty)
    neighbours: tuple[Neighbour, ...] | None = None
    table_names: Mapping[int, str] = field(default_factory=_empty)

    def rules_of(self, family: int) -> tuple[Rule, ...]:
        """The rule list of one family, in the order the kernel walks it."""
        return self.rules if family == IPV4 else self.rules6

    def has_table(self, family: int, table: int) -> bool:
        """Whether the table exists: the kernel emits no lookup for one that does not."""
        if family == IPV4:
            return table in self.tables or table in self.large
        return table in self.tables6 or table in self.large6

    def routes(self, family: int, table: int) -> Sequence[Route] | None:
        """The routes of a table in the kernel's order; None if it is unknown or was too large to read."""
        return (self.tables if family == IPV4 else self.tables6).get(table)

    def rp_filter(self, device: str) -> int:
        """The reverse-path mode in force on a device: the larger of its own and `all` (IN_DEV_RPFILTER)."""
        none = DeviceSettings()
        return max(self.settings.get(name, none).rp_filter for name in ("all", device))

    def table_name(self, table: int) -> str:
        """The table's name in `rt_tables`, else its number."""
        return self.table_names.get(table, str(table))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form; every mapping becomes a list of pairs."""
        return {
            "inode": self.inode, "name": self.name, "since_ns": self.since_ns, "unsure_ns": self.unsure_ns,
            "rules": plain(self.rules), "rules6": plain(self.rules6),
            "tables": _pairs(self.tables), "tables6": _pairs(self.tables6),
            "large": sorted(self.large), "large6": sorted(self.large6),
            "links": plain(tuple(self.links.values())), "addresses": plain(self.addresses),
            "nexthops": plain(tuple(self.nexthops.values())),
            "settings": _pairs(self.settings), "settings6": _pairs(self.settings6),
            "sysctls": _pairs(self.sysctls), "neighbours": plain(self.neighbours),
            "table_names": _pairs(self.table_names),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkState:
        """The inverse of `to_dict`."""
        links = (Link.from_dict(item) for item in values.get("links", ()))
        objects = (NexthopObject.from_dict(item) for item in values.get("nexthops", ()))
        settings = {name: DeviceSettings.from_dict(item) for name, item in values.get("settings", ())}
        settings6 = {name: DeviceSettings6.from_dict(item) for name, item in values.get("settings6", ())}
        neighbours = values.get("neighbours")
        return cls(
            inode=values["inode"], name=values.get("name", ""),
            since_ns=values.get("since_ns", 0), unsure_ns=values.get("unsure_ns", 0),
            rules=tuple(Rule.from_dict(item) for item in values.get("rules", ())),
            rules6=tuple(Rule.from_dict(item) for item in values.get("rules6", ())),
            tables=_tables(values.get("tables", ())), tables6=_tables(values.get("tables6", ())),
            large=frozenset(values.get("large", ())), large6=frozenset(values.get("large6", ())),
            links={link.ifindex: link for link in links},
            addresses=tuple(Address.from_dict(item) for item in values.get("addresses", ())),
            nexthops={item.id: item for item in objects},
            settings=settings, settings6=settings6, sysctls=dict(values.get("sysctls", ())),
            neighbours=None if neighbours is None else tuple(map(Neighbour.from_dict, neighbours)),
            table_names=dict(values.get("table_names", ())),
        )  # fmt: skip


def _pairs(mapping: Mapping[Any, Any]) -> list[list[Any]]:
    return [
        [key, value.to_dict() if hasattr(value, "to_dict") else plain(value)]
        for key, value in mapping.items()
    ]


def _tables(pairs: Any) -> dict[int, Sequence[Route]]:
    return {number: _routes(number, routes) for number, routes in pairs}


def _routes(table: int, values: Any) -> Sequence[Route]:
    """A list of routes, or the columns of many (only a snapshot has these, so numpy stays out of the rest)."""
    if isinstance(values, list):
        return tuple(Route.from_dict(item) for item in values)
    from tracer.model.packed import PackedRoutes

    return PackedRoutes.from_dict(table, values)


class Network:
    """Ordered versions of every namespace, found by CLOCK_MONOTONIC time."""

    def __init__(self) -> None:
        self._versions: dict[int, list[NetworkState]] = {}
        self._since: dict[int, list[int]] = {}

    def add(self, state: NetworkState) -> None:
        """Appends a version; its `since_ns` must not be before the newest one of that namespace."""
        since = self._since.setdefault(state.inode, [])
        if since and state.since_ns < since[-1]:
            raise ValueError(f"version of namespace {state.inode} is older than the newest one known")
        since.append(state.since_ns)
        self._versions.setdefault(state.inode, []).append(state)

    def at(self, inode: int, ts_ns: int) -> NetworkState | None:
        """The state in force at `ts_ns`; the oldest one if that is before all, as it is all we know."""
        versions = self._versions.get(inode)
        if not versions:
            return None
        return versions[max(bisect_right(self._since[inode], ts_ns) - 1, 0)]

    def candidates(self, inode: int, ts_ns: int) -> tuple[NetworkState, ...]:
        """Every state that may have been in force, likeliest first: changes are noticed a little late."""
        first = self.at(inode, ts_ns)
        if first is None:
            return ()
        versions, start = self._versions[inode], bisect_right(self._since[inode], ts_ns)
        later = [state for state in versions[max(start, 1) :] if state.unsure_ns <= ts_ns]
        return (first, *later)

    def latest(self, inode: int) -> NetworkState | None:
        """The newest state of a namespace, None if it was never seen."""
        versions = self._versions.get(inode)
        return versions[-1] if versions else None

    def versions(self, inode: int) -> tuple[NetworkState, ...]:
        """All versions of a namespace, oldest first."""
        return tuple(self._versions.get(inode, ()))

    def inodes(self) -> tuple[int, ...]:
        """Every namespace ever seen."""
        return tuple(self._versions)

    def serialise(self) -> dict[str, Any]:
        """A JSON-able form for captures."""
        return {"namespaces": [state.to_dict() for states in self._versions.values() for state in states]}

    @classmethod
    def deserialise(cls, values: Mapping[str, Any]) -> Network:
        """The inverse of `serialise`; raises BadCapture if it is not one."""
        network = cls()
        network.extend(values)
        return network

    def extend(self, values: Mapping[str, Any]) -> None:
        """Append the versions of a serialised network; raises BadCapture if it is not one."""
        try:
            for item in values["namespaces"]:
                self.add(NetworkState.from_dict(item))
        except MALFORMED as error:
            raise BadCapture(f"cannot read the network configuration of the capture: {error}") from error
