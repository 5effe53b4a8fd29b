"""The ring buffer, read as an array: its mapped pages are records of one size, so a batch is one copy.

Layout (kernel/bpf/ringbuf.c): one page with the consumer position, one with the producer position, then the data.
Each record starts with eight bytes: length and two flag bits. The kernel would map the data twice in a row, so that
no batch wraps; but mapped pages count as resident memory, so a batch that wraps is put together here instead.
"""

from __future__ import annotations

import mmap
import select
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.correlate.columns import take_rows
from tracer.errors import TracerError
from tracer.wire.layout import RING_HEADER

if TYPE_CHECKING:
    from tracer.wire.layout import Layout

BUSY = 1 << 31
DISCARDED = 1 << 30


class Ring:
    """Reads the ring of `descriptor`; `ring_bytes` is its data size (a power of two)."""

    def __init__(self, descriptor: int, ring_bytes: int, layout: Layout) -> None:
        page = mmap.PAGESIZE
        self._size = ring_bytes
        self._dtype = layout.ring_record
        self._consumer_map = mmap.mmap(descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer_map = mmap.mmap(
            descriptor, page + ring_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._consumer = np.frombuffer(self._consumer_map, dtype="<u8", count=1)
        self._producer = np.frombuffer(self._producer_map, dtype="<u8", count=1)
        self._data = np.frombuffer(self._producer_map, dtype="u1", offset=page)
        self._poll = select.epoll()
        # Edge-triggered: the probes' wake-ups count, not that something is there, which is always so under load.
        self._poll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def wait(self, seconds: float) -> None:
        """Sleep until a good part of the ring is pending, or the time is over."""
        self._poll.poll(seconds)

    def pending_bytes(self) -> int:
        """Bytes that wait to be read."""
        return int(self._producer[0]) - int(self._consumer[0])

    def read(self, limit: int) -> np.ndarray[Any, Any]:
        """Up to `limit` records in the order they were reserved; the ring has their room back at return.

        A record that is still being written ends the batch; it comes with the next one.
        """
        stride = self._dtype.itemsize
        position = int(self._consumer[0])
        count = min((int(self._producer[0]) - position) // stride, limit)
        start = position % self._size
        view = self._contiguous(start, count * stride).view(self._dtype)
        busy = np.flatnonzero(view["ring_length"] & BUSY)
        if len(busy):
            view = view[: busy[0]]
        length = view["ring_length"].copy()
        # Records as plain bytes: numpy would copy them field by field, ten times slower.
        raw = np.ndarray((len(view), stride), np.uint8, view)[:, RING_HEADER.itemsize :]
        # Always a copy: a single record is contiguous where it lies, and the ring will write over it.
        records = raw.copy(order="C").view(self._dtype["record"]).reshape(-1)
        self._consumer[0] = position + len(view) * stride
        discarded = (length & DISCARDED) != 0
        if (length & ~np.uint32(DISCARDED) != stride - 8).any():
            raise TracerError("the ring holds records of another size: the probes and the collector differ")
        return take_rows(records, ~discarded) if discarded.any() else records

    def _contiguous(self, start: int, length: int) -> np.ndarray[Any, Any]:
        """Bytes of the ring from `start`: as they lie there, or copied when they run over its end."""
        beyond = start + length - self._size
        if beyond <= 0:
            return self._data[start : start + length]
        return np.concatenate((self._data[start:], self._data[:beyond]))

    def close(self) -> None:
        """Stop waiting; the mapping ends with the process."""
        self._poll.close()
