"""The kernel's counters → what they count: each way is explained once, by the same inference as a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.correlate.callers import UNKNOWN_CALLER, Caller, Purpose, classify
from tracer.enrich.inference import explain_decision
from tracer.enrich.observed import address_number
from tracer.enrich.predict import predict
from tracer.enrich.selectors import HOST_LENGTH, FlowKey
from tracer.top.items import Decided

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracer.enrich.names import Names
    from tracer.model.network import NetworkState, Route

SHOWN = 24
_MIX, _WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1
_ANYSRC, _ICMP = 1, 1
_AGAIN = -11
_OF_KEY = ("iif", "oif", "proto")
_OF_INFO = (
    "saddr", "daddr", "gateway", "ifindex", "uid", "mark", "sport", "dport", "family", "tos", "owner_table",
    "priority", "nexthop_id", "route_type", "route_scope", "route_protocol", "gateway_family", "hints", "prefix_length",
)  # fmt: skip
_NOT_NUMBERS = frozenset({"saddr", "daddr", "gateway"})
_OF_ROUTE = frozenset(_OF_INFO) - {*_NOT_NUMBERS, "uid", "mark", "sport", "dport", "family", "tos"}
_NOTHING_FOUND: dict[str, Any] = {"gateway": bytes(16), **dict.fromkeys(_OF_ROUTE, 0)}


@dataclass(frozen=True, slots=True)
class Way:
    """One entry of the map: its key and what there is to say of it (`struct walk_key`, `struct walk_info`)."""

    key: Any
    info: Any

    @property
    def netns(self) -> int:
        """Inode of the namespace, 0 when unknown."""
        return int(self.info["netns"])

    @property
    def lookups(self) -> int:
        """How many tables were searched."""
        return int(self.key["lookups"])

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return int(self.info["family"])

    def flow(self) -> FlowKey:
        """The flow key, with the addresses of one of those that this counts."""
        key, info = self.key, self.info
        return FlowKey(
            family=self.family,
            saddr=address_number(info, "saddr"),
            daddr=address_number(info, "daddr"),
            iif=int(key["iif"]),
            oif=int(key["oif"]),
            mark=int(info["mark"]),
            uid=int(info["uid"]),
            tos=int(info["tos"]),
            proto=int(key["proto"]),
            sport=int(info["sport"]),
            dport=int(info["dport"]),
        )


def sequence_of(lookups: Sequence[tuple[int, int]]) -> int:
    """The number that bpf/top/walk.c makes of the (table, error) of lookups."""
    number = 0
    for table, error in lookups:
        number = ((number ^ (table << 32 | error & 0xFFFFFFFF)) * _MIX) & _WORD
        number ^= number >> 29
    return number


def observed(way: Way, states: Sequence[NetworkState]) -> list[tuple[int, int]] | None:
    """(table, error) of each lookup; of a long walk what the model says, if that is what was seen. None else."""
    count = way.lookups
    last = int(way.key["table"]), int(way.key["error"])
    if count <= SHOWN:
        info = way.info
        return [(int(info["tables"][i]), int(info["errors"][i])) for i in range(count)]
    for state in states:
        predicted = predict(state, way.flow())
        if not predicted.known or len(predicted.lookups) != count:
            continue
        before = [(item.table, _error(item.result)) for item in predicted.lookups[:-1]]
        if predicted.lookups[-1].table == last[0] and sequence_of(before) == int(way.key["sequence"]):
            return [*before, last]
    return None


def _error(result: str) -> int:
    return 0 if result == "hit" else _AGAIN


def records(way: Way, lookups: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """The lookups as a trace would have recorded them (fields of `struct record`)."""
    common: dict[str, Any] = {name: way.key[name] for name in _OF_KEY}
    common |= {name: way.info[name] for name in _OF_INFO}
    common |= {"flow_scope": way.key["scope"], "flow_flags": way.key["flags"], "call_kind": 0, "stack": -1}
    common["length"] = way.info["source_length"]
    last = len(lookups) - 1
    return [
        common | ({} if number == last else _NOTHING_FOUND) | {"walked_table": table, "error": error}
        for number, (table, error) in enumerate(lookups)
    ]


def caller_of(way: Way, stack: Callable[[int], tuple[str, ...]]) -> tuple[Purpose, str]:
    """Whose decision it is, from the stack at the first of its kind, where the shape of the flow key agrees."""
    number = int(way.info["stack"])
    caller: Caller = classify(stack(number)) if number >= 0 else UNKNOWN_CALLER
    from_device = int(way.key["iif"]) > 1
    if (caller.purpose is Purpose.INPUT and not from_device) or (
        caller.purpose is Purpose.OUTPUT and from_device
    ):
        return Purpose.UNKNOWN, ""
    trial = int(way.key["flags"]) & _ANYSRC or int(way.key["proto"]) != _ICMP
    if caller.probes and trial:
        return Purpose.OTHER, caller.name
    return caller.purpose, caller.name


def explain(
    way: Way, states: Sequence[NetworkState], stack: Callable[[int], tuple[str, ...]], names: Names
) -> Decided:
    """The decision behind a way, by the first of `states` (likeliest first) that explains it."""
    purpose, caller = caller_of(way, stack)
    lookups = observed(way, states)
    if lookups is None:  # too long to be known whole: only the last lookup is, and by no rule
        lookups, states = [(int(way.key["table"]), int(way.key["error"]))], ()
    rows = records(way, lookups)
    found = [(state, explain_decision(rows, purpose, caller, (state,), names)) for state in states]
    chosen, explained = next(
        ((state, explained) for state, explained in found if _is_explained(explained)),
        found[0] if found else (None, None),
    )
    if explained is None:
        explained = explain_decision(rows, purpose, caller, (), names)
    decided = Decided(
        explained,
        purpose,
        caller,
        way.netns,
        chosen,
        int(way.key["iif"]),
        way.lookups - len(lookups),
        way.family,
        has_source=any(way.info["saddr"]),
    )
    if any(state.rules_of(way.family) != chosen.rules_of(way.family) for state in states if chosen):
        forget_rules(decided)
    route = explained.route
    if chosen and route and any(_in_doubt(route, chosen, state) for state in states if state is not chosen):
        forget_route(decided)
    return decided


def _in_doubt(route: Route, one: NetworkState, other: NetworkState) -> bool:
    """Whether a counter may have been another route's in one of two states that may have been in force.

    So it may when the route is not in both (a new one may lie where an old one did), and when one that came or went
    looks the same and has addresses in common with it.
    """
    tables = (frozenset(state.routes(route.family, route.table) or ()) for state in (one, other))
    changed = next(tables) ^ next(tables)
    return route in changed or any(
        _looks(item) == _looks(route) and _overlap(item, route) for item in changed
    )


def _looks(route: Route) -> tuple[object, ...]:
    """What a probe can read of it."""
    return route.type, route.protocol, route.scope, route.metric, route.nhid, route.nexthops


def _overlap(one: Route, other: Route) -> bool:
    shift = HOST_LENGTH.get(one.family, 128) - min(one.dst_len, other.dst_len)
    return one.dst >> shift == other.dst >> shift


def _is_explained(explained: Any) -> bool:
    last = explained.lookups[-1]
    return last.get("rule_text") is not None and (explained.route is not None or last["result"] != "hit")


def forget_rules(decided: Decided) -> None:
    """Leave the rules out: more were configured than the kernel was told to tell apart."""
    for row in decided.explained.lookups:
        row["rule"] = row["rule_text"] = None
    decided.explained.extra = None


def forget_route(decided: Decided) -> None:
    """Leave the route out, for the same reason."""
    decided.explained.route = None
    decided.explained.lookups[-1]["prefix"] = None


def as_rows(raw: np.ndarray[Any, Any], dtype: np.dtype[np.void]) -> np.ndarray[Any, Any]:
    """Bytes of entries as rows."""
    return np.ascontiguousarray(raw[..., : dtype.itemsize]).view(dtype)[..., 0]
