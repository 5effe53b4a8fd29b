"""Parquet: rows in columns, zstd, one row group per 64 Ki rows.

Row groups are encoded in memory and reach the file only when they are whole. Arrow's writer has no way back
from a failed write, so after one the footer is cut to the groups that the file has: what was captured stays
readable.
"""

from __future__ import annotations

import io
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tracer.errors import BadCapture
from tracer.outputs.footer import MAGIC, keep_row_groups
from tracer.outputs.schema import CONTRACT, conform
from tracer.outputs.sink import Sink

GROUP_ROWS: Final = 65_536
_STRINGS = [field.name for field in CONTRACT if pa.types.is_dictionary(field.type)]
# Measured on 320,000 rows: integers as deltas and statistics only where a reader skips by them give 3.4
# million rows/s and half a byte a row; dictionaries and statistics everywhere gave 1.9 million and 4.7 bytes.
_OPTIONS: Final[dict[str, Any]] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": _STRINGS,
    "column_encoding": {name: "DELTA_BINARY_PACKED" for name in CONTRACT.names if name not in _STRINGS},
    "write_statistics": ["packet", "ts_ns"],
    "version": "2.6",
}


class ParquetOutput:
    """Writes batches of rows as Parquet; the file is readable once closed, also after a failed write."""

    def __init__(self, sink: Sink) -> None:
        self._sink: Sink | None = sink
        self._encoded = io.BytesIO()
        self._writer = pq.ParquetWriter(self._encoded, CONTRACT, **_OPTIONS)
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._groups: list[tuple[int, int]] = []  # where each begins in the file, how many rows it has

    def write(self, rows: pa.Table) -> None:
        """Take a batch; on BadCapture the file is closed, with the groups that were whole."""
        batch = conform(rows)
        self._waiting.append(batch)
        self._waiting_rows += len(batch)
        if self._waiting_rows >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what waits and the footer; may be called again."""
        if self._sink is None:
            return
        self._flush()
        self._writer.close()
        footer = self._take()
        self._write(footer, footer)
        self._sink.close()
        self._sink = None

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = conform(pa.concat_tables(self._waiting))
        self._waiting, self._waiting_rows = [], 0
        begin = 0
        while begin < len(rows):
            left = len(rows) - begin
            size = GROUP_ROWS if left >= 2 * GROUP_ROWS else left  # no crumbs: the last group takes the rest
            self._write_group(rows.slice(begin, size))
            begin += size

    def _write_group(self, rows: pa.Table) -> None:
        if self._sink is None:
            raise ValueError("write to a closed Parquet output")
        begin = self._sink.position
        self._writer.write_table(rows, row_group_size=2 * GROUP_ROWS)
        self._write(self._take())
        self._groups.append((begin, len(rows)))

    def _take(self) -> bytes:
        data = self._encoded.getvalue()
        self._encoded.seek(0)
        self._encoded.truncate()
        return data

    def _write(self, data: bytes, footer: bytes | None = None) -> None:
        """Write to the file; if it fails, end the file after its whole row groups, close it and raise."""
        sink = self._sink
        if sink is None:
            return
        try:
            sink.write(data)
        except (BadCapture, OSError):
            self._sink = None
            if footer is None:
                self._writer.close()
                footer = self._take()
            self._salvage(sink, footer)
            sink.close()
            raise

    def _salvage(self, sink: Sink, footer: bytes) -> None:
        """End the file after its whole groups; give up the last of them if that makes room for the footer."""
        while True:
            rows = sum(count for _, count in self._groups)
            start = b"" if self._groups else MAGIC
            try:
                sink.write(start + keep_row_groups(footer, len(self._groups), rows))
            except (BadCapture, OSError):
                if not self._groups:
                    return
                begin, _ = self._groups.pop()
                sink.cut(begin)
            else:
                return
