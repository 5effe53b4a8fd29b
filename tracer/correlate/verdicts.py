"""What correlation hands on: hops and steps as columns, and the names of their codes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer.correlate.columns import Array, Records
    from tracer.model.relay import Relay


class Via(IntEnum):
    """Why there was no lookup."""

    NONE = 0
    SOCKET = 1
    EARLY_DEMUX = 2
    HINT = 3
    LOOPBACK = 4
    GROUP_ADDRESS = 5
    LOOPED_COPY = 6
    UNSEEN = 7
    TUNNEL = 8
    BRIDGED = 9
    LINK = 10


class Event(IntEnum):
    """The kinds of steps, as exported."""

    RECEIVE = 1
    LOOKUP = 2
    DECISION = 3
    SEND = 4
    FORWARD = 5
    DELIVER = 6
    DROP = 7


class Verdict(IntEnum):
    """What became of a packet at a hop."""

    NONE = 0
    DELIVER = 1
    FORWARD = 2
    SEND = 3
    DROP = 4


class Role(IntEnum):
    """What the host was for the packet at a hop."""

    NONE = 0
    SERVER = 1
    CLIENT = 2
    ROUTER = 3
    LOCAL = 4


PACKET_LOOPBACK = 5
AF_INET = 2
RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST = 1, 2, 3, 4, 5


@dataclass(slots=True)
class Hops:
    """One entry per hop.

    `row` fields are indexes into the records, -1 for none; `pid` (0: none) and `comm` (a number that only who fills
    it understands) are filled later.
    """

    start: Array
    verdict: Array
    role: Array
    netns: Array
    in_row: Array
    out_row: Array
    process_row: Array
    socket: Array
    observed: Array
    cause: Array
    drop_row: Array
    pid: Array
    comm: Array


@dataclass(slots=True)
class Steps:
    """Finished paths, one entry per step, in order. `row` indexes `records` and `notes`.

    `arrival` and `departure` have one entry per record: the rows of its hop at which the packet last came in, and
    next goes out, -1 for none. `relays` has the packets that a process read or wrote for these, by packet.
    """

    records: Records
    notes: Array
    hops: Hops
    arrival: Array
    departure: Array
    row: Array
    event: Array
    cached: Array
    via: Array
    packet: Array
    hop: Array
    hop_in_path: Array
    decision: Array
    complete: Array
    lost: Array
    relays: dict[int, tuple[Relay, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)


def take(steps: Steps, keep: Array) -> Steps:
    """Only the steps that `keep` marks; records and hops stay."""
    if keep.all():
        return steps
    per_step = (
        "row",
        "event",
        "cached",
        "via",
        "packet",
        "hop",
        "hop_in_path",
        "decision",
        "complete",
        "lost",
    )
    return replace(steps, **{name: getattr(steps, name)[keep] for name in per_step})
