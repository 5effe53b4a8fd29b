"""Where an output's bytes go: a file, or a stream that somebody else opened.

A write to a file is all or nothing: when the disk is full the file is cut back to what was whole, so that it
stays readable, and the error says how much that is.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import IO, Any, Final

from tracer import private_file
from tracer.errors import BadCapture

_ALWAYS_UTF8: Final = "utf-8"


class FileSink:
    """A file that we created; `position` is how much of it is whole, in bytes.

    Raises BadCapture when it cannot be created or written.
    """

    encoding = _ALWAYS_UTF8
    terminal = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.position = 0
        try:
            self._fd = private_file.create(path)
        except OSError as error:
            raise BadCapture(f"cannot create {self.name}: {error.strerror}\n  choose another file") from error
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`, or leave the file as it was and raise BadCapture."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            self.cut(self.position)
            raise unwritable(self.name, error, self.position) from error
        self.position += len(data)

    def cut(self, position: int) -> None:
        """Throw away what stands behind `position`; does nothing to pipes and devices."""
        if self._regular:
            os.ftruncate(self._fd, position)
            os.lseek(self._fd, position, os.SEEK_SET)
            self.position = position

    def close(self) -> None:
        """Close the file; may be called again."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            os.close(fd)
        except OSError as error:
            raise unwritable(self.name, error, self.position) from error


class StreamSink:
    """A stream such as stdout, flushed after every write and never closed by us.

    A closed pipe passes through as BrokenPipeError; any other failure is BadCapture.
    """

    def __init__(self, stream: IO[Any]) -> None:
        self.name = {1: "standard output", "<stdout>": "standard output"}.get(
            getattr(stream, "name", ""), str(getattr(stream, "name", "the stream"))
        )
        self.encoding = getattr(stream, "encoding", None) or _ALWAYS_UTF8
        self.terminal = stream.isatty()
        self.position = 0
        self._text = isinstance(stream, io.TextIOBase)
        self._stream = stream
        if self._text and hasattr(stream, "buffer"):
            stream.flush()
            self._stream, self._text = stream.buffer, False

    def write(self, data: bytes | memoryview) -> None:
        """Write and flush; raises BadCapture, or BrokenPipeError when nobody reads any more."""
        try:
            self._stream.write(bytes(data).decode(self.encoding) if self._text else data)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritable(self.name, error, self.position) from error
        self.position += len(data)

    def cut(self, position: int) -> None:
        """Do nothing: what went down a stream cannot be taken back."""

    def close(self) -> None:
        """Do nothing: the stream belongs to the caller."""


Sink = FileSink | StreamSink


def open_sink(target: str | Path | IO[Any]) -> Sink:
    """A sink for a path or an open stream; raises BadCapture when the path cannot be created."""
    return FileSink(Path(target)) if isinstance(target, str | Path) else StreamSink(target)


def unwritable(name: str, error: OSError, kept: int) -> BadCapture:
    """The error of a failed write: what, why, and what is still there."""
    why = (error.strerror or str(error)).lower()
    return BadCapture(f"cannot write {name}: {why}\n  the {kept:,} bytes before it are whole and readable")
