"""Where no lookup happens: which earlier packet of the same flow was the one that was looked up."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from tracer.correlate.columns import Array, Rows, address_words, hash_rows

BEFORE_THE_TRACE = -1
_LIMIT = 200_000


def flow_keys(records: Rows, netns: Array) -> Array:
    """One number for namespace, both ends, protocol and ports: equal numbers are one direction of one flow there."""
    source, source_low = address_words(records["saddr"])
    target, target_low = address_words(records["daddr"])
    return hash_rows(
        netns, source, source_low, target, target_low, records["proto"], records["sport"], records["dport"]
    )


class Sockets:
    """Who uses which socket, and which socket a flow belongs to: learned from the records of system calls.

    The kernel reuses the address of a closed socket, so owners are known with the time they were seen.
    """

    def __init__(self) -> None:
        self._owners: dict[int, list[tuple[int, int, str]]] = {}
        self._by_flow: dict[int, int] = {}

    def learn(self, records: Array) -> None:
        """Take the owner and state records of one batch: they are few, one per socket or change."""
        if len(self._owners) + len(self._by_flow) > _LIMIT:
            self._owners.clear()
            self._by_flow.clear()
        incoming = records.copy()
        for end, other in (("saddr", "daddr"), ("sport", "dport")):
            incoming[end], incoming[other] = records[other], records[end]
        keys = flow_keys(incoming, records["netns"])
        in_task = (records["context_kind"] == 0) & (records["pid"] != 0)
        for index, row in enumerate(records):
            sock = int(row["sock"])
            self._by_flow[int(keys[index])] = sock
            if in_task[index]:
                comm = bytes(row["comm"]).split(b"\0")[0].decode(errors="replace")
                self._owners.setdefault(sock, []).append((int(row["ts_ns"]), int(row["pid"]), comm))

    def owner(self, sock: int, ts_ns: int) -> tuple[int, str] | None:
        """The (pid, comm) that used the socket at that time: seen last before it, else first after it."""
        seen = self._owners.get(sock)
        if not seen:
            return None
        index = bisect_right(seen, ts_ns, key=lambda entry: entry[0]) - 1
        _, pid, comm = seen[max(index, 0)]
        return pid, comm

    def of_incoming(self, records: Array, netns: Array) -> Array:
        """The socket each incoming packet belongs to, 0 where none is known."""
        keys, position = np.unique(flow_keys(records, netns), return_inverse=True)
        known = np.array([self._by_flow.get(key, 0) for key in keys.tolist()], np.uint64)
        result: Array = known[position] if len(keys) else np.zeros(len(records), np.uint64)
        return result


class Decided:
    """Remembers, by flow, the last packet that had a decision of its own."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def resolve(self, keys: Array, packets: Array, has_decision: Array) -> Array:
        """For each row (in time order) without a decision the packet that decided its flow.

        BEFORE_THE_TRACE if none is known, 0 for rows that have a decision of their own, which are then remembered.
        """
        order = np.argsort(keys, kind="stable")
        sorted_keys, decided = keys[order], has_decision[order]
        starts = np.ones(len(keys), bool)
        starts[1:] = sorted_keys[1:] != sorted_keys[:-1]
        rows = np.arange(len(keys))
        run = np.maximum.accumulate(np.where(starts, rows, 0)) if len(keys) else rows
        last = np.maximum.accumulate(np.where(decided, rows, -1)) if len(keys) else rows
        known = last >= run
        result = np.where(known, packets[order][last], BEFORE_THE_TRACE)
        unknown = np.flatnonzero(starts & ~decided)
        before = np.full(len(keys), BEFORE_THE_TRACE, np.int64)
        before[unknown] = [self._last.get(key, BEFORE_THE_TRACE) for key in sorted_keys[unknown].tolist()]
        result = np.where(known, result, before[run]) if len(keys) else result
        result[decided] = 0
        self._remember(sorted_keys, packets[order], last, known)
        found = np.empty(len(keys), np.int64)
        found[order] = result
        return found

    def _remember(self, keys: Array, packets: Array, last: Array, known: Array) -> None:
        ends = np.ones(len(keys), bool)
        ends[:-1] = keys[1:] != keys[:-1]
        rows = np.flatnonzero(ends & known)
        self._last.update(zip(keys[rows].tolist(), packets[last[rows]].tolist(), strict=True))
        if len(self._last) > _LIMIT:
            for key in list(self._last)[: _LIMIT // 2]:
                del self._last[key]
