"""Rows become paths: the objects that trees, lines and JSON are written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

import numpy as np
import pyarrow as pa

from tracer.model.columns import NAMES, VERDICTS
from tracer.model.path import (
    FACTS,
    FLOW,
    Decision,
    Expander,
    Flow,
    Handed,
    Hop,
    Lookup,
    Path,
    Process,
    Row,
    differing,
)
from tracer.model.relay import from_text as relays
from tracer.model.why import from_text
from tracer.outputs.schema import conform, with_internal

_AT = {name: index for index, name in enumerate(NAMES)}
_PACKET, _TS, _HOP, _EVENT = _AT["packet"], _AT["ts_ns"], _AT["hop"], _AT["event"]
_DECISION, _RESULT, _REASON = _AT["decision"], _AT["result"], _AT["reason"]
_NETNS = slice(_AT["netns"], _AT["role"] + 1)
_END = slice(_AT["out_dev"], _AT["comm"] + 1)
_PURPOSE, _CALLER, _EVIDENCE, _LOST = _AT["purpose"], _AT["caller"], _AT["evidence"], _AT["lost"]
_OUT_DEV, _VERDICT = _AT["out_dev"], _AT["verdict"]
_IN_DEV, _NEXTHOP = _AT["in_dev"], slice(_AT["prefix"], _AT["dev"] + 1)
_INFO, _COMPLETE, _CACHED = len(NAMES), len(NAMES) + 1, len(NAMES) + 2
_WHY, _RELAYS = len(NAMES) + 3, len(NAMES) + 4
_CONTRACT = slice(0, len(NAMES))
_CHUNK_ROWS = 16_384


def paths(rows: pa.Table) -> Iterator[Path]:
    """Yield the paths of some rows; the rows of one path stand together.

    Without the internal columns, a path counts as complete when nothing was lost and every hop has its
    verdict.
    """
    for part in whole_paths(with_internal(conform(rows), rows), _CHUNK_ROWS):
        yield from _part_paths(part)


def whole_paths(rows: pa.Table, limit: int) -> Iterator[pa.Table]:
    """Cut rows into parts of about `limit` rows, never through a path."""
    packet = rows.column("packet").to_numpy()
    starts = np.flatnonzero(packet[1:] != packet[:-1]) + 1
    begin = 0
    while begin < len(packet):
        at = int(np.searchsorted(starts, begin + limit))
        end = int(starts[at]) if at < len(starts) else len(packet)
        yield rows.slice(begin, end - begin)
        begin = end


def _part_paths(part: pa.Table) -> Iterator[Path]:
    names = (*NAMES, "info", "complete", "cached", "why", "relays")
    present = set(part.column_names)
    lists = [_values(part.column(name)) if name in present else [None] * len(part) for name in names]
    for _, rows in groupby(zip(*lists, strict=True), key=itemgetter(_PACKET)):
        yield _path(list(rows))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values, quickly: `to_pylist` makes an Arrow scalar for each one."""
    array = column.combine_chunks()
    if array.null_count == len(array):
        return [None] * len(array)
    if pa.types.is_dictionary(array.type):
        names = np.array([*array.dictionary.to_pylist(), None], dtype=object)
        return cast("list[Any]", names[array.indices.fill_null(len(names) - 1).to_numpy()].tolist())
    if array.null_count == 0:
        return cast("list[Any]", array.to_numpy(zero_copy_only=False).tolist())
    absent = array.is_null().to_numpy(zero_copy_only=False)
    values = (
        array.fill_null(False if array.type == pa.bool_() else 0)
        .to_numpy(zero_copy_only=False)
        .astype(object)
    )
    values[absent] = None
    return cast("list[Any]", values.tolist())


def _path(rows: list[Row]) -> Path:
    first = rows[0]
    flow = _flow_of_packet(rows)
    expander = Expander(first[_PACKET], first[_LOST], flow)
    hops = tuple(_hop(group, expander) for group in _hop_groups(rows))
    complete = first[_COMPLETE]
    if complete is None:
        complete = not first[_LOST] and all(hop.ended_ns is not None for hop in hops)
    return Path(
        packet=first[_PACKET],
        start_ns=first[_TS],
        complete=bool(complete),
        lost=first[_LOST],
        flow=Flow(*flow),
        hops=hops,
        info=next((row[_INFO] for row in rows if row[_INFO] is not None), None),
        end_ns=rows[-1][_TS],
        relays=relays(next((row[_RELAYS] for row in rows if row[_RELAYS] is not None), None)),
    )


