"""Brings labs up in turn, runs their traffic, takes them down: `python -m tests.vm.driver OUT.json [LAB...]`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tracer.errors import TracerError
from tracer.lab import engine
from tracer.lab.catalog import labs


def drive(name: str) -> dict[str, object]:
    """One lab: its namespaces, when its traffic ran (ns since the epoch), and how each step ended."""
    with engine.running(name) as running:
        start_ns = time.time_ns()
        ends = [(result.step.label, time.time_ns(), result.ok, result.output) for result in running.traffic()]
        inodes = list(running.namespaces.values())
    return {"inodes": inodes, "start_ns": start_ns, "end_ns": time.time_ns(), "ends": ends}


def main(target: str, *names: str) -> None:
    """These labs, or all, that can run here; of the others, why not."""
    found: dict[str, object] = {}
    for name in names or labs():
        try:
            found[name] = drive(name)
        except TracerError as error:
            found[name] = {"refused": str(error)}
    Path(target).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
