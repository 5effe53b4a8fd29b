"""Through user space: which packet a process wrote for a packet that it read.

The program behind a TUN device (OpenVPN, wireguard-go) reads a packet from it and sends another around it, or gets a
datagram and writes what was in it into the device. The kernel knows of no connection between the two; what is left is
the order in which the process read and wrote. One read, then one write by the same thread, and nothing else by that
process the same way: that is certain. Several reads and as many writes, or other threads: likely, in their order. Where
the numbers differ, or a packet did not grow or shrink by what fits around it, nothing is said. A process with several
threads may write something of its own first (the handshake of WireGuard), so of such a one a packet must also have
grown by as much as the one before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.callers import Purpose
from tracer.correlate.columns import Array, Records, device_keys
from tracer.correlate.episodes import receiving
from tracer.correlate.verdicts import AF_INET
from tracer.model.relay import CERTAIN, FROM, LIKELY, TO, Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.correlate.kinds import Kinds
    from tracer.correlate.lost import Gaps

ANSWER_NS = 30_000_000
"""A process that takes longer to write what it read is not followed, in nanoseconds."""
_UNANSWERED_NS = 10_000_000
"""A process that reads again so long after it read has written nothing for what it read first."""
_LATE_NS = 15_000_000
"""How long records may take until they are settled."""
_FORGET_NS = 1_000_000_000
_UDP_HEADERS = (28, 48)
_TASK, _TCP, _UDP, _PUSH = 0, 6, 17, 8
_HEADERS_OUT = (29, 190)
"""What a packet read from a TUN device is longer by when it leaves: IPv4, UDP and something, up to Ethernet and TLS."""
_HEADERS_IN = (1, 140)
"""What a datagram is longer by than the packet that was in it."""
_PADDING = 16
"""By how many bytes what is put around packets of one process may differ."""
_LONGEST_BURST = 256


class _Did(IntEnum):
    """What a process did; `GOT` is no deed of its own: its socket got a datagram."""

    READ_TUN = 0
    READ_SOCKET = 1
    WROTE_TUN = 2
    SENT = 3
    GOT = 4


_EVENT = np.dtype(
    [
        ("ts_ns", "<i8"),
        ("did", "u1"),
        ("pid", "<i8"),
        ("thread", "<u8"),
        ("packet", "<i8"),  # negative: a decision that has no packet yet
        ("length", "<i8"),
        ("sock", "<u8"),
        ("device", "<u8"),
        ("stream", "?"),
        ("comm", "S16"),
    ]
)


@dataclass(slots=True)
class _Burst:
    """Reads and the writes after them, one way through one process, until there are as many of both."""

    way: tuple[int, bool]
    reads: list[Array] = field(default_factory=list)
    writes: list[Array] = field(default_factory=list)
    doubtful: bool = False

    @property
    def last_ns(self) -> int:
        return max((int(event["ts_ns"]) for event in (*self.reads[-1:], *self.writes[-1:])), default=0)

    @property
    def whole(self) -> bool:
        return len(self.reads) == len(self.writes)


class Relays:
    """Takes note of reads and writes, and tells the links of the packets it is asked for.

    `threads` is asked how many threads a process has; 0 for not known. With `partial` records (a filter keeps some out)
    the order of reads and writes says nothing, so there are no links.
    """

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._events = np.zeros(0, _EVENT)
        self._relaying: set[int] = set()
        self._sockets: set[int] = set()
        self._unread: dict[int, deque[Array]] = {}
        self._bursts: dict[tuple[int, bool], _Burst] = {}
        self._links: dict[int, list[Relay]] = {}
        self._lost = 0
        self._before: dict[tuple[int, bool], int] = {}
        self.partial = False
        self.threads: Callable[[int], int] = lambda _pid: 0

    # -- taking note -------------------------------------------------------------------------------------------

    def read(self, records: Array) -> None:
        """Take note of reads of UDP sockets, as they come from the ring."""
        rows = records[records["kind"] == self._kinds.READ] if self._kinds.READ else records[:0]
        self._add(rows, _Did.READ_SOCKET, np.zeros(len(rows), np.int64), rows["length"])

    def settled(self, batch: Records, group: Array, notes: Array, held: tuple[Array, Array]) -> None:
        """Take note of what a settled batch says; `held` are all records of open paths with their notes."""
        kinds, kind, packet = self._kinds, batch["kind"], notes["packet"]
        in_task = (batch["context_kind"] == _TASK) & (batch["pid"] != 0) & (packet != 0)
        got = np.flatnonzero((kind == kinds.READY) & (packet > 0) & (batch["proto"] == _UDP))
        enclosing = receiving(batch, group, kinds)
        came = got[enclosing[got] >= 0]
        headers = np.where(batch["family"][came] == AF_INET, *_UDP_HEADERS)
        self._add(batch.raw[came], _Did.GOT, packet[came], batch["length"][enclosing[came]] - headers)
        copy = in_task & (kind == kinds.COPY)
        from_tun = self._read_from(packet, copy, *held)
        tun = np.flatnonzero(copy & (from_tun != 0))
        self._add(batch.raw[tun], _Did.READ_TUN, packet[tun], batch["length"][tun], from_tun[tun])
        stream = np.flatnonzero(copy & (from_tun == 0) & (batch["proto"] == _TCP))
        self._add(batch.raw[stream], _Did.READ_SOCKET, packet[stream], batch["length"][stream])
        wrote = np.flatnonzero(in_task & (kind == kinds.RECEIVE))
        self._add(batch.raw[wrote], _Did.WROTE_TUN, packet[wrote], batch["length"][wrote])
        own = in_task & (enclosing < 0) & (notes["leg"] == 0)
        leaves = ((kind == kinds.XMIT) | (kind == kinds.QUEUE)) & notes["origin"]
        leaves &= (batch["proto"] != _TCP) | (batch["detail"] & _PUSH > 0)
        asks = (kind == kinds.LOOKUP) & notes["last"] & (notes["purpose"] == Purpose.OUTPUT)
        asks &= batch["proto"] != _TCP
        sent = np.flatnonzero(own & (leaves | asks))
        self._add(batch.raw[sent], _Did.SENT, packet[sent], batch["length"][sent])

    def _read_from(self, packet: Array, copy: Array, held: Array, notes: Array) -> Array:
        """The device key where a packet was read after it was handed to that device, 0 where it was received."""
        result = np.zeros(len(packet), np.uint64)
        if not copy.any():
            return result
        kinds, kind = self._kinds, held["kind"]
        moved = (kind == kinds.XMIT) | (kind == kinds.QUEUE) | (kind == kinds.RECEIVE)
        rows = np.flatnonzero(moved & np.isin(notes["packet"], packet[copy]))
        last = {int(number): int(row) for number, row in zip(notes["packet"][rows], rows, strict=True)}
        for index in np.flatnonzero(copy).tolist():
            row = last.get(int(packet[index]), -1)
            if row >= 0 and kind[row] != kinds.RECEIVE:
                result[index] = device_keys(held[row : row + 1])[0]
        return result

    def _add(self, rows: Array, did: _Did, packet: Array, length: Array, device: Array | None = None) -> None:
        if not len(rows) or self.partial:
            return
        made = np.zeros(len(rows), _EVENT)
        for name, source in (("ts_ns", "ts_ns"), ("pid", "pid"), ("thread", "context"), ("sock", "sock")):
            made[name] = rows[source]
        made["did"], made["packet"], made["length"] = did, packet, length
        made["device"] = device_keys(rows) if device is None else device
        made["stream"] = rows["proto"] == _TCP
        made["comm"] = np.ascontiguousarray(rows["comm"]).view("S16").ravel()
        if did in {_Did.READ_TUN, _Did.WROTE_TUN}:
            self._relaying |= set(np.unique(made["pid"]).tolist())
        self._events = np.concatenate((self._events, made))

    # -- deciding ----------------------------------------------------------------------------------------------

    def decide(self, until_ns: int, notes: Array, gaps: Gaps) -> None:
        """Go through all that happened until then; `notes` of what is held know by now whose the decisions were."""
        if gaps.total != self._lost:
            self._lost = gaps.total
            self._forget_order()
        events = self._events
        if not self._relaying:
            self._events = events[events["ts_ns"] > until_ns]
            return
        reads = events["did"] == _Did.READ_SOCKET
        relaying = np.isin(events["pid"], list(self._relaying))
        self._sockets |= set(np.unique(events["sock"][reads & relaying]).tolist())
        ripe = events["ts_ns"] <= until_ns
        got = (events["did"] == _Did.GOT) & np.isin(events["sock"], list(self._sockets))
        mine = ripe & np.where(events["did"] == _Did.GOT, got, relaying)
        self._events = events[~ripe]
        chosen = events[mine][np.argsort(events["ts_ns"][mine], kind="stable")]
        nameless = np.flatnonzero(chosen["packet"] < 0)
        for index in nameless.tolist():
            owner = notes["packet"][notes["decision"] == -chosen["packet"][index]]
            chosen["packet"][index] = owner[0] if len(owner) else chosen["packet"][index]
        for event in chosen:
            self._take(event)
        for key, burst in list(self._bursts.items()):
            if until_ns - burst.last_ns > ANSWER_NS:
                self._close(burst)
                del self._bursts[key]
        self._forget(until_ns)

    def _take(self, event: Array) -> None:
        did, pid = _Did(int(event["did"])), int(event["pid"])
        if did is _Did.GOT:
            self._unread.setdefault(int(event["sock"]), deque(maxlen=4096)).append(event)
        elif did in {_Did.READ_TUN, _Did.READ_SOCKET}:
            if did is _Did.READ_SOCKET and not event["stream"] and not self._know_datagram(event):
                event["packet"] = 0
            self._on_read(self._burst((pid, did is _Did.READ_TUN)), event)
        else:
            burst = self._bursts.get((pid, did is _Did.SENT))
            if burst:
                self._on_write(burst, event)

    def _burst(self, way: tuple[int, bool]) -> _Burst:
        """What goes on one way (true: out of a TUN device) through a process."""
        return self._bursts.setdefault(way, _Burst(way))

    def _know_datagram(self, event: Array) -> bool:
        """A socket gives its datagrams in the order it got them; what does not fit was read unseen."""
        waiting = self._unread.get(int(event["sock"]), deque())
        while waiting:
            got = waiting.popleft()
            if got["length"] == event["length"]:
                event["packet"] = got["packet"]
                return True
        return False

    def _on_read(self, burst: _Burst, event: Array) -> None:
        if burst.reads and burst.reads[-1]["packet"] == event["packet"] != 0:
            return
        if burst.reads and (burst.whole or event["ts_ns"] - burst.last_ns > _UNANSWERED_NS):
            self._close(burst)
        if len(burst.reads) < _LONGEST_BURST:
            burst.reads.append(event)
        else:
            burst.doubtful = True

    def _on_write(self, burst: _Burst, event: Array) -> None:
        if burst.writes and burst.writes[-1]["packet"] == event["packet"]:
            burst.writes[-1]["length"] = max(burst.writes[-1]["length"], event["length"])
            burst.writes[-1]["device"] = event["device"]
        elif event["ts_ns"] - burst.last_ns > ANSWER_NS:
            self._close(burst)
        elif burst.whole:
            burst.doubtful = True
        else:
            burst.writes.append(event)

    def _close(self, burst: _Burst) -> None:
        """Link the packets of a burst in their order, if there are as many of both and each fits; begin a new one."""
        pairs = list(zip(burst.reads, burst.writes, strict=False))
        if burst.whole and pairs and not burst.doubtful and self._agree(burst.way, pairs):
            for read, wrote in pairs:
                self._link(read, wrote, alone=len(pairs) == 1)
        burst.reads, burst.writes, burst.doubtful = [], [], False

    def _agree(self, way: tuple[int, bool], pairs: list[tuple[Array, Array]]) -> bool:
        """Whether all packets grew by what may be around them, and as those of this process before."""
        if not all(_fits(*pair) for pair in pairs):
            return False
        grown = [_grown(*pair) for pair in pairs]
        before = self._before.get(way)
        self._before[way] = grown[-1]
        if self.threads(way[0]) == 1:
            return True
        return before is not None and all(abs(one - before) <= _PADDING for one in grown)

    def _link(self, read: Array, wrote: Array, *, alone: bool) -> None:
        certain = alone and read["thread"] == wrote["thread"] and not (read["stream"] or wrote["stream"])
        pid, comm = int(read["pid"]), bytes(read["comm"]).rstrip(b"\0").decode(errors="replace")
        loop = bool(read["did"] == _Did.READ_TUN and read["device"] == wrote["device"])
        more = (pid, comm, CERTAIN if certain else LIKELY, loop)
        source, target = int(read["packet"]), int(wrote["packet"])
        self._links.setdefault(source, []).append(Relay(TO, target, *more))
        self._links.setdefault(target, []).append(Relay(FROM, source, *more))

    def _forget(self, until_ns: int) -> None:
        for waiting in self._unread.values():
            while waiting and until_ns - int(waiting[0]["ts_ns"]) > _FORGET_NS:
                waiting.popleft()

    def _forget_order(self) -> None:
        """Records were lost: orders of reads and writes from before do not hold any more."""
        self._unread.clear()
        for burst in self._bursts.values():
            burst.doubtful = True

    # -- telling -----------------------------------------------------------------------------------------------

    def open(self) -> Array:
        """Packets about which it is not decided yet."""
        relaying = np.isin(self._events["pid"], list(self._relaying))
        waiting = [event["packet"] for b in self._bursts.values() for event in (*b.reads, *b.writes)]
        return np.concatenate((self._events["packet"][relaying], np.array(waiting, np.int64)))

    def take(self, packets: Array) -> dict[int, tuple[Relay, ...]]:
        """The links of these packets, which are finished now."""
        if not self._links:
            return {}
        chosen = set(self._links) & set(np.unique(packets).tolist())
        return {packet: tuple(self._links.pop(packet)) for packet in chosen}


def _fits(read: Array, wrote: Array) -> bool:
    """Whether the one may have been made of the other: by their length."""
    if read["packet"] <= 0 or wrote["packet"] <= 0:
        return False
    low, high = _HEADERS_OUT if read["did"] == _Did.READ_TUN else _HEADERS_IN
    return low <= _grown(read, wrote) <= high


def _grown(read: Array, wrote: Array) -> int:
    """How many bytes are around the packet that is or was in the TUN device."""
    more = int(wrote["length"]) - int(read["length"])
    return more if read["did"] == _Did.READ_TUN else -more


def until(horizon_ns: int, tail: Array, *, final: bool) -> int:
    """The time until which all that processes did is known: what waits to be settled is not."""
    if final:
        return int(np.iinfo(np.int64).max)
    first = int(tail["ts_ns"].min()) - 1 if len(tail) else horizon_ns
    return min(first, horizon_ns - _LATE_NS)
