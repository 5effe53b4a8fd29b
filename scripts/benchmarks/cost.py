"""What tracing adds to every packet, beside no tracing and beside perf."""

# ruff: noqa: INP001, T201 - beside the program that uses it; prints figures

from __future__ import annotations

import json
import subprocess
import sys

from figures import Spread, Table
from runs import Run, Traffic, fibtrace, perf, perf_counts, run
from setting import Bench
from world import HERE

_WARM_PACKETS = 20_000


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
    table.row("CPU ns per packet, median", tuple(c.median if c else None for c in costs))  # type: ignore[arg-type]
    table.row("  min", tuple(c.low if c else None for c in costs))  # type: ignore[arg-type]
    table.row("  max", tuple(c.high if c else None for c in costs))  # type: ignore[arg-type]
    added = [_added(plain, tool) for tool in (other, ours)]
    table.row("added CPU ns per packet, median", (None, *(a.median if a else None for a in added)))  # type: ignore[arg-type]
    table.row("  min", (None, *(a.low if a else None for a in added)))  # type: ignore[arg-type]
    table.row("  max", (None, *(a.high if a else None for a in added)))  # type: ignore[arg-type]
    rates = [
        Spread.of([r.sent["packets"] / r.seconds for r in tool]).median if tool else None
        for tool in (plain, other, ours)
    ]
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


def loads(bench: Bench, traffic: Traffic) -> tuple[float, float]:
    """Records and lookups per packet of some traffic, from a slow run."""
    name = "probe"
    path = bench.work / f"{name}.fibtrace"
    tool = fibtrace("--netns", traffic.netns, "-o", str(path), "--format", "none")
    sent = run(tool, Traffic(traffic.to, 2_000, netns=traffic.netns, rate=2_000), bench.work).sent["packets"]
    command = [sys.executable, str(HERE / "feed.py"), str(path), str(bench.parquet), "--records", "1"]
    fed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return fed["records"] / sent, fed["lookups"] / sent
