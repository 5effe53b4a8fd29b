"""Commands of the distribution that make something of a lab: run to their end, with their complaint as the error."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tracer.errors import TracerError
from tracer.lab.programs import require
from tracer.lab.signals import held


def output_of(lock: int, *words: str, netns: str = "", said: str = "", cwd: Path | None = None) -> str:
    """Run a command, in a namespace where one is named, with `said` on its stdin; return what it prints.

    A signal waits until it has ended, and the lock is inherited: whoever cleans up must not do it meanwhile.

    Raises:
        TracerError: it failed; its own words are in the message.
    """
    where = [require("ip"), "netns", "exec", netns] if netns else []
    command = [*where, require(words[0]), *words[1:]]
    with held():
        done = subprocess.run(
            command, input=said, capture_output=True, text=True, pass_fds=(lock,), check=False, cwd=cwd
        )
    if done.returncode != 0:
        place = f" in namespace {netns}" if netns else ""
        said_last = (done.stderr or done.stdout).strip()
        raise TracerError(f"cannot set up the lab: `{' '.join(words[:2])}` failed{place}: {said_last}")
    return done.stdout.strip()
