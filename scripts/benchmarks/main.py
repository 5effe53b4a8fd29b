"""Measures fibtrace against no tracing and against `perf record`, on the same traffic, and prints one table.

Run as `sudo scripts/bench [--quick] [--rounds N] [--long MINUTES]`; see docs/performance.md for what the figures mean.
"""

# ruff: noqa: INP001, T201 - a program that prints

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from cost import compare, loads, variants
from figures import Table
from runs import COLLECTOR_CPU, PERF_EVENT, SENDER_CPU, Traffic
from setting import FULL, QUICK, Bench
from start import start
from throughput import FLOWS, long_run, lossless, throughput
from top import top
from world import FORWARDED, LOCAL, ONE_LOOKUP, THREE_LOOKUPS, World


def measure(bench: Bench, minutes: float) -> None:
    """Everything that was asked for, in the order of the table."""
    with World() as world:
        if minutes:
            long_run(bench, minutes)
            return
        start(bench)
        per_packet = throughput(bench, world)
        packets = bench.scale.packets
        compare(
            bench,
            "UDP flood forwarded by a router",
            Traffic(FORWARDED, packets, flows=FLOWS),
            per_packet,
        )
        top(bench, Traffic(FORWARDED, packets, flows=FLOWS))
        lossless(bench)
        if bench.scale.variants:
            variants(bench, Traffic(FORWARDED, packets, flows=FLOWS))
            for name, to in (("one lookup", ONE_LOOKUP), ("three lookups", THREE_LOOKUPS)):
                traffic = Traffic(to, packets, netns=LOCAL)
                compare(bench, f"sendto on loopback, {name}", traffic, loads(bench, traffic))


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
    scale = replace(chosen, rounds=options.rounds or chosen.rounds)
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
