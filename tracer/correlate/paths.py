"""Records → paths, batch by batch. Pure: time is that of the records, so a replay gives the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.attach import Scene, attach
from tracer.correlate.callers import Purpose
from tracer.correlate.columns import (
    Array,
    Records,
    address_keys,
    address_words,
    codes_of,
    device_keys,
    hash_rows,
    join_rows,
    last_where,
    order_by,
    shifted,
    take_rows,
)
from tracer.correlate.context import Context, Patience
from tracer.correlate.decisions import decide, fill_netns
from tracer.correlate.episodes import in_list, unsettled
from tracer.correlate.flows import BEFORE_THE_TRACE, Decided, Sockets, flow_keys
from tracer.correlate.hops import build_steps
from tracer.correlate.lost import Gaps
from tracer.correlate.observed import fold
from tracer.correlate.packets import goes_on, join, moves
from tracer.correlate.pending import take_pending
from tracer.correlate.relays import Relays, until
from tracer.correlate.tunnels import Layers, decided_for, in_tunnel, legs, pack, turns, unpack
from tracer.correlate.verdicts import Steps, Via

if TYPE_CHECKING:
    from tracer.correlate.kinds import Kinds

_NOTES = np.dtype(
    [
        ("packet", "<i8"),  # number of the packet, negative: a decision that belongs to none (yet)
        ("decision", "<i8"),  # number of the decision, over the whole run
        ("ref", "<i8"),  # packet whose decision this one used
        ("hint", "<i8"),  # packet before it in its list, whose route it may have been given
        ("caller", "<i4"),  # number of the caller, 0 unknown
        ("purpose", "u1"),  # Purpose
        ("via", "u1"),  # Via: why this packet needed no lookup
        ("connects", "?"),  # the decision serves all packets of a connection
        ("last", "?"),  # last lookup of its decision
        ("leg", "u1"),  # part of the packet's way under one header: see tunnels.py
        ("depth", "i1"),  # headers around the one the packet was first seen with
        ("wrapped", "?"),  # first row with a further header
        ("outer", "?"),  # about an outer header: the packet was seen without it
        ("origin", "?"),  # first row of a packet made on this host
    ]
)


_MANY_HELD = 300_000
"""Records held back beyond which decisions without a packet no longer wait for one: memory stays flat."""


class Correlator:
    """Feed batches of records; each call returns the steps of the paths that are finished."""

    def __init__(self, kinds: Kinds, record: np.dtype[np.void], patience: Patience | None = None) -> None:
        self.kinds = kinds
        self.gaps = Gaps()
        self.sockets = Sockets()
        self.relays = Relays(kinds)
        self.packets = 0
        self._patience = patience or Patience()
        self._decisions = 0
        self._tail = np.zeros(0, record)
        self._held = np.zeros(0, record)
        self._notes = np.zeros(0, _NOTES)
        self._sent, self._received, self._wrapped = Decided(), Decided(), Decided()

    @property
    def held(self) -> int:
        """Records that wait for the rest of their paths."""
        return len(self._held) + len(self._tail)

    def open_since_ns(self, default: int) -> int:
        """When the oldest record that waits was made."""
        return min(int(part["ts_ns"].min(initial=default)) for part in (self._held, self._tail))

    def feed(
        self,
        records: Array,
        horizon_ns: int,
        context: Context,
        reached: dict[int, int] | None = None,
        *,
        final: bool = False,
    ) -> Steps:
        """Take a batch; `horizon_ns` is the time up to which all records have come. `final` finishes everything.

        `reached`: the number that each CPU had given its last record by then.
        """
        if len(records):
            self.gaps.note(records)
            told = (records["kind"] == self.kinds.OWNER) | (records["kind"] == self.kinds.STATE)
            if told.any():
                self.sockets.learn(records[told])
            self.relays.read(records)
        if reached:
            self.gaps.reached(reached, horizon_ns)
        batch = join_rows(self._tail, records.astype(self._tail.dtype, copy=False))
        rows = np.argsort(batch["ts_ns"], kind="stable")
        batch, rows = fold(take_rows(batch, rows), self.kinds), np.arange(len(rows))
        kind = batch["kind"]
        rows = rows[(kind < self.kinds.STATE) | (kind == self.kinds.READY)]
        codes, _ = codes_of(batch["context"][rows])
        order = order_by(codes)
        batch, group = take_rows(batch, rows[order]), codes[order]
        wait = (
            np.zeros(len(batch), bool)
            if final
            else unsettled(
                batch, group, self.kinds, horizon_ns - self._patience.settle_ns, context.suppressing
            )
        )
        self._tail = take_rows(batch, wait)
        if wait.any():
            batch, group = take_rows(batch, ~wait), group[~wait]
        if len(batch):
            self._settle(batch, group, context)
        return self._finish(horizon_ns, context, final=final)

    def _settle(self, settled: Array, group: Array, context: Context) -> None:
        batch = Records(settled)
        decisions = decide(batch, group, self.kinds, context.callers, context.suppressing)
        fill_netns(batch, group, decisions, self.kinds)
        packet, origin, tunnel = self._packets(batch, moves(batch, group, self.kinds), context.layers)
        scene = Scene(batch, group, packet, origin | (tunnel != 0), self.kinds, context.layers)
        notes = np.zeros(len(batch), _NOTES)
        unpack(attach(scene, decisions), notes)
        notes["origin"], notes["connects"], notes["wrapped"] = origin, decisions.connects, tunnel != 0
        notes["caller"], notes["purpose"], notes["last"] = decisions.caller, decisions.purpose, decisions.last
        notes["decision"] = np.where(decisions.number > 0, decisions.number + self._decisions, 0)
        self._decisions += int(decisions.number.max(initial=0))
        alone = (decisions.number > 0) & (notes["packet"] == 0)
        notes["packet"][alone] = -(notes["decision"] - decisions.repeats)[alone]
        take_pending(batch, notes, self._held, self._notes)
        self._name_cached(batch, group, notes, tunnel)
        self._drop_false_origins(batch, notes, context)
        keep = notes["packet"] != 0
        rows = np.flatnonzero(keep)
        rows = rows[np.argsort(batch["ts_ns"][rows], kind="stable")]
        self._held = join_rows(self._held, take_rows(batch.raw, rows))
        self._notes = join_rows(self._notes, take_rows(notes, rows))
        self.relays.settled(batch, group, notes, (self._held, self._notes))

    def _packets(self, batch: Records, moved: Array, layers: Layers) -> tuple[Array, Array, Array]:
        """The packet of each sk_buff row, and which rows are the first of a packet made here."""
        kinds = self.kinds
        rows = np.flatnonzero((batch["skb"] != 0) & (batch["family"] != 0))
        old = self._last_of_open_packets()
        codes, _ = codes_of(np.concatenate((self._held["skb"][old], batch["skb"][rows])))
        by_time = np.concatenate(
            (np.arange(len(old)), len(old) + np.argsort(batch["ts_ns"][rows], kind="stable"))
        )
        order = by_time[order_by(codes[by_time])]
        line = Records(take_rows(join_rows(take_rows(self._held, old), take_rows(batch.raw, rows)), order))
        same = goes_on(line, kinds)
        turn = np.where(same, 0, turns(line, kinds, layers))
        new = ~same & (turn == 0)
        ends = (line["kind"] == kinds.DROP) | (line["kind"] == kinds.CONSUME) | (line["kind"] == kinds.COPY)
        is_old = order < len(old)
        turn[is_old] = 0
        numbers = np.zeros(len(line), np.int64)
        numbers[is_old] = self._notes["packet"][old][order[is_old]]
        may_start = new & ~is_old & (~ends | (line["kind"] == kinds.DROP))
        starts = np.flatnonzero(may_start)
        rank = np.argsort(line["ts_ns"][starts], kind="stable")
        numbers[starts[rank]] = self.packets + 1 + np.arange(len(starts))
        self.packets += len(starts)
        head = np.maximum.accumulate(np.where(new | is_old, np.arange(len(line)), 0)) if len(line) else order
        before = np.zeros((2, len(line)), np.int64)
        before[:, is_old] = [self._notes[name][old][order[is_old]] for name in ("leg", "depth")]
        known = np.array((numbers[head], *legs(turn, head, *before)))
        line_of = np.zeros(len(batch), np.int64)
        line_of[rows[order[~is_old] - len(old)]] = np.flatnonzero(~is_old)
        for row in np.flatnonzero(moved >= 0).tolist():
            here, there = line_of[row], line_of[moved[row]]
            if may_start[here] and known[0, there] and line["kind"][there - 1] == kinds.RECEIVE:
                join(known, head == here, there)
                may_start[here] = False
        packed = pack(*known)
        packet, origin = np.zeros(len(batch), np.int64), np.zeros(len(batch), bool)
        tunnel = np.zeros(len(batch), np.uint64)
        fresh, wrapped = ~is_old, turn > 0
        packet[rows[order[fresh] - len(old)]] = packed[fresh]
        tunnel[rows[order[wrapped] - len(old)]] = shifted(device_keys(line))[wrapped]
        first = may_start & (line["kind"] != kinds.RECEIVE)
        origin[rows[order[first] - len(old)]] = True
        return packet, origin, tunnel

    def _last_of_open_packets(self) -> Array:
        """Row of the last sk_buff record of every packet that is still open."""
        rows = np.flatnonzero((self._notes["packet"] > 0) & (self._held["skb"] != 0))
        packet = self._notes["packet"][rows]
        _, back = np.unique(packet[::-1], return_index=True)
        return rows[len(rows) - 1 - back] if len(rows) else rows

    def _name_cached(self, batch: Records, group: Array, notes: Array, tunnel: Array) -> None:
        """Why a packet needed no lookup, and which packet's decision it used."""
        kinds = self.kinds
        flows = flow_keys(batch, batch["netns"])
        self._resolve(batch, notes, notes["origin"], _Side(self._sent, Purpose.OUTPUT, Via.SOCKET, flows))
        if notes["wrapped"].any():
            ends = hash_rows(tunnel, *address_words(batch["saddr"]), *address_words(batch["daddr"]))
            self._resolve(
                batch, notes, notes["wrapped"], _Side(self._wrapped, Purpose.OUTPUT, Via.TUNNEL, ends)
            )
        received = (batch["kind"] == kinds.RECEIVE) & (notes["packet"] > 0)
        self._resolve(batch, notes, received, _Side(self._received, Purpose.INPUT, Via.EARLY_DEMUX, flows))
        decided = received & (notes["via"] == 0)
        run = last_where(received & ~in_list(batch, group, kinds), group)
        before = shifted(last_where(decided, group))
        target = address_keys(batch["daddr"])
        # ip_list_rcv_finish() gives a hint to the next packet of the same list only.
        hinted = received & ~decided & (before >= 0) & (before >= run) & (target[before] == target)
        notes["hint"] = np.where(hinted, notes["packet"][before], BEFORE_THE_TRACE)

    def _resolve(self, batch: Records, notes: Array, rows_mask: Array, side: _Side) -> None:
        rows = np.flatnonzero(rows_mask)
        if not len(rows):
            return
        rows = rows[np.argsort(batch["ts_ns"][rows], kind="stable")]
        pair = (notes["purpose"] == side.purpose) & (notes["packet"] > 0)
        with_decision = decided_for(notes[pair], batch["netns"][pair], side.purpose)
        earlier = (self._notes["purpose"] == side.purpose) & (self._notes["packet"] > 0)
        held = decided_for(self._notes[earlier], self._held["netns"][earlier], side.purpose)
        mine = decided_for(notes[rows], batch["netns"][rows], side.purpose)
        has = np.isin(mine, with_decision) | np.isin(mine, held)
        ref = side.decided.resolve(side.keys[rows], notes["packet"][rows], has)
        notes["via"][rows] = np.where(has, 0, side.via)
        notes["ref"][rows] = ref

    def _drop_false_origins(self, batch: Records, notes: Array, context: Context) -> None:
        """Forget packets whose first sight is a drop that no decision and no known flow of a socket explains.

        It is a socket's queue being emptied, or a packet from before the trace.
        """
        rows = np.flatnonzero(notes["origin"] & (batch["kind"] == self.kinds.DROP))
        for row in rows.tolist():
            explained = notes["via"][row] == 0 or (notes["ref"][row] > 0 and batch["sock"][row] != 0)
            if (
                not explained
                or int(batch["error"][row]) in context.purges
                or int(batch["location"][row]) in context.emptied
                or int(batch["location"][row]) in context.no_packets
            ):
                notes["packet"][notes["packet"] == notes["packet"][row]] = 0

    def _finish(self, horizon_ns: int, context: Context, *, final: bool) -> Steps:
        """Take out the paths to which nothing more can come."""
        self.relays.decide(until(horizon_ns, self._tail, final=final), self._notes, self.gaps)
        codes, packets = codes_of(self._notes["packet"])
        order = order_by(codes)
        ts_ns = self._held["ts_ns"].astype(np.int64)
        last = np.zeros(len(packets), np.int64)
        last[codes] = ts_ns  # rows are in time order: the last one stays
        quiet = horizon_ns - last
        patient = np.full(len(packets), self._patience.finish_ns)
        if len(codes) < _MANY_HELD:
            outputs = self._notes["purpose"] == Purpose.OUTPUT
            patient[codes[outputs & (self._notes["packet"] < 0)]] = self._patience.pending_ns
        waits = self._waits(codes, len(packets)) | self._under_way(codes, len(packets), context)
        waits |= np.isin(packets, self.relays.open())
        patient = np.where(waits, self._patience.pending_ns, patient)
        done = (quiet > patient) | final
        chosen = done[codes]
        rows = order[chosen[order]]
        steps = build_steps(take_rows(self._held, rows), take_rows(self._notes, rows), self, context)
        steps.relays = self.relays.take(packets[done])
        self._held, self._notes = take_rows(self._held, ~chosen), take_rows(self._notes, ~chosen)
        return steps

    def _under_way(self, codes: Array, count: int, context: Context) -> Array:
        """Packets that left by a device whose other end is watched, or are in a tunnel, and were not seen since."""
        last = np.full(count, -1)
        rows = np.flatnonzero((self._held["skb"] != 0) | (self._held["kind"] == self.kinds.READY))
        last[codes[rows]] = rows
        held = take_rows(self._held, last)
        known, device = last >= 0, device_keys(held)
        leaves = (held["kind"] == self.kinds.XMIT) & np.isin(device, context.inner)
        result: Array = known & (leaves | in_tunnel(held, device, self.kinds, context.layers))
        return result

    def _waits(self, codes: Array, count: int) -> Array:
        """Packets that were routed on but neither left nor were dropped: they wait for a neighbour's address."""
        kind = self._held["kind"]
        forwards = (
            (kind == self.kinds.LOOKUP) & (self._notes["purpose"] == Purpose.INPUT) & self._notes["last"]
        )
        forwards &= (self._held["error"] == 0) & (self._held["route_type"] <= 1)
        leaves = (kind == self.kinds.XMIT) | (kind == self.kinds.DROP)
        routed, gone = np.full(count, -1), np.full(count, -1)
        rows = np.arange(len(codes))
        routed[codes[forwards]] = rows[forwards]
        gone[codes[leaves]] = rows[leaves]
        result: Array = routed > gone
        return result


@dataclass(frozen=True, slots=True)
class _Side:
    """Sending or receiving: the decisions remembered, their purpose, why one may be spared, and each row's flow."""

    decided: Decided
    purpose: Purpose
    via: Via
    keys: Array


__all__ = ["BEFORE_THE_TRACE", "Context", "Correlator", "Patience"]
