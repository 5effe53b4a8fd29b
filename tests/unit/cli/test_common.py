"""How commands end: message, exit code, silence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
import typer

from tracer.cli import common
from tracer.errors import BadRequest, Exit, NotPermitted, NotSupported


def ended(error: BaseException) -> int:
    """Run a command that raises, and return its exit code."""

    @common.command
    def fails() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        fails()
    return caught.value.exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [(BadRequest("no device r9"), 2), (NotPermitted("not root"), 3), (NotSupported("no BTF"), 4)],
)
def test_our_errors_are_one_message(error, code, capsys):
    """An error of ours is printed as it is, without a traceback, and ends with its own code."""
    assert ended(error) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_further_lines_are_indented(capsys):
    """What to do stands below the message, indented."""
    ended(BadRequest("cannot read x\n  why\ntry: y"))
    assert capsys.readouterr().err == "error: cannot read x\n  why\n  try: y\n"


def test_full_disk_is_said_with_the_file(capsys):
    """A full disk is the machine's fault: the file and the reason, no request to report it."""
    assert ended(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/x.csv")) == Exit.FAILED
    assert capsys.readouterr().err == "error: out/x.csv: No space left on device\n"


def test_unexpected_errors_ask_to_be_reported(capsys, monkeypatch):
    """A mistake of ours says so in one line; the traceback only when asked for."""
    monkeypatch.delenv("FIBTRACE_DEBUG", raising=False)
    assert ended(KeyError("table")) == Exit.FAILED
    text = capsys.readouterr().err
    assert text.startswith("error: unexpected KeyError: 'table'\n")
    assert "Traceback" not in text
    monkeypatch.setenv("FIBTRACE_DEBUG", "1")
    assert ended(KeyError("table")) == Exit.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_quiet(capsys):
    """Ctrl-C ends with 130 and prints nothing."""
    assert ended(KeyboardInterrupt()) == common.INTERRUPTED
    assert capsys.readouterr().err == ""


def test_result_is_the_exit_code():
    """What a command returns is how the process ends; nothing means 0."""
    for result, code in ((None, 0), (0, 0), (7, 7)):
        with pytest.raises(typer.Exit) as caught:
            common.command(lambda result=result: result)()
        assert caught.value.exit_code == code


@pytest.mark.parametrize("lines", [1, 100_000], ids=["found at the last flush", "found while printing"])
def test_closed_stdout_is_no_error(lines):
    """With `| head -0` a command ends with 0 and says nothing, wherever the pipe broke."""
    code = (
        "import typer\nfrom tracer.cli.common import command\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "@command\n"
        f"def say() -> None:\n    for n in range({lines}): print('line', n)\n"
        "app()"
    )
    reader, writer = os.pipe()
    os.close(reader)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=buffered
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_broken_pipe_elsewhere_is_an_error(capfd):
    """A pipe that is not our stdout and breaks is not taken for a closed terminal."""
    assert ended(BrokenPipeError(errno.EPIPE, "Broken pipe", "out.fifo")) == Exit.FAILED
    assert "out.fifo" in capfd.readouterr().err
