"""One measured run of a command: what it used, what it said, and what the flood inside it reports."""

# ruff: noqa: INP001 - beside the program that uses it

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from world import CLIENT, HERE, inside

TOP = HERE.parent.parent
FIBTRACE = str(Path(sys.executable).parent / "fibtrace")
SENDER_CPU, COLLECTOR_CPU = 0, (1 if (os.cpu_count() or 1) > 1 else 0)
PERF_EVENT = "fib:fib_table_lookup"
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_SAMPLE_S = 0.1
_PERF_SAMPLES = re.compile(r"\((\d+) samples\)")
_SEEN = re.compile(r"seen ([\d,]+) packets.*?([\d,]+) lost")


@dataclass(slots=True)
class Run:
    """What one run used: seconds of CPU without its children, MB of memory, losses; and the flood's own report."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    rss_mb: list[float]
    stderr: str
    code: int
    sent: dict[str, float] = field(default_factory=dict)
    started_s: float = 0.0

    @property
    def ns_per_packet(self) -> float:
        """Of the sender's CPU, with its softirqs (forwarding runs there too), without what others took of it."""
        return self.sent["busy_ns"] / self.sent["packets"]

    @property
    def seconds(self) -> float:
        """How long the sender sent."""
        return self.sent["ns"] / 1e9

    @property
    def steady_mb(self) -> float:
        """Median of the second half of the samples."""
        half = sorted(self.rss_mb[len(self.rss_mb) // 2 :])
        return half[len(half) // 2] if half else 0.0

    @property
    def lost(self) -> int:
        """What fibtrace says it lost."""
        found = _SEEN.search(self.stderr)
        if not found:
            raise RuntimeError(f"fibtrace did not finish (exit code {self.code}):\n{self.stderr}")
        return int(found[2].replace(",", ""))


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is sent: from where to where, how much, how fast."""

    to: str
    packets: int
    netns: str = CLIENT
    flows: int = 1
    ports: int = 250
    rate: float | None = None

    def command(self, out: Path) -> list[str]:
        """The flood, writing its report to `out`."""
        words = ["--to", self.to, "--packets", str(self.packets), "--flows", str(self.flows)]
        words += ["--ports", str(self.ports), "--cpu", str(SENDER_CPU), "--out", str(out)]
        words += ["--rate", str(self.rate)] if self.rate else []
        return inside(self.netns, sys.executable, str(HERE / "flood.py"), *words)


def fibtrace(*options: str) -> list[str]:
    """`fibtrace trace` with these options, ready for `-- COMMAND`."""
    return [FIBTRACE, "trace", *options, "--"]


def perf(out: Path) -> list[str] | None:
    """What a user would pick instead; None where it is not installed."""
    return ["perf", "record", "-e", PERF_EVENT, "-a", "-o", str(out), "--"] if shutil.which("perf") else None


def run(tool: list[str], traffic: Traffic, work: Path) -> Run:
    """Run the traffic inside the tool (an empty one for untraced), the tool on a CPU of its own."""
    out = work / "sent.json"
    out.unlink(missing_ok=True)
    measured = execute([*tool, *traffic.command(out)])
    if not out.exists():
        raise RuntimeError(f"{' '.join(tool[:2])} failed (exit code {measured.code}):\n{measured.stderr}")
    measured.sent = json.loads(out.read_text())
    measured.cpu_s = max(measured.cpu_s - measured.sent["cpu_s"], 0.0)
    return measured


def execute(command: list[str], stdout: int = subprocess.DEVNULL) -> Run:
    """Run to the end, sampling its memory; CPU time includes its children."""
    started_s = time.monotonic()
    child = subprocess.Popen(
        command,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {COLLECTOR_CPU}),  # noqa: PLW1509 - no threads yet
        cwd=TOP,
    )
    samples: list[float] = []
    ended = threading.Event()
    sampler = threading.Thread(target=_sample, args=(child.pid, samples, ended))
    sampler.start()
    try:
        stderr = child.stderr.read() if child.stderr else ""
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    finally:
        ended.set()
        sampler.join()
    return Run(
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=time.monotonic() - started_s,
        peak_mb=max(usage.ru_maxrss * 1024 / 1e6, max(samples, default=0.0)),
        rss_mb=samples,
        stderr=stderr,
        code=child.returncode,
        started_s=started_s,
    )


def _sample(pid: int, samples: list[float], ended: threading.Event) -> None:
    while not ended.wait(_SAMPLE_S):
        try:
            samples.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MB)
        except (OSError, IndexError):
            return


def perf_counts(measured: Run, data: Path) -> tuple[int, int]:
    """Samples that perf wrote, and how many it lost."""
    found = _PERF_SAMPLES.search(measured.stderr)
    stats = subprocess.run(
        ["perf", "report", "--stats", "-i", str(data)], capture_output=True, text=True, check=False
    ).stdout
    lost = sum(int(number) for number in re.findall(r"LOST(?:_SAMPLES)? events:\s+(\d+)", stats))
    return int(found[1]) if found else 0, lost
