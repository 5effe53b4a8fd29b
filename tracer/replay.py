"""A raw capture instead of the ring: the same pipeline, on any machine and any day, without root."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from tracer.enrich.filters import Selection
from tracer.errors import MALFORMED, BadCapture, TracerError
from tracer.kernel.source import wire_header
from tracer.model.change import Change, changes_from
from tracer.model.network import Network
from tracer.outputs.registry import RAW_SUFFIX, Converted, Output, open_output, output_format
from tracer.outputs.registry import convert as convert_rows
from tracer.outputs.timeline import chosen
from tracer.pipeline import Processing, Symbols
from tracer.wire.capture import CaptureReader, Kind
from tracer.wire.layout import Layout, parse


@dataclass(slots=True)
class _Known:
    """Everything of a capture but its records."""

    network: Network
    stacks: dict[int, tuple[str, ...]]
    addresses: dict[int, str]


@dataclass(frozen=True, slots=True)
class Played:
    """What a raw capture gave: rows; how many records were lost when it was made; whether its end is missing."""

    rows: int
    lost: int
    damage: int
    accounted: bool

    @property
    def cut_short(self) -> bool:
        """Whether the trace went on after what is in the file."""
        return bool(self.damage) or not self.accounted


def convert(
    source: str | Path,
    target: str | Path | IO[Any],
    wanted: str | None = None,
    *,
    why: bool = False,
    changes: str = "none",
) -> Converted:
    """Write a capture of any kind in another format; of a raw one with these `changes` (`none`, `routing`, `all`).

    Raises BadRequest or BadCapture before the target is touched.
    """
    if Path(source).suffix != RAW_SUFFIX:
        with _sense(source):
            return convert_rows(source, target, wanted, why=why)
    output_format(target if isinstance(target, str | Path) else "-", wanted)
    known, damage = _read_names(source)
    output = open_output(target, wanted, why=why)
    try:
        rows, _ = _replay(source, known, [output], why=why, changes=changes)
    finally:
        output.close()
    return Converted(rows, damage)


@contextlib.contextmanager
def _sense(source: str | Path) -> Iterator[None]:
    """Whoever wrote a capture may have written what contradicts itself: that is told, wherever it is noticed."""
    try:
        yield
    except MALFORMED as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise BadCapture(
            f"cannot use {source}: what it holds does not fit together ({why})\n"
            "  it is damaged, or this is a mistake in fibtrace: FIBTRACE_DEBUG=1 shows where"
        ) from error


class _Rows:
    """Keeps the rows instead of writing them."""

    def __init__(self) -> None:
        self.parts: list[pa.Table] = []

    def write(self, rows: pa.Table) -> None:
        """Keep a batch."""
        self.parts.append(rows)

    def close(self) -> None:
        """Do nothing."""


def rows_of(source: str | Path) -> pa.Table:
    """The rows of a capture of any kind. Raises BadRequest or BadCapture."""
    if Path(source).suffix != RAW_SUFFIX:
        from tracer.outputs.read import read_rows

        return read_rows(source).rows
    kept = _Rows()
    play(source, [kept])
    if not kept.parts:
        raise BadCapture(f"cannot use {source}: it has no packet")
    return pa.concat_tables(kept.parts, promote_options="default")


def play(source: str | Path, outputs: list[Output], changes: str = "none") -> Played:
    """Feed the outputs with a raw capture and these changes; raises BadCapture. The outputs stay open."""
    known, damage = _read_names(source)
    rows, accounting = _replay(source, known, outputs, changes=changes)
    return Played(rows, _lost(accounting) if accounting else 0, damage, accounting is not None)


def _replay(
    source: str | Path, known: _Known, outputs: list[Output], *, why: bool = False, changes: str = "none"
) -> tuple[int, Any]:
    """Feed the outputs with what a capture holds; returns how many rows were written, and the accounting."""
    with CaptureReader(source) as reader, _sense(source):
        written, layout, clock_offset_ns = _header(reader, source)
        processing = Processing(
            layout=layout,
            network=known.network,
            symbols=Symbols(
                lambda number: known.stacks.get(number, ()),
                lambda address: known.addresses.get(address, hex(address)),
            ),
            reasons={int(number): name for number, name in reader.header.get("reasons", {}).items()},
            selection=Selection(),
            outputs=outputs,
            clock_offset_ns=clock_offset_ns,
            changes_shown=chosen(changes, None),
            why=why,
        )
        processing.correlator.relays.partial = bool(reader.header.get("partial", True))
        horizon_ns, sequences, accounting = 0, {}, None
        for frame in reader.frames():
            if frame.kind is Kind.RECORDS:
                records = _records(frame.payload, written, layout, source)
                horizon_ns = max(horizon_ns, int(records["ts_ns"].max(initial=0)))
                processing.feed(records, horizon_ns)
            elif frame.kind is Kind.CHANGES:
                processing.changed(_changes(frame.json()))
            elif frame.kind is Kind.ACCOUNTING:
                accounting = frame.json()
                sequences = _sequences(accounting)
        processing.finish(horizon_ns, sequences)
        return processing.counts.rows, accounting


def _header(reader: CaptureReader, source: str | Path) -> tuple[Layout, Layout, int]:
    """The layouts that the records have and get, and the clock's offset; raises BadCapture for anything else.

    Fields and kinds are only ever added, so older records are given today's layout, zero where they say nothing.
    """
    try:
        written, today = parse(reader.header["wire"]), parse(wire_header())
        if not _kinds(written) <= _kinds(today):
            raise BadCapture(
                f"cannot read {source}: another version of fibtrace numbered its records\n  try: that version"
            )
        return written, today, int(reader.header["clock_offset_ns"])
    except (TracerError, KeyError, TypeError, ValueError) as error:
        raise BadCapture(f"cannot read the header of {source}: {error}") from error


def _kinds(layout: Layout) -> set[tuple[str, int]]:
    """Names and numbers of the kinds of records; KIND_COUNT, the number after the last, is none."""
    return {item for item in layout.enums["record_kind"].items() if item[0] != "KIND_COUNT"}


def _sequences(accounting: Any) -> dict[int, int]:
    """The number of the last record of each CPU; captures that were cut off or are older have none."""
    try:
        return {int(cpu): int(seq) for cpu, seq in accounting.get("sequences", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise BadCapture(f"cannot read the accounting of a capture: {error}") from error


def _changes(values: Any) -> list[Change]:
    try:
        return changes_from(values["changes"])
    except (KeyError, TypeError) as error:
        raise BadCapture(f"cannot read the changes of a capture: {error}") from error


def _lost(accounting: Any) -> int:
    """Records that the full ring refused, and events that came while their probe was running."""
    try:
        refused, missed = accounting.get("refused", ()), accounting.get("missed", {})
        return sum(map(int, refused)) + sum(map(int, missed.values()))
    except (AttributeError, TypeError, ValueError) as error:
        raise BadCapture(f"cannot read the accounting of a capture: {error}") from error


def _records(payload: bytes, written: Layout, layout: Layout, source: str | Path) -> np.ndarray[Any, Any]:
    try:
        found = np.frombuffer(payload, dtype=written.record)
    except ValueError as error:
        raise BadCapture(f"cannot read {source}: a frame holds a part of a record") from error
    if written.record == layout.record:
        return found
    records = np.zeros(len(found), layout.record)
    for name in set(written.record.names or ()) & set(layout.record.names or ()):
        records[name] = found[name]
    return records


def _read_names(source: str | Path) -> tuple[_Known, int]:
    """Names of the whole capture, and whether its end is missing (1) or not (0).

    Each whole network counts instead of the one before (older captures have many), later versions are added to it.
    """
    known = _Known(Network(), {}, {})
    with CaptureReader(source) as reader, _sense(source):
        for frame in reader.frames():
            if frame.kind is Kind.NETWORK:
                known.network = Network.deserialise(frame.json())
            elif frame.kind is Kind.STATES:
                known.network.extend(frame.json())
            elif frame.kind is Kind.STACKS:
                names = frame.json()
                try:
                    known.stacks.update({int(key): tuple(value) for key, value in names["stacks"].items()})
                    known.addresses.update(
                        {int(key): str(value) for key, value in names["addresses"].items()}
                    )
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise BadCapture(f"cannot read the names in {source}: {error}") from error
        return known, int(reader.damage is not None)
