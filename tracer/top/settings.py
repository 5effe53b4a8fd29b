"""What the kernel's counters must tell apart: the rules and routes of all namespaces as edges, bits and hashes.

Between two edges no prefix begins or ends, so one address of an interval stands for all of it, and the number of
counters follows the configuration instead of the number of addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.enrich.selectors import ACTIONS, FULL_PORT, HOST_LENGTH
from tracer.model.network import IPV4, IPV6

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tracer.enrich.filters import Selection
    from tracer.model.network import NetworkState, Rule
    from tracer.wire.layout import Layout

TARGETS, SOURCES, OTHERS = 65536, 4096, 256
EDGES6 = 4096
_HASH, _BITS = 2654435761, 256
_TOS_BITS = 0xFC
_BITS6 = 128
_WORD_BITS, _WORD_MASK = 64, (1 << 64) - 1

Edges6 = tuple[int, ...]


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
    sources6: Edges6 = ()
    targets6: Edges6 = ()


def distinctions(states: Sequence[NetworkState]) -> Distinctions:
    """Of all namespaces together: which one a decision is in is not known when it is classed.

    Only addresses are told apart by family; the rest is the union of what the rules of both look at.
    """
    rules = [rule for state in states for family in (IPV4, IPV6) for rule in state.rules_of(family)]
    targets = _edges(_prefix_limits((route.dst, route.dst_len) for route in _routes(states)))
    of_rules = _edges(_prefix_limits(_targets_of(rules, IPV4)))
    both = _union(targets, of_rules)
    sources = _edges(_prefix_limits(_sources_of(rules, IPV4)))
    sources6, targets6 = _edges6(_sources_of(rules, IPV6)), _edges6(_targets_of(rules, IPV6))
    uids = _edges(_limits(rule.uid for rule in rules))
    sports = _edges(_limits(rule.sport for rule in rules if not rule.sport_mask))
    dports = _edges(_limits(rule.dport for rule in rules if not rule.dport_mask))
    vague = (
        len(of_rules) > TARGETS
        or len(sources) > SOURCES
        or max(map(len, (sources6, targets6))) > EDGES6
        or max(map(len, (uids, sports, dports))) > OTHERS
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
        may_end=_hashes(
            table for state in states for family in (IPV4, IPV6) for table in last_tables(state, family)
        ),
        vague_routes=len(both) > TARGETS,
        vague_rules=vague,
        sources6=sources6[:EDGES6],
        targets6=targets6[:EDGES6],
    )


def last_tables(state: NetworkState, family: int = IPV4) -> Iterator[int]:
    """Tables after whose miss a walk may be over: those that no rule is sure to follow with another lookup."""
    rules = state.rules_of(family)
    if any(rule.action in {"goto", *ACTIONS} or rule.l3mdev or rule.unknown for rule in rules):
        yield from (rule.table for rule in rules)
        yield from (link.vrf_table for link in state.links.values() if link.vrf_table)
        return
    for rule in reversed(rules):
        yield rule.table
        if _is_sure(rule) and state.has_table(family, rule.table):
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
    for name in ("sources", "uids", "sports", "dports", "sources6", "targets6"):
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


def edges6(layout: Layout, told_apart: Distinctions) -> Iterator[tuple[str, NDArray[np.void]]]:
    """The same of IPv6 addresses, each edge a `struct edge6`."""
    for name in ("sources6", "targets6"):
        found = getattr(told_apart, name)
        pairs = [(edge >> _WORD_BITS, edge & _WORD_MASK) for edge in found]
        yield f"EDGE6_{name.removesuffix('6').upper()}", np.array(pairs, layout.structs["edge6"])


def _filter(settings: Any, selection: Selection, terms: dict[str, int]) -> None:
    active = 0
    for name, address, mask in (
        ("src", "saddr", "smask"),
        ("dst", "daddr", "dmask"),
        ("host", "haddr", "hmask"),
    ):
        prefix = getattr(selection, name)
        if prefix is not None:
            settings[address] = np.frombuffer(prefix.network_address.packed.ljust(16, b"\0"), np.uint8)
            settings[mask] = np.frombuffer(prefix.netmask.packed.ljust(16, b"\0"), np.uint8)
            active |= terms[f"TERM_{name.upper()}"]
    if selection.mark is not None:
        settings["wanted_mark"], settings["wanted_mask"] = selection.mark
        active |= terms["TERM_MARK"]
    if selection.uid is not None:
        settings["wanted_uid"] = selection.uid
        active |= terms["TERM_UID"]
    if selection.wire_family:
        settings["wanted_family"] = selection.wire_family
        active |= terms["TERM_FAMILY"]
    settings["active"] = active


def _routes(states: Sequence[NetworkState]) -> Iterator[Any]:
    return (route for state in states for routes in state.tables.values() for route in routes)


def _prefix_limits(prefixes: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    length_of_host = HOST_LENGTH[IPV4]
    return ((first, first + (1 << (length_of_host - length))) for first, length in set(prefixes))


def _sources_of(rules: Sequence[Rule], family: int) -> Iterator[tuple[int, int]]:
    return ((rule.src, rule.src_len) for rule in rules if rule.family == family and rule.src_len)


def _targets_of(rules: Sequence[Rule], family: int) -> Iterator[tuple[int, int]]:
    return ((rule.dst, rule.dst_len) for rule in rules if rule.family == family and rule.dst_len)


def _edges6(prefixes: Iterable[tuple[int, int]]) -> Edges6:
    """The edges of IPv6 prefixes, in order; as numbers, because numpy has none of 128 bits."""
    bits = _BITS6
    limits = {edge for first, length in prefixes for edge in (first, first + (1 << (bits - length)))}
    return tuple(sorted(limits - {0, 1 << bits}))


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
