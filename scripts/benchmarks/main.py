"""Measures fibtrace against no tracing and against `perf record`, on the same traffic, and prints one table.

Run as `sudo scripts/bench [--quick] [--rounds N] [--long MINUTES]`; see docs/performance.md for what the figures mean.
"""

# ruff: noqa: INP001, T201 - a program that prints

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from figures import Spread, Table
from runs import (
    COLLECTOR_CPU,
    FIBTRACE,
    PERF_EVENT,
    SENDER_CPU,
    Run,
    Traffic,
    execute,
    fibtrace,
    perf,
    perf_counts,
    run,
)
from world import FORWARDED, HERE, LOCAL, MANY, ONE_LOOKUP, THREE_LOOKUPS, World, forwarded

_SCENARIO_FLOWS = 16
_HELP_S, _FIRST_EVENT_S, _LOOKUPS_PER_S, _MEMORY_MB = 0.3, 1.0, 1_000_000, 250
_WARM_PACKETS = 20_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int
    packets: int
    flood_s: float
    feed_records: int
    variants: bool


QUICK = Scale(rounds=2, packets=100_000, flood_s=2, feed_records=600_000, variants=False)
FULL = Scale(rounds=5, packets=400_000, flood_s=10, feed_records=3_000_000, variants=True)


@dataclass(slots=True)
class Bench:
    """One whole run: where it writes, how much it does, what it prints to."""

    work: Path
    scale: Scale
    table: Table

    @property
    def parquet(self) -> Path:
        return self.work / "trace.parquet"

    def trace(self, *options: str) -> list[str]:
        """`fibtrace trace` into Parquet with nothing on stdout."""
        return fibtrace("-o", str(self.parquet), "--format", "none", *options)


# -- added cost per packet ------------------------------------------------------------------------------------------


def compare(bench: Bench, title: str, traffic: Traffic, loads: tuple[float, float]) -> None:
    """Interleaved rounds of untraced, perf and fibtrace; `loads` is records and lookups per packet."""
    data = bench.work / "perf.data"
    tools = {"untraced": [], "perf": perf(data) or [], "fibtrace": bench.trace()}
    runs: dict[str, list[Run]] = {name: [] for name in tools}
    counted, perf_lost = 0, 0
    run([], Traffic(traffic.to, _WARM_PACKETS, traffic.netns), bench.work)
    for _ in range(bench.scale.rounds):
        for name, tool in tools.items():
            if name == "perf" and not tool:
                continue
            runs[name].append(run(tool, traffic, bench.work))
            if name == "perf":
                counted, lost = perf_counts(runs[name][-1], data)
                perf_lost += lost
    _print_comparison(bench.table, title, runs, (*loads, counted / traffic.packets, perf_lost))


def _print_comparison(
    table: Table, title: str, runs: dict[str, list[Run]], loads: tuple[float, float, float, float]
) -> None:
    records, lookups, perf_samples, perf_lost = loads
    plain, other, ours = runs["untraced"], runs["perf"], runs["fibtrace"]
    table.head(f"{title}: {records:.2f} records and {lookups:.2f} lookups per packet, {len(ours)} rounds")
    costs = [Spread.of([r.ns_per_packet for r in tool]) if tool else None for tool in (plain, other, ours)]
    table.row("ns per packet, median", tuple(c.median if c else None for c in costs))  # type: ignore[arg-type]
    table.row("  min", tuple(c.low if c else None for c in costs))  # type: ignore[arg-type]
    table.row("  max", tuple(c.high if c else None for c in costs))  # type: ignore[arg-type]
    added = [_added(plain, tool) for tool in (other, ours)]
    table.row("added ns per packet, median", (None, *(a.median if a else None for a in added)))  # type: ignore[arg-type]
    table.row("  min", (None, *(a.low if a else None for a in added)))  # type: ignore[arg-type]
    table.row("  max", (None, *(a.high if a else None for a in added)))  # type: ignore[arg-type]
    rates = [1e9 / c.median if c else None for c in costs]
    table.row("packets/s", (rates[0], rates[1], rates[2]))
    per_packet = (None, perf_samples, records)
    events = [rate * per if rate and per else None for rate, per in zip(rates, per_packet, strict=True)]
    table.row("events/s", (events[0], events[1], events[2]))
    table.row("lookups/s", (None, events[1], (rates[2] or 0) * lookups))
    table.row("records lost, all rounds", (None, perf_lost if other else None, sum(r.lost for r in ours)))
    packets = ours[0].sent["packets"]
    cpu = [
        Spread.of([r.cpu_s for r in tool]).median / (per * packets / 1e6) if tool and per else None
        for tool, per in ((other, perf_samples), (ours, records))
    ]
    table.row("CPU s of the collector per million events", (None, cpu[0], cpu[1]), ".2f")
    table.row("peak RSS, MB", (None, *(max(r.peak_mb for r in t) if t else None for t in (other, ours))))  # type: ignore[arg-type]
    table.row(
        "steady RSS, MB",
        (None, *(Spread.of([r.steady_mb for r in t]).median if t else None for t in (other, ours))),  # type: ignore[arg-type]
    )
    if added[0] and added[1]:
        figure = f"{added[1].median:,.0f} ns against {added[0].median:,.0f} ns"
        table.goal("added cost per packet below perf's", figure, met=added[1].median < added[0].median)


