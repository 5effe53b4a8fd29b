"""A change of the network's configuration on the timeline of the packets, and what it may have done to a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracer.errors import MALFORMED, BadCapture
from tracer.model.routing import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDED, DELETED, CHANGED = "add", "delete", "change"
RULE, ROUTE, NEXTHOP, ADDRESS, LINK, NEIGHBOUR = "rule", "route", "nexthop", "address", "link", "neighbour"
SETTING, LOST = "setting", "lost"


@dataclass(frozen=True, slots=True)
class Change(Record):
    """One rule, route, nexthop object, address, device, neighbour or setting that came, went or became another.

    `ts_ns` is when its notification was read, `unsure_ns` when there was certainly none yet: it happened between
    the two. `text` is as `ip monitor` words it, with `+` and `-`. `pid` and `comm` are of the process that asked
    for it, where that is certain. What follows them says what it concerns; empty where the kind has no such thing.
    """

    ts_ns: int
    unsure_ns: int
    netns_inode: int
    kind: str
    op: str
    text: str
    netns: str = ""
    pid: int = 0
    comm: str = ""
    family: int = 0
    rule: int | None = None
    table_id: int | None = None
    prefix: str = ""
    gateway: str = ""
    dev: str = ""
    protocol: str = ""
    state: str = ""

    @property
    def by(self) -> str:
        """`ip[812]`; empty where it is not certain who it was."""
        return f"{self.comm}[{self.pid}]" if self.pid else ""


@dataclass(frozen=True, slots=True)
class Facts(Record):
    """What a hop did with a packet of a flow; None where it is not known."""

    rule: int | None = None
    rule_text: str | None = None
    table: str | None = None
    prefix: str | None = None
    gateway: str | None = None
    dev: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Cause(Record):
    """A change between two packets that explains, or may explain, why the later one took another path.

    `before_ns` is how long before the later packet it was noticed; negative when it was noticed after it.
    """

    text: str
    before_ns: int
    by: str = ""


@dataclass(frozen=True, slots=True)
class Changed(Record):
    """A path differs from the last one of its flow: in which hop, from what to what, and because of what.

    `certain` is true where exactly one change explains it. `known` is false where nobody looked for changes, or
    not all of the time between is known.
    """

    packet: int
    hop: int
    netns: str
    was: Facts
    now: Facts
    causes: tuple[Cause, ...] = ()
    more: int = 0
    certain: bool = False
    known: bool = True

    @classmethod
    def read(cls, values: dict[str, Any]) -> Changed:
        """The inverse of `to_dict`."""
        causes = tuple(Cause.from_dict(item) for item in values.get("causes", ()))
        was, now = Facts.from_dict(values.get("was", {})), Facts.from_dict(values.get("now", {}))
        return cls.from_dict({**values, "causes": (), "was": was, "now": now}).with_causes(causes)

    def with_causes(self, causes: tuple[Cause, ...]) -> Changed:
        """The same with these causes."""
        return Changed(self.packet, self.hop, self.netns, self.was, self.now, causes,
                       self.more, self.certain, self.known)  # fmt: skip


def changes_from(values: Iterable[dict[str, Any]]) -> list[Change]:
    """Changes out of a capture; raises BadCapture if they are none."""
    try:
        return [Change.from_dict(item) for item in values]
    except MALFORMED as error:
        raise BadCapture(f"cannot read the changes of the capture: {error}") from error
