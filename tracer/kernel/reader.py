"""Empties the ring at once, whatever the rest is doing: a thread copies it into a queue that spills to disk.

The kernel loses what finds the ring full, within a tenth of a second at full rate. Correlation and output may take
longer; so what they have not come to yet is kept, in memory first, then in an unlinked file.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.kernel.ring import Ring

Numbers = dict[int, int]
"""Per CPU, the number of its last record."""
Mark = tuple[int, Numbers]
"""A time (CLOCK_MONOTONIC, ns), and the numbers reached by then."""

CHUNK_RECORDS = 20_000
"""Records handled at a time: few enough for the processor's caches, many enough for columns to pay."""
_MEMORY_BYTES = 8 << 20
_WAIT_S = 0.02


@dataclass(slots=True)
class Chunk:
    """Records in the order of the ring; all records up to `horizon_ns` (CLOCK_MONOTONIC) are in it or before it.

    So are those of each CPU up to its number in `reached`: of these, what did not come is lost.
    """

    records: np.ndarray[Any, Any]
    horizon_ns: int
    reached: Numbers = field(default_factory=dict)


@dataclass(slots=True)
class _Stored:
    """A chunk that waits: its records, or where they are in the file."""

    mark: Mark
    length: int
    records: np.ndarray[Any, Any] | None
    offset: int = 0


class Reader:
    """Reads `ring` in a thread of its own until `stop`; `next` hands the chunks on in order.

    `numbers` tells the number of the last record of each CPU, sent or refused.
    """

    def __init__(
        self,
        ring: Ring,
        record: np.dtype[np.void],
        numbers: Callable[[], Numbers],
        directory: str | None = None,
    ) -> None:
        self._ring, self._record, self._numbers = ring, record, numbers
        self._file = tempfile.TemporaryFile(prefix="fibtrace-", dir=directory, buffering=0)  # noqa: SIM115
        self._stored: deque[_Stored] = deque()
        self._changed = threading.Condition()
        self._memory_bytes = self._file_end = self._file_waiting = 0
        self._stopping = False
        self.quiet_since_ns = time.monotonic_ns()
        self._mark: Mark = (self.quiet_since_ns, {})
        self._drained = self._mark
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ring", daemon=True)

    def start(self) -> None:
        """Start the thread; it has the capabilities of the one that calls this."""
        self._thread.start()

    def next(self, seconds: float) -> Chunk:
        """The next chunk; an empty one when none comes in that time, or when the reader has stopped."""
        with self._changed:
            if not self._stored and not self._stopping:
                self._changed.wait(seconds)
            if self.failure is not None:
                raise self.failure
            if not self._stored:
                return Chunk(np.zeros(0, self._record), *self._drained)
            stored = self._stored.popleft()
            if stored.records is not None:
                self._memory_bytes -= stored.length
                return Chunk(stored.records, *stored.mark)
        return Chunk(self._from_file(stored), *stored.mark)

    @property
    def backlog(self) -> int:
        """Chunks that wait."""
        return len(self._stored)

    def stop(self) -> None:
        """Read what is in the ring now, then end the thread; the chunks stay to be taken."""
        with self._changed:
            self._stopping = True
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop and forget what waits."""
        self.stop()
        self._file.close()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._ring.wait(_WAIT_S)
                self._empty()
            self._empty()
        except BaseException as error:  # noqa: BLE001 - raised again by `next`
            self.failure = error
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _empty(self) -> None:
        """Read what is there now; what comes meanwhile is left for the next time: crumbs cost more than they hold.

        What a chunk tells was true the time before: a record that was numbered then is in the ring by now, or lost.
        """
        while True:
            before = self._mark
            now_ns = time.monotonic_ns()
            self._mark = (now_ns, self._numbers())
            records = self._ring.read(CHUNK_RECORDS)
            whole = len(records) < CHUNK_RECORDS
            mark = before if whole else (int(records["ts_ns"][-1]), {})
            if len(records):
                self.quiet_since_ns = now_ns
                self._store(records, mark)
            if whole:
                self._drained = mark
                return

    def _store(self, records: np.ndarray[Any, Any], mark: Mark) -> None:
        length = records.nbytes
        stored = _Stored(mark, length, records)
        if self._memory_bytes + length > _MEMORY_BYTES or self._file_waiting:
            stored.offset, stored.records = self._to_file(records), None
        with self._changed:
            if stored.records is not None:
                self._memory_bytes += length
            else:
                self._file_waiting += 1
            self._stored.append(stored)
            self._changed.notify()

    def _to_file(self, records: np.ndarray[Any, Any]) -> int:
        """Append to the file; with the disk full the ring has to hold, and in the end to lose, what comes."""
        data = memoryview(records.tobytes())
        offset = self._file_end
        while data.nbytes:
            try:
                written = os.pwrite(self._file.fileno(), data, self._file_end)
            except OSError:
                time.sleep(_WAIT_S)
                continue
            self._file_end += written
            data = data[written:]
        return offset

    def _from_file(self, stored: _Stored) -> np.ndarray[Any, Any]:
        raw = bytearray(stored.length)
        view, done = memoryview(raw), 0
        while done < stored.length:
            done += os.preadv(self._file.fileno(), [view[done:]], stored.offset + done)
        with self._changed:
            self._file_waiting -= 1
            if not self._file_waiting:
                self._file_end = 0
                self._file.truncate(0)
        return np.frombuffer(raw, dtype=self._record)