def _added(plain: list[Run], tool: list[Run]) -> Spread | None:
    """Added ns, each round against the untraced run beside it."""
    pairs = zip(plain, tool, strict=False)
    return Spread.of([b.ns_per_packet - a.ns_per_packet for a, b in pairs]) if tool else None


def variants(bench: Bench, traffic: Traffic) -> None:
    """What the other ways of tracing cost, each beside an untraced run."""
    print("\nother ways, added ns per packet (median, min - max)")
    ways = {
        "--stacks none": bench.trace("--stacks", "none"),
        "--stacks all": bench.trace("--stacks", "all"),
        "a filter that nothing passes": bench.trace("--dst", "203.0.113.0/24"),
    }
    plain: dict[str, list[Run]] = {name: [] for name in ways}
    traced: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(max(bench.scale.rounds // 2, 2)):
        for name, tool in ways.items():
            plain[name].append(run([], traffic, bench.work))
            traced[name].append(run(tool, traffic, bench.work))
    for name in ways:
        added = _added(plain[name], traced[name])
        if added:
            print(f"  {name:40} {added.median:8,.0f} ({added.low:,.0f} - {added.high:,.0f})")


# -- from the ring to Parquet ---------------------------------------------------------------------------------------


def capture(bench: Bench, name: str, traffic: Traffic) -> tuple[Path, float]:
    """Record real traffic slowly enough to lose nothing; the file, and packets that were sent."""
    path = bench.work / f"{name}.fibtrace"
    recorded = run(
        fibtrace("--host", "10.64.0.0/10", "-o", str(path), "--format", "none"), traffic, bench.work
    )
    if recorded.lost:
        print(f"  ({recorded.lost} records were lost while recording {name})", file=sys.stderr)
    return path, recorded.sent["packets"]


def feed(bench: Bench, title: str, path: Path) -> dict[str, float]:
    """Run a capture through the pipeline on one CPU; prints and returns the figures."""
    command = [sys.executable, str(HERE / "feed.py"), str(path), str(bench.parquet)]
    command += ["--records", str(bench.scale.feed_records), "--cpu", str(COLLECTOR_CPU)]
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
    packets = 20_000
    print(f"\nrecords to Parquet on one core, {bench.scale.feed_records:,} records or more of each")
    rate = 8_000.0
    flood, sent = capture(bench, "flood", Traffic(FORWARDED, packets, flows=_SCENARIO_FLOWS, rate=rate))
    first = feed(bench, f"{_SCENARIO_FLOWS} flows through a plain router", flood)
    world.policy(on=True)
    ruled, _ = capture(bench, "policy", Traffic(FORWARDED, packets, flows=_SCENARIO_FLOWS, rate=rate / 2))
    world.policy(on=False)
    best = feed(bench, "the same with five rules before main", ruled)
    many, _ = capture(bench, "many", Traffic(MANY, packets, flows=packets, ports=1, rate=rate))
    feed(bench, f"{packets:,} flows to as many addresses", many)
    reached = max(fed["lookups"] / fed["cpu_s"] for fed in (first, best))
    bench.table.goal("1 M lookups/s to Parquet on one core", f"{reached:,.0f}", met=reached >= _LOOKUPS_PER_S)
    turns = -(-bench.scale.feed_records // (first["records"] / _turns(first, sent)))
    del turns
    return first["records"] / first["packets"], first["lookups"] / first["packets"]


def _turns(fed: dict[str, float], packets: float) -> float:
    return max(round(fed["packets"] / packets), 1)


def lossless(bench: Bench) -> None:
    """The highest rate forwarded with default settings at which nothing is lost."""
    print("\nforwarding with default settings, collector on a core of its own")
    rate: float | None = None
    for _ in range(5):
        seconds = bench.scale.flood_s
        packets = int(seconds * (rate or 120_000))
        before = forwarded()
        done = run(bench.trace(), Traffic(FORWARDED, packets, flows=_SCENARIO_FLOWS, rate=rate), bench.work)
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


# -- start ----------------------------------------------------------------------------------------------------------


def start(bench: Bench) -> None:
    """Seconds to help, to attached, and to the first packet shown."""
    helps, attached, shown = [], [], []
    for _ in range(bench.scale.rounds):
        helps.append(execute([FIBTRACE, "--help"]).wall_s)
        at, first = _first_event(bench)
        attached.append(at)
        shown.append(first)
    print("\nseconds from the start of the process (median, min - max)")
    for name, values in {"--help": helps, "probes attached": attached, "first packet shown": shown}.items():
        spread = Spread.of(values)
        print(f"  {name:40} {spread.median:6.3f} ({spread.low:.3f} - {spread.high:.3f})")
    median_s = Spread.of(helps).median
    bench.table.goal(f"--help under {_HELP_S} s", f"{median_s:.3f} s", met=median_s < _HELP_S)
    first_s = Spread.of(shown).median
    bench.table.goal(
        f"first event within {_FIRST_EVENT_S} s", f"{first_s:.3f} s", met=first_s < _FIRST_EVENT_S
    )


def _first_event(bench: Bench) -> tuple[float, float]:
    """When COMMAND began (then the probes are attached), and when the first line came."""
    out = bench.work / "sent.json"
    command = fibtrace("--format", "line") + Traffic(FORWARDED, 640, rate=640).command(out)
    begin_s = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        first = child.stdout.readline() if child.stdout else b""
        shown_s = time.monotonic() - begin_s
        if child.stdout:
            child.stdout.read()
    finally:
        if child.stdout:
            child.stdout.close()
        child.wait()
    if not first:
        raise RuntimeError(f"fibtrace showed nothing (exit code {child.returncode})")
    return json.loads(out.read_text())["begin_s"] - begin_s, shown_s


# -- a long run -----------------------------------------------------------------------------------------------------


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


# -- all ------------------------------------------------------------------------------------------------------------


def measure(bench: Bench, minutes: float) -> None:
    """Everything that was asked for, in the order of the table."""
    with World() as world:
        if minutes:
            long_run(bench, minutes)
            return
        start(bench)
        loads = throughput(bench, world)
        packets = bench.scale.packets
        compare(
            bench,
            "UDP flood forwarded by a router",
            Traffic(FORWARDED, packets, flows=_SCENARIO_FLOWS),
            loads,
        )
        lossless(bench)
        if bench.scale.variants:
            variants(bench, Traffic(FORWARDED, packets, flows=_SCENARIO_FLOWS))
            for name, to in (("one lookup", ONE_LOOKUP), ("three lookups", THREE_LOOKUPS)):
                traffic = Traffic(to, packets, netns=LOCAL)
                compare(bench, f"sendto on loopback, {name}", traffic, _loads(bench, traffic))


def _loads(bench: Bench, traffic: Traffic) -> tuple[float, float]:
    """Records and lookups per packet of some traffic, from a slow run."""
    name = "probe"
    path = bench.work / f"{name}.fibtrace"
    tool = fibtrace("--netns", traffic.netns, "-o", str(path), "--format", "none")
    sent = run(tool, Traffic(traffic.to, 2_000, netns=traffic.netns, rate=2_000), bench.work).sent["packets"]
    command = [sys.executable, str(HERE / "feed.py"), str(path), str(bench.parquet), "--records", "1"]
    fed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return fed["records"] / sent, fed["lookups"] / sent


def environment() -> None:
    """Say what it was measured on."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    print(f"Linux {platform.release()}, {os.cpu_count()} CPUs ({model}), load {os.getloadavg()[0]:.1f}")
    print(
        f"sender on CPU {SENDER_CPU}, collector on CPU {COLLECTOR_CPU}; perf is `perf record -e {PERF_EVENT} -a`"
    )
    if not shutil.which("perf"):
        print("perf is not installed (linux-perf): its column is left out")
    print("bpftrace: " + ("installed" if shutil.which("bpftrace") else "not installed: not compared"))


def main() -> int:
    """Parse, measure, clean up; 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--quick", action="store_true", help="less of everything, under a minute")
    parser.add_argument("--rounds", type=int, help="interleaved rounds of each comparison")
    parser.add_argument(
        "--long", type=float, default=0, metavar="MINUTES", help="only the run for memory over time"
    )
    options = parser.parse_args()
    if os.geteuid():
        print("error: not root: namespaces and probes need it\n  try: sudo scripts/bench", file=sys.stderr)
        return 3
    chosen = QUICK if options.quick else FULL
    scale = Scale(
        options.rounds or chosen.rounds, chosen.packets, chosen.flood_s, chosen.feed_records, chosen.variants
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    environment()
    table = Table()
    with contextlib.ExitStack() as stack:
        work = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="fibtrace-bench-", dir="/var/tmp"))
        )
        measure(Bench(work, scale, table), options.long)
    print(f"\n{len(table.missed)} goals missed" + "".join(f"\n  {name}" for name in table.missed))
    return bool(table.missed)


if __name__ == "__main__":
    sys.exit(main())
