"""A path → its steps: in each hop the lookups of its decisions, in order, then how the hop ended.

A decision that was made for an earlier packet has the facts of that packet's decision, where it is known which one.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from tracer.expect.keys import DECISION_KEYS
from tracer.expect.patterns import Step
from tracer.expect.terms import UNKNOWN
from tracer.model.path import Decision, Hop, Lookup, Path
from tracer.outputs.words import is_outer

_REMEMBERED: Final = 100_000
_DECIDED_BY: Final = re.compile(r"cached: decided by #(\d+) ")
_NONE_MADE: Final = "no lookup: "
_OF_RULE: Final = {"unreachable", "prohibit", "blackhole"}
_NO_WAY: Final = _OF_RULE | {"throw"}
_AGAIN: Final = (
    "me_harder"  # ip_route_me_harder: netfilter routes again what it changed, after the cached route
)
_FIELDS: Final = (
    *(key for key in DECISION_KEYS if key not in {"purpose", "cached"}),
    "rule_text",
    "table_id",
)
_UNKNOWN: Final = dict.fromkeys(_FIELDS, UNKNOWN)
_NOTHING: Final = dict.fromkeys(_FIELDS)

_Facts: TypeAlias = dict[str, Any]
_Key: TypeAlias = tuple[Any, Any, bool]


class Stepper:
    """Makes the steps of paths, which must come in the order they were written in: later ones refer to earlier."""

    def __init__(self) -> None:
        self._made: OrderedDict[Any, dict[_Key, _Facts]] = OrderedDict()
        self._same: dict[tuple[Any, ...], _Facts] = {}

    def steps(self, path: Path) -> tuple[Step, ...]:
        """The steps of a path."""
        made: dict[_Key, _Facts] = {}
        steps = [step for index, hop in enumerate(path.hops) for step in self._hop(index, hop, path, made)]
        self._made[path.packet] = made
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)
        return tuple(steps)

    def _hop(self, index: int, hop: Hop, path: Path, made: dict[_Key, _Facts]) -> Iterator[Step]:
        stay = _stay(hop, path)
        own: dict[_Key, _Facts] = {}
        for at, decision in enumerate(hop.decisions):
            outer = is_outer(decision)
            facts = stay | _way_out(hop, outer=outer) | {"purpose": _known(decision.purpose)}
            facts |= {"cached": decision.cached, "outer": outer}
            for lookup in decision.lookups[: -1 if decision.ts_ns is not None else None]:
                yield Step(index, True, False, facts | _lookup_facts(lookup))
            key = (hop.netns_inode, decision.purpose, outer)
            found = self._decided(decision, key, hop, last=at == len(hop.decisions) - 1)
            if _AGAIN not in str(decision.caller):
                own[key] = found
            yield Step(index, True, True, facts | found)
        for key, found in own.items():
            made[key] = found if made.get(key, found) == found else _UNKNOWN
        yield from _ends(index, hop, stay)

    def _decided(self, decision: Decision, key: _Key, hop: Hop, *, last: bool) -> _Facts:
        """What a decision came to: its last lookup, or that of the decision which it used."""
        if decision.lookups:
            found = _lookup_facts(decision.lookups[-1]) if decision.ts_ns is not None else _UNKNOWN
            if len(self._same) > _REMEMBERED:
                self._same.clear()
            return self._same.setdefault(tuple(found.values()), found)
        reason = str(decision.reason or "")
        if reason.startswith(_NONE_MADE):
            return _NOTHING
        by = _DECIDED_BY.match(reason)
        found = self._made.get(int(by[1]), {}).get(key, _UNKNOWN) if by else _UNKNOWN
        left_by = _way_out(hop, outer=key[2])["out_dev"]
        if hop.verdict in {"send", "forward"} and last and left_by not in {UNKNOWN, found["dev"]}:
            return _UNKNOWN  # it went elsewhere than that decision says: something in between is not known
        return found


def _known(value: Any) -> Any:
    return UNKNOWN if value is None else value


def _stay(hop: Hop, path: Path) -> _Facts:
    """What is the same for all steps of a hop."""
    made_here = path.complete and hop.received_ns is None and hop.role in {"client", "local"}
    comm = hop.process.comm if hop.process else None
    return {
        "netns": _known(hop.netns),
        "netns_inode": _known(hop.netns_inode),
        "role": _known(hop.role),
        "in_dev": None if hop.in_dev is None and made_here else _known(hop.in_dev),
        "verdict": _known(hop.verdict),
        "reason": UNKNOWN if hop.verdict is None else hop.reason,
        "comm": _known(comm),
    }


def _way_out(hop: Hop, *, outer: bool) -> _Facts:
    """The device that the packet itself left by, or that its outer header left by."""
    if hop.handed and not outer:
        return {"out_dev": _known(hop.handed[0].out_dev)}
    none = hop.verdict in {"deliver", "drop"}
    return {"out_dev": None if hop.out_dev is None and none else _known(hop.out_dev)}


def _ends(index: int, hop: Hop, stay: _Facts) -> Iterator[Step]:
    """How the hop ended for the packet itself, and for the header around it where it got one."""
    headers = [is_outer(made) for made in hop.decisions if made.purpose in {"input", "output"}]
    wrapped_already = bool(headers) and all(headers)
    for outer in [wrapped_already, True] if hop.handed and not wrapped_already else [wrapped_already]:
        yield Step(index, False, True, stay | _way_out(hop, outer=outer) | {"outer": outer})


def _lookup_facts(lookup: Lookup) -> _Facts:
    """What one lookup found; None where there was nothing to find, not where it is not known."""
    result = lookup.result
    by_rule = result in _OF_RULE and lookup.table_id is None and lookup.prefix is None
    nothing = by_rule or result == "miss"
    no_way = nothing or result in _NO_WAY
    rest = {
        "prefix": None if nothing else UNKNOWN,
        "gateway": None if no_way or lookup.dev is not None else UNKNOWN,
        "dev": None if no_way else UNKNOWN,
        "route_type": None if nothing else UNKNOWN,
        "table": None if by_rule else UNKNOWN,
        "table_id": None if by_rule else UNKNOWN,
    }
    seen = {name: getattr(lookup, name) for name in _FIELDS if hasattr(lookup, name)}
    known = {name: rest.get(name, UNKNOWN) if value is None else value for name, value in seen.items()}
    return {**_UNKNOWN, **known, "evidence": lookup.evidence}
