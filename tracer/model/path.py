"""A path as objects, and its two flat forms: the JSON object of one path, and the rows of the catalogue.

Every row is compared with what its object implies; what differs is kept in the object's `columns`, so no
output loses anything: `path_rows(path)` gives back exactly the rows the path was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from tracer.model.change import Changed
from tracer.model.columns import NAMES
from tracer.model.relay import Relay
from tracer.model.why import Why

Value: TypeAlias = int | str | None
Row: TypeAlias = tuple[Value, ...]
"""One value per column of the catalogue, in its order."""

Columns: TypeAlias = Mapping[str, Value] | None
"""The columns in which a row is not what its object implies; None when there are none."""

FACTS = slice(NAMES.index("rule"), NAMES.index("error") + 1)
FLOW = slice(NAMES.index("family"), NAMES.index("tos") + 1)
_NO_FACTS: Row = (None,) * (FACTS.stop - FACTS.start)
_NO_KEY: Row = (None, None, None)
_NO_END: Row = (None,) * 6


@dataclass(frozen=True, slots=True)
class Flow:
    """What tells one packet from another."""

    family: Value
    src: Value
    dst: Value
    proto: Value
    sport: Value
    dport: Value
    mark: Value
    tos: Value


@dataclass(frozen=True, slots=True)
class Lookup:
    """One call of `fib_table_lookup`: the rule that led there, the table, what was found."""

    rule: Value
    rule_text: Value
    table: Value
    table_id: Value
    walked_table_id: Value
    result: Value
    prefix: Value
    gateway: Value
    dev: Value
    route_type: Value
    scope: Value
    error: Value
    evidence: Value
    ts_ns: Value
    columns: Columns = None

    @classmethod
    def of(cls, facts: Row, evidence: Value, ts_ns: Value, columns: Columns) -> Lookup:
        """A lookup from the values of the columns `rule` to `error`."""
        rule, text, table, table_id, walked, result, prefix, gateway, dev, kind, scope, error = facts
        return cls(rule, text, table, table_id, walked, result, prefix, gateway, dev, kind, scope, error,
                   evidence, ts_ns, columns)  # fmt: skip

    @property
    def facts(self) -> Row:
        """The values of the columns `rule` to `error`."""
        return (self.rule, self.rule_text, self.table, self.table_id, self.walked_table_id, self.result,
                self.prefix, self.gateway, self.dev, self.route_type, self.scope, self.error)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """One routing decision: its lookups, rule by rule, and what came out.

    `ts_ns` is None when the lookups were seen and the outcome was not. `why` has its lines where they were asked
    for.
    """

    purpose: Value
    caller: Value
    cached: bool
    result: Value
    evidence: Value
    lookups: tuple[Lookup, ...]
    prefix: Value = None
    gateway: Value = None
    dev: Value = None
    reason: Value = None
    ts_ns: Value = None
    columns: Columns = None
    why: tuple[Why, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """The process a packet comes from or goes to; `comm` may be unknown."""

    pid: Value
    comm: Value


@dataclass(frozen=True, slots=True)
class Handed:
    """The packet was handed to a tunnel, which sends it on with a further header: after so many decisions."""

    after: int
    out_dev: Value
    ts_ns: Value
    columns: Columns = None


@dataclass(frozen=True, slots=True)
class Hop:
    """The packet's stay in one network namespace.

    `received_ns` is None when its arrival was not seen (or it was made here), `ended_ns` when its end was
    not.
    """

    netns: Value
    netns_inode: Value
    role: Value
    in_dev: Value
    out_dev: Value
    verdict: Value
    reason: Value
    process: Process | None
    decisions: tuple[Decision, ...]
    received_ns: Value = None
    ended_ns: Value = None
    receive_columns: Columns = None
    end_columns: Columns = None
    handed: tuple[Handed, ...] = ()


@dataclass(frozen=True, slots=True)
class Path:
    """All hops of one packet on this host; `info` is for people and is not exported.

    `changed` says how it differs from the path of the packet of the same flow before it, where that was compared.
    """

    packet: Value
    start_ns: Value
    complete: bool
    lost: Value
    flow: Flow
    hops: tuple[Hop, ...]
    info: Value = None
    end_ns: Value = None
    relays: tuple[Relay, ...] = ()
    changed: Changed | None = None


class Expander:
    """Builds the rows a path implies, in order; the one place that knows which column comes from where."""

    def __init__(self, packet: Value, lost: Value, flow: Row) -> None:
        self._packet, self._lost, self._flow = packet, lost, flow
        self._step = self._hop = self.decision = 0
        self._hop_head: Row = ()

    def start_hop(self, netns: Value, netns_inode: Value, role: Value) -> None:
        """Begin the next hop; the following rows belong to it."""
        self._hop += 1
        self._hop_head = (self._hop, netns, netns_inode, role)

    def receive(self, ts_ns: Value, in_dev: Value) -> Row:
        """The row of a packet's arrival."""
        what = ("receive", None, None, *_NO_FACTS)
        return self._row(ts_ns, what, (in_dev, *_NO_END[1:]), (None, "observed"))

    def lookup(self, asked: Row, ts_ns: Value, facts: Row, evidence: Value) -> Row:
        """The row of a lookup in the current decision; `asked` is the decision's purpose and caller."""
        purpose, caller = asked
        return self._row(ts_ns, ("lookup", purpose, self.decision, *facts), _NO_END, (caller, evidence))

    def decide(self, made: Decision) -> Row:
        """The row of the current decision's outcome."""
        facts = (
            None,
            None,
            None,
            None,
            None,
            made.result,
            made.prefix,
            made.gateway,
            made.dev,
            None,
            None,
            None,
        )
        what = ("decision", made.purpose, self.decision, *facts)
        end = (None, None, None, made.reason, None, None)
        return self._row(made.ts_ns, what, end, (made.caller, made.evidence))

    def hand(self, ts_ns: Value, out_dev: Value) -> Row:
        """The row of a packet handed to a tunnel: it has no verdict, since the packet is still here."""
        return self._row(
            ts_ns, ("send", None, None, *_NO_FACTS), (None, out_dev, *_NO_END[2:]), (None, "observed")
        )

    def end(self, ts_ns: Value, end: Row) -> Row:
        """The row of the hop's verdict; `end` is out_dev, verdict, reason, pid, comm."""
        return self._row(ts_ns, (end[1], None, None, *_NO_FACTS), (None, *end), (None, "observed"))

    def _row(self, ts_ns: Value, what: Row, end: Row, tail: Row) -> Row:
        self._step += 1
        head = (self._packet, self._step, ts_ns)
        return head + self._hop_head + what + self._flow + _NO_KEY + end + tail + (self._lost,)


