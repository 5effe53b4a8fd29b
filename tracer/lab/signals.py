"""Ctrl-C, SIGTERM and SIGHUP as exceptions, and blocks that they do not split.

Done in Python's own handlers and not by the signal mask, which every child would inherit.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_UNWINDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


class _Deferred:
    """How many blocks are not to be split now, and the signal that came meanwhile."""

    depth = 0
    pending: int | None = None


@contextmanager
def unwound() -> Iterator[None]:
    """Make signals that would end Python on the spot raise instead, so that `finally` is reached.

    Handlers that somebody has installed stay; outside the main thread there is nothing to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _UNWINDING}
    changed = [number for number, handler in before.items() if handler in _DEFAULTS]
    for number in changed:
        signal.signal(number, _handle)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])


@contextmanager
def held() -> Iterator[None]:
    """Let these signals wait until the block is done; they are raised at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with unwound():
        _Deferred.depth += 1
        try:
            yield
        finally:
            _Deferred.depth -= 1
            number = _Deferred.pending
            if _Deferred.depth == 0 and number is not None:
                _Deferred.pending = None
                _unwind(number)


def _handle(number: int, _frame: FrameType | None) -> None:
    if _Deferred.depth:
        _Deferred.pending = number
    else:
        _unwind(number)


def _unwind(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
