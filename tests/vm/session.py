"""All backends at once over all labs: one run, in which every backend sees the same packets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tracer
from tests.live.lab_runs import LabRun
from tests.live.oracle import Comparison
from tests.live.tracing import REPO, Captured, Seen, paths_of
from tracer.lab.catalog import labs

BACKENDS = ("tracepoint", "kprobe", "fentry")
LABS = os.environ.get("FIBTRACE_LABS", "").split() or list(labs())
"""All labs, or those that FIBTRACE_LABS names."""
_LIMIT_S = 1500


@dataclass(frozen=True)
class Session:
    """What each backend wrote, what all of them said, and what was driven."""

    paths: dict[str, list[Seen]]
    told: str
    code: int
    driven: dict[str, dict[str, Any]]

    def lab(self, backend: str, name: str) -> LabRun:
        """The part of a backend's capture that is of this lab."""
        driven = self.driven[name]
        inodes = set(driven["inodes"])
        paths = [
            path
            for path in self.paths[backend]
            if driven["start_ns"] <= path.rows[0]["ts_ns"] <= driven["end_ns"]
            and any(row["netns_inode"] in inodes for row in path.rows)
        ]
        captured = Captured(self.code, self.told, "", None, paths)
        return LabRun(labs()[name], captured, tuple(map(tuple, driven["ends"])), Comparison())


@cache
def session() -> Session:
    """Trace all labs with every backend, each started when the one before it is attached."""
    with tempfile.TemporaryDirectory(prefix="ft-") as name:
        directory = Path(name)
        command = [sys.executable, "-m", "tests.vm.driver", str(directory / "driven.json"), *LABS]
        for backend in BACKENDS:
            files = [
                word
                for suffix in ("parquet", "jsonl", "fibtrace")
                for word in ("-o", f"{directory / backend}.{suffix}")
            ]
            trace = [sys.executable, "-m", "tracer.cli.main", "trace", "--backend", backend, *files]
            command = [*trace, "--format", "none", "--", *command]
        done = subprocess.run(
            command, cwd=REPO, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        if "FIBTRACE_OUT" in os.environ:
            shutil.copytree(directory, Path(os.environ["FIBTRACE_OUT"], "captures"))
        assert (directory / "driven.json").exists(), done.stderr
        paths = {backend: _read(directory / backend) for backend in BACKENDS}
        driven = json.loads((directory / "driven.json").read_text())
        return Session(paths, done.stderr, done.returncode, driven)


def _read(stem: Path) -> list[Seen]:
    objects = [json.loads(line) for line in stem.with_suffix(".jsonl").read_text().splitlines()]
    complete = {item["packet"]: item["complete"] for item in objects}
    return paths_of(tracer.read(stem.with_suffix(".parquet")), complete)
