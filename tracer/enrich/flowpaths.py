"""Whether a packet takes another path than the last one of its flow did, and which change between them explains it."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer.enrich.reasons import OUTER_HEADER
from tracer.model import change as kinds
from tracer.model.change import ADDED, DELETED, Cause, Change, Changed, Facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracer.model.path import Decision, Flow, Hop, Path, Value

FLOWS, CHANGES = 10_000, 10_000
_SHOWN = 3
_FACTS = tuple(item.name for item in fields(Facts))
_NEXTHOP = {"gateway", "dev"}
_ICMP = {"icmp", "ipv6-icmp"}


class Timeline:
    """The last changes of every namespace, by time."""

    def __init__(self, limit: int = CHANGES) -> None:
        self._limit = limit
        self._changes: dict[int, deque[Change]] = {}
        self._forgotten_ns: dict[int, int] = {}

    def add(self, changes: Iterable[Change]) -> None:
        """Append changes; of each namespace the newest are kept."""
        for change in changes:
            kept = self._changes.setdefault(change.netns_inode, deque())
            kept.append(change)
            if len(kept) > self._limit:
                self._forgotten_ns[change.netns_inode] = kept.popleft().ts_ns

    def between(self, inode: int, first_ns: int, last_ns: int) -> list[Change]:
        """The changes of a namespace that may have happened between two moments."""
        found = []
        for change in reversed(self._changes.get(inode, ())):
            if change.ts_ns < first_ns:
                break
            if change.unsure_ns <= last_ns:
                found.append(change)
        return found[::-1]

    def knows(self, inode: int, since_ns: int) -> bool:
        """Whether nothing since that moment was forgotten or lost."""
        lost = (change.ts_ns for change in self._changes.get(inode, ()) if change.kind == kinds.LOST)
        return max(self._forgotten_ns.get(inode, 0), *lost, 0) < since_ns


class _Seen(NamedTuple):
    """What one hop did with the last packet of a flow; `ts_ns` is when it last decided so by lookups."""

    inode: Value
    in_dev: Value
    tables: frozenset[Value]
    facts: Facts
    ts_ns: int


class _Last(NamedTuple):
    packet: int
    hops: tuple[_Seen, ...]


class FlowPaths:
    """The last path of each flow, of the flows seen last."""

    def __init__(self, timeline: Timeline | None, limit: int = FLOWS) -> None:
        self._timeline, self._limit = timeline, limit
        self._last: OrderedDict[Any, _Last] = OrderedDict()

    def compare(self, path: Path) -> Changed | None:
        """How the path differs from the last one of its flow; None where it does not, or cannot be compared.

        A path with a hole is neither compared nor remembered.
        """
        if not path.complete or path.lost or not isinstance(path.packet, int):
            return None
        key = (path.flow, path.info if path.flow.proto in _ICMP else None)
        last = self._last.pop(key, None)
        hops = tuple(_seen(hop, path) for hop in path.hops)
        changed = None
        if last is not None:
            hops, changed = self._differ(path, last, hops)
        self._last[key] = _Last(path.packet, hops)
        if len(self._last) > self._limit:
            self._last.popitem(last=False)
        return changed

    def _differ(
        self, path: Path, last: _Last, hops: tuple[_Seen, ...]
    ) -> tuple[tuple[_Seen, ...], Changed | None]:
        """What to remember, and the difference in the first hop that has one: those behind follow from it."""
        kept = list(hops)
        for number, (was, now) in enumerate(zip(last.hops, hops, strict=False)):
            if was.inode != now.inode or was.in_dev != now.in_dev:
                break
            different = _difference(was.facts, now.facts)
            if not different:
                kept[number] = _merged(was, now)
                continue
            return tuple(kept), self._changed(path, last.packet, (number, was, now), different)
        return tuple(kept), None

    def _changed(
        self, path: Path, packet: int, where: tuple[int, _Seen, _Seen], different: set[str]
    ) -> Changed | None:
        number, was, now = where
        found, certain, known = self._causes(path.flow, was, now)
        # Where nothing but the nexthop differs and nothing changed, a multipath route chose another member.
        if different <= _NEXTHOP and not found:
            return None
        shown = found[-_SHOWN:]
        netns = path.hops[number].netns
        return Changed(
            packet=packet,
            hop=number + 1,
            netns=str(netns if netns is not None else now.inode),
            was=was.facts,
            now=now.facts,
            causes=tuple(Cause(item.text, now.ts_ns - item.ts_ns, item.by) for item in shown),
            more=len(found) - len(shown),
            certain=certain and known,
            known=known,
        )

    def _causes(self, flow: Flow, was: _Seen, now: _Seen) -> tuple[list[Change], bool, bool]:
        """The changes that explain a difference; whether it is certain; whether all changes are known."""
        inode = now.inode
        if self._timeline is None or not isinstance(inode, int):
            return [], False, False
        between = self._timeline.between(inode, was.ts_ns, now.ts_ns)
        known = self._timeline.knows(inode, was.ts_ns)
        named = _last_of_each([item for item in between if _explains(item, was, now)])
        if named:
            return named, len(named) == 1, known
        return _last_of_each([item for item in between if _may_explain(item, flow, was, now)]), False, known


def _seen(hop: Hop, path: Path) -> _Seen:
    decision = _routing(hop)
    start_ns = path.start_ns if isinstance(path.start_ns, int) else 0
    tables = frozenset(lookup.table_id for made in hop.decisions for lookup in made.lookups)
    if decision is None:
        facts = Facts(verdict=_text(hop.verdict), dev=_text(hop.out_dev))
        return _Seen(hop.netns_inode, hop.in_dev, tables, facts, start_ns)
    last = decision.lookups[-1]
    facts = Facts(
        rule=last.rule if isinstance(last.rule, int) else None,
        rule_text=_text(last.rule_text),
        table=_text(last.table if last.table is not None else last.table_id),
        prefix=_text(last.prefix),
        gateway=_text(last.gateway),
        dev=_text(hop.out_dev if hop.out_dev is not None else last.dev),
        verdict=_text(hop.verdict),
    )
    decided_ns = last.ts_ns if isinstance(last.ts_ns, int) else start_ns
    return _Seen(hop.netns_inode, hop.in_dev, tables, facts, decided_ns)


def _routing(hop: Hop) -> Decision | None:
    """The last decision about the packet itself that looked anything up; None where it was made earlier."""
    for decision in reversed(hop.decisions):
        outer = str(decision.reason or "").startswith(OUTER_HEADER)
        if decision.lookups and decision.purpose != "source-check" and not outer:
            return decision
    return None


def _text(value: Value) -> str | None:
    return None if value is None else str(value)


def _difference(was: Facts, now: Facts) -> set[str]:
    """The facts that differ; what is not known of both is not compared.

    A gateway is none where the route has none, so it is compared wherever the prefix is known.
    """
    pairs = {name: (getattr(was, name), getattr(now, name)) for name in _FACTS}
    different = {name for name, (old, new) in pairs.items() if None not in {old, new} and old != new}
    if None not in {was.prefix, now.prefix} and was.gateway != now.gateway:
        different.add("gateway")
    return different


def _merged(was: _Seen, now: _Seen) -> _Seen:
    """The newer facts, with what only the older ones say: a reused decision says little, and is of its own time."""
    if now.facts.table is not None:
        return now
    known = {name: getattr(was.facts, name) for name in _FACTS}
    known.update({name: value for name in _FACTS if (value := getattr(now.facts, name)) is not None})
    return now._replace(facts=Facts(**known), tables=was.tables, ts_ns=was.ts_ns)


def _last_of_each(found: list[Change]) -> list[Change]:
    """The last change of each rule, route, device and so on, in order of time: the earlier ones were undone."""
    latest = {_subject(change): change for change in found}
    return sorted(latest.values(), key=lambda change: change.ts_ns)


def _subject(change: Change) -> tuple[object, ...]:
    name = change.text.lstrip("+- ") if change.kind == kinds.RULE else change.dev
    if change.kind == kinds.ROUTE:
        name = ""
    return change.kind, change.family, change.rule, change.table_id, change.prefix, name


def _explains(change: Change, was: _Seen, now: _Seen) -> bool:
    """Whether the change is of the very rule, route or device that the old path used or the new one uses."""
    old, new = was.facts, now.facts
    if change.kind == kinds.RULE:
        used = new if change.op == ADDED else old
        # A rule of the same preference that selects otherwise is another one.
        return change.rule == used.rule and (
            used.rule_text is None or change.text.endswith(f": {used.rule_text}")
        )
    if change.kind == kinds.ROUTE:
        sides = (old,) if change.op == DELETED else (new,)
        return any(change.prefix == side.prefix and _same_table(change, side) for side in sides)
    if change.kind == kinds.LINK:
        return change.dev in {old.dev, new.dev} and old.dev != new.dev and change.state != ""
    return False


def _same_table(change: Change, side: Facts) -> bool:
    names = {"main": 254, "local": 255, "default": 253}
    return side.table is not None and change.table_id == names.get(side.table, _number(side.table))


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _may_explain(change: Change, flow: Flow, was: _Seen, now: _Seen) -> bool:
    """Whether the change could have to do with the difference: a rule or route before, a device, an address."""
    old, new = was.facts, now.facts
    if change.family and flow.family and change.family != flow.family:
        return False
    if change.kind == kinds.RULE:
        known = [facts.rule for facts in (old, new) if facts.rule is not None]
        return not known or (change.rule or 0) <= max(known)
    if change.kind == kinds.ROUTE:
        return _contains(change.prefix, flow.dst) or _contains(change.prefix, flow.src)
    if change.kind == kinds.NEIGHBOUR:
        return change.gateway in {old.gateway, new.gateway, flow.dst} and old.verdict != new.verdict
    if change.kind in {kinds.LINK, kinds.ADDRESS}:
        return change.dev in {old.dev, new.dev, was.in_dev} or change.prefix.split("/")[0] == flow.dst
    return True


def _contains(prefix: str, address: Value) -> bool:
    try:
        return ipaddress.ip_address(str(address)) in ipaddress.ip_network(prefix)
    except (ValueError, TypeError):
        return False
