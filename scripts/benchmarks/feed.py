"""Feeds a raw capture, repeated, through the real pipeline into a Parquet file, on one CPU; prints figures as JSON.

    python feed.py CAPTURE OUT.parquet --records 3000000 [--cpu 1] [--batch 100000] [--profile]

Each repetition is later in time and goes on in each CPU's numbers, so that nothing looks lost or repeated.
"""

# ruff: noqa: INP001 - a program, not part of a package

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tracer.enrich.filters import Selection
from tracer.outputs.registry import open_output
from tracer.pipeline import Processing, Symbols
from tracer.replay import _Known, _read_names
from tracer.wire.capture import CaptureReader, Kind
from tracer.wire.layout import Layout, parse

Array = np.ndarray[Any, Any]
_PAUSE_NS = 1_000_000


def load(source: Path) -> tuple[Layout, dict[str, Any], Array]:
    """The layout, header and all records of a capture."""
    with CaptureReader(source) as reader:
        layout = parse(reader.header["wire"])
        parts = [
            np.frombuffer(frame.payload, dtype=layout.record)
            for frame in reader.frames()
            if frame.kind is Kind.RECORDS
        ]
        return layout, reader.header, np.concatenate(parts)


def repeated(records: Array, wanted: int, batch: int) -> Iterator[Array]:
    """Batches of the records, as often as needed to be at least that many."""
    span = int(records["ts_ns"].max() - records["ts_ns"].min()) + _PAUSE_NS
    cpus = np.unique(records["cpu"]).tolist()
    numbers = {cpu: int(np.ptp(records["seq"][records["cpu"] == cpu])) + 1 for cpu in cpus}
    for turn in range(-(-wanted // len(records))):
        again = records.copy()
        again["ts_ns"] += np.uint64(turn * span)
        for cpu, count in numbers.items():
            again["seq"][again["cpu"] == cpu] += np.uint64(turn * count)
        for start in range(0, len(again), batch):
            yield again[start : start + batch]


def processing(layout: Layout, header: dict[str, Any], known: _Known, out: Path) -> Processing:
    """The pipeline as `fibtrace trace -o OUT.parquet` builds it, with the capture's names."""
    return Processing(
        layout=layout,
        network=known.network,
        symbols=Symbols(
            lambda number: known.stacks.get(number, ()), lambda at: known.addresses.get(at, hex(at))
        ),
        reasons={int(number): name for number, name in header["reasons"].items()},
        selection=Selection(),
        outputs=[open_output(out)],
        clock_offset_ns=int(header["clock_offset_ns"]),
    )


def feed(pipeline: Processing, batches: Iterator[Array]) -> tuple[int, float]:
    """Records fed, and the CPU seconds it took (not those of making the batches)."""
    used_s, count, horizon_ns = 0.0, 0, 0
    for batch in batches:
        horizon_ns = max(horizon_ns, int(batch["ts_ns"].max()))
        begin = time.process_time()
        pipeline.feed(batch, horizon_ns)
        used_s += time.process_time() - begin
        count += len(batch)
    begin = time.process_time()
    pipeline.feed(np.zeros(0, pipeline.layout.record), horizon_ns, final=True)
    pipeline.close()
    return count, used_s + time.process_time() - begin


def main() -> None:
    """Parse, load, feed, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("capture", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--records", type=int, default=3_000_000)
    parser.add_argument("--batch", type=int, default=100_000)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    known, _ = _read_names(options.capture)
    layout, header, records = load(options.capture)
    pipeline = processing(layout, header, known, options.out)
    batches = repeated(records, options.records, options.batch)
    profile = cProfile.Profile()
    count, used_s = profile.runcall(feed, pipeline, batches) if options.profile else feed(pipeline, batches)
    counts = pipeline.counts
    result = {
        "records": count,
        "lookups": counts.lookups,
        "packets": counts.packets,
        "rows": counts.rows,
        "cpu_s": used_s,
        "bytes": options.out.stat().st_size,
    }
    print(json.dumps(result))  # noqa: T201 - its only output
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
