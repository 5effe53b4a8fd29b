"""Filters: the words of the command line → the terms the kernel tests, and the exact test of whole paths.

The kernel drops what surely belongs to no wanted packet. What it cannot know when a record is made (which table
will win, by which device a packet will leave, what its verdict will be) is tested here, on finished paths.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.correlate.callers import PURPOSE_NAMES, Purpose
from tracer.correlate.verdicts import Event, Role, Steps, Verdict
from tracer.errors import BadRequest, NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.correlate.columns import Array
    from tracer.enrich.names import Names
    from tracer.model.network import Network
    from tracer.wire.layout import Layout

_MAX_DEVICES = 16
_COMM_BYTES = 15
_PORT_MAX, _U32_MAX = 0xFFFF, 0xFFFFFFFF
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class FilterWords:
    """The filter as typed; None is no filter."""

    src: str | None = None
    dst: str | None = None
    host: str | None = None
    proto: str | None = None
    port: int | None = None
    sport: int | None = None
    dport: int | None = None
    iif: str | None = None
    oif: str | None = None
    netns: str | None = None
    pid: int | None = None
    comm: str | None = None
    uid: int | None = None
    mark: str | None = None
    table: str | None = None
    role: str | None = None
    drops: bool = False
    family: int | None = None
    purpose: str | None = None

    @property
    def given(self) -> bool:
        """Whether anything is filtered at all."""
        return any(getattr(self, item.name) not in {None, False} for item in fields(self))


@dataclass(slots=True)
class Selection:
    """A filter with every name resolved."""

    src: Prefix | None = None
    dst: Prefix | None = None
    host: Prefix | None = None
    proto: int | None = None
    port: int | None = None
    sport: int | None = None
    dport: int | None = None
    iif: frozenset[tuple[int, int]] | None = None
    oif: frozenset[tuple[int, int]] | None = None
    netns: int | None = None
    pid: int | None = None
    comm: str | None = None
    uid: int | None = None
    mark: tuple[int, int] | None = None
    table: int | None = None
    role: Role | None = None
    drops: bool = False
    family: int | None = None
    purpose: Purpose | None = None
    only_namespaces: frozenset[int] = field(default_factory=frozenset)

    def wire(self, layout: Layout, stacks: int, own_pid: int) -> np.ndarray[Any, Any]:
        """The `struct filter` for the kernel."""
        record = np.zeros((), dtype=layout.structs["filter"])
        terms = layout.enums["filter_term"]
        record["enabled"], record["stacks"], record["own_pid"] = 1, stacks, own_pid
        active = 0
        for name, address, mask in (("src", "saddr", "smask"), ("dst", "daddr", "dmask"), ("host", "haddr", "hmask")):
            prefix = getattr(self, name)
            if prefix is not None:
                record[address] = _padded(prefix.network_address.packed)
                record[mask] = _padded(prefix.netmask.packed)
                active |= terms[f"TERM_{name.upper()}"]
        for name in ("proto", "port", "sport", "dport", "netns", "pid", "uid"):
            if getattr(self, name) is not None:
                record[name] = getattr(self, name)
                active |= terms[f"TERM_{name.upper()}"]
        if self.mark is not None:
            record["mark"], record["mark_mask"] = self.mark
            active |= terms["TERM_MARK"]
        if self.comm is not None:
            record["comm"] = np.frombuffer(self.comm.encode()[:_COMM_BYTES].ljust(16, b"\0"), np.uint8)
            active |= terms["TERM_COMM"]
        if self.iif is not None and len(self.iif) <= _MAX_DEVICES:
            for index, (netns, ifindex) in enumerate(sorted(self.iif)):
                record["in_device"][index], record["in_netns"][index] = ifindex, netns
            record["in_devices"] = len(self.iif)
            active |= terms["TERM_IN_DEVICE"]
        family = self._wire_family()
        if family:
            record["family"] = family
            active |= terms["TERM_FAMILY"]
        record["active"] = active
        return record

    def _wire_family(self) -> int:
        """Prefixes imply their family."""
        versions = {prefix.version for prefix in (self.src, self.dst, self.host) if prefix is not None}
        if self.family is not None:
            versions.add(self.family)
        return int(_FAMILIES[min(versions)]) if len(versions) == 1 else 0

    def keep(self, steps: Steps, process_of: Callable[[Steps], tuple[Array, Array]]) -> Array:
        """Which steps belong to wanted paths. Without `purpose`, decisions that no packet came of are not wanted,
        but for a send that failed. `process_of` gives the pid and whether comm matches, per hop.
        """
        if not len(steps):
            return np.zeros(0, bool)
        path = np.cumsum(np.concatenate(([True], steps.packet[1:] != steps.packet[:-1]))) - 1
        count = int(path[-1]) + 1
        wanted = self._of_packets(steps, path, count)
        for test in self._tests(steps, process_of):
            wanted &= _any_in_path(test, path, count)
        result: Array = wanted[path]
        return result

    def _of_packets(self, steps: Steps, path: Array, count: int) -> Array:
        if self.purpose is not None:
            return np.ones(count, bool)
        failed = (steps.event == Event.DROP) & (steps.packet < 0)
        return _any_in_path((steps.packet > 0) | failed, path, count)

    def _tests(self, steps: Steps, process_of: Callable[[Steps], tuple[Array, Array]]) -> list[Array]:
        """One array per kind of term; each must hold in at least one step of a wanted path."""
        hops, row = steps.hops, steps.row
        records, netns = steps.records, steps.hops.netns[steps.hop]
        tests = [self._flow_test(steps)]
        if self.netns is not None:
            tests.append(netns == self.netns)
        if self.only_namespaces:
            tests.append(np.isin(netns, list(self.only_namespaces)))
        if self.mark is not None:
            value, mask = self.mark
            tests.append((records["mark"][row] & mask) == (value & mask))
        if self.table is not None:
            tables = np.where(records["owner_table"][row] != 0, records["owner_table"][row], records["walked_table"][row])
            tests.append((steps.event == Event.LOOKUP) & (tables == self.table))
        if self.role is not None:
            tests.append(hops.role[steps.hop] == self.role)
        if self.drops:
            tests.append(hops.verdict[steps.hop] == Verdict.DROP)
        if self.purpose is not None:
            tests.append((steps.event == Event.LOOKUP) & (steps.notes["purpose"][row] == self.purpose))
        tests += [
            self._device_test(steps, wanted, events)
            for wanted, events in ((self.iif, (Event.RECEIVE,)), (self.oif, (Event.SEND, Event.FORWARD)))
            if wanted is not None
        ]
        if self.pid is not None or self.comm is not None or self.uid is not None:
            tests.append(self._owner_test(steps, process_of))
        return tests

    def _owner_test(self, steps: Steps, process_of: Callable[[Steps], tuple[Array, Array]]) -> Array:
        pid, comm = process_of(steps)
        result = np.ones(len(steps), bool)
        if self.pid is not None:
            result &= pid[steps.hop] == self.pid
        if self.comm is not None:
            result &= comm[steps.hop]
        if self.uid is not None and self.pid is None and self.comm is None:
            mine = (steps.event == Event.LOOKUP) & (steps.notes["purpose"][steps.row] == Purpose.OUTPUT)
            result &= (mine & (steps.records["uid"][steps.row] == self.uid)) | (steps.notes["via"][steps.row] != 0)
        return result

    def _device_test(self, steps: Steps, wanted: frozenset[tuple[int, int]], events: tuple[Event, ...]) -> Array:
        pairs = np.array([netns << 32 | ifindex for netns, ifindex in wanted], np.int64)
        here = steps.hops.netns[steps.hop].astype(np.int64) << 32 | steps.records["ifindex"][steps.row].astype(np.int64)
        result: Array = np.isin(steps.event, [int(event) for event in events]) & np.isin(here, pairs)
        return result

    def _flow_test(self, steps: Steps) -> Array:
        """Addresses, protocol and ports must hold together, on a row about the packet or a key that knows its ports."""
        row, records = steps.row, steps.records
        result = np.ones(len(steps), bool)
        for prefix, ends in ((self.src, ("saddr",)), (self.dst, ("daddr",)), (self.host, ("saddr", "daddr"))):
            if prefix is not None:
                result &= np.logical_or.reduce([_inside(records[end][row], prefix) for end in ends])
        for name, ends in (("proto", ("proto",)), ("sport", ("sport",)), ("dport", ("dport",)), ("port", ("sport", "dport"))):
            value = getattr(self, name)
            if value is not None:
                result &= np.logical_or.reduce([records[end][row] == value for end in ends])
        if self.family is not None:
            result &= records["family"][row] == int(_FAMILIES[self.family])
        if not result.all():
            checks = (steps.event == Event.LOOKUP) & (steps.notes["purpose"][row] == Purpose.SOURCE_CHECK)
            result &= ~checks
        return result


def _any_in_path(test: Array, path: Array, count: int) -> Array:
    result = np.zeros(count, bool)
    result[path[test]] = True
    return result


def _padded(packed: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(packed.ljust(16, b"\0"), np.uint8)


def _inside(addresses: Array, prefix: Prefix) -> Array:
    mask = _padded(prefix.netmask.packed)
    result: Array = ((addresses & mask) == _padded(prefix.network_address.packed)).all(axis=1)
    return result


def resolve(words: FilterWords, network: Network, names: Names) -> Selection:
    """Resolve every name; raises BadRequest that says what does not exist and what would."""
    namespace = None if words.netns is None else _namespace(words.netns, network)
    inside = None if namespace is None else {namespace}
    selection = Selection(
        src=_prefix("--src", words.src),
        dst=_prefix("--dst", words.dst),
        host=_prefix("--host", words.host),
        proto=None if words.proto is None else _protocol(words.proto, names),
        port=_number("--port", words.port, _PORT_MAX),
        sport=_number("--sport", words.sport, _PORT_MAX),
        dport=_number("--dport", words.dport, _PORT_MAX),
        iif=None if words.iif is None else _devices("--iif", words.iif, network, inside),
        oif=None if words.oif is None else _devices("--oif", words.oif, network, inside),
        netns=namespace,
        pid=_number("--pid", words.pid, _U32_MAX),
        comm=words.comm,
        uid=_number("--uid", words.uid, _U32_MAX),
        mark=None if words.mark is None else _mark(words.mark),
        table=None if words.table is None else _table(words.table, names),
        role=None if words.role is None else _choice("--role", words.role, {r.name.lower(): r for r in Role if r}),
        drops=words.drops,
        family=words.family,
        purpose=None if words.purpose is None else _purpose(words.purpose),
    )
    if words.family not in {None, *_FAMILIES}:
        raise BadRequest(f"--family {words.family}: there is 4 and 6")
    versions = {prefix.version for prefix in (selection.src, selection.dst, selection.host) if prefix is not None}
    if 6 in versions | {selection.family}:  # noqa: PLR2004 - the IP version
        raise NotSupported("IPv6 is not traced yet: this version probes IPv4's lookups only\n  try: --family 4")
    if len(versions | ({selection.family} if selection.family else set())) > 1:
        raise BadRequest("the prefixes of the filter are of both address families: no packet can match")
    return selection


def _prefix(option: str, text: str | None) -> Prefix | None:
    if text is None:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise BadRequest(f"{option} {text}: not an address or prefix\n  try: 10.1.0.0/24 or 10.1.0.2") from error


def _number(option: str, value: int | None, largest: int) -> int | None:
    if value is not None and not 0 <= value <= largest:
        raise BadRequest(f"{option} {value}: must be between 0 and {largest}")
    return value


def _protocol(text: str, names: Names) -> int:
    if text.isdigit() and int(text) < 256:  # noqa: PLR2004 - a byte
        return int(text)
    known = {name.lower(): number for number, name in names.ip_protocols.items()}
    if text.lower() not in known:
        raise BadRequest(f"--proto {text}: no such IP protocol\n  try: tcp, udp, icmp, or a number below 256")
    return known[text.lower()]


def _mark(text: str) -> tuple[int, int]:
    value, slash, mask = text.partition("/")
    try:
        pair = int(value, 0), int(mask, 0) if slash else _U32_MAX
    except ValueError as error:
        raise BadRequest(f"--mark {text}: not a mark\n  try: 0x1 or 0x10/0xf0") from error
    if not all(0 <= number <= _U32_MAX for number in pair):
        raise BadRequest(f"--mark {text}: a mark has 32 bits")
    return pair


def _table(text: str, names: Names) -> int:
    if text.isdigit() and 0 < int(text) <= _U32_MAX:
        return int(text)
    known = {name: number for number, name in names.tables.items()}
    if text not in known:
        raise BadRequest(f"--table {text}: no such table\n  known by name: {', '.join(sorted(known))}; any number works")
    return known[text]


def _choice(option: str, text: str, choices: dict[str, Any]) -> Any:
    if text not in choices:
        raise BadRequest(f"{option} {text}: there is {', '.join(choices)}")
    return choices[text]


def _purpose(text: str) -> Purpose:
    chosen: Purpose = _choice("--purpose", text, {name: purpose for purpose, name in PURPOSE_NAMES.items() if name})
    return chosen


def _namespace(text: str, network: Network) -> int:
    """A namespace by name, by the pid of a process in it, or by inode."""
    states = [state for state in (network.latest(inode) for inode in network.inodes()) if state]
    for state in states:
        if state.name == text or str(state.inode) == text:
            return state.inode
    if text.isdigit():
        try:
            from pathlib import Path

            return Path(f"/proc/{text}/ns/net").stat().st_ino
        except OSError as error:
            raise BadRequest(f"--netns {text}: no namespace has this inode, and no process this pid") from error
    known = ", ".join(sorted(state.name for state in states if state.name)) or "none"
    raise BadRequest(f"--netns {text}: no such network namespace\n  there is: {known}")


def _devices(option: str, text: str, network: Network, inside: set[int] | None) -> frozenset[tuple[int, int]]:
    """(namespace inode, ifindex) of every device of that name."""
    found, names = set(), set()
    for inode in network.inodes():
        state = network.latest(inode)
        if state is None or (inside is not None and inode not in inside):
            continue
        names |= {link.name for link in state.links.values()}
        found |= {(inode, link.ifindex) for link in state.links.values() if link.name == text}
    if not found:
        raise BadRequest(f"{option} {text}: no such device\n  there is: {', '.join(sorted(names))}")
    return frozenset(found)
