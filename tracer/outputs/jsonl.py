"""JSON Lines: one object per path, one line per object."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from tracer.enrich.flowpaths import FlowPaths
from tracer.errors import BadCapture
from tracer.model.change import Change, Changed
from tracer.model.columns import NAMES, SCHEMA
from tracer.model.path import Columns, Decision, Flow, Handed, Hop, Lookup, Path, Process, field_names
from tracer.model.why import Why
from tracer.outputs.timeline import compared

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from tracer.outputs.sink import Sink

_GROUP_PATHS = 256
_FLOW = field_names(Flow)
_LOOKUP = tuple(name for name in field_names(Lookup) if name != "columns")
_CONTROLS = re.compile("[\x7f-\x9f]")
_plain = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def _encode(value: Any) -> str:
    """JSON in which no control character stands as it is: json leaves those above 0x7e, which terminals may obey."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", _plain(value))


class JsonlOutput:
    """Writes batches of rows as JSON Lines; after each `write` the file ends with a whole line."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.flows = FlowPaths(None)

    def write(self, rows: pa.Table) -> None:
        """Append the paths of a batch; on BadCapture the file keeps what it had."""
        for part in batched_paths(rows, self.flows):
            self._sink.write("".join(_encode(path_object(path)) + "\n" for path in part).encode())

    def tell(self, changes: Sequence[Change]) -> None:
        """Append an object for each change."""
        self._sink.write("".join(_encode(change_object(change)) + "\n" for change in changes).encode())

    def close(self) -> None:
        """Close the file; may be called again."""
        self._sink.close()


def batched_paths(rows: pa.Table, flows: FlowPaths) -> Iterator[tuple[Path, ...]]:
    """Paths in groups small enough that a full disk costs little."""
    every = compared(rows, flows)
    while group := tuple(islice(every, _GROUP_PATHS)):
        yield group


def change_object(change: Change) -> dict[str, Any]:
    """A change as a JSON object of its own kind, told by its key `change`; what a kind does not have is left out."""
    values = change.to_dict()
    made = {"schema": SCHEMA, "change": values.pop("kind"), "by": None}
    if change.pid:
        made["by"] = {"pid": values.pop("pid"), "comm": values.pop("comm")}
    return made | values


def change_from_object(made: dict[str, Any]) -> Change:
    """The inverse of `change_object`."""
    by = made.get("by") or {}
    return Change.from_dict({**made, **by, "kind": made["change"]})


def path_object(path: Path) -> dict[str, Any]:
    """A path as the JSON object of the contract; keys hold what the columns of the same name hold."""
    made = {
        "schema": SCHEMA,
        "packet": path.packet,
        "start_ns": path.start_ns,
        "complete": path.complete,
        "lost": path.lost,
        "flow": {name: getattr(path.flow, name) for name in _FLOW},
        "hops": [_hop_object(hop) for hop in path.hops],
    }
    if path.relays:
        made["relays"] = [relay.to_dict() for relay in path.relays]
    if path.changed is not None:
        made["changed"] = path.changed.to_dict()
    return made


def _hop_object(hop: Hop) -> dict[str, Any]:
    process = hop.process
    made = {
        "netns": hop.netns,
        "netns_inode": hop.netns_inode,
        "role": hop.role,
        "in_dev": hop.in_dev,
        "out_dev": hop.out_dev,
        "verdict": hop.verdict,
        "reason": hop.reason,
        "process": process and {"pid": process.pid, "comm": process.comm},
        "decisions": [_decision_object(decision) for decision in hop.decisions],
        "received_ns": hop.received_ns,
        "ended_ns": hop.ended_ns,
    }
    if hop.handed:
        made["handed"] = [_handed_object(handed) for handed in hop.handed]
    _add(made, "receive_columns", hop.receive_columns)
    return _add(made, "end_columns", hop.end_columns)


def _handed_object(handed: Handed) -> dict[str, Any]:
    made = {"after": handed.after, "out_dev": handed.out_dev, "ts_ns": handed.ts_ns}
    return _add(made, "columns", handed.columns)


def _decision_object(decision: Decision) -> dict[str, Any]:
    made: dict[str, Any] = {
        "purpose": decision.purpose,
        "caller": decision.caller,
        "cached": decision.cached,
        "result": decision.result,
        "evidence": decision.evidence,
        "lookups": [_lookup_object(lookup) for lookup in decision.lookups],
        "prefix": decision.prefix,
        "gateway": decision.gateway,
        "dev": decision.dev,
        "reason": decision.reason,
        "ts_ns": decision.ts_ns,
    }
    if decision.why:
        made["why"] = [line.to_dict() for line in decision.why]
    return _add(made, "columns", decision.columns)


def _lookup_object(lookup: Lookup) -> dict[str, Any]:
    return _add({name: getattr(lookup, name) for name in _LOOKUP}, "columns", lookup.columns)


def _add(made: dict[str, Any], key: str, columns: Columns) -> dict[str, Any]:
    if columns:
        made[key] = dict(columns)
    return made


def path_from_object(made: dict[str, Any]) -> Path:
    """The path a JSON object describes; keys that this version does not know are passed over.

    Raises BadCapture for a newer schema, KeyError, TypeError or ValueError when it is no path at all.
    """
    schema = int(made["schema"])
    if schema > SCHEMA:
        raise BadCapture(
            f"its schema is {schema}, this fibtrace reads up to {SCHEMA}\n  use a newer fibtrace"
        )
    return Path(
        packet=_number(made["packet"]),
        start_ns=_number(made["start_ns"]),
        complete=bool(made["complete"]),
        lost=_number(made["lost"]),
        flow=Flow(**{name: made["flow"][name] for name in _FLOW}),
        hops=tuple(_hop_from(hop) for hop in made["hops"]),
        changed=Changed.read(made["changed"]) if made.get("changed") else None,
    )


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _hop_from(made: dict[str, Any]) -> Hop:
    process = made["process"]
    return Hop(
        **{
            name: made[name]
            for name in ("netns", "netns_inode", "role", "in_dev", "out_dev", "verdict", "reason")
        },
        process=process and Process(process["pid"], process["comm"]),
        decisions=tuple(_decision_from(decision) for decision in made["decisions"]),
        received_ns=made.get("received_ns"),
        ended_ns=made.get("ended_ns"),
        receive_columns=_columns(made, "receive_columns"),
        end_columns=_columns(made, "end_columns"),
        handed=tuple(
            Handed(_number(one["after"]), one["out_dev"], one["ts_ns"], _columns(one, "columns"))
            for one in made.get("handed", ())
        ),
    )


def _decision_from(made: dict[str, Any]) -> Decision:
    lookups = tuple(
        Lookup(**{name: lookup[name] for name in _LOOKUP}, columns=_columns(lookup, "columns"))
        for lookup in made["lookups"]
    )
    return Decision(
        **{name: made[name] for name in ("purpose", "caller", "result", "evidence")},
        **{name: made.get(name) for name in ("prefix", "gateway", "dev", "reason", "ts_ns")},
        cached=bool(made["cached"]),
        lookups=lookups,
        columns=_columns(made, "columns"),
        why=tuple(Why.from_dict(line) for line in made.get("why", ())),
    )


def _columns(made: dict[str, Any], key: str) -> Columns:
    columns: dict[str, Any] | None = made.get(key)
    if columns and not columns.keys() <= set(NAMES):
        raise ValueError(f"unknown columns {', '.join(sorted(columns.keys() - set(NAMES)))}")
    return columns
