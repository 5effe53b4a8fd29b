"""What a batch of notifications says must be read again, and routes that can be changed without reading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracer.enrich import decode
from tracer.model.network import IPV4, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LINKS, ADDRESSES, NEXTHOPS, SETTINGS = "links", "addresses", "nexthops", "settings"
RULES4, RULES6 = "rules", "rules6"
EVERYTHING = frozenset({LINKS, ADDRESSES, RULES4, RULES6, NEXTHOPS, SETTINGS})
NEW_LINK, NEW_ADDRESS, NEW_ROUTE, NEW_RULE, NEW_NETCONF, NEW_NEXTHOP = 16, 20, 24, 32, 80, 104
# By the first number of each kind's four messages (NEW, DEL, GET, SET). A link may be what a rule names.
PARTS = {
    NEW_LINK: frozenset({LINKS, RULES4, RULES6, SETTINGS}),
    NEW_ADDRESS: frozenset({ADDRESSES}),
    NEW_NETCONF: frozenset({SETTINGS}),
    NEW_NEXTHOP: frozenset({NEXTHOPS}),
}
RTA_TABLE = 15


@dataclass(slots=True)
class Changes:
    """Parts by name; route messages by (family, table); whether all routes are in doubt."""

    parts: set[str] = field(default_factory=set)
    tables: dict[tuple[int, int], list[decode.Message]] = field(default_factory=dict)
    all_routes: bool = False

    def __bool__(self) -> bool:
        return bool(self.parts or self.tables or self.all_routes)


def changes(messages: Iterable[decode.Message]) -> Changes:
    """Sorts notifications by what they concern."""
    found = Changes()
    for message in messages:
        kind = message.type & ~3
        if kind == NEW_ROUTE:
            table = decode.number(message.attributes.get(RTA_TABLE), message.fields["table"])
            found.tables.setdefault((message.fields["family"], table), []).append(message)
        elif kind == NEW_RULE:
            found.parts.add(RULES4 if message.fields["family"] == IPV4 else RULES6)
        elif kind in PARTS:
            found.parts |= PARTS[kind]
            # With a device, a nexthop object or a setting, IPv4 routes go or die and nothing announces it.
            found.all_routes |= kind != NEW_ADDRESS
    return found


def patched(routes: Sequence[Route], messages: Iterable[decode.Message]) -> tuple[Route, ...] | None:
    """The routes after the notifications; None where these do not tell enough to do without reading.

    So it is for a second route with the same prefix, tos and metric: its place among them is not told.
    """
    by_key: dict[tuple[int, int, int, int], list[Route]] = {}
    for route in routes:
        by_key.setdefault(_key(route), []).append(route)
    for message in messages:
        route = decode.route(message)
        same = by_key.setdefault(_key(route), [])
        if message.type == NEW_ROUTE:
            if same:
                return None
            same.append(route)
        elif len(same) == 1:
            same.clear()
        else:
            return None
    return tuple(route for same in by_key.values() for route in same)


def _key(route: Route) -> tuple[int, int, int, int]:
    return route.dst, route.dst_len, route.tos, route.metric
