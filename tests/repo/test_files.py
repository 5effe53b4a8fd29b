"""What is checked in: sizes, executability, nothing of one machine, documents that name what exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

MAX_LINES = 350
TEXTS_OF_OTHERS = {"LICENSE.GPL-2.0"}
# The brackets keep this line from naming them itself.
OF_ONE_MACHINE = re.compile(r"[/]work/|[/]root/|[/]home/(?!USER\b)|py[p]i\.org|deb[.]debian\.org")


def test_files_stay_small(tracked):
    """No source file is longer than 350 lines: it does one thing."""
    sources = [
        path for path in tracked if path.suffix in {".py", ".c", ".h"} or path.parent.name == "scripts"
    ]
    assert len(sources) > 20
    lengths = {str(path): len(path.read_text().splitlines()) for path in sources}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_nothing_of_one_machine(tracked):
    """No file names a path of somebody's machine or the host of a package registry."""
    found = []
    for path in tracked:
        if path.name in TEXTS_OF_OTHERS or path.suffix in {".png", ".parquet"}:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if match := OF_ONE_MACHINE.search(line):
                found.append(f"{path}:{number}: {match[0]}")
    assert found == []


def test_scripts_are_programs(top):
    """Every script is executable, starts with its interpreter, and is stopped by errors or handles them."""
    scripts = [path for path in (top / "scripts").iterdir() if path.is_file()] + [top / ".ci" / "run"]
    for path in scripts:
        assert os.access(path, os.X_OK), f"{path} is not executable"
        assert path.read_text().startswith("#!/usr/bin/env "), path


def test_ci_runs_the_same_as_people(top):
    """CI has no steps of its own: it runs scripts/test."""
    lines = [line for line in (top / ".ci" / "run").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    assert "scripts/test" in lines[0]


def test_c_states_its_licence(top):
    """Every file that runs in the kernel carries the SPDX line of the dual licence; it is loaded as that."""
    for path in [*(top / "bpf").rglob("*.c"), *(top / "bpf").rglob("*.h")]:
        first = path.read_text().splitlines()[0]
        assert "SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)" in first, path


def commands_of(text: str) -> list[str]:
    """Command lines in a document's shell blocks, without prompts, comments and what follows `--`."""
    blocks = re.findall(r"```(?:sh|console|bash)\n(.*?)```", text, re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documented_commands_exist(top, name):
    """Each script and each fibtrace command with its options that a document shows is there."""
    shown = commands_of((top / name).read_text())
    assert shown
    for line in shown:
        words = [word for word in shlex.split(line) if word != "sudo"]
        program = words[0].removeprefix("./")
        if program.startswith("scripts/"):
            assert (top / program).exists(), line
        elif program.endswith("fibtrace"):
            check_command(words[1:], line)


def check_command(words: list[str], line: str) -> None:
    """Ask `--help` of the command whether it knows these options."""
    words = words[: words.index("--")] if "--" in words else words
    depth = 2 if words[0] == "lab" else 1
    if words[0].startswith("-"):
        depth = 0
    done = subprocess.run(
        [sys.executable, "-m", "tracer.cli.main", *words[:depth], "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (line, done.stderr)
    for option in (word.partition("=")[0] for word in words[depth:] if re.match(r"--?[a-z]", word)):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", done.stdout), f"{option} in: {line}"
