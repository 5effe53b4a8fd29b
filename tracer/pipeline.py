"""The data's way in one place: records → steps → rows → outputs, from the kernel's ring or from a capture."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.correlate.callers import Caller, classify
from tracer.correlate.kinds import Kinds
from tracer.correlate.paths import Context, Correlator
from tracer.correlate.tunnels import Layers
from tracer.correlate.verdicts import Steps, take
from tracer.enrich import layers
from tracer.enrich.names import system_names
from tracer.enrich.reasons import PURGE_REASONS, VAGUE_REASONS
from tracer.enrich.rules import suppressing_tables
from tracer.model.columns import SCHEMA
from tracer.model.routing import IPV4, IPV6
from tracer.outputs.batch import World
from tracer.outputs.build import RowBuilder
from tracer.outputs.timeline import Between, follow
from tracer.wire.capture import CaptureWriter, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracer.correlate.columns import Array
    from tracer.enrich.filters import Selection
    from tracer.model.change import Change
    from tracer.model.network import Network, NetworkState
    from tracer.outputs.registry import Output
    from tracer.wire.layout import Layout


_TCP_USES_IN = ("tcp_rcv_state_process", "tcp_rcv_established", "tcp_v4_rcv", "tcp_v6_rcv")
"""Where TCP frees a segment that it has worked on, with no reason: the last for sockets in TIME_WAIT and requests."""

_END_NS = 1 << 63
_OPEN_NS = 200_000_000
"""How long a change waits for paths that began before it."""

_EMPTIES_A_QUEUE = ("sk_stream_kill_queues", "skb_queue_purge", "__skb_queue_purge", "inet_sock_destruct")
"""Where a closed socket's queue is emptied, on kernels whose reasons do not say so (before 6.12)."""


@dataclass(slots=True)
class Symbols:
    """Kernel stacks by their number and code addresses by name, as the source of records knows them."""

    stack: Callable[[int], tuple[str, ...]]
    address: Callable[[int], str]


@dataclass(slots=True)
class Counts:
    """What went through so far."""

    records: int = 0
    lookups: int = 0
    packets: int = 0
    rows: int = 0


