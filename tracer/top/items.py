"""What is counted: an item per rule, route, table, verdict, reason and caller, and what a decision adds to each."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer.correlate.callers import PURPOSE_NAMES, Purpose
from tracer.enrich.routes import route_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.enrich.inference import Explained, Row
    from tracer.enrich.names import Names
    from tracer.model.network import NetworkState, Route

FAMILY_NUMBERS: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 6}
KINDS = ("rule", "route", "table", "verdict", "reason", "caller")
NONE_ASKED = "no rule is asked"
_DELIVERED = frozenset({"local", "broadcast", "anycast", "multicast"})
_REFUSED = frozenset({"no route", "unreachable", "prohibit", "blackhole"})


class Item(NamedTuple):
    """One row without its numbers; None where it does not apply or is not known.

    `by` says what the row is of. A rule, route or table that is not known has none of these columns.
    """

    by: str
    netns_inode: int = 0
    family: int | None = None
    rule: int | None = None
    rule_text: str | None = None
    table: str | None = None
    table_id: int | None = None
    prefix: str | None = None
    route: str | None = None
    verdict: str | None = None
    reason: str | None = None
    caller: str | None = None
    purpose: str | None = None
    evidence: str = "observed"

    @property
    def is_unknown(self) -> bool:
        """Whether it counts what could not be told apart."""
        if self.by == "rule":
            return self.rule_text is None
        return (self.by == "route" and self.route is None) or (self.by == "caller" and not self.caller)


@dataclass(slots=True)
class Tally:
    """`hits` of an item; `decided`: decisions that ended with it; when the last hit was."""

    hits: int = 0
    decided: int = 0
    last_ns: int = 0

    def add(self, hits: int, decided: int, last_ns: int) -> None:
        """Count more."""
        self.hits += hits
        self.decided += decided
        self.last_ns = max(self.last_ns, last_ns)


class Share(NamedTuple):
    """What one decision adds to an item."""

    item: Item
    hits: int
    decided: int


@dataclass(frozen=True, slots=True)
class Decided:
    """One way of deciding, explained: the decision, who asked, and the configuration it was explained by.

    `unseen`: searches of a walk that was too long to be kept whole, and that the model does not explain.
    """

    explained: Explained
    purpose: Purpose
    caller: str
    netns: int
    state: NetworkState | None
    in_ifindex: int = 0
    unseen: int = 0
    family: int = socket.AF_INET
    has_source: bool = True

    @property
    def version(self) -> int:
        """4 or 6."""
        return FAMILY_NUMBERS[self.family]

    def item(self, by: str, **columns: Any) -> Item:
        """One of its rows."""
        return Item(by, self.netns, self.version, **columns)


def shares(decided: Decided, names: Names) -> list[Share]:
    """What a decision of this kind adds to each item."""
    return [
        *_rules(decided),
        *_tables(decided),
        *_route(decided, names),
        *_verdict(decided),
        Share(
            decided.item(
                "caller",
                caller=decided.caller or None,
                purpose=PURPOSE_NAMES[decided.purpose] or None,
                evidence="inferred",
            ),
            1,
            1,
        ),
    ]


def _rules(decided: Decided) -> Iterator[Share]:
    rows = decided.explained.lookups
    extra = decided.explained.extra
    for number, row in enumerate(rows):
        won = extra is None and number == len(rows) - 1 and _ends(row)
        yield Share(_rule_item(decided, row), 1, int(won))
    if extra is not None:
        yield Share(_rule_item(decided, extra), 1, 1)
    if decided.unseen:
        yield Share(decided.item("rule", evidence="inferred"), decided.unseen, 0)


def _rule_item(decided: Decided, row: Row) -> Item:
    text = row.get("rule_text")
    asks_none = decided.family == socket.AF_INET and decided.purpose is Purpose.OTHER and not row.get("iif")
    if text is None and asks_none:
        text = NONE_ASKED
    return decided.item("rule", rule=row.get("rule"), rule_text=text, evidence="inferred")


def _ends(row: Row) -> bool:
    return row["result"] not in {"miss", "throw", "suppressed"}


def _tables(decided: Decided) -> Iterator[Share]:
    rows = decided.explained.lookups
    for number, row in enumerate(rows):
        won = number == len(rows) - 1 and _ends(row)
        yield Share(decided.item("table", table=row["table"], table_id=row["table_id"]), 1, int(won))
    if decided.unseen:
        yield Share(decided.item("table"), decided.unseen, 0)


def _route(decided: Decided, names: Names) -> Iterator[Share]:
    """The route that the decision ended in; one that cannot be told from others has no prefix."""
    row, route = decided.explained.lookups[-1], decided.explained.route
    if not _ends(row) and row["result"] != "throw":
        return
    if route is None or decided.state is None:
        item = decided.item("route", table=row["table"], table_id=row["table_id"], prefix=row.get("prefix"))
        yield Share(item, 1, int(_ends(row)))
        return
    yield Share(route_item(decided.state, route, names), 1, int(_ends(row)))


def route_item(state: NetworkState, route: Route, names: Names) -> Item:
    """The item of a route, the same whether it was hit or not."""
    text = route_text(route, state, names) + (f" metric {route.metric}" if route.metric else "")
    table = names.tables.get(route.table, str(route.table))
    return Item(
        "route",
        state.inode,
        FAMILY_NUMBERS[route.family],
        table=table,
        table_id=route.table,
        prefix=route.prefix,
        route=text,
        evidence="inferred" if route.family == socket.AF_INET else "observed",
    )


def _verdict(decided: Decided) -> Iterator[Share]:
    """What the decision said of its packet; what was dropped is counted where packets are freed."""
    result = decided.explained.decision["result"]
    verdict = None
    if decided.purpose is Purpose.OUTPUT:
        verdict = "drop" if result in _REFUSED else "send"
        if verdict == "drop" and decided.family == socket.AF_INET6 and not decided.has_source:
            return  # ip6_dst_lookup_tail() chooses a source and tries again
    elif decided.purpose is Purpose.INPUT and result in _DELIVERED:
        verdict = "deliver"
    elif decided.purpose is Purpose.INPUT and result == "unicast" and _forwards(decided):
        verdict = "forward"
    if verdict is None:
        return
    yield Share(decided.item("verdict", verdict=verdict, evidence="inferred"), 1, 1)
    if verdict == "drop":
        reason = f"{result}: the sender got an error, no packet was made"
        yield Share(decided.item("reason", verdict="drop", reason=reason, evidence="inferred"), 1, 1)


def _forwards(decided: Decided) -> bool:
    """Whether the device that the packet came in on forwards (IN_DEV_FORWARD); else the packet is dropped."""
    if decided.state is None:
        return True
    link = decided.state.links.get(decided.in_ifindex)
    if link is None:
        return True
    of_family = decided.state.settings if decided.family == socket.AF_INET else decided.state.settings6
    settings = of_family.get(link.name)
    return settings is None or bool(settings.forwarding)
