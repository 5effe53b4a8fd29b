"""One network namespace kept up to date: dumped once, then only what its notifications say has changed."""

from __future__ import annotations

import errno
import os
import struct
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tracer.enrich import decode, netns, stepwise
from tracer.enrich.announced import Announced, Seen
from tracer.enrich.changes import (
    ADDRESSES,
    EVERYTHING,
    LINKS,
    NEXTHOPS,
    RULES4,
    RULES6,
    SETTINGS,
    Changes,
    changes,
    patched,
)
from tracer.enrich.netlink import (
    GET_NEXTHOP,
    GROUPS,
    NEIGHBOURS,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    NetlinkError,
    RouteSocket,
    is_gone,
    parse,
)
from tracer.enrich.notifications import Arrived, Notifications
from tracer.enrich.senders import Senders, open_listing
from tracer.model.network import IPV4, IPV6, Link, NetworkState, NexthopObject, Route, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tracer.enrich.names import Namespace
    from tracer.enrich.selectors import FlowKey
    from tracer.model.change import Change

GET_LINK, GET_ADDRESS, GET_ROUTE, GET_NEIGHBOUR, GET_RULE, GET_NSID = 18, 22, 26, 30, 34, 90
LOCAL, MAIN = 255, 254
PORT_PROTOCOLS = frozenset({1, 6, 17, 58})
# A table up to this size is read again when it changes; to a larger one the notification itself is applied.
READ_AGAIN = 500


