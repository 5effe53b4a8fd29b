"""The lookups that this very process causes: what a question to the kernel makes it search, and from where."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from tracer.correlate.columns import order_by, take_rows
from tracer.correlate.kinds import Kinds
from tracer.correlate.observed import fold
from tracer.enrich.filters import Selection
from tracer.errors import TracerError
from tracer.kernel import source
from tracer.kernel.loader import load
from tracer.kernel.ring import Ring
from tracer.wire.layout import parse

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_RING_BYTES = 1 << 20
_EVERY_STACK = 2
_NOT_EXCLUDED = 0
_MOST = 1 << 12


@dataclass(frozen=True, slots=True)
class Seen:
    """The lookups of one piece of work in order, and the kernel stack of each, innermost first."""

    records: np.ndarray[Any, Any]
    stacks: tuple[tuple[str, ...], ...]


class Watch:
    """The probes, letting through what this process does and nothing else, as long as it is open.

    The collector's own lookups are left out of a trace; here they are what is wanted, so the filter is for our
    process and excludes none. Raises NotPermitted or NotSupported as any trace does.
    """

    def __init__(self, backend: str) -> None:
        self._layout = parse(source.wire_header())
        self._kinds = Kinds.of(self._layout)
        self._open = contextlib.ExitStack()
        self._loaded = load(_RING_BYTES, backend, with_filter=True)
        self._open.callback(self._loaded.close)
        self._ring = Ring(self._loaded.ring_descriptor, _RING_BYTES, self._layout)
        self._open.callback(self._ring.close)
        wire = Selection(pid=os.getpid()).wire(self._layout, _EVERY_STACK, _NOT_EXCLUDED)
        self._loaded.set_filter(wire)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def lookups_of(self, work: Callable[[], _T]) -> tuple[_T, Seen]:
        """Do `work` and see every lookup that it makes the kernel do for this process.

        Raises TracerError when records were lost: then a walk may have a hole.
        """
        while len(self._ring.read(_MOST)):
            pass
        before = self._lost()
        done = work()
        records = self._ring.read(_MOST)
        if self._lost() != before:
            raise TracerError(
                "lookups of this question were lost: the walk may have a hole\n  try: ask again"
            )
        records = fold(take_rows(records, order_by(records["ts_ns"])), self._kinds)
        mine = records[records["kind"] == self._kinds.LOOKUP]
        stacks = tuple(self._loaded.stack(int(number)) if number >= 0 else () for number in mine["stack"])
        return done, Seen(mine, stacks)

    def _lost(self) -> int:
        return sum(self._loaded.refused()) + sum(self._loaded.missed().values())
