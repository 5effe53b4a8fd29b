"""Whether a path is of a flow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from tracer.expect.patterns import FlowPattern
from tracer.expect.terms import UNKNOWN, Facts, Term, Truth, every, some
from tracer.model.path import Columns, Hop, Path

_ENDS: Final = ("family", "src", "dst", "proto", "sport", "dport")
_WITH_PORTS: Final = {"tcp", "udp", "sctp", "dccp", "udplite", None}


def of_flow(pattern: FlowPattern, path: Path, sights: Sequence[Facts]) -> Truth:
    """Whether a path is of the flow. Of an incomplete path, what was not seen may still be."""
    found = [some(every(term.test(sight) for term in pattern.packet) for sight in sights)]
    found += [some(term.test(facts) for facts in _facts(term, path)) for term in pattern.path]
    truth = every(found)
    return Truth.UNKNOWN if truth is Truth.NO and _may_go_on(found, path) else truth


def _may_go_on(found: list[Truth], path: Path) -> bool:
    """Whether an unseen part of the path could make it one of the flow after all.

    The first sight of the packet was seen, unless records were lost; its addresses change rarely after it.
    """
    return not path.complete and (bool(path.lost) or found[0] is not Truth.NO)


def sights_of(path: Path) -> list[Facts]:
    """The packet as it was first seen, and as it came and went in each hop, where that was something else (NAT)."""
    first = {name: getattr(path.flow, name) for name in _ENDS}
    found = [_sight(first)]
    elsewhere = [columns for hop in path.hops for columns in (hop.receive_columns, hop.end_columns)]
    found += [
        _sight({name: columns.get(name, value) for name, value in first.items()})
        for columns in elsewhere
        if columns and not columns.keys().isdisjoint(_ENDS)
    ]
    return found


def _sight(ends: dict[str, Any]) -> Facts:
    ported = ends["proto"] in _WITH_PORTS
    return {
        name: UNKNOWN if value is None and (ported or "port" not in name) else value
        for name, value in ends.items()
    }


def _facts(term: Term, path: Path) -> Iterator[Facts]:
    """All that the path has for one key."""
    if term.key == "mark":
        yield {"mark": path.flow.mark}
    if term.key == "tos":
        yield {"tos": path.flow.tos}
    for hop in path.hops:
        yield from _of_hop(term.key, hop)


def _of_hop(key: str, hop: Hop) -> Iterator[Facts]:
    if key == "iif":
        yield {"iif": hop.in_dev}
    elif key == "oif":
        yield from ({"oif": dev} for dev in (hop.out_dev, *(handed.out_dev for handed in hop.handed)))
    elif key == "netns":
        unnamed = UNKNOWN if hop.netns is None else hop.netns
        yield {"netns": unnamed, "netns_inode": hop.netns_inode}
    elif key == "role":
        yield {"role": hop.role}
    elif key in {"comm", "pid"}:
        yield {key: getattr(hop.process, key) if hop.process else None}
    elif key == "table":
        lookups = [lookup for decision in hop.decisions for lookup in decision.lookups]
        yield from ({"table": lookup.table, "table_id": lookup.table_id} for lookup in lookups)
    else:
        yield from ({key: columns.get(key)} for columns in _columns(hop))


def _columns(hop: Hop) -> Iterator[dict[str, Any]]:
    """What the rows of a hop say of the packet, but for those of source checks, which are about the way back."""
    every_one: list[Columns] = [hop.receive_columns, hop.end_columns]
    for decision in hop.decisions:
        if decision.purpose != "source-check":
            every_one += [decision.columns, *(lookup.columns for lookup in decision.lookups)]
    yield from (dict(columns) for columns in every_one if columns)
