"""What can go wrong, and the exit code each kind ends the command with.

Every message says what failed, why, and what to do, in that order and on at most three lines.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line (docs/design contract)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_PERMITTED = 3
    NOT_SUPPORTED = 4
    LOST = 5


MALFORMED = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What Python raises where a value from outside is of another kind, size or depth than it should be."""


class TracerError(Exception):
    """An error a user can act on; printed without a traceback."""

    code: Exit = Exit.FAILED


class BadRequest(TracerError):
    """A filter, an option or a name that does not exist or does not parse."""

    code = Exit.USAGE


class NotPermitted(TracerError):
    """Not root, or a capability is missing; the message names which."""

    code = Exit.NOT_PERMITTED


class NotSupported(TracerError):
    """This kernel or this installation lacks something; the message names the remedy."""

    code = Exit.NOT_SUPPORTED


class BadCapture(TracerError):
    """A file that cannot be read as a capture, or cannot be written."""


class BadMessage(TracerError):
    """A message of the kernel that is shorter than it says, or whose parts have other sizes than they must."""


class LostRecords(TracerError):
    """Records were lost and `--strict` asked for this to be an error."""

    code = Exit.LOST
