"""Finished steps and the network's configuration → rows. Each distinct decision is explained once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.correlate.callers import PURPOSE_NAMES, Purpose
from tracer.correlate.columns import Array, address_words, changed, codes_of, hash_rows
from tracer.correlate.verdicts import PACKET_LOOPBACK, Event, Role, Steps, Verdict, Via
from tracer.enrich.inference import Explained, Row, address, device, explain_decision
from tracer.enrich.packet_names import packet_info
from tracer.enrich.reasons import CHECK_REASONS, RP_FILTER, VAGUE_REASONS, cached_words, check_words, drop_words, send_failed_words
from tracer.outputs.rows import Statics, table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from tracer.correlate.flows import Sockets
    from tracer.enrich.names import Names
    from tracer.model.network import Network, NetworkState

_KEY_FIELDS = (
    "netns", "iif", "oif", "mark", "uid", "tos", "proto", "walked_table", "owner_table", "error", "ifindex", "route_type",
    "route_protocol", "route_scope", "priority", "nexthop_id", "hints", "flow_scope", "gateway_family", "family",
)  # fmt: skip
_TCP, _UDP = 6, 17


@dataclass(frozen=True, slots=True)
class World:
    """What rows are named from. `ensure` looks for an unknown namespace; `owner` finds a socket's process."""

    network: Network
    names: Names
    reasons: dict[int, str]
    symbol: Callable[[int], str]
    caller_name: Callable[[int], str]
    ensure: Callable[[int], object]
    owner: Callable[[int, int, int, int], tuple[int, str] | None]
    clock_offset_ns: int


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
        self._comms: dict[str, int] = {"": 0}
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
        batch = _Batch(steps, self._world)
        codes = np.zeros(len(steps), np.int64)
        extra = self._decision_codes(batch, codes)
        self._event_codes(batch, codes)
        dynamic = batch.dynamic()
        if (extra >= 0).any():
            at = np.flatnonzero(extra >= 0)
            codes = np.insert(codes, at, extra[at])
            dynamic = {name: np.insert(values, at, values[at]) for name, values in dynamic.items()}
        starts = changed(dynamic["packet"])
        index = np.arange(len(codes))
        dynamic["step"] = index - np.maximum.accumulate(np.where(starts, index, 0)) + 1 if len(codes) else index
        return table(self._statics, codes, dynamic)

    # -- decisions ---------------------------------------------------------------------------------------------

    def _decision_codes(self, batch: _Batch, codes: Array) -> Array:
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
        known = [self._known(batch, lookup, starts, int(h), distinct_codes, i) for i, h in enumerate(distinct.tolist())]
        offsets = np.array([k.offset for k in known])[distinct_codes]
        flat = np.array(self._lookup_codes)
        codes[lookup] = flat[offsets[number] + position]
        decided = np.flatnonzero((steps.event == Event.DECISION) & ~steps.cached)
        of_decision = number[np.searchsorted(rows, steps.row[decided])]
        which = distinct_codes[of_decision]
        codes[decided] = np.array([k.decision for k in known])[which]
        extra[decided] = np.array([k.extra for k in known])[which]
        batch.explained = {int(row): known[code].explained for row, code in self._causes(batch, rows, number, distinct_codes)}
        return extra

    @staticmethod
    def _causes(batch: _Batch, rows: Array, number: Array, distinct: Array) -> list[tuple[int, int]]:
        """Records that caused a drop, with the number of their decision's explanation."""
        hops = batch.steps.hops
        wanted = np.unique(hops.cause[(hops.verdict == Verdict.DROP) & (hops.cause >= 0)])
        wanted = wanted[np.isin(wanted, rows)]
        codes = distinct[number[np.searchsorted(rows, wanted)]]
        batch.cause_code = dict(zip(wanted.tolist(), codes.tolist(), strict=True))
        return list(zip(wanted.tolist(), codes.tolist(), strict=True))

    def _known(self, batch: _Batch, lookup: Array, starts: Array, key: int, distinct_codes: Array, code: int) -> _Known:
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
        decision = self._statics.add({**hop_columns, **explained.decision, "event": "decision", "cached": False})
        extra = self._statics.add({**hop_columns, **explained.extra, "event": "lookup"}) if explained.extra else -1
        known = self._decisions[key] = _Known(offset, decision, extra, explained)
        return known

    def _explain(self, batch: _Batch, steps_of_decision: Array) -> Explained:
        steps, world = batch.steps, self._world
        rows = steps.row[steps_of_decision]
        notes = steps.notes[rows[0]]
        records = [steps.records[row] for row in rows]
        purpose = Purpose(int(notes["purpose"]))
        netns, ts_ns = int(records[0]["netns"]), int(records[0]["ts_ns"])
        states = world.network.candidates(netns, ts_ns)
        explained = explain_decision(records, purpose, world.caller_name(int(notes["caller"])), states, world.names)
        if purpose is Purpose.SOURCE_CHECK and states:
            hop = int(steps.hop[steps_of_decision[0]])
            in_dev = batch.in_device(hop) or ""
            explained.decision["reason"] = check_words(
                explained, in_dev, states[0].rp_filter(in_dev), failed=bool(batch.checks_failed(np.array([hop]), rows[-1:])[0])
            )
        return explained

    # -- everything else ---------------------------------------------------------------------------------------

    def find_processes(self, steps: Steps, sockets: Sockets) -> None:
        """Find who sent or got the packet of each hop: the task seen, else the owner of the socket."""
        hops, records = steps.hops, steps.records
        ends = (hops.verdict == Verdict.DELIVER) | (hops.verdict == Verdict.SEND)
        seen = np.flatnonzero((hops.process_row >= 0) & (ends | (hops.role == Role.CLIENT)))
        for pid, comm, rows in _tasks(records, hops.process_row[seen]):
            hops.pid[seen[rows]], hops.comm[seen[rows]] = pid, self._comm(comm)
        for hop in np.flatnonzero(ends & (hops.pid == 0) & (hops.socket != 0)).tolist():
            row = hops.in_row[hop] if hops.in_row[hop] >= 0 else hops.start[hop]
            owner = sockets.owner(int(hops.socket[hop]), int(records["ts_ns"][row]))
            if owner:
                hops.pid[hop], hops.comm[hop] = owner[0], self._comm(owner[1])
        self._ask_for_owners(steps)

    def process_matches(self, comm: str | None) -> Callable[[Steps], tuple[Array, Array]]:
        """Per hop: the process id, and whether its name is `comm`."""
        wanted = -1 if comm is None else self._comms.get(comm, -1)
        return lambda steps: (steps.hops.pid, steps.hops.comm == wanted)

    def _ask_for_owners(self, steps: Steps) -> None:
        hops, records = steps.hops, steps.records
        unknown = np.flatnonzero((hops.verdict == Verdict.DELIVER) & (hops.pid == 0) & (hops.in_row >= 0))
        asked: dict[tuple[int, int, int, int], tuple[int, str] | None] = {}
        for hop in unknown.tolist():
            record = records[hops.in_row[hop]]
            if int(record["proto"]) not in {_TCP, _UDP}:
                continue
            local = int.from_bytes(bytes(record["daddr"][:4]), "big")
            key = (int(record["netns"]), int(record["proto"]), local, int(record["dport"]))
            if key not in asked:
                asked[key] = self._world.owner(*key)
            owner = asked[key]
            if owner:
                hops.pid[hop], hops.comm[hop] = owner[0], self._comm(owner[1])

    def _comm(self, name: str) -> int:
        return self._comms.setdefault(name, len(self._comms))

    def _event_codes(self, batch: _Batch, codes: Array) -> None:
        steps = batch.steps
        rows = np.flatnonzero((steps.event != Event.LOOKUP) & ~((steps.event == Event.DECISION) & ~steps.cached))
        if not len(rows):
            return
        distinct_codes, distinct = codes_of(batch.event_keys(rows))
        _, first = np.unique(distinct_codes, return_index=True)
        comms = list(self._comms)
        numbers = np.zeros(len(distinct), np.int64)
        for index, key in enumerate(distinct.tolist()):
            number = self._events.get(key)
            if number is None:
                number = self._events[key] = self._statics.add(self._event_row(batch, int(rows[first[index]]), comms))
            numbers[index] = number
        codes[rows] = numbers[distinct_codes]

    def _event_row(self, batch: _Batch, step: int, comms: list[str]) -> Row:
        steps = batch.steps
        hop, event = int(steps.hop[step]), Event(int(steps.event[step]))
        record = steps.records[batch.flow_row[step]]
        row = batch.hop_columns(step) | batch.flow_columns(record) | {"event": event.name.lower(), "evidence": "observed"}
        if event is Event.RECEIVE:
            row["in_dev"] = device(batch.state(step), int(record["ifindex"]))
        elif event is Event.DECISION:
            via = Via(int(steps.via[step]))
            purpose = Purpose.INPUT if batch.is_receive(step) else Purpose.OUTPUT
            words = cached_words(via, int(steps.notes["ref"][steps.row[step]]), purpose)
            row.update(purpose=PURPOSE_NAMES[purpose], reason=words, evidence="inferred", cached=True)
        else:
            self._end_columns(batch, step, row, comms)
            if event is Event.DROP:
                row["reason"] = self._drop_reason(batch, step, hop)
            if event is Event.DELIVER and not batch.steps.hops.observed[hop]:
                row["evidence"] = "inferred"
        return row

    @staticmethod
    def _end_columns(batch: _Batch, step: int, row: Row, comms: list[str]) -> None:
        hop = int(batch.steps.hop[step])
        ends = batch.steps.event[step] != Event.SEND or batch.steps.hops.verdict[hop] == Verdict.SEND
        row["verdict"] = Verdict(int(batch.steps.hops.verdict[hop])).name.lower() if ends else None
        hops = batch.steps.hops
        out_row = int(hops.out_row[hop])
        if out_row >= 0 and hops.verdict[hop] != Verdict.DROP:
            row["out_dev"] = device(batch.state(step), int(batch.steps.records["ifindex"][out_row]))
        if hops.pid[hop] and ends:
            row["pid"], row["comm"] = int(hops.pid[hop]), comms[int(hops.comm[hop])]

    def _drop_reason(self, batch: _Batch, step: int, hop: int) -> str:
        steps, world = batch.steps, self._world
        cause = batch.explained.get(int(steps.hops.cause[hop]))
        record = steps.records[steps.row[step]]
        if steps.packet[step] < 0 or record["skb"] == 0:
            return send_failed_words(cause) if cause else "the sender got an error"
        state, in_dev = batch.state(step), batch.in_device(hop) or ""
        facts = {
            "src": address(int(record["family"]), bytes(record["saddr"])),
            "dst": address(int(record["family"]), bytes(record["daddr"])),
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


def _tasks(records: Array, rows: Array) -> list[tuple[int, str, Array]]:
    """Distinct (pid, comm) of some records, with the positions in `rows` that have them."""
    if not len(rows):
        return []
    name = np.ascontiguousarray(records["comm"][rows]).view("<u8")
    codes, _ = codes_of(hash_rows(records["pid"][rows], name[:, 0], name[:, 1]))
    result = []
    for code in range(int(codes.max()) + 1):
        where = np.flatnonzero(codes == code)
        record = records[rows[where[0]]]
        comm = bytes(record["comm"]).split(b"\0")[0].decode(errors="replace")
        result.append((int(record["pid"]), comm, where))
    return result


class _Batch:
    """The steps of one call with what their rows are made from."""

    def __init__(self, steps: Steps, world: World) -> None:
        self.steps, self._world = steps, world
        hops = steps.hops
        ends_elsewhere = (steps.event == Event.DELIVER) & (hops.in_row[steps.hop] >= 0) if len(steps) else np.zeros(0, bool)
        self.flow_row = np.where(ends_elsewhere, hops.in_row[steps.hop], steps.row) if len(steps) else steps.row
        self.explained: dict[int, Explained] = {}
        self.cause_code: dict[int, int] = {}
        self._version, self._has_ports = self._versions()

    def _versions(self) -> tuple[Array, Array]:
        """Per step: which version of the configuration is in force (odd numbers: not sure), and whether its rules
        ask for ports.
        """
        steps, network = self.steps, self._world.network
        netns = steps.hops.netns[steps.hop] if len(steps) else np.zeros(0, np.int64)
        ts_ns = steps.records["ts_ns"][steps.row].astype(np.int64)
        version, ports = np.zeros(len(steps), np.int64), np.zeros(len(steps), bool)
        for inode in np.unique(netns).tolist():
            if inode and not network.versions(inode):
                self._world.ensure(inode)
            states = network.versions(inode)
            here = netns == inode
            since = np.array([state.since_ns for state in states[1:]], np.int64)
            number = np.searchsorted(since, ts_ns[here], side="right") * 2
            for state in states[1:]:
                number |= (ts_ns[here] >= state.unsure_ns) & (ts_ns[here] < state.since_ns)
            version[here] = number
            ports[here] = any(rule.sport or rule.dport for state in states for rule in state.rules)
        return version, ports

    def lookup_keys(self, lookup: Array) -> Array:
        """A hash of all that a lookup row shows and is explained by."""
        steps = self.steps
        rows, hop = steps.row[lookup], steps.hop[lookup]
        columns = [steps.records[name][rows] for name in _KEY_FIELDS]
        for name in ("saddr", "daddr", "gateway"):
            columns += address_words(steps.records[name][rows])
        ports = self._has_ports[lookup]
        columns += [np.where(ports, steps.records[name][rows], 0) for name in ("sport", "dport")]
        columns += [steps.notes["purpose"][rows], steps.notes["caller"][rows], self._version[lookup]]
        columns += [steps.hops.netns[hop], steps.hops.role[hop]]
        check = steps.notes["purpose"][rows] == Purpose.SOURCE_CHECK
        in_row = steps.hops.in_row[hop]
        columns.append(np.where(check & (in_row >= 0), steps.records["ifindex"][in_row], 0))
        columns.append(np.where(check, self.checks_failed(hop, rows), False))
        return hash_rows(*columns)

    def event_keys(self, rows: Array) -> Array:
        """A hash of all that a row about a packet shows."""
        steps, hops = self.steps, self.steps.hops
        hop, flow, row = steps.hop[rows], self.flow_row[rows], steps.row[rows]
        columns = [steps.event[rows], steps.cached[rows], steps.via[rows], self._version[rows]]
        columns.append(np.where(steps.cached[rows], steps.notes["ref"][row], 0))
        columns += [hops.netns[hop], hops.role[hop], hops.verdict[hop], hops.observed[hop], hops.pid[hop], hops.comm[hop]]
        columns += [steps.records[name][flow] for name in ("family", "proto", "mark", "tos", "detail", "ifindex")]
        columns += [steps.records["ifindex"][row], np.where(hops.out_row[hop] >= 0, steps.records["ifindex"][hops.out_row[hop]], 0)]
        for name in ("saddr", "daddr"):
            columns += address_words(steps.records[name][flow])
        drop = steps.event[rows] == Event.DROP
        if drop.any():
            causes = np.array([self.cause_code.get(cause, -1) for cause in hops.cause[hop].tolist()])
            in_device = np.where(hops.in_row[hop] >= 0, steps.records["ifindex"][hops.in_row[hop]], 0)
            for values in (causes, in_device, *(steps.records[n][row] for n in ("error", "location", "ttl", "dport", "skb", "packet_type"))):
                columns.append(np.where(drop, values.astype(np.int64), 0))
        return hash_rows(*columns)

    def is_receive(self, step: int) -> bool:
        """Whether the step stands at the packet's arrival at its hop (or at the loopback device)."""
        row = int(self.steps.row[step])
        return row == int(self.steps.hops.in_row[self.steps.hop[step]])

    def state(self, step: int) -> NetworkState | None:
        """The configuration of the step's namespace when it happened."""
        netns = int(self.steps.hops.netns[self.steps.hop[step]])
        return self._world.network.at(netns, int(self.steps.records["ts_ns"][self.steps.row[step]]))

    def in_device(self, hop: int) -> str | None:
        """Name of the device that the packet of a hop came in on."""
        row = int(self.steps.hops.in_row[hop])
        if row < 0:
            return None
        record = self.steps.records[row]
        return device(self._world.network.at(int(record["netns"]), int(record["ts_ns"])), int(record["ifindex"]))

    def checks_failed(self, hop: Array, row: Array) -> Array:
        """Whether the packet of each hop was dropped because of the source check that ends in each row."""
        hops, records = self.steps.hops, self.steps.records
        dropped = (hops.verdict[hop] == Verdict.DROP) & (hops.cause[hop] == row) & (hops.drop_row[hop] >= 0)
        drop = hops.drop_row[hop]
        vague = np.isin(records["error"][drop], [n for n, name in self._world.reasons.items() if name in VAGUE_REASONS])
        if (vague & dropped).any():
            here = np.array([self._world.symbol(int(a)).startswith("ip_rcv_finish") for a in records["location"][drop]])
            vague &= here
        failed = np.isin(records["error"][drop], [n for n, name in self._world.reasons.items() if name in CHECK_REASONS])
        result: Array = dropped & (failed | vague)
        return result

    def hop_columns(self, step: int) -> Row:
        hop = int(self.steps.hop[step])
        inode = int(self.steps.hops.netns[hop])
        state = self.state(step)
        role = Role(int(self.steps.hops.role[hop]))
        return {
            "netns": (state.name if state else "") or None,
            "netns_inode": inode or None,
            "role": role.name.lower() if role else None,
        }

    def flow_columns(self, record: Any) -> Row:
        family = int(record["family"])
        return {
            "family": 4 if family == 2 else 6,  # noqa: PLR2004 - AF_INET
            "src": address(family, bytes(record["saddr"])),
            "dst": address(family, bytes(record["daddr"])),
            "proto": self._world.names.ip_protocols.get(int(record["proto"]), str(int(record["proto"]))),
            "mark": int(record["mark"]),
            "tos": int(record["tos"]),
            "info": packet_info(int(record["proto"]), int(record["detail"])),
        }

    def dynamic(self) -> dict[str, Array]:
        """The per-row columns, without `step`."""
        steps = self.steps
        return {
            "packet": steps.packet,
            "ts_ns": steps.records["ts_ns"][steps.row].astype(np.int64) + self._world.clock_offset_ns,
            "hop": steps.hop_in_path,
            "decision": steps.decision,
            "sport": steps.records["sport"][self.flow_row],
            "dport": steps.records["dport"][self.flow_row],
            "complete": steps.complete,
            "lost": steps.lost,
        }