class Watched:
    """A namespace with one socket for its notifications and one for questions.

    The sockets keep the namespace alive, so whoever watches must `close` when nobody else uses it any more.
    """

    def __init__(
        self, namespace: Namespace, table_names: Mapping[int, str], limit: int, *, neighbours: bool = False
    ) -> None:
        self.namespace, self._limit = namespace, limit
        self._fd = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            inode = _checked_inode(self._fd, namespace)
            events, self._questions, listing, self._sizes, self._routes6 = netns.run_in(
                self._fd, lambda: _open((*GROUPS, NEIGHBOURS) if neighbours else GROUPS)
            )
        except BaseException:
            os.close(self._fd)
            raise
        self._senders = Senders(listing)
        self.events = Notifications(events, self._senders.find)
        self.changes: list[Change] = []
        self.passed: list[NetworkState] = []
        self._seen = Seen()
        self.nsids: dict[int, int] = {}
        now = time.monotonic_ns()
        self.state = NetworkState(inode, namespace.name, now, now, table_names=table_names)
        self._certain_ns = now

    @property
    def fd(self) -> int:
        """An open file of the namespace."""
        return self._fd

    def close(self) -> None:
        """Lets go of the namespace."""
        self.events.close()
        self._questions.close()
        self._senders.close()
        os.close(self._fd)

    def load(self) -> NetworkState:
        """Reads everything. The groups were joined before, so nothing that happens meanwhile is missed."""
        now = time.monotonic_ns()
        self.state = replace(self.state, since_ns=now, unsure_ns=self._certain_ns)
        self._read(Changes(set(EVERYTHING), all_routes=True))
        self._certain_ns = now
        return self.state

    def start(self) -> NetworkState:
        """Reads everything for the first time: what was there is no change."""
        self._remember()
        return self.load()

    def poll(self) -> NetworkState | None:
        """The new state if something has changed; never waits. What has changed is added to `changes`.

        States that came and went before they could be read are added to `passed`.
        """
        arrived, certain_ns = self.events.take()
        if not arrived:
            self._certain_ns = certain_ns
            return None
        before = self.state
        if any(one.data is None for one in arrived):
            self._measure()
            self.load()
        else:
            changed = changes(message for one in arrived for message in parse(one.data or b""))
            if changed:
                self.passed = list(stepwise.between(before, arrived))
                unsure_ns = self.passed[-1].since_ns if self.passed else arrived[0].unsure_ns
                self.state = replace(before, since_ns=certain_ns, unsure_ns=unsure_ns)
                self._read(changed)
            self._certain_ns = certain_ns
        self._tell(before, arrived)
        return self.state if self.state is not before else None

    def _tell(self, before: NetworkState, arrived: list[Arrived]) -> None:
        """After a loss what was seen is read again, too: what was lost would be told at the next occasion."""
        self.changes += Announced(self._seen, before, self.state).changes(arrived)
        if any(one.data is None for one in arrived):
            self._remember()

    def _remember(self) -> None:
        self._seen.remember(self._questions.dump(GET_LINK, {}), self._questions.dump(GET_ADDRESS, {}))

    def refresh_links(self) -> NetworkState | None:
        """Reads the devices again, for peers in a namespace that has become known; None if nothing is new."""
        links = self._links()
        if links == dict(self.state.links):
            return None
        self.state = replace(self.state, links=links, since_ns=time.monotonic_ns())
        return self.state

    def read_neighbours(self) -> NetworkState:
        """The state with the neighbours of this moment: they change too often to be followed."""
        found = self._questions.dump(GET_NEIGHBOUR, {})
        neighbours = tuple(decode.neighbour(message) for message in found)
        return replace(self.state, neighbours=neighbours)

    def nsid_of(self, fd: int) -> int:
        """The number by which this namespace knows the one behind `fd`, -1 if it does not."""
        try:
            answer = self._questions.ask(GET_NSID, {}, {3: struct.pack("I", fd)})
        except NetlinkError:
            return -1
        return decode.number(answer[0].attributes.get(1), -1, signed=True)

    def route_get(self, flow: FlowKey) -> Route:
        """The kernel's own answer for a flow: RTM_GETROUTE with RTM_F_FIB_MATCH.

        Raises:
            NetlinkError: the kernel has no route; `code` is the errno.
            ValueError: the kernel cannot be asked for such a flow (ports of another protocol).
        """
        answer = self._questions.ask(GET_ROUTE, *_route_question(flow))
        return decode.route(answer[0])

    def _read(self, changed: Changes) -> None:
        if SETTINGS in changed.parts:
            settings, settings6, sysctls = netns.run_in(self._fd, netns.read_all_settings)
            self.state = replace(self.state, settings=settings, settings6=settings6, sysctls=sysctls)
        if LINKS in changed.parts:
            self.state = replace(self.state, links=self._links())
        if ADDRESSES in changed.parts:
            found = self._questions.dump(GET_ADDRESS, {})
            self.state = replace(self.state, addresses=tuple(decode.address(message) for message in found))
        if RULES4 in changed.parts:
            self.state = replace(self.state, rules=self._rules(IPV4))
        if RULES6 in changed.parts:
            self.state = replace(self.state, rules6=self._rules(IPV6))
        if NEXTHOPS in changed.parts:
            self.state = replace(self.state, nexthops=self._nexthops())
        if changed.all_routes:
            self._read_all_routes()
        else:
            self._read_tables(changed.tables)

    def _links(self) -> dict[int, Link]:
        links = (decode.link(message) for message in self._questions.dump(GET_LINK, {}))
        return {link.ifindex: self._with_peer(link) for link in links}

    def _with_peer(self, link: Link) -> Link:
        if not link.peer_ifindex:
            return link
        inode = self.namespace.inode if link.peer_nsid < 0 else self.nsids.get(link.peer_nsid, 0)
        return replace(link, peer_netns=inode)

    def _rules(self, family: int) -> tuple[Rule, ...]:
        try:
            found = self._questions.dump(GET_RULE, {"family": family})
        except NetlinkError as error:
            if is_gone(error):
                return ()
            raise
        return tuple(decode.rule(message) for message in found)

    def _nexthops(self) -> dict[int, NexthopObject]:
        try:
            found = self._questions.dump(GET_NEXTHOP, {})
        except NetlinkError as error:
            if is_gone(error):
                return {}
            raise
        objects = (decode.nexthop_object(message) for message in found)
        return {item.id: item for item in objects}

    def _measure(self) -> None:
        self._sizes, self._routes6 = netns.run_in(self._fd, _sizes)

    def _read_all_routes(self) -> None:
        small, large = _affordable(self._sizes, self._limit)
        tables: dict[int, Sequence[Route]] = dict.fromkeys(small, ())
        if not large:
            tables.update(_by_table(self._routes(IPV4)))
        else:
            tables.update({table: self._routes(IPV4, table) for table in small})
        # A table may have come between the measuring and the dump.
        self._sizes.update({table: len(routes) for table, routes in tables.items()})
        large6 = frozenset({MAIN, LOCAL}) if self._routes6 > self._limit else frozenset()
        tables6 = {} if large6 else _by_table(self._routes(IPV6))
        self.state = replace(self.state, tables=tables, large=large, tables6=tables6, large6=large6)

    def _read_tables(self, changed: Mapping[tuple[int, int], list[decode.Message]]) -> None:
        tables, tables6 = dict(self.state.tables), dict(self.state.tables6)
        for (family, table), messages in changed.items():
            if family == IPV4 and table not in self.state.large:
                tables[table] = self._changed_table(tables.get(table, ()), messages, table)
                self._sizes[table] = len(tables[table])
            elif family == IPV6 and not self.state.large6:
                tables6[table] = self._routes(IPV6, table)
        grown = sum(self._sizes[table] for table in tables) > self._limit
        self.state = replace(self.state, tables=tables, tables6=tables6)
        if grown:
            self._read_all_routes()

    def _changed_table(
        self, routes: Sequence[Route], messages: list[decode.Message], table: int
    ) -> tuple[Route, ...]:
        after = patched(routes, messages) if len(routes) > READ_AGAIN else None
        return self._routes(IPV4, table) if after is None else after

    def _routes(self, family: int, table: int = 0) -> tuple[Route, ...]:
        """All routes of a family, or of one table (filtered by the kernel); none if it does not exist."""
        attributes = {15: struct.pack("I", table)} if table else {}
        try:
            found = self._questions.dump(GET_ROUTE, {"family": family}, attributes)
        except NetlinkError as error:
            if is_gone(error):
                return ()
            raise
        return tuple(decode.route(message) for message in found)


