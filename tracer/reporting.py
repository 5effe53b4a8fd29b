"""`fibtrace report`: a capture of any kind as one HTML page."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tracer.errors import BadCapture, BadRequest
from tracer.outputs.registry import RAW_SUFFIX
from tracer.outputs.report.collect import Budget
from tracer.outputs.report.output import ReportOutput
from tracer.outputs.report.page import About
from tracer.outputs.report.source import parts
from tracer.outputs.sink import open_sink
from tracer.replay import play


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report holds: paths, how many of them are listed, bytes; whether the capture's end is missing."""

    paths: int
    listed: int
    size: int
    cut_short: bool


def report(source: str | Path, target: str | Path, most_paths: int, title: str | None = None) -> Reported:
    """Write the page of a capture. Raises BadRequest or BadCapture; the target is touched once all was read."""
    _check(source, target)
    output = ReportOutput(About(title or Path(source).name, _version()), Budget(paths=most_paths))
    about = output.about
    if Path(source).suffix == RAW_SUFFIX:
        played = play(source, [output], "routing")
        about.lost, about.cut_short = played.lost, played.cut_short
    else:
        for part in parts(source):
            about.cut_short |= bool(part.dropped_lines)
            output.write(part.rows)
            output.tell(part.changes)
    data = output.page()
    sink = open_sink(sys.stdout if str(target) == "-" else target)
    try:
        sink.write(data)
    finally:
        sink.close()
    return Reported(output.found.paths, min(output.found.paths, most_paths), len(data), about.cut_short)


def _check(source: str | Path, target: str | Path) -> None:
    if not Path(source).exists():
        raise BadCapture(f"cannot read {source}: no such file or directory")
    if Path(target).exists() and Path(target).samefile(source):
        raise BadRequest(f"cannot write {target}: it is the capture itself\n  choose another file for -o")


def _version() -> str:
    try:
        return version("fibtrace")
    except PackageNotFoundError:
        return ""