@dataclass
class Processing:
    """Everything after the records: correlation, names, rows, outputs."""

    layout: Layout
    network: Network
    symbols: Symbols
    reasons: dict[int, str]
    selection: Selection
    outputs: list[Output]
    clock_offset_ns: int
    ensure: Callable[[int], object] = lambda _inode: None
    owner: Callable[[int, int, int, int], tuple[int, str] | None] = lambda *_key: None
    threads: Callable[[int], int] = lambda _pid: 0
    limit: int | None = None
    filtered: bool = False
    changes_shown: Callable[[Change], bool] | None = None
    why: bool = False
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.kinds = Kinds.of(self.layout)
        self.between = Between(self.changes_shown)
        for output in self.outputs:
            follow(output, self.between.timeline)
        self._locations: set[int] = set()
        self._inner: set[int] = set()
        self._tunnels: dict[int, int] = {}
        self._above: set[tuple[int, int, int]] = set()
        self.correlator = Correlator(self.kinds, self.layout.record)
        self.correlator.relays.partial, self.correlator.relays.threads = self.filtered, self.threads
        self.callers = Callers(self.symbols, self.kinds)
        self.context = Context(
            callers=self.callers.by_stack,
            purges=_numbers(self.reasons, PURGE_REASONS),
            vague=_numbers(self.reasons, VAGUE_REASONS) if self.reasons else frozenset({0}),
        )
        self.builder = RowBuilder(
            World(
                network=self.network,
                names=system_names(),
                reasons=self.reasons,
                symbol=self.symbols.address,
                caller_name=self.callers.name,
                ensure=self.ensure,
                owner=self.owner,
                clock_offset_ns=self.clock_offset_ns,
                filtered=self.filtered,
                why=self.why,
            )
        )
        self.network_changed(self.network.latest(inode) for inode in self.network.inodes())

    @property
    def enough(self) -> bool:
        """Whether as many packets were shown as were asked for."""
        return self.limit is not None and self.counts.packets >= self.limit

    def network_changed(self, states: Iterable[NetworkState | None]) -> None:
        """Take note of new versions of namespaces: tables whose hits may be suppressed, what devices lead to.

        A table once suppressed stays in the set: a needless entry only makes decisions be looked at twice.
        """
        states = list(states)
        if not self.filtered:
            self._inner |= {key for state in states if state for key in _inner_devices(state, self.network)}
            self.context.inner = np.array(sorted(self._inner), np.uint64)
        for state in states:
            if state:
                self._tunnels |= layers.tunnels(state)
                self._above |= layers.above(state)
        self.context.layers = Layers.of(self._tunnels, self._above)
        pairs = {
            state.inode << 32 | table
            for state in states
            if state
            for family in (IPV4, IPV6)
            for table in suppressing_tables(state, family)
        }
        if pairs:
            known = set(self.context.suppressing.tolist()) | pairs
            self.context.suppressing = np.array(sorted(known), np.uint64)

    def feed(
        self, records: Array, horizon_ns: int, reached: dict[int, int] | None = None, *, final: bool = False
    ) -> None:
        """Take a batch of records and write the paths that are finished by `horizon_ns` (CLOCK_MONOTONIC).

        `reached` has the number that each CPU had given its last record by then: what did not come of them is lost.
        None when nobody knows, or when not everything that was there is read.
        """
        self.counts.records += len(records)
        self.callers.learn(records)
        self._learn_locations(records)
        steps = self.correlator.feed(records, horizon_ns, self.context, reached, final=final)
        if len(steps):
            owners = self.builder.owners
            owners.find(steps, self.correlator.sockets)
            steps = take(steps, self.selection.keep(steps, owners.matches(self.selection.comm)))
            steps = self._number(steps)
        rows = self.builder.rows(steps) if len(steps) else None
        self.counts.rows += 0 if rows is None else len(rows)
        until_ns = _END_NS
        if not final and self.between.waits:
            open_ns = max(self.correlator.open_since_ns(horizon_ns), horizon_ns - _OPEN_NS)
            until_ns = min(open_ns, horizon_ns) + self.clock_offset_ns
        self.between.write(self.outputs, rows, until_ns)

    def changed(self, changes: Iterable[Change]) -> None:
        """Take changes of the configuration, before the records that came after them."""
        self.between.add(changes, self.clock_offset_ns)

    def finish(self, horizon_ns: int, reached: dict[int, int] | None = None) -> None:
        """Write the paths that are still open, as they are."""
        self.feed(np.zeros(0, self.layout.record), horizon_ns, reached, final=True)

    def _learn_locations(self, records: Array) -> None:
        """Tell apart what is freed as dropped but was not.

        `ip route get` makes an sk_buff to route that never was a packet; TCP so frees segments it has worked on.
        """
        for address in np.unique(records["location"][records["kind"] == self.kinds.DROP]).tolist():
            if address not in self._locations:
                self._locations.add(address)
                symbol = self.symbols.address(address)
                if symbol.startswith(("inet_rtm_getroute", "inet6_rtm_getroute")):
                    self.context.no_packets.add(address)
                elif symbol.startswith(_EMPTIES_A_QUEUE):
                    self.context.emptied.add(address)
                elif symbol.startswith(_TCP_USES_IN):
                    self.context.used.add(address)

    def _number(self, steps: Steps) -> Steps:
        """Give paths without a packet a number, count, and keep to the limit."""
        start = (
            np.concatenate(([True], steps.packet[1:] != steps.packet[:-1]))
            if len(steps)
            else np.zeros(0, bool)
        )
        path = np.cumsum(start) - 1
        paths = int(path[-1]) + 1 if len(path) else 0
        if self.limit is not None and self.counts.packets + paths > self.limit:
            paths = max(self.limit - self.counts.packets, 0)
            steps, path = take(steps, path < paths), path[path < paths]
        nameless = steps.packet < 0
        if nameless.any():
            _, position = np.unique(-steps.packet[nameless], return_inverse=True)
            steps.packet = steps.packet.copy()
            steps.packet[nameless] = self.correlator.packets + 1 + position
            self.correlator.packets += int(position.max()) + 1
        self.counts.packets += paths
        self.counts.lookups += int((steps.event == 2).sum())  # noqa: PLR2004 - Event.LOOKUP
        return steps

    def close(self) -> None:
        """End the outputs; the first error is raised after all were tried."""
        errors = []
        for output in self.outputs:
            try:
                output.close()
            except Exception as error:  # noqa: BLE001 - the others must still be closed
                errors.append(error)
        if errors:
            raise errors[0]


