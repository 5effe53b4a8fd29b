"""A packet that a process read and the packet that it wrote for it: plain values that go with a path."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TO: Final = "to"
FROM: Final = "from"
CERTAIN: Final = "certain"
LIKELY: Final = "likely"


@dataclass(frozen=True, slots=True)
class Relay:
    """One link of a path: `direction` `to` the packet that a process wrote for this one, or `from` the one it read.

    `certainty` is `certain` where one thread read one packet and wrote one, else `likely`. `loop`: the packet written
    was routed into the device that the other was read from.
    """

    direction: str
    packet: int
    pid: int
    comm: str
    certainty: str
    loop: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What JSON Lines have of it: `loop` only where there is one."""
        made = asdict(self)
        if not self.loop:
            del made["loop"]
        return made

    @classmethod
    def from_dict(cls, made: dict[str, Any]) -> Relay:
        """The inverse of `to_dict`; keys of newer versions are passed over. Raises TypeError."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in made.items() if name in known})


def to_text(relays: Iterable[Relay]) -> str | None:
    """The links as one text for the column that rows carry; None for none."""
    made = [relay.to_dict() for relay in relays]
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")) if made else None


@lru_cache(maxsize=4096)
def from_text(text: str | None) -> tuple[Relay, ...]:
    """The inverse of `to_text`."""
    return tuple(Relay.from_dict(item) for item in json.loads(text)) if text else ()