def _checked_inode(fd: int, namespace: Namespace) -> int:
    inode = os.fstat(fd).st_ino
    if inode != namespace.inode:
        raise OSError(errno.ENOENT, f"namespace {namespace.inode} is gone from {namespace.path}")
    return inode


def _open(groups: tuple[int, ...]) -> tuple[RouteSocket, RouteSocket, int, dict[int, int], int]:
    events = RouteSocket(groups)
    try:
        return events, RouteSocket(), open_listing(), *_sizes()
    except BaseException:
        events.close()
        raise


def _sizes() -> tuple[dict[int, int], int]:
    return netns.read_table_sizes(), netns.read_ipv6_routes()


def _affordable(sizes: Mapping[int, int], limit: int) -> tuple[tuple[int, ...], frozenset[int]]:
    """Tables that fit below the limit together, smallest first; and the rest."""
    small, total = [], 0
    for table, size in sorted(sizes.items(), key=lambda item: item[1]):
        total += size
        if total <= limit:
            small.append(table)
    return tuple(small), frozenset(sizes) - frozenset(small)


def _by_table(routes: Iterable[Route]) -> dict[int, tuple[Route, ...]]:
    found: dict[int, list[Route]] = {}
    for route in routes:
        found.setdefault(route.table, []).append(route)
    return {table: tuple(same) for table, same in found.items()}


def _route_question(flow: FlowKey) -> tuple[dict[str, int], dict[int, bytes]]:
    size, bits = (4, 32) if flow.family == IPV4 else (16, 128)
    if flow.proto and flow.proto not in PORT_PROTOCOLS:
        raise ValueError(f"the kernel can be asked about tcp, udp and icmp, not about protocol {flow.proto}")
    flags = RTM_F_FIB_MATCH | RTM_F_LOOKUP_TABLE
    fields = {"family": flow.family, "dst_len": bits, "tos": flow.tos, "flags": flags}
    attributes = {1: flow.daddr.to_bytes(size, "big"), 25: struct.pack("I", flow.uid)}
    if flow.saddr:
        fields["src_len"] = bits
        attributes[2] = flow.saddr.to_bytes(size, "big")
    for number, value, layout in (
        (3, flow.iif if flow.iif != 1 else 0, "I"), (4, flow.oif, "I"), (16, flow.mark, "I"),
        (27, flow.proto, "B"), (28, flow.sport, ">H"), (29, flow.dport, ">H"),
    ):  # fmt: skip
        if value:
            attributes[number] = struct.pack(layout, value)
    return fields, attributes