class Callers:
    """Who asked for a lookup, by the number of its stack; each stack is read once."""

    def __init__(self, symbols: Symbols, kinds: Kinds) -> None:
        self.by_stack: dict[int, tuple[int, Caller]] = {}
        self.stacks: dict[int, tuple[str, ...]] = {}
        self._symbols, self._kinds = symbols, kinds
        self._names: dict[str, int] = {"": 0}

    def learn(self, records: Array) -> None:
        """Read the stacks that are new in these records."""
        numbers = records["stack"][(records["kind"] == self._kinds.LOOKUP) & (records["stack"] >= 0)]
        if not len(numbers):
            return
        for number in np.flatnonzero(np.bincount(numbers)).tolist():
            if number not in self.by_stack:
                stack = self._symbols.stack(number)
                if stack:
                    caller = classify(stack)
                    self.stacks[number] = stack
                    self.by_stack[number] = (self._names.setdefault(caller.name, len(self._names)), caller)

    def name(self, number: int) -> str:
        """The function behind a caller's number."""
        return next((name for name, known in self._names.items() if known == number), "")


def _inner_devices(state: NetworkState, network: Network) -> set[int]:
    """Keys of the veth devices of a namespace whose other end is in a namespace that is watched."""
    watched = set(network.inodes())
    return {
        state.inode << 32 | link.ifindex
        for link in state.links.values()
        if link.kind == "veth" and link.peer_netns in watched
    }


def _numbers(reasons: dict[int, str], wanted: frozenset[str]) -> frozenset[int]:
    return frozenset(number for number, name in reasons.items() if name in wanted)


class Recorder:
    """Writes what came out of the ring, and what is needed to understand it later, to a `.fibtrace` capture."""

    def __init__(
        self,
        path: Path,
        wire_text: str,
        clock_offset_ns: int,
        reasons: dict[int, str],
        partial: bool = True,  # noqa: FBT001, FBT002 - a filter keeps records out
    ) -> None:
        header = {
            "wire": wire_text,
            "release": os.uname().release,
            "clock_offset_ns": clock_offset_ns,
            "schema": SCHEMA,
            "partial": partial,
            "reasons": {str(number): name for number, name in reasons.items()},
        }
        self._writer = CaptureWriter(path, header)
        self._stacks: set[int] = set()
        self._addresses: set[int] = set()
        self._versions: dict[int, int] = {}

    def network(self, network: Network) -> None:
        """Write the known configuration the first time, later the versions that are new."""
        kind = Kind.STATES if self._versions else Kind.NETWORK
        new = [
            state
            for inode in network.inodes()
            for state in network.versions(inode)[self._versions.get(inode, 0) :]
        ]
        if new or kind is Kind.NETWORK:
            self._writer.write_json(kind, {"namespaces": [state.to_dict() for state in new]})
        self._versions = {inode: len(network.versions(inode)) for inode in network.inodes()}

    def changes(self, changes: Iterable[Change]) -> None:
        """Write what changed, before the records that came after it."""
        values = [change.to_dict() for change in changes]
        if values:
            self._writer.write_json(Kind.CHANGES, {"changes": values})

    def records(self, records: Array, processing: Processing) -> None:
        """Write one batch, and first the names that it needs."""
        if not len(records):
            return
        stacks = {
            number: list(stack)
            for number, stack in processing.callers.stacks.items()
            if number not in self._stacks
        }
        addresses = set(np.unique(records["location"]).tolist()) - self._addresses - {0}
        if stacks or addresses:
            names = {str(address): processing.symbols.address(address) for address in addresses}
            self._writer.write_json(Kind.STACKS, {"stacks": stacks, "addresses": names})
            self._stacks |= set(stacks)
            self._addresses |= addresses
        self._writer.write_records(np.ascontiguousarray(records).tobytes())

    def close(self, accounting: dict[str, Any]) -> None:
        """Write what was lost, and end the file."""
        self._writer.write_json(Kind.ACCOUNTING, accounting)
        self._writer.close()


def clock_offset_ns() -> int:
    """What to add to CLOCK_MONOTONIC to get the time since the epoch."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
