"""What the kernel's counters must tell apart: the rules and routes of all namespaces as edges, bits and hashes.

Between two edges no prefix begins or ends, so one address of an interval stands for all of it, and the number of
counters follows the configuration instead of the number of addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.enrich.selectors import ACTIONS, FULL_PORT, HOST_LENGTH
from tracer.model.network import IPV4

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tracer.enrich.filters import Selection
    from tracer.model.network import NetworkState, Rule
    from tracer.wire.layout import Layout

TARGETS, SOURCES, OTHERS = 65536, 4096, 256
_LENGTH = HOST_LENGTH[IPV4]
_HASH, _BITS = 2654435761, 256
_TOS_BITS = 0xFC


@dataclass(frozen=True, slots=True)
class Distinctions:
    """Edges and bits by which decisions are told apart.

    `vague_routes`: too many prefixes for the room there is, so that a counter may stand for several routes;
    `vague_rules`: the same of what rules select by.
    """

    targets: NDArray[np.uint32]
    sources: NDArray[np.uint32]
    uids: NDArray[np.uint32]
    sports: NDArray[np.uint32]
    dports: NDArray[np.uint32]
    mark_bits: int
    sport_bits: int
    dport_bits: int
    tos_bits: int
    may_suppress: NDArray[np.uint64]
    may_end: NDArray[np.uint64]
    vague_routes: bool
    vague_rules: bool


def distinctions(states: Sequence[NetworkState]) -> Distinctions:
    """Of all namespaces together: which one a decision is in is not known when it is classed."""
    rules = [rule for state in states for rule in state.rules]
    targets = _edges(_prefix_limits((route.dst, route.dst_len) for route in _routes(states)))
    of_rules = _edges(_prefix_limits((rule.dst, rule.dst_len) for rule in rules if rule.dst_len))
    both = _union(targets, of_rules)
    sources = _edges(_prefix_limits((rule.src, rule.src_len) for rule in rules if rule.src_len))
    uids = _edges(_limits(rule.uid for rule in rules))
    sports = _edges(_limits(rule.sport for rule in rules if not rule.sport_mask))
    dports = _edges(_limits(rule.dport for rule in rules if not rule.dport_mask))
    vague = (
        len(of_rules) > TARGETS or len(sources) > SOURCES or max(map(len, (uids, sports, dports))) > OTHERS
    )
    tos = any(rule.tos or rule.dscp is not None for rule in rules) or any(r.tos for r in _routes(states))
    return Distinctions(
        targets=both if len(both) <= TARGETS else of_rules[:TARGETS],
        sources=sources[:SOURCES],
        uids=uids[:OTHERS],
        sports=sports[:OTHERS],
        dports=dports[:OTHERS],
        mark_bits=_union_of_bits(rule.mask for rule in rules),
        sport_bits=_union_of_bits(rule.sport_mask & FULL_PORT for rule in rules),
        dport_bits=_union_of_bits(rule.dport_mask & FULL_PORT for rule in rules),
        tos_bits=_TOS_BITS if tos else 0,
        may_suppress=_hashes(rule.table for rule in rules if rule.suppresses and not rule.l3mdev)
        if not any(rule.suppresses and rule.l3mdev for rule in rules)
        else _everything(),
        may_end=_hashes(table for state in states for table in last_tables(state)),
        vague_routes=len(both) > TARGETS,
        vague_rules=vague,
    )


def last_tables(state: NetworkState) -> Iterator[int]:
    """Tables after whose miss a walk may be over: those that no rule is sure to follow with another lookup."""
    rules = state.rules
    if any(rule.action in {"goto", *ACTIONS} or rule.l3mdev or rule.unknown for rule in rules):
        yield from (rule.table for rule in rules)
        yield from (link.vrf_table for link in state.links.values() if link.vrf_table)
        return
    for rule in reversed(rules):
        yield rule.table
        if _is_sure(rule) and state.has_table(IPV4, rule.table):
            return


def _is_sure(rule: Rule) -> bool:
    """Whether every flow matches the rule."""
    selectors = (
        rule.src_len, rule.dst_len, rule.iif, rule.oif, rule.mask, rule.uid, rule.ip_proto, rule.sport, rule.dport,
        rule.tos, rule.dscp, rule.tun_id, rule.invert,
    )  # fmt: skip
    return rule.action == "lookup" and not any(selectors) and rule.dscp is None


def pack(layout: Layout, told_apart: Distinctions, selection: Selection, terms: dict[str, int]) -> Any:
    """The `struct top_settings` for the kernel, without epoch and half."""
    settings = np.zeros((), layout.structs["top_settings"])
    for name in ("may_suppress", "may_end", "mark_bits", "sport_bits", "dport_bits", "tos_bits"):
        settings[name] = getattr(told_apart, name)
    for name in ("sources", "uids", "sports", "dports"):
        settings[name] = len(getattr(told_apart, name))
    _filter(settings, selection, terms)
    return settings


def edges(told_apart: Distinctions) -> Iterator[tuple[str, NDArray[np.uint32]]]:
    """What goes into each part of the map of edges, by the part's name."""
    starts = np.arange(65537, dtype=np.uint64) << np.uint64(16)
    first = np.searchsorted(told_apart.targets.astype(np.uint64), starts, "left")
    yield "EDGE_FIRST", first.astype(np.uint32)
    for name in ("targets", "sources", "uids", "sports", "dports"):
        yield f"EDGE_{name.upper()}", getattr(told_apart, name)


