"""What correlation is told from outside: how long to wait, and what the host says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.tunnels import Layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracer.correlate.callers import Caller
    from tracer.correlate.columns import Array


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what may still come, in nanoseconds of event time."""

    settle_ns: int = 10_000_000
    finish_ns: int = 40_000_000
    pending_ns: int = 3_200_000_000


@dataclass(slots=True)
class Context:
    """What correlation is told from outside.

    Callers by stack id, tables whose hits may be suppressed, reasons of drops that only empty a socket's queue, code
    addresses that free what never was a packet, those that empty a socket's queue, and those where TCP frees without
    a reason what it has used;
    `inner` holds netns << 32 | ifindex of devices whose other end is watched too: what leaves by one comes in again;
    `layers` says which devices lie over others.
    """

    callers: Mapping[int, tuple[int, Caller]] = field(default_factory=dict)
    suppressing: Array = field(default_factory=lambda: np.zeros(0, np.uint64))
    purges: frozenset[int] = frozenset()
    no_packets: set[int] = field(default_factory=set)
    emptied: set[int] = field(default_factory=set)
    used: set[int] = field(default_factory=set)
    vague: frozenset[int] = frozenset()
    inner: Array = field(default_factory=lambda: np.zeros(0, np.uint64))
    layers: Layers = field(default_factory=Layers)
