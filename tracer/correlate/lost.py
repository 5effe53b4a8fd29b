"""Which records are missing: every CPU numbers its own, so a jump in the numbers is a loss, and when."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tracer.correlate.columns import Array

_KEPT = 100_000
_GAP = np.dtype([("start_ns", "<i8"), ("end_ns", "<i8"), ("count", "<i8")])


@dataclass(slots=True)
class Gaps:
    """Losses seen so far: their total, and the recent ones."""

    total: int = 0
    _recent: Array = field(default_factory=lambda: np.zeros(0, _GAP))
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def recent(self) -> list[tuple[int, int, int]]:
        """The recent losses as (start ns, end ns, count), by their start."""
        return [(int(gap["start_ns"]), int(gap["end_ns"]), int(gap["count"])) for gap in self._recent]

    def note(self, records: Array) -> None:
        """Look for jumps in the records of one batch, as read from the ring."""
        cpus, seqs = records["cpu"], records["seq"].astype(np.int64)
        times = records["ts_ns"].astype(np.int64)
        found = [self._of_cpu(cpu, seqs[cpus == cpu], times[cpus == cpu]) for cpu in np.unique(cpus).tolist()]
        self._add(np.concatenate(found))

    def reached(self, numbers: dict[int, int], at_ns: int) -> None:
        """Each CPU had given its number by `at_ns`, and all of these were noted or are lost.

        A jump is seen with the next record only; this is for when there is none. Any other count of what is lost may
        stand among them, under a key that is no CPU's: it grew between two calls.
        """
        new = np.zeros(len(numbers), _GAP)
        for row, (cpu, number) in zip(new, numbers.items(), strict=True):
            seq, ts_ns = self._last.get(cpu, (0, 0))
            if number > seq:
                row["start_ns"], row["end_ns"], row["count"] = ts_ns, max(at_ns, ts_ns), number - seq
            if number >= seq:
                self._last[cpu] = (number, max(at_ns, ts_ns))
        self._add(new[new["count"] > 0])

    def _add(self, new: Array) -> None:
        if len(new):
            self.total += int(new["count"].sum())
            self._recent = np.sort(np.concatenate((self._recent, new)), order="start_ns")[-_KEPT:]

    def _of_cpu(self, cpu: int, seq: Array, ts_ns: Array) -> Array:
        order = np.argsort(seq, kind="stable")
        seq, ts_ns = seq[order], ts_ns[order]
        last_seq, last_ts = self._last.get(cpu, (int(seq[0]) - 1, int(ts_ns[0])))
        jump = np.diff(seq, prepend=last_seq) - 1
        before = np.concatenate(([last_ts], ts_ns[:-1]))
        self._last[cpu] = (max(int(seq[-1]), last_seq), int(ts_ns[-1]))
        rows = np.flatnonzero(jump > 0)
        gaps = np.zeros(len(rows), _GAP)
        gaps["start_ns"], gaps["end_ns"], gaps["count"] = before[rows], ts_ns[rows], jump[rows]
        return gaps

    def during(self, start_ns: Array, end_ns: Array) -> Array:
        """How many lost records may belong to each of the spans [start, end]."""
        if not len(self._recent):
            return np.zeros(len(start_ns), np.int64)
        begun = _sum_up_to(self._recent["start_ns"], self._recent["count"], end_ns, side="right")
        by_end = np.argsort(self._recent["end_ns"], kind="stable")
        ended = _sum_up_to(
            self._recent["end_ns"][by_end], self._recent["count"][by_end], start_ns, side="left"
        )
        result: Array = begun - ended
        return result


def _sum_up_to(times: Array, counts: Array, limits: Array, side: str) -> Array:
    """For each limit the sum of the counts whose (sorted) times are before it."""
    sums = np.concatenate(([0], np.cumsum(counts)))
    result: Array = sums[np.searchsorted(times, limits, side=side)]  # type: ignore[call-overload]
    return result
