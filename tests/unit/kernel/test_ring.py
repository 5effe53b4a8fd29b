"""The ring as an array, over memory with the kernel's layout; the kernel's own ring is in every live test."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest

from tracer.errors import TracerError
from tracer.kernel.ring import BUSY, DISCARDED, Ring
from tracer.kernel.source import wire_header
from tracer.wire.layout import parse

LAYOUT = parse(wire_header())
STRIDE = LAYOUT.ring_record.itemsize
PAGE = mmap.PAGESIZE


class Memory:
    """Consumer page, producer page and data, written as the kernel would."""

    def __init__(self, size=1 << 16):
        self.descriptor = os.memfd_create("ring")
        os.ftruncate(self.descriptor, 2 * PAGE + size)
        self.map = mmap.mmap(self.descriptor, 2 * PAGE + size)
        self.consumer, self.producer = (np.frombuffer(self.map, "<u8", 1, offset) for offset in (0, PAGE))
        self.data = np.frombuffer(self.map, "u1", size, 2 * PAGE)
        self.size = size

    def put(self, seq, flags=0, length=STRIDE - 8):
        """One record; the rest of its fields is as its number."""
        element = np.zeros(1, LAYOUT.ring_record)
        element["ring_length"] = length | flags
        element["record"]["seq"] = element["record"]["ts_ns"] = seq
        begin = int(self.producer[0])
        self.data[np.arange(begin, begin + STRIDE) % self.size] = element.view("u1")
        self.producer[0] += STRIDE


@pytest.fixture
def memory(monkeypatch):
    """A ring in memory of ours. A memfd cannot be polled, so nothing is."""

    class Poll:
        def register(self, _descriptor, _events):
            pass

    monkeypatch.setattr("tracer.kernel.ring.select.epoll", Poll)
    made = Memory()
    yield made
    os.close(made.descriptor)


def seqs(records):
    """Their numbers."""
    return records["seq"].tolist()


@pytest.mark.parametrize("count", [1, 2, 50])
def test_records_stay_what_they_were_when_the_ring_is_written_over(memory, count):
    """A batch is a copy, also a batch of one record, which lies in the ring as numpy wants it."""
    ring = Ring(memory.descriptor, memory.size, LAYOUT)
    for seq in range(1, count + 1):
        memory.put(seq)
    records = ring.read(100)
    memory.data[:] = 0xFF
    assert seqs(records) == records["ts_ns"].tolist() == list(range(1, count + 1))
    assert int(memory.consumer[0]) == count * STRIDE


def test_a_batch_goes_on_at_the_beginning_of_the_ring(memory):
    """However the end of the ring cuts a record, all come, in order, and no more than asked for."""
    ring = Ring(memory.descriptor, memory.size, LAYOUT)
    per_ring = memory.size // STRIDE
    came = []
    for seq in range(1, 5 * per_ring):
        memory.put(seq)
        if seq % 7 == 0:
            came += seqs(batch := ring.read(8))
            assert len(batch) <= 8
    while len(batch := ring.read(100)):
        came += seqs(batch)
    assert came == list(range(1, 5 * per_ring))


def test_what_is_being_written_ends_the_batch_and_what_was_discarded_is_left_out(memory):
    """A busy record comes with the next batch, and so does everything after it."""
    ring = Ring(memory.descriptor, memory.size, LAYOUT)
    for seq, flags in ((1, 0), (2, DISCARDED), (3, BUSY), (4, 0)):
        memory.put(seq, flags)
    assert seqs(ring.read(100)) == [1]
    memory.data[2 * STRIDE : 2 * STRIDE + 4] = np.array([STRIDE - 8], "<u4").view("u1")
    assert seqs(ring.read(100)) == [3, 4]
    assert ring.pending_bytes() == 0


def test_records_of_another_size_are_an_error(memory):
    """Probes and collector of different versions are told, not read as nonsense."""
    ring = Ring(memory.descriptor, memory.size, LAYOUT)
    memory.put(1, length=STRIDE)
    with pytest.raises(TracerError, match="records of another size"):
        ring.read(100)
