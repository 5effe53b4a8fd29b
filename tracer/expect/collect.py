"""Feeds a judge: with the paths of a run that goes on, or those of a capture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from tracer.outputs.paths import paths
from tracer.outputs.read import read_rows
from tracer.outputs.registry import RAW_SUFFIX
from tracer.replay import play

if TYPE_CHECKING:
    import pyarrow as pa

    from tracer.model.path import Path

_CUT_SHORT = "the end of the capture is missing"


class Collector:
    """An output of the pipeline that hands on every path."""

    def __init__(self, take: Callable[[Path], None]) -> None:
        self._take = take

    def write(self, rows: pa.Table) -> None:
        """Hand on the paths of a batch."""
        for path in paths(rows):
            self._take(path)

    def close(self) -> None:
        """Do nothing: there is nothing to end."""


def read_capture(source: str | FilePath, take: Callable[[Path], None]) -> str:
    """Hand on the paths of a capture of any kind; returns why packets may be missing in it, "" if none are."""
    collector = Collector(take)
    if FilePath(source).suffix == RAW_SUFFIX:
        played = play(source, [collector])
        if played.cut_short:
            return _CUT_SHORT
        return records_lost(played.lost)
    found = read_rows(source)
    collector.write(found.rows)
    return _CUT_SHORT if found.dropped_lines else ""


def records_lost(number: int) -> str:
    """`3 records lost`; empty where none were."""
    return f"{number} record{'' if number == 1 else 's'} lost" if number else ""
