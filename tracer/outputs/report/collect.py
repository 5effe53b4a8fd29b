"""Rows → what a page holds: paths by columns, and once each the flows, the ways and the trees that they share.

A *way* is everything that a path did but for its own addresses, ports, processes and times: the same namespaces,
devices, decisions, rules, tables, routes and verdicts. Most paths of a busy host go few ways.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from tracer.correlate.columns import Array, changed, codes_of, hash_rows
from tracer.enrich.reasons import OUTER_HEADER
from tracer.model.columns import VERDICTS
from tracer.outputs.paths import paths, whole_paths
from tracer.outputs.report import coding
from tracer.outputs.report.coding import Strings
from tracer.outputs.report.trees import Body, body
from tracer.outputs.schema import conform, with_internal

if TYPE_CHECKING:
    from collections.abc import Iterable

STEP: Final = (
    "hop", "event", "netns", "netns_inode", "role", "purpose", "decision", "family", "rule", "rule_text", "table",
    "result", "prefix", "gateway", "dev", "route_type", "in_dev", "out_dev", "verdict", "comm", "evidence", "reason",
)  # fmt: skip
"""The columns of a step of a way."""

_TREE_ONLY: Final = ("table_id", "scope", "error", "caller", "relays")
_FLOW: Final = ("src", "dst", "proto", "sport", "dport")
_CHUNK_ROWS: Final = 65_536
_OF_PACKET: Final = frozenset({"receive", "send", "forward", "deliver", "drop"})


@dataclass(slots=True)
class Budget:
    """The most that a page keeps: paths in its list, different trees (one more of each way may come on top)."""

    paths: int = 200_000
    trees: int = 20_000
    trees_of_ways: int = 40_000


@dataclass(slots=True)
class Collected:
    """What was collected. `columns` has an array per column of paths; a way is a slice of `way_steps`."""

    strings: Strings = field(default_factory=Strings)
    steps: list[tuple[int, ...]] = field(default_factory=list)
    ways: list[Array] = field(default_factory=list)
    way_body: list[int] = field(default_factory=list)
    flows: list[tuple[int, ...]] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    columns: dict[str, list[Array]] = field(default_factory=dict)
    rows: int = 0
    paths: int = 0


class Collector:
    """Takes batches of rows; `found` is what they held."""

    def __init__(self, budget: Budget) -> None:
        self.found = Collected()
        self._budget = budget
        self._steps: dict[int, int] = {}
        self._ways: dict[int, int] = {}
        self._flows: dict[int, int] = {}
        self._bodies: dict[int, int] = {}
        self._tree_words = Strings()

    def add(self, rows: pa.Table) -> None:
        """Take a batch; a path is never split over two."""
        whole = coding.cleaned(with_internal(conform(rows), rows))
        for part in whole_paths(whole, _CHUNK_ROWS):
            self._part(part)

    def _part(self, rows: pa.Table) -> None:
        chunk = _Chunk(rows, self.found.strings, self._tree_words)
        step = self._number_steps(chunk)
        way_hash, tree_hash = chunk.path_hashes(chunk.step_hash), chunk.path_hashes(chunk.tree_hash)
        way = self._numbered(way_hash, self._ways, lambda at: self._new_way(chunk, step, at))
        trees = self._number_trees(chunk, tree_hash, way)
        exact = trees >= 0
        shown = np.where(exact, trees, np.array(self.found.way_body)[way])
        flow = self._numbered(
            hash_rows(*(chunk.flow[name] for name in _FLOW)),
            self._flows,
            lambda at: self._new_flow(chunk, at),
        )
        columns = chunk.path_columns()
        ended = np.array([one.ended for one in self.found.bodies] + [True])
        if chunk.complete is None:
            columns["complete"] = (columns["lost"] == 0) & ended[shown]
        columns |= {"way": way, "flow": flow, "tree": shown, "exact": exact}
        for name, values in columns.items():
            self.found.columns.setdefault(name, []).append(values)
        self.found.rows += len(rows)
        self.found.paths += len(way)

    @staticmethod
    def _numbered(hashes: Array, known: dict[int, int], make: Any) -> Array:
        """A number per hash; `make` is called with the first row of each new one and returns its number."""
        code, values = codes_of(hashes)
        first = np.full(len(values), len(code), np.int64)
        np.minimum.at(first, code, np.arange(len(code)))
        found = np.zeros(len(values), np.int64)
        for index, value in enumerate(values.tolist()):
            number = known.get(value)
            if number is None:
                number = known[value] = make(int(first[index]))
            found[index] = number
        return found[code]

    def _number_steps(self, chunk: _Chunk) -> Array:
        def make(at: int) -> int:
            self.found.steps.append(tuple(int(chunk.step[name][at]) for name in STEP))
            return len(self.found.steps) - 1

        return self._numbered(chunk.step_hash, self._steps, make)

    def _new_way(self, chunk: _Chunk, step: Array, at: int) -> int:
        self.found.ways.append(step[chunk.starts[at] : chunk.ends[at]].astype(np.int32))
        self.found.way_body.append(-1)
        return len(self.found.ways) - 1

    def _new_flow(self, chunk: _Chunk, at: int) -> int:
        self.found.flows.append(tuple(int(chunk.flow[name][at]) for name in _FLOW))
        return len(self.found.flows) - 1

    # -- trees -------------------------------------------------------------------------------------------------

    def _number_trees(self, chunk: _Chunk, hashes: Array, way: Array) -> Array:
        """The tree of each path, -1 where it is not kept."""
        code, values = codes_of(hashes)
        first = np.full(len(values), len(code), np.int64)
        np.minimum.at(first, code, np.arange(len(code)))
        wanted: list[tuple[int, int]] = []
        served: set[int] = set()
        for index, value in enumerate(values.tolist()):
            of_way = int(way[first[index]])
            new_way = self.found.way_body[of_way] < 0 and of_way not in served
            most = self._budget.trees_of_ways if new_way else self._budget.trees
            if value not in self._bodies and len(self.found.bodies) + len(wanted) < most:
                wanted.append((index, value))
                served.add(of_way)
        made = chunk.paths_at([int(first[index]) for index, _ in wanted])
        for (index, value), path in zip(wanted, made, strict=True):
            at = int(first[index])
            tree = body(path)
            if (tree.pids, tree.refs) != (chunk.pid_count[at], chunk.ref_count[at]):
                continue  # more than can be left open: only the way's tree, said to be another path's
            self._bodies[value] = len(self.found.bodies)
            self.found.bodies.append(tree)
            if self.found.way_body[int(way[at])] < 0:
                self.found.way_body[int(way[at])] = self._bodies[value]
        return np.array([self._bodies.get(value, -1) for value in values.tolist()], np.int64)[code]


class _Chunk:
    """Some whole paths, their values as numbers."""

    def __init__(self, rows: pa.Table, strings: Strings, tree_words: Strings) -> None:
        self._rows = rows
        packet = coding.numbers(rows.column("packet"))
        starts = changed(packet)
        self.starts = np.flatnonzero(starts)
        self.ends = np.append(self.starts[1:], len(packet))
        self._number = np.cumsum(starts) - 1
        self._position = np.arange(len(packet)) - self.starts[self._number]
        self._strings = strings
        self._about_packet, self._ends = self._events()
        self.step = {name: self._codes(name) for name in STEP if name != "reason"}
        self._reasons(tree_words)
        self.step_hash = hash_rows(*(self.step[name] for name in STEP))
        self._tree_hash(tree_words)
        first = np.where(self._about_packet, np.arange(len(packet)), len(packet))
        first = np.minimum.reduceat(first, self.starts)
        self._flow_row = np.where(first < len(packet), first, self.starts)
        self.flow = self._flow()
        self.complete = self._complete()

    def _events(self) -> tuple[Array, Array]:
        index, values = coding.distinct(self._rows.column("event"))
        about = np.array([value in _OF_PACKET for value in values] + [False])
        ends = np.array([value in VERDICTS for value in values] + [False])
        return about[index], ends[index]

    def _codes(self, name: str) -> Array:
        return coding.codes(self._rows.column(name), self._strings)

    def _reasons(self, tree_words: Strings) -> None:
        """Reasons three times: for the way, for the tree with its `#17` left open, and the number left open."""
        index, values = coding.distinct(self._rows.column("reason"))
        parts = [coding.split_reference(value) for value in values]
        templates = [head + tail for head, _, tail in parts]
        general = np.array([*map(self._strings.number, templates), 0], np.int64)[index]
        kinds = [self._strings.number(coding.kind_of_drop(value)) for value in values]
        dropped = self._is("event", "drop")
        self.step["reason"] = np.where(dropped, np.array([*kinds, 0], np.int64)[index], general)
        self._template = np.array([*map(tree_words.number, templates), 0], np.int64)[index]
        self._outer = np.array(
            [text.endswith((OUTER_HEADER, "(route of the tunnel)")) for text in templates] + [False]
        )[index]
        has_reason = self._is("event", "decision") | self._ends
        ref = np.where(has_reason, np.array([*(ref for _, ref, _ in parts), -1], np.int64)[index], -1)
        at = np.flatnonzero(ref >= 0)
        new = changed(self._number[at], ref[at])
        self.ref_rows, self.refs = at[new], ref[at[new]]
        self._ref_new = np.zeros(len(ref), np.int64)
        self._ref_new[at] = 1 + new
        self.ref_count = np.bincount(self._number[self.ref_rows], minlength=len(self.starts))

    def _is(self, name: str, text: str) -> Array:
        index, values = coding.distinct(self._rows.column(name))
        return np.array([value == text for value in values] + [False])[index]

    def _tree_hash(self, words: Strings) -> None:
        pid = np.where(self._ends, coding.numbers(self._rows.column("pid")), -1)
        self.pid_rows = np.flatnonzero(pid >= 0)
        self.pids = pid[self.pid_rows]
        self.pid_count = np.bincount(self._number[self.pid_rows], minlength=len(self.starts))
        width = np.zeros(len(pid), np.int64)
        width[self.pid_rows] = np.floor(np.log10(np.maximum(self.pids, 1))).astype(np.int64) + 1
        names = [name for name in _TREE_ONLY if name in self._rows.column_names]
        more = [coding.codes(self._rows.column(name), words) for name in names]
        outer = [
            np.where(self._outer, coding.codes(self._rows.column(name), words), 0)
            for name in ("src", "dst", "proto")
        ]
        self.tree_hash = hash_rows(self.step_hash, width, self._template, self._ref_new, *more, *outer)

    def _flow(self) -> dict[str, Array]:
        at = pa.array(self._flow_row)
        taken = {name: self._rows.column(name).take(at) for name in (*_FLOW, "mark")}
        named = {name: coding.codes(taken[name], self._strings) for name in ("src", "dst", "proto")}
        return named | {name: coding.numbers(taken[name]) for name in ("sport", "dport", "mark")}

    def _complete(self) -> Array | None:
        if "complete" not in self._rows.column_names:
            return None
        column = self._rows.column("complete")
        if column.null_count:
            return None
        found: Array = column.to_numpy()[self.starts].astype(bool)
        return found

    def path_hashes(self, row_hashes: Array) -> Array:
        """A hash per path of the hashes of its rows, in their order."""
        found: Array = np.bitwise_xor.reduceat(hash_rows(row_hashes, self._position), self.starts)
        return found

    def path_columns(self) -> dict[str, Array]:
        """What is a path's own."""
        ts_ns = coding.numbers(self._rows.column("ts_ns"))
        start = ts_ns[self.starts]
        columns = {
            "packet": coding.numbers(self._rows.column("packet"))[self.starts],
            "start_ns": start,
            "duration_ns": ts_ns[self.ends - 1] - start,
            "lost": coding.numbers(self._rows.column("lost"))[self.starts],
            "mark": np.maximum(self.flow["mark"], 0),
            "info": self._info(),
            "dropped": np.bitwise_or.reduceat(self._is("event", "drop"), self.starts),
            "pid_count": self.pid_count,
            "ref_count": self.ref_count,
            "pids": self.pids,
            "refs": self.refs,
        }
        return columns if self.complete is None else columns | {"complete": self.complete}

    def _info(self) -> Array:
        if "info" not in self._rows.column_names:
            return np.zeros(len(self.starts), np.int64)
        code = self._codes("info")
        first = np.minimum.reduceat(np.where(code > 0, np.arange(len(code)), len(code)), self.starts)
        found: Array = np.append(code, 0)[first]
        return found

    def paths_at(self, which: Iterable[int]) -> list[Any]:
        """The objects of some paths, which need not be in order."""
        wanted = list(which)
        if not wanted:
            return []
        order = np.argsort(wanted)
        rows = np.concatenate([np.arange(self.starts[wanted[i]], self.ends[wanted[i]]) for i in order])
        made = list(paths(self._rows.take(pa.array(rows))))
        back = np.argsort(order)
        return [made[i] for i in back]
