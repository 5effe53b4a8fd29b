# ruff: noqa: INP001 - a program, not part of a package
"""One trace for hours at a low rate: what it sees, what it holds, and whether that grows."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))

from tests.live.networks import client_router_server  # noqa: E402 - the checkout is not installed

GAP_S, WARM = 0.2, 0.25
MORE_KIB, MORE_FILES = 16_384, 4
"""How much the last quarter of the time may hold beyond the second one."""


def held(pid: int) -> tuple[int, int]:
    """Resident memory in KiB, and open files."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def followed(tool: subprocess.Popen[bytes], seconds: float) -> list[tuple[int, int]]:
    """What the tool holds, some hundred times until it ends."""
    found, said, begun = [], 0.0, time.monotonic()
    while tool.poll() is None:
        now = time.monotonic() - begun
        try:
            found.append(held(tool.pid))
        except FileNotFoundError:
            break
        if now - said >= 60:  # noqa: PLR2004 - a line a minute
            said = now
            sys.stderr.write(f"{now / 60:.0f} min: {found[-1][0]} KiB, {found[-1][1]} files\n")
        time.sleep(min(seconds / 200, 10))
    return [pair for pair in found if pair[0]]


def soak(hours: float) -> int:
    """Run, compare, say what came of it; returns the exit code."""
    count = max(round(hours * 3600 / GAP_S), 50)
    with tempfile.TemporaryDirectory() as place, client_router_server() as net:
        ping = net.inside("c", "ping", "-q", "-c", str(count), "-i", str(GAP_S), "10.2.0.2")
        told, lines = Path(place, "told"), Path(place, "lines")
        command = [sys.executable, "-m", "tracer.cli.main", "trace", "--dst", "10.2.0.2", "--format", "line"]
        with told.open("w") as errors, lines.open("w") as out:
            tool = subprocess.Popen(
                [*command, "-o", f"{place}/x.parquet", "--", *ping], cwd=TOP, stdout=out, stderr=errors
            )
            found = followed(tool, count * GAP_S)
        text = told.read_text()
    start, end = found[int(len(found) * WARM) : len(found) // 2], found[int(len(found) * (1 - WARM)) :]
    kib, files = (max(p[i] for p in end) - max(p[i] for p in start) for i in range(2))
    good = tool.returncode == 0 and f"seen {count} packets, 0 lost" in text
    sys.stdout.write(f"all {count} packets seen, 0 lost\n" if good else f"{count} packets sent\n{text}")
    sys.stdout.write(f"memory {kib:+} KiB, open files {files:+} from the second quarter to the last\n")
    return int(not good or kib > MORE_KIB or files > MORE_FILES)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--hours", type=float, default=8.0)
    sys.exit(soak(words.parse_args().hours))
