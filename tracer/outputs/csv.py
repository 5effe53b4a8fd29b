"""CSV: one row per step, the catalogue's columns, a header line, empty for none (RFC 4180 with LF).

A name from outside may begin like a formula, which a spreadsheet would run. Such a value gets an apostrophe in front,
which spreadsheets take for "text", and which our own reader takes off again.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tracer.model.columns import NAMES
from tracer.outputs.paths import whole_paths
from tracer.outputs.schema import conform
from tracer.outputs.sink import Sink

_PART_ROWS: Final = 8_192
_NEEDS_QUOTES: Final = '[,"\r\n]|^$'
_GUARDED: Final = r"^[=+\-@\t\r']"
"""What begins a formula, and the apostrophe itself, so that none is taken off that was there before."""
_FORMULA: Final = frozenset("=+-@\t\r'")
_TEXT = pa.string()


class CsvOutput:
    """Writes batches of rows as CSV; after each `write` the file ends with a whole line."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        try:
            sink.write((",".join(NAMES) + "\n").encode())
        except OSError:
            sink.close()
            raise

    def write(self, rows: pa.Table) -> None:
        """Append a batch; raises BadCapture when it cannot be written, the file keeps what it had."""
        for part in whole_paths(conform(rows), _PART_ROWS):
            self._sink.write(csv_lines(part))

    def close(self) -> None:
        """Close the file; may be called again."""
        self._sink.close()


def csv_lines(rows: pa.Table) -> memoryview:
    """Conformed rows as the bytes of CSV lines.

    The lines are joined by Arrow, whose string array keeps them one behind the other in a single buffer:
    that buffer is the file.
    """
    cells = [_cells(column.combine_chunks()) for column in rows.columns]
    lines = pc.binary_join_element_wise(*cells, ",")
    lines = pc.binary_join_element_wise(lines, "", "\n")
    if isinstance(lines, pa.ChunkedArray):
        lines = lines.combine_chunks()
    _, _, data = lines.buffers()
    return memoryview(data)


def _cells(column: pa.Array) -> pa.Array:
    if not pa.types.is_dictionary(column.type):
        return column.cast(_TEXT).fill_null("")
    names = column.dictionary
    if pc.any(pc.match_substring_regex(names, _GUARDED)).as_py():
        names = pa.array([name and guarded(name) for name in names.to_pylist()], type=_TEXT)
    if pc.any(pc.match_substring_regex(names, _NEEDS_QUOTES)).as_py():
        names = pa.array([_quoted(name) for name in names.to_pylist()], type=_TEXT)
    return names.take(column.indices).fill_null("")


def guarded(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in _FORMULA else text


def unguarded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts as they were before `guarded`."""
    return pc.replace_substring_regex(column, r"^'([=+\-@\t\r'])", r"\1")


def _quoted(name: str | None) -> str | None:
    """A value as a CSV cell; an empty string is quoted, because nothing between commas means none."""
    if name is None or (name and not any(char in name for char in ',"\r\n')):
        return name
    return '"' + name.replace('"', '""') + '"'
