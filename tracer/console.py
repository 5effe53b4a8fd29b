"""What `trace` has to do with the person at the terminal: signals, messages, the line of progress."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from tracer.enrich.flowpaths import FlowPaths
    from tracer.model.change import Change
    from tracer.outputs.registry import Output, Told
    from tracer.pipeline import Processing

_PROGRESS_NS = 500_000_000


def say(text: str, end: str = "\n") -> None:
    """Tell the person at the terminal; stdout is for data."""
    sys.stderr.write(text + end)
    sys.stderr.flush()


class Stop:
    """SIGINT, SIGTERM and SIGHUP ask for the end: what was captured is finished and written first."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Progress:
    """One line on a terminal's stderr while tracing goes on; nothing elsewhere."""

    def __init__(self) -> None:
        self._on, self._shown = sys.stderr.isatty(), False
        self._last_ns, self._last_records, self._polled_ns = time.monotonic_ns(), 0, 0

    def due(self, every_ns: int) -> bool:
        """Whether it is time again for what is done now and then."""
        now_ns = time.monotonic_ns()
        if now_ns - self._polled_ns < every_ns:
            return False
        self._polled_ns = now_ns
        return True

    def show(self, processing: Processing, lost: Callable[[], int]) -> None:
        """Write the line anew, twice a second at most."""
        now_ns = time.monotonic_ns()
        if not self._on or now_ns - self._last_ns < _PROGRESS_NS:
            return
        counts = processing.counts
        rate = (counts.records - self._last_records) / ((now_ns - self._last_ns) / 1e9)
        say(f"\r\033[K{counts.packets} packets  {rate:,.0f} events/s  {lost()} lost", end="")
        self._shown = True
        self._last_ns, self._last_records = now_ns, counts.records

    def clear(self) -> None:
        """Take the line away, before something else is written to the terminal."""
        if self._shown:
            say("\r\033[K", end="")
            self._shown = False


class Tidy:
    """An output on standard output that first takes away the line of progress, which may share its terminal."""

    def __init__(self, output: Output, clear: Callable[[], None]) -> None:
        self._output, self._clear = output, clear

    def write(self, rows: pa.Table) -> None:
        """Hand the rows on."""
        self._clear()
        self._output.write(rows)

    def close(self) -> None:
        """End the output."""
        self._clear()
        self._output.close()


class TidyTold(Tidy):
    """The same for an output that has a place for changes."""

    def __init__(self, output: Told, clear: Callable[[], None]) -> None:
        super().__init__(output, clear)
        self._told = output

    @property
    def flows(self) -> FlowPaths:
        """What the output compares paths with."""
        return self._told.flows

    @flows.setter
    def flows(self, flows: FlowPaths) -> None:
        self._told.flows = flows

    def tell(self, changes: Sequence[Change]) -> None:
        """Hand the changes on."""
        self._clear()
        self._told.tell(changes)
