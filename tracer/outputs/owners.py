"""Which process sent or got the packet of a hop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.columns import Array, Records, codes_of, hash_rows
from tracer.correlate.verdicts import Role, Steps, Verdict
from tracer.enrich.observed import address_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.correlate.flows import Sockets

_TCP, _UDP = 6, 17


class Owners:
    """Fills `pid` and `comm` of hops; `ask` finds a socket's process (namespace, protocol, address, port)."""

    def __init__(self, ask: Callable[[int, int, int, int], tuple[int, str] | None]) -> None:
        self._ask = ask
        self._comms: dict[str, int] = {"": 0}

    @property
    def names(self) -> list[str]:
        """Process names by the number in `hops.comm`."""
        return list(self._comms)

    def find(self, steps: Steps, sockets: Sockets) -> None:
        """Find who sent or got the packet of each hop: the task seen, else the owner of the socket."""
        hops, records = steps.hops, steps.records
        ends = (hops.verdict == Verdict.DELIVER) | (hops.verdict == Verdict.SEND)
        seen = np.flatnonzero((hops.process_row >= 0) & (ends | (hops.role == Role.CLIENT)))
        for pid, comm, rows in _tasks(records, hops.process_row[seen]):
            hops.pid[seen[rows]], hops.comm[seen[rows]] = pid, self._comm(comm)
        for hop in np.flatnonzero(ends & (hops.pid == 0) & (hops.socket != 0)).tolist():
            row = hops.in_row[hop] if hops.in_row[hop] >= 0 else hops.start[hop]
            owner = sockets.owner(int(hops.socket[hop]), int(records["ts_ns"][row]))
            if owner:
                hops.pid[hop], hops.comm[hop] = owner[0], self._comm(owner[1])
        self._ask_for_owners(steps)

    def matches(self, comm: str | None) -> Callable[[Steps], tuple[Array, Array]]:
        """Per hop: the process id, and whether its name is `comm`."""
        wanted = -1 if comm is None else self._comms.get(comm, -1)
        return lambda steps: (steps.hops.pid, steps.hops.comm == wanted)

    def _ask_for_owners(self, steps: Steps) -> None:
        hops, records = steps.hops, steps.records
        unknown = np.flatnonzero((hops.verdict == Verdict.DELIVER) & (hops.pid == 0) & (hops.in_row >= 0))
        asked: dict[tuple[int, int, int, int], tuple[int, str] | None] = {}
        for hop in unknown.tolist():
            record = records[hops.in_row[hop]]
            if int(record["proto"]) not in {_TCP, _UDP}:
                continue
            local = address_number(record, "daddr")
            key = (int(record["netns"]), int(record["proto"]), local, int(record["dport"]))
            if key not in asked:
                asked[key] = self._ask(*key)
            owner = asked[key]
            if owner:
                hops.pid[hop], hops.comm[hop] = owner[0], self._comm(owner[1])

    def _comm(self, name: str) -> int:
        return self._comms.setdefault(name, len(self._comms))


def _tasks(records: Records, rows: Array) -> list[tuple[int, str, Array]]:
    """Distinct (pid, comm) of some records, with the positions in `rows` that have them."""
    if not len(rows):
        return []
    name = np.ascontiguousarray(records["comm"][rows]).view("<u8")
    codes, _ = codes_of(hash_rows(records["pid"][rows], name[:, 0], name[:, 1]))
    result = []
    for code in range(int(codes.max()) + 1):
        where = np.flatnonzero(codes == code)
        record = records[rows[where[0]]]
        comm = bytes(record["comm"]).split(b"\0")[0].decode(errors="replace")
        result.append((int(record["pid"]), comm, where))
    return result