def _filter(settings: Any, selection: Selection, terms: dict[str, int]) -> None:
    active = 0
    for name, address, mask in (
        ("src", "saddr", "smask"),
        ("dst", "daddr", "dmask"),
        ("host", "haddr", "hmask"),
    ):
        prefix = getattr(selection, name)
        if prefix is not None:
            settings[address][:4] = np.frombuffer(prefix.network_address.packed, np.uint8)
            settings[mask][:4] = np.frombuffer(prefix.netmask.packed, np.uint8)
            active |= terms[f"TERM_{name.upper()}"]
    if selection.mark is not None:
        settings["wanted_mark"], settings["wanted_mask"] = selection.mark
        active |= terms["TERM_MARK"]
    if selection.uid is not None:
        settings["wanted_uid"] = selection.uid
        active |= terms["TERM_UID"]
    settings["active"] = active


def _routes(states: Sequence[NetworkState]) -> Iterator[Any]:
    return (route for state in states for routes in state.tables.values() for route in routes)


def _prefix_limits(prefixes: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    return ((first, first + (1 << (_LENGTH - length))) for first, length in set(prefixes))


def _limits(ranges: Iterable[tuple[int, int] | None]) -> Iterator[tuple[int, int]]:
    return ((limits[0], limits[1] + 1) for limits in ranges if limits)


def _edges(limits: Iterable[tuple[int, int]]) -> NDArray[np.uint32]:
    """Where intervals begin, in order; 0 begins one anyway, and nothing begins beyond the last number."""
    found = np.unique(np.array([edge for pair in limits for edge in pair], np.uint64))
    return found[(found > 0) & (found <= np.iinfo(np.uint32).max)].astype(np.uint32)


def _union(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return np.union1d(one, other).astype(np.uint32)


def _union_of_bits(masks: Iterable[int]) -> int:
    bits = 0
    for mask in masks:
        bits |= mask
    return bits


def _hashes(tables: Iterable[int]) -> NDArray[np.uint64]:
    bits = sum({1 << ((table * _HASH & 0xFFFFFFFF) >> 24) for table in set(tables)})
    return np.frombuffer(bits.to_bytes(_BITS // 8, "little"), np.uint64)


def _everything() -> NDArray[np.uint64]:
    return np.full(_BITS // 64, np.iinfo(np.uint64).max, np.uint64)
