"""Creates what is captured, readable by nobody else: who talks to whom is not for every user of the host."""

from __future__ import annotations

import os
from pathlib import Path

_MODE = 0o600
_LARGEST_ID = 2**32 - 2
_FLAGS = os.O_WRONLY | os.O_CLOEXEC


def create(path: str | Path) -> int:
    """Open an empty file for writing; returns its descriptor, or raises OSError.

    A new file is readable by its owner alone, and belongs to the user who called sudo. One that was there before
    keeps its owner and mode, as with a shell's `>`. Nothing is created behind a symbolic link.
    """
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        return os.open(path, _FLAGS | os.O_TRUNC)
    owner = sudo_user()
    if owner is not None:
        try:
            os.fchown(descriptor, *owner)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def sudo_user() -> tuple[int, int] | None:
    """User and group id of who called sudo; None where it was not sudo, or we are not root."""
    if os.geteuid() != 0:
        return None
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if not (user.isascii() and user.isdigit() and group.isascii() and group.isdigit()):
        return None
    found = int(user), int(group)
    return found if max(found) <= _LARGEST_ID else None
