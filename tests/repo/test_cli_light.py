"""`--help` answers at once: nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = {"bcc", "pandas", "pyroute2", "numpy", "pyarrow", "rich", "asyncio"}
COMMANDS = (
    ["--help"],
    ["trace", "--help"],
    ["convert", "--help"],
    ["report", "--help"],
    ["explain", "--help"],
    ["expect", "--help"],
    ["doctor", "--help"],
    ["lab", "--help"],
    ["lab", "run", "--help"],
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_help_is_light(arguments):
    """The help of a command exits with 0, prints on stdout, and imports no heavy library."""
    code = (
        "import sys; from tracer.cli.main import main; sys.argv[1:] = sys.stdin.read().split()\n"
        "try: main()\n"
        "except SystemExit as end: print('MODULES', *sys.modules); sys.exit(end.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=" ".join(arguments), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text, _, modules = done.stdout.partition("MODULES ")
    assert "Usage:" in text
    assert HEAVY & {name.split(".")[0] for name in modules.split()} == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["doctor", "--json"]], ids=" ".join)
@pytest.mark.parametrize("closed", ["a pipe that nobody reads", "not there"])
def test_closed_stdout_is_quiet(arguments, closed):
    """Where nobody reads stdout, every command ends as it would have, and says nothing about it."""
    command = [sys.executable, "-m", "tracer.cli.main", *arguments]
    if closed == "not there":
        command = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command]
    reader, writer = os.pipe()
    os.close(reader)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=buffered
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in ({0, 3, 4} if "doctor" in arguments else {0})
