"""Finished steps and the network's configuration → rows. Each distinct decision is explained once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.callers import PURPOSE_NAMES, Purpose
from tracer.correlate.columns import Array, changed, codes_of, hash_rows
from tracer.correlate.verdicts import PACKET_LOOPBACK, Event, Steps, Verdict, Via
from tracer.enrich.checks import Check
from tracer.enrich.doubt import explain
from tracer.enrich.inference import Explained, Row, address, choose_nexthop, device
from tracer.enrich.reasons import (
    OUTER_HEADER,
    RP_FILTER,
    cached_words,
    check_words,
    drop_words,
    send_failed_words,
)
from tracer.enrich.whys import decision_lines
from tracer.model.why import to_text
from tracer.outputs.batch import Batch, World
from tracer.outputs.owners import Owners
from tracer.outputs.rows import Statics, table

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class _Known:
    """One distinct decision: numbers of its rows, and its explanation."""

    offset: int
    decision: int
    extra: int
    explained: Explained


class RowBuilder:
    """Builds tables of rows; keeps what it explained for the next batch."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.owners = Owners(world.owner)
        self._reset()

    def _reset(self) -> None:
        self._statics = Statics()
        self._decisions: dict[int, _Known] = {}
        self._lookup_codes: list[int] = []
        self._events: dict[int, int] = {}

    def rows(self, steps: Steps) -> pa.Table:
        """The rows of finished paths, in their order. Their processes must have been found before."""
        if self._statics.full:
            self._reset()
        batch = Batch(steps, self._world)
        codes = np.zeros(len(steps), np.int64)
        extra = self._decision_codes(batch, codes)
        self._event_codes(batch, codes)
        dynamic, addresses = batch.dynamic(), batch.addresses
        if (extra >= 0).any():
            at = np.flatnonzero(extra >= 0)
            codes = np.insert(codes, at, extra[at])
            dynamic = {name: np.insert(values, at, values[at]) for name, values in dynamic.items()}
        starts = changed(dynamic["packet"])
        index = np.arange(len(codes))
        dynamic["step"] = (
            index - np.maximum.accumulate(np.where(starts, index, 0)) + 1 if len(codes) else index
        )
        return table(self._statics, codes, dynamic, addresses, batch.relays)

    # -- decisions ---------------------------------------------------------------------------------------------

    def _decision_codes(self, batch: Batch, codes: Array) -> Array:
        """Fill the codes of lookup and decision rows; returns, per step, the code of a row to put before it."""
        steps = batch.steps
        extra = np.full(len(steps), -1, np.int64)
        lookup = np.flatnonzero(steps.event == Event.LOOKUP)
        if not len(lookup):
            return extra
        rows = steps.row[lookup]
        first = changed(steps.notes["decision"][rows])
        starts = np.flatnonzero(first)
        number = np.cumsum(first) - 1
        position = np.arange(len(rows)) - starts[number]
        hashes = np.bitwise_xor.reduceat(hash_rows(batch.lookup_keys(lookup), position), starts)
        distinct_codes, distinct = codes_of(hashes)
        known = [
            self._known(batch, lookup, starts, int(h), distinct_codes, i)
            for i, h in enumerate(distinct.tolist())
        ]
        offsets = np.array([k.offset for k in known])[distinct_codes]
        flat = np.array(self._lookup_codes)
        codes[lookup] = flat[offsets[number] + position]
        decided = np.flatnonzero((steps.event == Event.DECISION) & ~steps.cached)
        of_decision = number[np.searchsorted(rows, steps.row[decided])]
        which = distinct_codes[of_decision]
        codes[decided] = np.array([k.decision for k in known])[which]
        extra[decided] = np.array([k.extra for k in known])[which]
        batch.explained = {
            int(row): known[code].explained for row, code in self._causes(batch, rows, number, distinct_codes)
        }
        return extra

    @staticmethod
    def _causes(batch: Batch, rows: Array, number: Array, distinct: Array) -> list[tuple[int, int]]:
        """Records that caused a drop, with the number of their decision's explanation."""
        hops = batch.steps.hops
        wanted = np.unique(hops.cause[(hops.verdict == Verdict.DROP) & (hops.cause >= 0)])
        wanted = wanted[np.isin(wanted, rows)]
        codes = distinct[number[np.searchsorted(rows, wanted)]]
        batch.cause_code = dict(zip(wanted.tolist(), codes.tolist(), strict=True))
        return list(zip(wanted.tolist(), codes.tolist(), strict=True))

    def _known(  # noqa: PLR0913, PLR0917 - where the decision lies, in three words
        self, batch: Batch, lookup: Array, starts: Array, key: int, distinct_codes: Array, code: int
    ) -> _Known:
        found = self._decisions.get(key)
        if found:
            return found
        index = int(np.argmax(distinct_codes == code))
        end = int(starts[index + 1]) if index + 1 < len(starts) else len(lookup)
        explained = self._explain(batch, lookup[int(starts[index]) : end])
        hop_columns = batch.hop_columns(int(lookup[starts[index]]))
        offset = len(self._lookup_codes)
        for row in explained.lookups:
            self._lookup_codes.append(self._statics.add({**hop_columns, **row, "event": "lookup"}))
        decision = self._statics.add(
            {**hop_columns, **explained.decision, "event": "decision", "cached": False}
        )
        extra = (
            self._statics.add({**hop_columns, **explained.extra, "event": "lookup"})
            if explained.extra
            else -1
        )
        known = self._decisions[key] = _Known(offset, decision, extra, explained)
        return known

    def _explain(self, batch: Batch, steps_of_decision: Array) -> Explained:
        steps, world = batch.steps, self._world
        rows = steps.row[steps_of_decision]
        notes = steps.notes[rows[0]]
        records = [steps.records[row] for row in rows]
        purpose = Purpose(int(notes["purpose"]))
        netns, ts_ns = int(records[0]["netns"]), int(records[0]["ts_ns"])
        states = world.network.candidates(netns, ts_ns)
        explained = explain(records, purpose, world.caller_name(int(notes["caller"])), states, world.names)
        hop = int(steps.hop[steps_of_decision[0]])
        last = rows[-1]
        used_row = int((steps.arrival if purpose is Purpose.SOURCE_CHECK else steps.departure)[last])
        choose_nexthop(
            explained,
            states[0] if states else None,
            int(steps.records["ifindex"][used_row]) if used_row >= 0 else 0,
        )
        check = None
        if purpose is Purpose.SOURCE_CHECK and states:
            in_dev = batch.in_device(last) or ""
            failed = bool(batch.checks_failed(np.array([hop]), rows[-1:])[0])
            mode = states[0].rp_filter(in_dev)
            explained.decision["reason"] = check_words(explained, in_dev, mode, failed=failed)
            check = Check(in_dev, failed=failed)
        elif notes["outer"] and not explained.decision.get("reason"):
            explained.decision["reason"] = OUTER_HEADER
        if world.why:
            explained.decision["why"] = to_text(decision_lines(explained, world.names, check))
        return explained

    # -- everything else ---------------------------------------------------------------------------------------

    def _event_codes(self, batch: Batch, codes: Array) -> None:
        steps = batch.steps
        rows = np.flatnonzero(
            (steps.event != Event.LOOKUP) & ~((steps.event == Event.DECISION) & ~steps.cached)
        )
        if not len(rows):
            return
        distinct_codes, distinct = codes_of(batch.event_keys(rows))
        _, first = np.unique(distinct_codes, return_index=True)
        comms = self.owners.names
        numbers = np.zeros(len(distinct), np.int64)
        for index, key in enumerate(distinct.tolist()):
            number = self._events.get(key)
            if number is None:
                number = self._events[key] = self._statics.add(
                    self._event_row(batch, int(rows[first[index]]), comms)
                )
            numbers[index] = number
        codes[rows] = numbers[distinct_codes]

    def _event_row(self, batch: Batch, step: int, comms: list[str]) -> Row:
        steps = batch.steps
        hop, event = int(steps.hop[step]), Event(int(steps.event[step]))
        record = steps.records[batch.flow_row[step]]
        row = (
            batch.hop_columns(step)
            | batch.flow_columns(record)
            | {"event": event.name.lower(), "evidence": "observed"}
        )
        if event is Event.RECEIVE:
            row["in_dev"] = device(batch.state(step), int(record["ifindex"]))
        elif event is Event.DECISION:
            via = Via(int(steps.via[step]))
            purpose = Purpose.INPUT if batch.is_receive(step) else Purpose.OUTPUT
            ref = int(steps.notes["ref"][steps.row[step]])
            words = cached_words(via, ref, purpose, filtered=self._world.filtered)
            row.update(purpose=PURPOSE_NAMES[purpose], reason=words, evidence="inferred", cached=True)
        else:
            self._end_columns(batch, step, row, comms)
            if event is Event.DROP:
                row["reason"] = self._drop_reason(batch, step, hop)
            if event is Event.DELIVER and not batch.steps.hops.observed[hop]:
                row["evidence"] = "inferred"
        return row

    @staticmethod
    def _end_columns(batch: Batch, step: int, row: Row, comms: list[str]) -> None:
        hop = int(batch.steps.hop[step])
        if batch.is_handed(step):
            row["out_dev"] = device(
                batch.state(step), int(batch.steps.records["ifindex"][batch.steps.row[step]])
            )
            return
        ends = batch.steps.event[step] != Event.SEND or batch.steps.hops.verdict[hop] == Verdict.SEND
        row["verdict"] = Verdict(int(batch.steps.hops.verdict[hop])).name.lower() if ends else None
        hops = batch.steps.hops
        out_row = int(hops.out_row[hop])
        if out_row >= 0 and hops.verdict[hop] != Verdict.DROP:
            row["out_dev"] = device(batch.state(step), int(batch.steps.records["ifindex"][out_row]))
        if hops.pid[hop] and ends:
            row["pid"], row["comm"] = int(hops.pid[hop]), comms[int(hops.comm[hop])]

    def _drop_reason(self, batch: Batch, step: int, hop: int) -> str:
        steps, world = batch.steps, self._world
        cause = batch.explained.get(int(steps.hops.cause[hop]))
        record = steps.records[steps.row[step]]
        target = address(int(record["family"]), bytes(record["daddr"]))
        if steps.packet[step] < 0 or record["skb"] == 0:
            return send_failed_words(cause, target) if cause else "the sender got an error"
        state, in_dev = batch.state(step), batch.in_device(int(steps.row[step])) or ""
        facts = {
            "src": address(int(record["family"]), bytes(record["saddr"])),
            "dst": target,
            "in_dev": in_dev,
            "rp_filter": RP_FILTER.get(state.rp_filter(in_dev), "") if state and in_dev else "",
            "ttl": str(int(record["ttl"])),
            "proto": world.names.ip_protocols.get(int(record["proto"]), str(int(record["proto"]))),
            "dport": str(int(record["dport"])) if record["dport"] else "",
            "copied": "1" if record["packet_type"] == PACKET_LOOPBACK else "",
        }
        reason = world.reasons.get(int(record["error"]), "")
        location = world.symbol(int(record["location"])) if record["location"] else ""
        return drop_words(reason, location, cause, facts)