def _flow_of_packet(rows: list[Row]) -> Row:
    """The flow of the first row about the packet itself: a flow key may not know its source or ports yet."""
    about = next((row for row in rows if row[_EVENT] not in {"lookup", "decision"}), rows[0])
    return about[FLOW]


def _hop_groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Split at each new hop number, after a verdict and before an arrival, so that each row has a place."""
    group: list[Row] = []
    for row in rows:
        if group and (
            row[_HOP] != group[-1][_HOP]
            or (group[-1][_EVENT] in VERDICTS and not _is_handed(group[-1]))
            or row[_EVENT] == "receive"
        ):
            yield group
            group = []
        group.append(row)
    yield group


def _is_handed(row: Row) -> bool:
    """A packet handed to a tunnel is still at its hop."""
    return row[_EVENT] == "send" and row[_VERDICT] is None


def _hop(rows: list[Row], expander: Expander) -> Hop:
    netns, inode, role = rows[0][_NETNS]
    expander.start_hop(netns, inode, role)
    in_dev = next((row[_IN_DEV] for row in rows if row[_IN_DEV] is not None), None)
    received_ns = ended_ns = None
    receive_columns = end_columns = None
    if rows[0][_EVENT] == "receive":
        row = rows.pop(0)
        received_ns = row[_TS]
        receive_columns = differing(row[_CONTRACT], expander.receive(received_ns, in_dev))
    last = rows.pop() if rows and rows[-1][_EVENT] in VERDICTS else None
    decisions, handed = _middle(rows, expander)
    end: Row = (None,) * 5
    if last is not None:
        ended_ns, end = last[_TS], last[_END]
        end_columns = differing(last[_CONTRACT], expander.end(ended_ns, end))
    out_dev, verdict, reason, pid, comm = end
    process = None if pid is None and comm is None else Process(pid, comm)
    return Hop(netns, inode, role, in_dev, out_dev, verdict, reason, process, decisions,
               received_ns, ended_ns, receive_columns, end_columns, handed)  # fmt: skip


def _middle(rows: list[Row], expander: Expander) -> tuple[tuple[Decision, ...], tuple[Handed, ...]]:
    """The decisions of a hop, and where between them the packet was handed to a tunnel."""
    decisions: list[Decision] = []
    handed: list[Handed] = []
    for is_handed, group in groupby(rows, _is_handed):
        if not is_handed:
            decisions += [_decision(part, expander) for part in _decision_groups(list(group))]
            continue
        for row in group:
            ts_ns, out_dev = row[_TS], row[_OUT_DEV]
            columns = differing(row[_CONTRACT], expander.hand(ts_ns, out_dev))
            handed.append(Handed(len(decisions), out_dev, ts_ns, columns))
    return tuple(decisions), tuple(handed)


def _decision_groups(rows: list[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        if group and (row[_DECISION] != group[-1][_DECISION] or group[-1][_EVENT] == "decision"):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _decision(rows: list[Row], expander: Expander) -> Decision:
    """The decision of its lookup rows and, last, its own row, which may have been lost."""
    expander.decision += 1
    last = rows[-1]
    own = last if last[_EVENT] == "decision" else None
    purpose, caller = last[_PURPOSE], last[_CALLER]
    asked = (purpose, caller)
    lookups = []
    for row in rows if own is None else rows[:-1]:
        ts_ns, facts, evidence = row[_TS], row[FACTS], row[_EVIDENCE]
        columns = differing(row[_CONTRACT], expander.lookup(asked, ts_ns, facts, evidence))
        lookups.append(Lookup.of(facts, evidence, ts_ns, columns))
    if own is None:
        return Decision(purpose, caller, False, None, last[_EVIDENCE], tuple(lookups))
    reason = own[_REASON]
    cached = own[_CACHED] if own[_CACHED] is not None else str(reason or "").startswith("cached")
    prefix, gateway, dev = own[_NEXTHOP]
    made = Decision(purpose, caller, bool(cached), own[_RESULT], own[_EVIDENCE], tuple(lookups),
                    prefix, gateway, dev, reason, own[_TS], why=from_text(own[_WHY]))  # fmt: skip
    columns = differing(own[_CONTRACT], expander.decide(made))
    return replace(made, columns=columns) if columns else made
