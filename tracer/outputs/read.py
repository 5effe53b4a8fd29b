"""Reads what the outputs wrote, back into rows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tracer.errors import MALFORMED, BadCapture, BadRequest
from tracer.model.change import Change
from tracer.model.columns import COLUMNS, NAMES, SCHEMA
from tracer.model.path import Path, path_rows
from tracer.model.relay import to_text as relays
from tracer.model.why import to_text
from tracer.outputs.csv import unguarded
from tracer.outputs.jsonl import change_from_object, path_from_object
from tracer.outputs.schema import CONTRACT, METADATA_KEY, arrow_field, conform

_READABLE: Final = (".csv", ".jsonl", ".parquet")
_OPEN_QUOTE_LINES: Final = 1000


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Rows of a file, and how many lines at its end were cut off in the middle and so are not among them.

    `changes` are those of a JSON Lines file; the other formats have no place for them.
    """

    rows: pa.Table
    dropped_lines: int = 0
    changes: tuple[Change, ...] = ()


def read_rows(path: str | FilePath) -> ReadResult:
    """Read a .csv, .jsonl or .parquet file that fibtrace wrote.

    A last line that was cut short (a full disk, a killed process) is left out and counted. Raises BadRequest
    for another suffix and BadCapture when the file cannot be read, is empty, damaged or not ours.
    """
    file = FilePath(path)
    if file.suffix not in _READABLE:
        raise BadRequest(
            f"cannot read {file}: unknown suffix {file.suffix or '(none)'}; possible: {', '.join(_READABLE)}"
        )
    try:
        if file.suffix == ".parquet":
            file.open("rb").close()  # Arrow's own message about a missing file is no sentence
            return _read_parquet(file)
        data = file.read_bytes()
    except OSError as error:
        raise BadCapture(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    if not data and file.suffix == ".csv":  # JSON Lines of a trace that saw nothing are an empty file
        raise BadCapture(f"cannot read {file}: it is empty\n  a CSV has at least its header line")
    return read_text(file, data)


def read_text(file: FilePath, data: bytes) -> ReadResult:
    """What stands in a .csv or .jsonl file, or in some lines of it (of a CSV behind its header)."""
    return _read_csv(file, data) if file.suffix == ".csv" else _read_jsonl(file, data)


def _read_csv(file: FilePath, data: bytes) -> ReadResult:
    header = data[: data.find(b"\n") + 1] or data
    names = header.decode(errors="replace").strip("\r\n").split(",")
    _check_columns(file, names)
    whole = whole_lines(data)
    types = {column.name: _plain(arrow_field(column).type) for column in COLUMNS}
    try:
        rows = pacsv.read_csv(
            io.BytesIO(data[:whole]),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=types,
                include_columns=list(NAMES),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise _damaged(file, str(error)) from error
    for index, name in enumerate(rows.column_names):
        if pa.types.is_string(rows.schema.field(index).type):
            rows = rows.set_column(index, name, unguarded(rows.column(index)))
    return ReadResult(_checked(file, rows), int(whole < len(data)))


def whole_lines(data: bytes) -> int:
    """Where the last whole line of a CSV ends; a line break inside quotes ends none."""
    end = len(data)
    quotes = data.count(b'"')
    for _ in range(_OPEN_QUOTE_LINES):
        begin = data.rfind(b"\n", 0, end) + 1
        quotes -= data.count(b'"', begin, end)
        if quotes % 2 == 0:
            return begin
        end = begin - 1
    return len(data)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _read_jsonl(file: FilePath, data: bytes) -> ReadResult:
    lines = data.split(b"\n")
    cut = lines.pop()
    found, dropped = [], 0
    for number, line in enumerate(lines, 1):
        found.append(_object(file, number, line))
    if cut:
        try:
            found.append(_object(file, len(lines) + 1, cut))
        except BadCapture:
            if not found and not cut.startswith(b'{"schema":'):
                raise
            dropped = 1
    changes = tuple(one for one in found if isinstance(one, Change))
    return ReadResult(_rows(file, [one for one in found if isinstance(one, Path)]), dropped, changes)


def _object(file: FilePath, number: int, line: bytes) -> Path | Change:
    try:
        made = json.loads(line)
        return change_from_object(made) if "change" in made else path_from_object(made)
    except BadCapture as error:
        raise BadCapture(f"cannot read {file}, line {number}: {error}") from error
    except KeyError as error:
        raise _foreign(file, f"line {number} has no {error}") from error
    except MALFORMED as error:
        raise _damaged(file, f"line {number}: {error}") from error


def _rows(file: FilePath, found: Iterable[Path]) -> pa.Table:
    rows: list[tuple[Any, ...]] = []
    complete: list[bool] = []
    links: list[str | None] = []
    for path in found:
        whys = (d.why for hop in path.hops for d in hop.decisions if d.ts_ns is not None)
        for row, cached in path_rows(path):
            rows.append((*row, cached, None if cached is None else to_text(next(whys))))
        links.extend([relays(path.relays)] * (len(rows) - len(complete)))
        complete.extend([path.complete] * (len(rows) - len(complete)))
    columns = list(zip(*rows, strict=True)) or [()] * (len(NAMES) + 2)
    try:
        arrays = [
            pa.array(values, type=_plain(field.type))
            for values, field in zip(columns[:-2], CONTRACT, strict=True)
        ]
        table = _checked(file, pa.table(arrays, names=list(NAMES)))
    except MALFORMED as error:
        raise _damaged(file, str(error)) from error
    table = table.append_column("complete", pa.array(complete, type=pa.bool_()))
    table = table.append_column("cached", pa.array(columns[-2], type=pa.bool_()))
    table = table.append_column("relays", pa.array(links, type=pa.string()))
    return table.append_column("why", pa.array(columns[-1], type=pa.string()))


def _read_parquet(file: FilePath) -> ReadResult:
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            version = (schema.metadata or {}).get(METADATA_KEY, b"1")
            _check_columns(file, schema.names)
            if int(version) > SCHEMA:
                raise BadCapture(
                    f"cannot read {file}: its schema is {int(version)}, this fibtrace reads up to {SCHEMA}\n"
                    "  use a newer fibtrace"
                )
            return ReadResult(_checked(file, opened.read(columns=list(NAMES))))
    except (pa.ArrowException, MemoryError, ValueError) as error:
        if file.stat().st_size == 0:
            raise BadCapture(f"cannot read {file}: it is empty") from error
        raise _damaged(file, f"{error} (Parquet is readable only once it is closed)") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(file, str(error)) from error


def _check_columns(file: FilePath, names: list[str]) -> None:
    missing = [name for name in NAMES if name not in names]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")  # noqa: PLR2004
        raise _foreign(file, f"the columns {shown} are missing")


def _checked(file: FilePath, rows: pa.Table) -> pa.Table:
    """Conformed rows, if nothing that must be there is absent."""
    for column in COLUMNS:
        if not column.nullable and rows.column(column.name).null_count:
            raise _damaged(file, f"the column {column.name} has empty values")
    try:
        rows.validate(
            full=True
        )  # damaged Parquet may have indices beyond its dictionaries, and texts that are none
        return conform(rows)
    except pa.ArrowInvalid as error:
        raise _damaged(file, str(error)) from error


def _foreign(file: FilePath, why: str) -> BadCapture:
    return BadCapture(f"cannot read {file}: {why}\n  it was not written by fibtrace")


def _damaged(file: FilePath, why: str) -> BadCapture:
    return BadCapture(
        f"cannot read {file}: it is damaged\n  {why.splitlines()[0] if why else 'unknown error'}"
    )
