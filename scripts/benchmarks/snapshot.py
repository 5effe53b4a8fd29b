"""How long a snapshot of a namespace with many routes takes, and its memory: `snapshot.py [ROUTES]`, as root."""

# ruff: noqa: INP001, T201 - a program that prints

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIBTRACE = Path(sys.executable).with_name("fibtrace")


def _routes(number: int) -> str:
    lines = ["link set lo up", "link add s0 type veth peer name s1", "link set s0 up", "link set s1 up"]
    lines += ["addr add 10.0.0.1/24 dev s0"]
    lines += [
        f"route add {20 + (i >> 16)}.{i >> 8 & 255}.{i & 255}.0/24 via 10.0.0.{2 + i % 7} dev s0"
        for i in range(number)
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Fill a namespace, take its snapshot, print the figures."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    name = f"fs-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "-batch", "-"], input=_routes(number), text=True, check=True)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            target = Path(folder, "snapshot.json")
            started = time.monotonic()
            child = subprocess.Popen([FIBTRACE, "snapshot", "--netns", name, "-o", target])
            _, status, usage = os.wait4(child.pid, 0)
            taken = time.monotonic() - started
            print(
                f"{number:,} routes: exit {os.waitstatus_to_exitcode(status)}, {taken:.2f} s, "
                f"{usage.ru_maxrss / 1024:.0f} MB, file {target.stat().st_size / 1e6:.1f} MB"
            )
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
