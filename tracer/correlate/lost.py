"""Which records are missing: every CPU numbers its own, so a jump in the numbers is a loss, and when."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tracer.correlate.columns import Array

_KEPT = 1000


@dataclass(slots=True)
class Gaps:
    """Losses seen so far: their total, and the recent ones as [start ns, end ns, count]."""

    total: int = 0
    recent: list[tuple[int, int, int]] = field(default_factory=list)
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)

    def note(self, records: Array) -> None:
        """Look for jumps in the records of one batch, as read from the ring."""
        for cpu in np.unique(records["cpu"]).tolist():
            rows = records[records["cpu"] == cpu]
            order = np.argsort(rows["seq"], kind="stable")
            seq, ts_ns = rows["seq"][order].astype(np.int64), rows["ts_ns"][order].astype(np.int64)
            last_seq, last_ts = self._last.get(cpu, (int(seq[0]) - 1, int(ts_ns[0])))
            jump = np.diff(seq, prepend=last_seq) - 1
            before = np.concatenate(([last_ts], ts_ns[:-1]))
            for row in np.flatnonzero(jump > 0).tolist():
                self.total += int(jump[row])
                self.recent.append((int(before[row]), int(ts_ns[row]), int(jump[row])))
            self._last[cpu] = (max(int(seq[-1]), last_seq), int(ts_ns[-1]))
        del self.recent[:-_KEPT]

    def during(self, start_ns: Array, end_ns: Array) -> Array:
        """How many lost records may belong to each of the spans [start, end]."""
        counts = np.zeros(len(start_ns), np.int64)
        for begin, end, number in self.recent:
            counts += np.where((start_ns <= end) & (end_ns >= begin), number, 0)
        return counts
