"""The counters as they grow: read from the maps, explained, added up by item."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.enrich.reasons import PURGE_REASONS, short_drop_words
from tracer.kernel.maps import Map
from tracer.top import settings
from tracer.top.items import FAMILY_NUMBERS, Item, Share, Tally, shares
from tracer.top.ways import Way, as_rows, explain, forget_route, forget_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tracer.enrich.filters import Selection
    from tracer.enrich.names import Names
    from tracer.kernel.loader import Loaded
    from tracer.model.network import Network, NetworkState
    from tracer.wire.layout import Layout

_KEPT_EPOCHS = 2
_GRACE_S = 0.02
_LOST = ("decisions", "lookups", "drops", "ends")


@dataclass(slots=True)
class Totals:
    """What was counted since the start: by item, and altogether; and what could not be counted."""

    items: dict[Item, Tally] = field(default_factory=dict)
    start_ns: int = field(default_factory=time.monotonic_ns)
    decisions: int = 0
    lookups: int = 0
    drops: int = 0
    lost: dict[str, int] = field(default_factory=dict)

    def add(self, found: Iterable[Share], number: int, last_ns: int) -> None:
        """Count `number` decisions that each add these shares."""
        for share in found:
            tally = self.items.setdefault(share.item, Tally())
            tally.add(share.hits * number, share.decided * number, last_ns)


@dataclass(frozen=True, slots=True)
class World:
    """What the counters are explained by."""

    network: Network
    ensure: Callable[[int], object]
    names: Names
    reasons: dict[int, str]


class Counters:
    """The maps of one run. `apply` after every change of the configuration, `collect` as often as wanted."""

    def __init__(
        self, loaded: Loaded, layouts: tuple[Layout, Layout], selection: Selection, world: World
    ) -> None:
        self._loaded, self._world, self.selection = loaded, world, selection
        self._layout, self._terms = layouts[0], layouts[1].enums["filter_term"]
        self._maps = {
            name: Map(loaded.map_descriptor(name))
            for name in ("ways", "infos", "slots", "drops", "lost", "settings", "edges", "edges6", "active")
        }
        structs = self._layout.structs
        self._count = structs["walk_count"]
        self._known_way = np.dtype([("key", structs["walk_key"]), ("info", structs["walk_info"])])
        self._epoch = 0
        self._vague = (False, False)
        self._counted: dict[bytes, int] = {}
        self._known: dict[bytes, tuple[list[Share], int]] = {}
        self._symbols: dict[int, str] = {}
        self._settings: Any = None
        self._which = self._half = 0
        self._applied: frozenset[int] = frozenset()
        self.outdated = False
        self.totals = Totals()

    @property
    def families(self) -> tuple[int, ...]:
        """What is counted: AF_INET, AF_INET6."""
        family = self.selection.wire_family
        return (family,) if family else (int(socket.AF_INET), int(socket.AF_INET6))

    def apply(self, states: Sequence[NetworkState]) -> None:
        """Count by this configuration from now on."""
        self._known.clear()
        if self._epoch:
            self.collect()
            self._known.clear()
        told_apart = settings.distinctions(states)
        self._vague = told_apart.vague_rules, told_apart.vague_routes
        self._applied = frozenset(state.inode for state in states)
        self.outdated = False
        self._half ^= 1
        parts = self._layout.enums["edge_part"]
        for name, found in settings.edges(told_apart):
            self._maps["edges"].write_range(self._half * parts["EDGE_END"] + parts[name], found)
        parts6 = self._layout.enums["edge6_part"]
        for name, bounds in settings.edges6(self._layout, told_apart):
            self._maps["edges6"].write_range(self._half * parts6["EDGE6_END"] + parts6[name], bounds)
        self._settings = settings.pack(self._layout, told_apart, self.selection, self._terms)
        self._settings["half"] = self._half
        self.turn()

    def turn(self) -> None:
        """Begin a new set of counters, so that those out of use can go."""
        self._epoch += 1
        self._switch(self._epoch)

    def stop(self) -> None:
        """Count no more, and add what is still open."""
        self._switch(0)
        time.sleep(_GRACE_S)  # probes that run end meanwhile
        self.collect(final=True)

    def _switch(self, epoch: int) -> None:
        """Make other settings the ones in use; the probes that run go on with those before."""
        self._which ^= 1
        self._settings["epoch"] = epoch
        self._maps["settings"].write(self._which, self._settings.tobytes())
        self._maps["active"].write(0, self._which.to_bytes(4, "little"))

    def collect(self, *, final: bool = False) -> Totals:
        """Read what came since the last call."""
        pending = self._read_pending()
        raw_names, raw_counts = self._maps["ways"].read()
        ways = self._read_ways()
        counts = as_rows(raw_counts, self._count)
        hits, last = counts["hits"].sum(axis=1), counts["last_ns"].max(axis=1)
        gone = []
        for row, name in enumerate(raw_name.tobytes() for raw_name in raw_names):
            way, since_ns = ways.get(name), pending.get(name, 0)
            if way is None:
                continue  # another CPU is just making the entry: next time
            number = int(hits[row]) - self._counted.get(name, 0) + int(final and since_ns > 0)
            if number:
                self._add(way, number, max(int(last[row]), since_ns))
            self._counted[name] = int(hits[row])
            if int(way.key["epoch"]) <= self._epoch - _KEPT_EPOCHS and not since_ns:
                gone.append(row)
                del self._counted[name]
        self._forget(raw_names[gone])
        self._collect_drops()
        self._collect_lost()
        return self.totals

    def _read_pending(self) -> dict[bytes, int]:
        """Decisions that have ended unless they go on: each by its name, with the time of its last lookup."""
        _, raw = self._maps["slots"].read()
        rows = as_rows(raw, self._layout.structs["walk_pending"]).reshape(-1)
        return {row["name"].tobytes(): int(row["since_ns"]) for row in rows if row["since_ns"]}

    def _read_ways(self) -> dict[bytes, Way]:
        raw_names, raw = self._maps["infos"].read()
        rows = as_rows(raw, self._known_way)[:, 0]
        return {
            name.tobytes(): Way(row["key"], row["info"]) for name, row in zip(raw_names, rows, strict=True)
        }

    def _forget(self, keys: np.ndarray[Any, Any]) -> None:
        self._maps["ways"].delete(keys)
        self._maps["infos"].delete(keys)

    def _add(self, way: Way, number: int, last_ns: int) -> None:
        found = self._explained(way, last_ns)
        if found is None:
            return
        self.totals.decisions += number
        self.totals.lookups += number * found[1]
        self.totals.add(found[0], number, last_ns)

    def _explained(self, way: Way, last_ns: int) -> tuple[list[Share], int] | None:
        key = way.key.copy()
        key["epoch"] = 0
        name = key.tobytes() + way.netns.to_bytes(8, "little")
        if name not in self._known:
            self._known[name] = self._explain(way, last_ns)
        found = self._known[name]
        return found if found[1] else None

    def _explain(self, way: Way, last_ns: int) -> tuple[list[Share], int]:
        world, selection = self._world, self.selection
        if selection.netns is not None and way.netns != selection.netns:
            return [], 0
        if selection.iif is not None and (way.netns, int(way.key["iif"])) not in selection.iif:
            return [], 0
        states = world.network.candidates(way.netns, last_ns)
        if way.netns not in self._applied:  # its rules and routes were not told apart
            states = ()
            self.outdated = self.outdated or bool(way.netns and world.ensure(way.netns))
        decided = explain(way, states, self._loaded.stack, world.names)
        if selection.purpose is not None and decided.purpose != selection.purpose:
            return [], 0
        rows = decided.explained.lookups
        if selection.table is not None and all(row["table_id"] != selection.table for row in rows):
            return [], 0
        if self._vague[0]:
            forget_rules(decided)
        if self._vague[1] and way.family == socket.AF_INET:  # that of IPv6 is observed
            forget_route(decided)
        return shares(decided, world.names), way.lookups

    def _collect_drops(self) -> None:
        """Dropped packets, unless the filter asks for what a freed packet does not show."""
        chosen = self.selection
        if (
            chosen.purpose is not None
            or chosen.table is not None
            or chosen.iif is not None
            or chosen.uid is not None
        ):
            return
        raw_keys, raw = self._maps["drops"].read()
        keys, counts = as_rows(raw_keys, self._layout.structs["drop_key"]), as_rows(raw, self._count)
        for row, key in enumerate(keys):
            name, hits = raw_keys[row].tobytes(), int(counts["hits"][row].sum())
            number = hits - self._counted.get(name, 0)
            reason = self._world.reasons.get(int(key["reason"]), "")
            netns = int(key["netns"])
            if not number or reason in PURGE_REASONS or chosen.netns not in {None, netns}:
                continue
            self._counted[name] = hits
            family = FAMILY_NUMBERS[int(key["family"])]
            words = short_drop_words(reason, self._symbol(int(key["location"])))
            found = [
                Share(Item("verdict", netns, family, verdict="drop"), 1, 1),
                Share(Item("reason", netns, family, verdict="drop", reason=words), 1, 1),
            ]
            self.totals.drops += number
            self.totals.add(found, number, int(counts["last_ns"][row].max()))

    def _collect_lost(self) -> None:
        _, raw = self._maps["lost"].read()
        numbers = raw[..., :8].copy().view(np.uint64).sum(axis=(1, 2))
        self.totals.lost = {name: int(number) for name, number in zip(_LOST, numbers, strict=True) if number}

    def _symbol(self, address: int) -> str:
        if address not in self._symbols:
            self._symbols[address] = self._loaded.symbol(address)
        return self._symbols[address]
