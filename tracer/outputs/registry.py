"""Opens outputs by suffix or format, and converts files. Imports Arrow only when one is opened."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from tracer.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from tracer.enrich.flowpaths import FlowPaths
    from tracer.model.change import Change

FORMATS: Final = ("tree", "line", "csv", "jsonl", "parquet")
"""Every format that can be written."""

SUFFIXES: Final = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
"""The formats a file's suffix can choose."""

RAW_SUFFIX: Final = ".fibtrace"
"""The raw capture: written by the recorder (tracer.wire.capture), not from rows."""

_CLASSES: Final = {
    "tree": ("tracer.outputs.tree", "TreeOutput"),
    "line": ("tracer.outputs.line", "LineOutput"),
    "csv": ("tracer.outputs.csv", "CsvOutput"),
    "jsonl": ("tracer.outputs.jsonl", "JsonlOutput"),
    "parquet": ("tracer.outputs.parquet", "ParquetOutput"),
}


class Output(Protocol):
    """Takes rows in batches; a path is never split over two of them."""

    def write(self, rows: pa.Table) -> None:
        """Append a batch; on BadCapture what was written before stays readable."""

    def close(self) -> None:
        """End the output; a file is complete afterwards. May be called again."""


@runtime_checkable
class Told(Output, Protocol):
    """An output that also has a place for changes of the configuration, and compares the paths of a flow."""

    flows: FlowPaths

    def tell(self, changes: Sequence[Change]) -> None:
        """Append changes; their times are since the epoch."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion did; `dropped_lines` counts lines cut short at the end of the input."""

    rows: int
    dropped_lines: int


def output_format(target: str | Path, wanted: str | None = None) -> str:
    """The format to write: the wanted one, else the suffix's; raises BadRequest when there is none."""
    if wanted is not None:
        if wanted not in FORMATS:
            raise BadRequest(f"unknown format {wanted!r}\n  possible: {', '.join(FORMATS)}")
        return wanted
    suffix = Path(target).suffix
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if str(target) == "-":
        raise BadRequest(f"`-` needs a format\n  possible: {', '.join(FORMATS)}")
    why = "is the raw capture, which only a trace can write" if suffix == RAW_SUFFIX else "is unknown"
    shown = f"suffix {suffix}" if suffix else "a name without suffix"
    raise BadRequest(f"cannot write {target}: {shown} {why}\n  possible: {', '.join(SUFFIXES)}")


def open_output(target: str | Path | IO[Any], wanted: str | None = None, *, why: bool = False) -> Output:
    """Open an output on a path, on `-` (standard output) or on a stream, which then needs a format.

    With `why` a tree has all that its decisions say of themselves, else one line for each lookup.

    Raises BadRequest for an unknown suffix or format, BadCapture when the file cannot be created.
    """
    name = target if isinstance(target, str | Path) else "-"
    chosen = output_format(name, wanted)
    from tracer.outputs.sink import open_sink  # Arrow takes longer to import than `--help` may last

    module, class_name = _CLASSES[chosen]
    make = getattr(importlib.import_module(module), class_name)
    sink = open_sink(sys.stdout if target == "-" else target)
    opened: Output = make(sink, why=True) if why and chosen == "tree" else make(sink)
    return opened


def convert(
    source: str | Path, target: str | Path | IO[Any], wanted: str | None = None, *, why: bool = False
) -> Converted:
    """Write the rows of a .csv, .jsonl or .parquet file in another format; `-` is standard output.

    Raises BadRequest or BadCapture; the target is not touched unless the source could be read.
    """
    output_format(target if isinstance(target, str | Path) else "-", wanted)
    from tracer.outputs.read import read_rows
    from tracer.outputs.timeline import write_read

    read = read_rows(source)
    output = open_output(target, wanted, why=why)
    try:
        write_read(output, read)
    finally:
        output.close()
    return Converted(len(read.rows), read.dropped_lines)
