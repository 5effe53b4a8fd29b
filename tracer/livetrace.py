"""Tracing while a block of Python runs: `with tracer.live() as trace: …`, then `trace.paths()`.

The tracer is a program of its own, so that packets that this process sends are seen like any other's. It traces until
its COMMAND ends, and that one ends when its standard input does: whatever becomes of this process, nothing is left.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tracer.errors import BadRequest, Exit, NotPermitted, NotSupported, TracerError

if TYPE_CHECKING:
    from tracer.model.path import Path as PacketPath

_READY: Final = "fibtrace is attached"
_WAITS: Final = ("sh", "-c", f"echo {_READY}; cat >/dev/null")
_ENDS_WITHIN_S: Final = 60.0
_KINDS: Final[dict[int, type[TracerError]]] = {
    Exit.USAGE: BadRequest,
    Exit.NOT_PERMITTED: NotPermitted,
    Exit.NOT_SUPPORTED: NotSupported,
}


class Live:
    """What a trace has seen.

    `lost` is whether records were lost; it is known when the block has ended, and so are all paths.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._paths: list[PacketPath] = []
        self.lost: bool | None = None

    def paths(self) -> list[PacketPath]:
        """The paths that are finished by now, in the order in which they were finished."""
        if self.lost is not None:
            return self._paths
        from tracer.outputs.paths import paths
        from tracer.outputs.read import read_rows

        return list(paths(read_rows(self._file).rows))

    def keep(self, *, lost: bool) -> None:
        """Take what was written into memory: the file ends with the block."""
        self._paths, self.lost = self.paths(), lost


@contextlib.contextmanager
def live(*options: str) -> Iterator[Live]:
    """Trace while the block runs; probes are attached before it begins, and what it caused is read to its end.

    `options` are those of `fibtrace trace`: `live("--dst", "10.2.0.0/24")`. Raises NotPermitted or NotSupported where
    this process or this kernel cannot trace, BadRequest or another TracerError for what is wrong otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="fibtrace-") as directory, _tracer(directory, options) as process:
        _wait_until_attached(process, Path(directory))
        made = Live(Path(directory, "paths.jsonl"))
        try:
            yield made
        finally:
            code = _end(process)
        if code not in {Exit.DONE, Exit.LOST}:
            raise _failed(code, _said(directory))
        made.keep(lost=code == Exit.LOST)


@contextlib.contextmanager
def _tracer(directory: str, options: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """The tracer; dead at the end, whatever happens."""
    output = str(Path(directory, "paths.jsonl"))
    words = ["trace", *options, "--format", "none", "--strict", "-o", output, "--", *_WAITS]
    with Path(directory, "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tracer.cli.main", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _wait_until_attached(process: subprocess.Popen[bytes], directory: Path) -> None:
    """Its COMMAND has started, which it does when everything is attached; or it ended, and says why."""
    while _READY not in _said(directory):
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise _failed(process.wait(0.01), _said(directory))


def _end(process: subprocess.Popen[bytes]) -> int:
    """Let the COMMAND end, and wait until all is read and written."""
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    try:
        return process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise TracerError(f"the tracer did not end within {_ENDS_WITHIN_S:g} s and was killed") from None


def _said(directory: str | Path) -> str:
    return Path(directory, "said").read_text(errors="replace")


def _failed(code: int, said: str) -> TracerError:
    """The error that the tracer ended with, with its own words."""
    text = said.partition("error: ")[2].strip() or f"the tracer ended with exit code {code}\n{said.strip()}"
    return _KINDS.get(code, TracerError)("\n".join(line.strip() for line in text.splitlines()))
