"""How soon it answers, is attached, and shows the first packet."""

# ruff: noqa: INP001, T201 - beside the program that uses it; prints figures

from __future__ import annotations

import json
import subprocess
import time

from figures import Spread
from runs import FIBTRACE, Traffic, execute, fibtrace
from setting import Bench
from world import FORWARDED

_HELP_S, _FIRST_EVENT_S = 0.3, 1.0


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
