"""What a package adds to the program: man page, completions, unit; made from the command line itself, and right."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = [sys.executable, "-m", "tracer.cli.main"]
COMMANDS = ("trace", "explain", "top", "convert", "expect", "snapshot", "doctor", "lab run")
SYNTAX = {
    "bash": ("bash.fibtrace", ["bash", "-n"]),
    "zsh": ("zsh._fibtrace", ["zsh", "-n"]),
    "fish": ("fish.fibtrace.fish", ["fish", "-n"]),
}
ONE_MACHINE = re.compile(
    r"x86_|amd64|__aarch64__|little_endian|struct pt_regs \*\w+->(?:di|si|ax)", re.IGNORECASE
)


@pytest.fixture(scope="module")
def made(top, tmp_path_factory):
    """The directory with what is made from the command line."""
    place = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, top / "scripts/packaging/from_cli.py", place], check=True, cwd=top)
    return place


def test_the_man_page_has_every_command_and_option(made):
    """Whatever `--help` of a command offers is in the man page's section of that command."""
    page = (made / "fibtrace.8").read_text().replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
    for command in COMMANDS:
        section = page.partition(f".SS fibtrace {command} ")[2].partition("\n.SS ")[0]
        done = subprocess.run([*MAIN, *command.split(), "--help"], capture_output=True, text=True, check=True)
        offered = set(re.findall(r"^  (?:-\w, )?(--[a-z][a-z-]*)", done.stdout, re.MULTILINE)) - {"--help"}
        assert offered, command
        assert {option for option in offered if option not in section} == set(), command


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_the_man_page_is_right_roff(made):
    """The formatter has nothing to complain of."""
    done = subprocess.run(
        ["man", "--warnings", "-l", made / "fibtrace.8"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "EXIT STATUS" in done.stdout


@pytest.mark.parametrize("shell", SYNTAX)
def test_completions_parse(made, shell):
    """Each shell reads its completion without an error."""
    name, check = SYNTAX[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([*check, made / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_answers():
    """What a shell asks is answered with the option that can follow."""
    asked = {"_FIBTRACE_COMPLETE": "complete_bash", "COMP_WORDS": "fibtrace trace --back", "COMP_CWORD": "2"}
    program = Path(sys.executable).with_name("fibtrace")
    done = subprocess.run([program], capture_output=True, text=True, check=False, env=os.environ | asked)
    assert (done.stdout.split(), done.stderr) == (["--backend"], "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_right(top, tmp_path):
    """systemd knows every setting of the unit; the program itself is named as a package installs it."""
    text = (top / "scripts/packaging/fibtrace-recorder.service").read_text()
    unit = tmp_path / "fibtrace-recorder.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert [
        line
        for line in done.stderr.splitlines()
        if "fibtrace-recorder" in line and "Command 'man" not in line
    ] == []
    assert "/usr/bin/fibtrace trace" in text


def test_nothing_is_for_one_processor(top):
    """No C and no Python names a processor, but where a system call's number is chosen by it."""
    files = [*(top / "bpf").rglob("*.[ch]"), *(top / "tracer").rglob("*.py")]
    found = [
        f"{path.relative_to(top)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ONE_MACHINE.search(line) and '"aarch64' not in line
    ]
    assert found == []
