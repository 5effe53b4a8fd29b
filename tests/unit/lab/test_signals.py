"""Signals unwind, and wait where a block is not to be split."""

from __future__ import annotations

import os
import signal

import pytest

from tracer.lab.signals import held, unwound


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_waits_for_the_end_of_a_held_block(number):
    """What stands after the signal inside the block still happens, what stands after the block does not."""
    happened = []

    def interrupted():
        with unwound():
            with held(), held():
                os.kill(os.getpid(), number)
                happened.append("inside")
            happened.append("after")

    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as caught:
        interrupted()
    assert happened == ["inside"]
    if number != signal.SIGINT:
        assert caught.value.code == 128 + number


def test_handlers_are_as_before_afterwards():
    """Whoever had installed a handler keeps it, also inside; the defaults are restored."""
    seen = []
    mine = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    try:
        with unwound(), held():
            os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, mine)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
