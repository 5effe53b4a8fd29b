"""What `fibtrace top` adds to every lookup of a forwarded packet, beside no tracing."""

# ruff: noqa: INP001, T201 - beside the program that uses it; prints figures

from __future__ import annotations

import re

from figures import Spread
from runs import FIBTRACE, Run, Traffic, run
from setting import Bench

GOAL_NS = 100
_COUNTED = re.compile(r"counted (\d+) decisions with (\d+) lookups .*?(\d+) lost")


def top(bench: Bench, traffic: Traffic) -> None:
    """Interleaved rounds of untraced and counted; every lookup must have been counted."""
    tool = [FIBTRACE, "top", "--format", "csv", "--"]
    plain: list[Run] = []
    counted: list[Run] = []
    for _ in range(bench.scale.rounds):
        plain.append(run([], traffic, bench.work))
        counted.append(run(tool, traffic, bench.work))
    figures = [_counted(item) for item in counted]
    per_packet = Spread.of([lookups / traffic.packets for lookups, _ in figures]).median
    added = Spread.of(
        [
            (with_top.ns_per_packet - without.ns_per_packet) / per_packet
            for without, with_top in zip(plain, counted, strict=True)
        ]
    )
    table = bench.table
    print(f"\nfibtrace top, UDP flood forwarded by a router: {per_packet:.2f} lookups per packet")
    print(f"  added CPU ns per lookup {added.median:,.0f} ({added.low:,.0f} - {added.high:,.0f})")
    cpu_s = Spread.of([item.cpu_s for item in counted]).median
    print(f"  CPU s of the collector, compiling included {cpu_s:.2f}")
    table.goal(f"at most {GOAL_NS} ns per lookup", f"{added.median:,.0f} ns", met=added.median <= GOAL_NS)
    lost = sum(number for _, number in figures)
    table.goal("every lookup counted", f"{lost} lost", met=not lost)


def _counted(measured: Run) -> tuple[int, int]:
    found = _COUNTED.search(measured.stderr)
    if not found:
        raise RuntimeError(f"fibtrace did not finish (exit code {measured.code}):\n{measured.stderr}")
    return int(found[2]), int(found[3])
