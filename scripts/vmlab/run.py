"""Runs a command in a guest, and says what became of it."""

# ruff: noqa: T201 - it prints, on stderr

from __future__ import annotations

import sys
import time
from pathlib import Path

from vmlab import accelerator, initrd
from vmlab.cache import Cache
from vmlab.machine import Guest
from vmlab.session import Session, boot
from vmlab.steps import say

TIMED_OUT, DIED = 124, 125
_INIT = Path(__file__).resolve().parent / "guest/init"


def run(guest: Guest, cache: Cache, work: Path, timeout_s: float) -> int:
    """Boot, run, and say what happened; the exit code of the command, or 124, or 125."""
    file = work / "initrd"
    file.write_bytes(initrd.build(guest.kernel, _INIT))
    chosen = accelerator.choose(guest, cache, file)
    say(f"Linux {guest.kernel.release}, {chosen}, {guest.cpus} CPUs, {guest.memory_mib} MiB")
    return conclude(boot(guest, chosen, file, timeout_s), timeout_s)


def conclude(session: Session, timeout_s: float) -> int:
    """Say how it ended; the exit code."""
    now = time.monotonic()
    if session.code is not None:
        started_s = session.started_s or now
        boot_s, ran_s = started_s - session.begin_s, now - started_s
        say(f"booted in {boot_s:.1f} s, the command ended after {ran_s:.1f} s with {session.code}")
        return session.code
    when = "while the command ran" if session.started_s else "before the command was started"
    why = f"was stopped after {timeout_s:g} s" if session.timed_out else "died"
    remedy = "\n  try: --timeout S" if session.timed_out else ""
    print(
        f"{session.last_lines()}\nerror: the guest {why}, {when}: its last lines are above{remedy}",
        file=sys.stderr,
    )
    return TIMED_OUT if session.timed_out else DIED
