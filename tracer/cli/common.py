"""How every command ends: what is printed on stderr, and the exit code."""

from __future__ import annotations

import errno
import functools
import os
import select
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import typer

from tracer.errors import Exit, TracerError
from tracer.model.visible import visible

INTERRUPTED = 130
"""Exit code after Ctrl-C where a command has nothing to finish (128 + SIGINT, as shells count)."""

_SHOWN_LENGTH = 200
P = ParamSpec("P")


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Make a function a command: what it returns is the exit code, what it raises one clear message.

    A command that has nothing to say beyond 0 may return None. A closed stdout (`| head`) is no error. Usage
    errors that typer finds, and those raised as `typer.BadParameter`, keep typer's message and exit with 2.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs) or Exit.DONE
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BaseException as error:  # noqa: BLE001 - the one place that turns it into a message
            code = end(error)
        raise typer.Exit(int(code))

    return guarded


def end(error: BaseException) -> int:
    """Say on stderr why the command ended, if there is anything to say; returns the exit code."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and stdout_closed():
        _discard_stdout()
        return Exit.DONE
    if isinstance(error, TracerError):
        if error.__cause__ is not None and os.environ.get("FIBTRACE_DEBUG") == "1":
            traceback.print_exception(error.__cause__)
        return complain(str(error), error.code)
    if isinstance(error, OSError) and error.strerror and (error.filename or not _is_bug(error)):
        return complain(
            ": ".join(str(part) for part in (error.filename, error.strerror) if part), Exit.FAILED
        )
    if os.environ.get("FIBTRACE_DEBUG") == "1":
        traceback.print_exception(error)
        return Exit.FAILED
    return complain(
        f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:_SHOWN_LENGTH]}\n"
        "this is a mistake in fibtrace: please report it, with what it prints under FIBTRACE_DEBUG=1",
        Exit.FAILED,
    )


def complain(message: str, code: int) -> int:
    """Print `error: message` on stderr, its further lines indented; returns `code`."""
    first, *rest = message.strip().splitlines() or ["failed"]
    lines = [f"error: {visible(first)}", *(f"  {visible(line.strip())}" for line in rest if line.strip())]
    print("\n".join(lines), file=sys.stderr)
    return code


def shown_changes(*, changes: bool, neighbours: bool) -> str:
    """Which changes of the configuration are shown, from the two options that say so."""
    if neighbours and not changes:
        raise typer.BadParameter("--neighbours: says which changes are shown\n  try: --changes --neighbours")
    return "all" if neighbours else "routing" if changes else "none"


def stdout_closed() -> bool:
    """Whether nobody reads our stdout any more: it is this pipe that broke, not one to another program."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(events & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, events in poll.poll(0))
    except (OSError, ValueError):
        return True


def _is_bug(error: OSError) -> bool:
    """Without a file's name, only these are the machine's fault (full disk, no memory)."""
    return error.errno not in {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EIO,
        errno.EFBIG,
    }


def open_missing_streams() -> None:
    """Give stdout and stderr somewhere to go where we were started without them (`>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - stays open as long as we run


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere, or Python complains about it on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
