"""Filters: the words of the command line → the terms the kernel tests, and the exact test of whole paths.

The kernel drops what surely belongs to no wanted packet. What it cannot know when a record is made (which table
will win, by which device a packet will leave, what its verdict will be) is tested here, on finished paths.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.correlate.callers import Purpose
from tracer.correlate.links import of_the_link
from tracer.correlate.verdicts import Event, Role, Steps, Verdict
from tracer.enrich.units import Units

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.correlate.columns import Array
    from tracer.wire.layout import Layout

_MAX_DEVICES = 16
COMM_BYTES = 15
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


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
    unit: str | None = None
    units: Units = field(default_factory=Units)
    only_namespaces: frozenset[int] = field(default_factory=frozenset)

    def wire(self, layout: Layout, stacks: int, own_pid: int) -> np.ndarray[Any, Any]:
        """The `struct filter` for the kernel."""
        record = np.zeros((), dtype=layout.structs["filter"])
        terms = layout.enums["filter_term"]
        record["enabled"], record["stacks"], record["own_pid"] = 1, stacks, own_pid
        active = 0
        for name, address, mask in (
            ("src", "saddr", "smask"),
            ("dst", "daddr", "dmask"),
            ("host", "haddr", "hmask"),
        ):
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
            record["comm"] = np.frombuffer(self.comm.encode()[:COMM_BYTES].ljust(16, b"\0"), np.uint8)
            active |= terms["TERM_COMM"]
        if self.iif is not None and len(self.iif) <= _MAX_DEVICES:
            for index, (netns, ifindex) in enumerate(sorted(self.iif)):
                record["in_device"][index], record["in_netns"][index] = ifindex, netns
            record["in_devices"] = len(self.iif)
            active |= terms["TERM_IN_DEVICE"]
        family = self.wire_family
        if family:
            record["family"] = family
            active |= terms["TERM_FAMILY"]
        record["active"] = active
        return record

    @property
    def wire_family(self) -> int:
        """The one family that is wanted (AF_INET, AF_INET6), 0 for both; prefixes imply their family."""
        versions: set[int] = {p.version for p in (self.src, self.dst, self.host) if p is not None}
        if self.family is not None:
            versions.add(self.family)
        return int(FAMILIES[min(versions)]) if len(versions) == 1 else 0

    def keep(self, steps: Steps, process_of: Callable[[Steps], tuple[Array, Array]]) -> Array:
        """Which steps belong to wanted paths.

        Without `purpose`, decisions that no packet came of are not wanted, but for a send that failed; nor is, without
        `proto` as well, what IPv6 hosts tell their neighbours (ARP is not shown either). `process_of`
        gives the pid and whether comm matches, per hop.
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
        wanted = _any_in_path((steps.packet > 0) | failed, path, count)
        if self.proto is None:
            wanted &= ~_any_in_path(of_the_link(steps.records)[steps.row], path, count)
        return wanted

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
            tables = np.where(
                records["owner_table"][row] != 0, records["owner_table"][row], records["walked_table"][row]
            )
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
        if self.unit is not None:
            tests.append(self._unit_test(process_of(steps)[0])[steps.hop])
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
            result &= (mine & (steps.records["uid"][steps.row] == self.uid)) | (
                steps.notes["via"][steps.row] != 0
            )
        return result

    def _unit_test(self, pids: Array) -> Array:
        """Whether each process belongs to the wanted unit or container."""
        mine = [pid for pid in np.unique(pids[pids > 0]).tolist() if self.unit in self.units.names(pid)]
        result: Array = np.isin(pids, mine)
        return result

    def _device_test(
        self, steps: Steps, wanted: frozenset[tuple[int, int]], events: tuple[Event, ...]
    ) -> Array:
        pairs = np.array([netns << 32 | ifindex for netns, ifindex in wanted], np.uint64)
        netns = steps.hops.netns[steps.hop].astype(np.uint64)
        here = netns << np.uint64(32) | steps.records["ifindex"][steps.row].astype(np.uint64)
        result: Array = np.isin(steps.event, [int(event) for event in events]) & np.isin(here, pairs)
        return result

    def _flow_test(self, steps: Steps) -> Array:
        """Addresses, protocol and ports must hold together, on a row about the packet or a key that knows its ports."""
        row, records = steps.row, steps.records
        result = np.ones(len(steps), bool)
        for prefix, ends in ((self.src, ("saddr",)), (self.dst, ("daddr",)), (self.host, ("saddr", "daddr"))):
            if prefix is not None:
                result &= np.logical_or.reduce([_inside(records[end][row], prefix) for end in ends])
        for name, ends in (
            ("proto", ("proto",)),
            ("sport", ("sport",)),
            ("dport", ("dport",)),
            ("port", ("sport", "dport")),
        ):
            value = getattr(self, name)
            if value is not None:
                result &= np.logical_or.reduce([records[end][row] == value for end in ends])
        if self.family is not None:
            result &= records["family"][row] == int(FAMILIES[self.family])
        if not result.all():
            # The ends of a source check are swapped, and those of a socket that tells of a delivery are its own.
            result &= steps.notes["purpose"][row] != Purpose.SOURCE_CHECK
            result &= (steps.event != Event.DELIVER) | (records["skb"][row] != 0)
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
