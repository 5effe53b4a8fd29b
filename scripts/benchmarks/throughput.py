"""How fast records become Parquet, and what rate loses nothing."""

# ruff: noqa: INP001, T201 - beside the program that uses it; prints figures

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from runs import COLLECTOR_CPU, Traffic, fibtrace, run
from setting import Bench
from world import FORWARDED, HERE, MANY, World, forwarded

FLOWS = 16
_LOOKUPS_PER_S, _MEMORY_MB = 1_000_000, 250


def capture(bench: Bench, name: str, traffic: Traffic) -> Path:
    """Record real traffic, slowly enough to lose nothing."""
    path = bench.work / f"{name}.fibtrace"
    recorded = run(
        fibtrace("--host", "10.64.0.0/10", "-o", str(path), "--format", "none"), traffic, bench.work
    )
    if recorded.lost:
        print(f"  ({recorded.lost} records were lost while recording {name})", file=sys.stderr)
    return path


def feed(bench: Bench, title: str, path: Path, records: int) -> dict[str, float]:
    """Run a capture through the pipeline on one CPU; prints and returns the figures."""
    command = [sys.executable, str(HERE / "feed.py"), str(path), str(bench.parquet)]
    command += ["--records", str(records), "--cpu", str(COLLECTOR_CPU)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"feeding {path.name} failed:\n{result.stderr}")
    fed: dict[str, float] = json.loads(result.stdout)
    seconds, rows = fed["cpu_s"], max(fed["rows"], 1)
    print(
        f"  {title:40} {fed['lookups'] / seconds:10,.0f} lookups/s {fed['records'] / seconds:11,.0f} records/s"
        f" {rows / seconds:11,.0f} rows/s  {fed['bytes'] / rows:5.2f} bytes/row"
        f"  ({rows / max(fed['lookups'], 1):.2f} rows per lookup)",
        flush=True,
    )
    return fed


def throughput(bench: Bench, world: World) -> tuple[float, float]:
    """Records → Parquet on one core, for three kinds of traffic; returns records and lookups per forwarded packet."""
    packets = bench.scale.flows
    print(
        f"\nrecords to Parquet on one core, {bench.scale.feed_records:,} records or more (a tenth of the last)"
    )
    rate = 8_000.0
    flood = capture(bench, "flood", Traffic(FORWARDED, packets, flows=FLOWS, rate=rate))
    first = feed(bench, f"{FLOWS} flows through a plain router", flood, bench.scale.feed_records)
    world.policy(on=True)
    ruled = capture(bench, "policy", Traffic(FORWARDED, packets, flows=FLOWS, rate=rate / 2))
    world.policy(on=False)
    best = feed(bench, "the same with five rules before main", ruled, bench.scale.feed_records)
    many = capture(bench, "many", Traffic(MANY, packets, flows=packets, ports=1, rate=rate))
    feed(bench, f"{packets:,} flows to as many addresses", many, bench.scale.feed_records // 10)
    reached = max(fed["lookups"] / fed["cpu_s"] for fed in (first, best))
    bench.table.goal("1 M lookups/s to Parquet on one core", f"{reached:,.0f}", met=reached >= _LOOKUPS_PER_S)
    return first["records"] / first["packets"], first["lookups"] / first["packets"]


def lossless(bench: Bench) -> None:
    """The highest rate forwarded with default settings at which nothing is lost."""
    print("\nforwarding with default settings, collector on a core of its own")
    rate: float | None = None
    for _ in range(5):
        seconds = bench.scale.flood_s
        packets = int(seconds * (rate or 120_000))
        before = forwarded()
        done = run(bench.trace(), Traffic(FORWARDED, packets, flows=FLOWS, rate=rate), bench.work)
        went = forwarded() - before
        reached = done.sent["packets"] / done.seconds
        print(
            f"  {'full rate' if rate is None else 'limited  '} {reached:9,.0f} packets/s for {done.seconds:4.1f} s"
            f" ({went:,.0f} forwarded): {done.lost:,} records lost, peak RSS {done.peak_mb:,.0f} MB,"
            f" finished {done.wall_s - done.seconds:4.1f} s after the traffic",
            flush=True,
        )
        if rate is None:
            bench.table.goal(
                "nothing lost at full forwarding rate", f"{done.lost:,} records", met=not done.lost
            )
            bench.table.goal(
                f"memory under {_MEMORY_MB} MB", f"{done.peak_mb:,.0f} MB", met=done.peak_mb < _MEMORY_MB
            )
        if not done.lost:
            break
        rate = reached / 2
    print(
        f"  nothing lost up to {reached:,.0f} packets/s" if not done.lost else "  no rate without loss found"
    )


def long_run(bench: Bench, minutes: float) -> None:
    """Trace steady traffic for long; memory must stay flat."""
    rate = 2_000
    print(f"\n{minutes:g} minutes at {rate:,} packets/s")
    done = run(bench.trace(), Traffic(FORWARDED, int(minutes * 60 * rate), flows=1000, rate=rate), bench.work)
    samples = done.rss_mb
    step = max(len(samples) // 12, 1)
    print("  RSS in MB over time: " + " ".join(f"{value:.0f}" for value in samples[::step]))
    early = samples[len(samples) // 6 : len(samples) // 3]
    grown = max(samples[-len(early) :]) - max(early) if early else 0.0
    bench.table.goal(
        "memory is flat", f"grew by {grown:+.0f} MB, {done.lost:,} lost", met=grown < 0.1 * max(early)
    )
