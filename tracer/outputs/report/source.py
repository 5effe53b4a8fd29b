"""A capture read in parts of whole paths, so that a long one needs little memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tracer.errors import BadCapture
from tracer.model.columns import COLUMNS, NAMES, SCHEMA
from tracer.outputs.read import ReadResult, read_rows, read_text, whole_lines
from tracer.outputs.schema import METADATA_KEY

_NEEDED: Final = [column.name for column in COLUMNS if not column.nullable]
_PART_BYTES: Final = {".csv": 16 << 20, ".jsonl": 4 << 20}


def parts(source: str | Path) -> Iterator[ReadResult]:
    """Yield the rows of a .csv, .jsonl or .parquet file, a path never split over two parts.

    Raises what `read_rows` raises: where a part cannot be read, the whole file is, for the sake of its message.
    """
    file = Path(source)
    try:
        yield from _joined(_parquet(file) if file.suffix == ".parquet" else _text(file))
    except (BadCapture, pa.ArrowException, OSError, ValueError, KeyError):
        read_rows(file)
        raise


def _joined(found: Iterator[ReadResult]) -> Iterator[ReadResult]:
    """Hold the last path of every part back until the next one: its rows may go on there."""
    held: pa.Table | None = None
    for part in found:
        rows = part.rows
        if held is not None:
            rows = pa.concat_tables([held, rows], promote_options="default")
        packet = rows.column("packet").to_numpy()
        starts = np.flatnonzero(packet[1:] != packet[:-1]) + 1
        cut = int(starts[-1]) if len(starts) else 0
        held = rows.slice(cut)
        yield ReadResult(rows.slice(0, cut), part.dropped_lines, part.changes)
    if held is not None:
        yield ReadResult(held)


def _parquet(file: Path) -> Iterator[ReadResult]:
    if not file.exists() or file.stat().st_size == 0:
        yield read_rows(file)
        return
    with pq.ParquetFile(file) as opened:
        ours = (opened.schema_arrow.metadata or {}).get(METADATA_KEY) == str(SCHEMA).encode()
        if not ours or opened.num_row_groups < 2:  # noqa: PLR2004 - nothing to gain
            yield read_rows(file)
            return
        for number in range(opened.num_row_groups):
            rows = opened.read_row_group(number, columns=list(NAMES))
            if any(rows.column(name).null_count for name in _NEEDED):
                raise ValueError("empty values")
            yield ReadResult(rows)


def _text(file: Path) -> Iterator[ReadResult]:
    size = _PART_BYTES.get(file.suffix)
    if size is None or not file.exists() or file.stat().st_size <= size:
        yield read_rows(file)
        return
    with file.open("rb") as opened:
        header = opened.readline() if file.suffix == ".csv" else b""
        rest = b""
        while data := opened.read(size):
            lines = rest + data
            end = whole_lines(lines) if header else lines.rfind(b"\n") + 1
            rest = lines[end:]
            if end:
                yield read_text(file, header + lines[:end])
        if rest:
            yield read_text(file, header + rest)