def differing(row: Row, implied: Row) -> Columns:
    """The columns in which a row is not what its object implies."""
    if row == implied:
        return None
    return {name: value for name, value, other in zip(NAMES, row, implied, strict=True) if value != other}


def path_rows(path: Path) -> Iterator[tuple[Row, bool | None]]:
    """Yield the rows of a path in order, each with its internal `cached` (None outside decision rows)."""
    flow = path.flow
    expander = Expander(
        path.packet,
        path.lost,
        (flow.family, flow.src, flow.dst, flow.proto, flow.sport, flow.dport, flow.mark, flow.tos),
    )
    for hop in path.hops:
        expander.start_hop(hop.netns, hop.netns_inode, hop.role)
        if hop.received_ns is not None:
            yield _patched(expander.receive(hop.received_ns, hop.in_dev), hop.receive_columns), None
        for number in range(len(hop.decisions) + 1):
            for handed in hop.handed:
                if handed.after == number:
                    yield _patched(expander.hand(handed.ts_ns, handed.out_dev), handed.columns), None
            for made in hop.decisions[number : number + 1]:
                yield from _decision_rows(expander, made)
        if hop.ended_ns is not None:
            process = hop.process or Process(None, None)
            end = (hop.out_dev, hop.verdict, hop.reason, process.pid, process.comm)
            yield _patched(expander.end(hop.ended_ns, end), hop.end_columns), None


def _decision_rows(expander: Expander, made: Decision) -> Iterator[tuple[Row, bool | None]]:
    expander.decision += 1
    for lookup in made.lookups:
        row = expander.lookup((made.purpose, made.caller), lookup.ts_ns, lookup.facts, lookup.evidence)
        yield _patched(row, lookup.columns), None
    if made.ts_ns is not None:
        yield _patched(expander.decide(made), made.columns), made.cached


def _patched(row: Row, columns: Columns) -> Row:
    if not columns:
        return row
    return tuple(columns.get(name, value) for name, value in zip(NAMES, row, strict=True))


def field_names(kind: type[Any]) -> tuple[str, ...]:
    """The names of a dataclass's fields, in order."""
    return tuple(field.name for field in fields(kind))
