"""Programs that an image is made with: one line each on the terminal, what they print in a log."""

# ruff: noqa: T201 - it prints, on stderr

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SHOWN_LINES = 30


class Failed(Exception):
    """What went wrong; further lines say why and what to do."""


def say(text: str) -> None:
    """One line on stderr: stdout is the command's."""
    print(f"vm: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Steps:
    """Runs programs and keeps their output in `log`."""

    log: Path

    def run(self, what: str, *command: str | Path, cwd: Path | None = None) -> None:
        """Run a program and say what for; when it fails, its last lines are shown."""
        say(what)
        self.quietly(what, *command, cwd=cwd)

    def quietly(self, what: str, *command: str | Path, cwd: Path | None = None) -> None:
        """Run a program that is not worth a line."""
        with self.log.open("a+b") as log:
            log.write(f"\n== {what}: {' '.join(map(str, command))}\n".encode())
            log.flush()
            begin = log.tell()
            try:
                code = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, check=False
                ).returncode
            except OSError as error:
                raise Failed(f"{what} failed: {error}") from error
            if code == 0:
                return
            log.seek(begin)
            lines = log.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:]
        print("\n".join(lines), file=sys.stderr)
        raise Failed(f"{what} failed ({command[0]} ended with {code})\n  the whole log: {self.log}")


def output(*command: str | Path) -> str:
    """What a program prints; empty when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
