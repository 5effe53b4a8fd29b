"""Numbers of the wire that correlation needs, taken from `wire.h` once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer.wire.layout import Layout


@dataclass(frozen=True, slots=True)
class Kinds:
    """Values of `enum record_kind`."""

    LOOKUP: int
    RECEIVE: int
    QUEUE: int
    XMIT: int
    DROP: int
    CONSUME: int
    COPY: int
    STATE: int
    READY: int
    OWNER: int
    NEIGHBOUR: int
    RESULT: int
    SUPPRESSED: int
    STAGE: int
    READ: int

    @staticmethod
    def of(layout: Layout) -> Kinds:
        """The kinds as this `wire.h` numbers them; 0, which no record has, where it is older than the kind."""
        members = layout.enums["record_kind"]
        return Kinds(**{field.name: members.get(f"KIND_{field.name}", 0) for field in fields(Kinds)})
