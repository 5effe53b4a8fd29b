"""Runs what a figure names, in a directory of its own, and renders what the figure shows of it."""

from __future__ import annotations

import fcntl
import fnmatch
import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pandas as pd

import tracer
from articlelib.page import Figure

TOP = Path(__file__).resolve().parents[2]
LOCK = Path("/run/lock/fibtrace-lab-tests")
"""The same lock as that of the live tests: labs have fixed names."""


def missing(figure: Figure) -> str | None:
    """The program that a figure's script needs (`# needs: PROGRAM`) and that is not installed here."""
    for script in {word for line in figure.run for word in line.split() if word.startswith("docs/article/")}:
        for program in re.findall(
            r"^# needs: (\S+)$", (TOP / script).read_text(encoding="utf-8"), re.MULTILINE
        ):
            if shutil.which(program) is None:
                return f"{script} needs {program}, which is not installed"
    return None


def render(figure: Figure) -> str:
    """Return a figure's body: the commands for the reader, and what came out of them."""
    printed, exports = _ran(figure.run)
    shown = [f"sudo {line}" for line in figure.run]
    if figure.columns:
        result = _table(exports, figure)
    elif figure.show:
        result = "\n\n".join(_packets(printed, figure.show))
    else:
        result = printed.strip("\n")
    commands = "\n".join(shown)
    lines = "\n".join(line.rstrip() for line in result.splitlines())
    return f"```sh\n{commands}\n```\n\n```text\n{lines}\n```\n"


@functools.cache
def _ran(commands: tuple[str, ...]) -> tuple[str, dict[str, pd.DataFrame]]:
    """What the commands printed, and the tables that they wrote; run once for all figures that show them."""
    with LOCK.open("w") as lock, tempfile.TemporaryDirectory(prefix="ft-article-") as directory:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("docs", "scripts", "tracer", "bpf"):
            Path(directory, name).symlink_to(TOP / name)
        environment = {**os.environ, "PATH": f"{TOP / '.venv' / 'bin'}:{os.environ['PATH']}"}
        printed = _all(commands, directory, environment)
        exports = {path.name: tracer.read(path) for path in Path(directory).glob("*.csv")}
    return printed, exports


def _all(commands: tuple[str, ...], directory: str, environment: dict[str, str]) -> str:
    """Run one after the other; after one that fails, only those that take away what the others made."""
    printed, failed = "", None
    for command in commands:
        if failed and not re.search(r"\bdown\b", command):
            continue
        # Through a shell: they are lines that a reader types, with quotes and pipes.
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        printed += done.stdout
        if done.returncode and not failed:
            failed = f"error: {command}: exit code {done.returncode}\n  {done.stderr.strip()[-800:]}"
    if failed:
        raise SystemExit(failed)
    return printed


def _packets(printed: str, patterns: tuple[str, ...]) -> list[str]:
    """The first packet of each pattern, each after the one before by its number."""
    blocks = [block for block in printed.split("\n\n") if block.startswith("#")]
    blocks.sort(key=lambda block: int(block[1:].split()[0]))
    found, start = [], 0
    for pattern in patterns:
        header, _, text = (part.strip() for part in pattern.partition("|"))
        for number in range(start, len(blocks)):
            if _matches(blocks[number], header, text):
                found.append(blocks[number])
                start = number + 1
                break
        else:
            raise SystemExit(
                f"error: no packet is like {pattern!r} among {len(blocks)}, after {len(found)} others"
            )
    return found


def _matches(block: str, header: str, text: str) -> bool:
    first = " ".join(block.partition("\n")[0].split()[1:-2])
    body = " ".join(block.replace("~", "").split())
    return fnmatch.fnmatchcase(first, header.replace("[", "[[]")) and text in body


def _table(exports: dict[str, pd.DataFrame], figure: Figure) -> str:
    """Some columns of the rows of the file that was written, each combination once."""
    (frame,) = exports.values()
    if figure.where:
        frame = frame.query(figure.where, engine="python")
    columns = [column.strip() for column in figure.columns.split(",")]
    wanted = frame[columns].astype("string").fillna("").drop_duplicates()
    if wanted.empty:
        raise SystemExit(f"error: no row of {figure.run[-1]} is like {figure.where!r}")
    rows = [columns, *wanted.to_numpy().tolist()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )
