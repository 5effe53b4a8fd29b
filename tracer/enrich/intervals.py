"""Addresses that a configuration cannot tell apart: no rule and no route begins or ends between them.

What a decision is explained by is the same for all of them, so it is worked out once for an interval, not once for an
address: a router to the whole internet has few routes and many destinations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.model.network import NetworkState

_BITS = 32
_STATES = 256


@lru_cache(_STATES)
def boundaries(state: NetworkState) -> np.ndarray[Any, Any]:
    """The IPv4 addresses (as numbers, sorted) at which a prefix of any rule or route begins or has just ended."""
    edges = {edge for start, length in _prefixes(state) for edge in (start, start + (1 << (_BITS - length)))}
    return np.array(sorted(edges), np.uint64)


def _prefixes(state: NetworkState) -> Iterator[tuple[int, int]]:
    for routes in state.tables.values():
        for route in routes:
            yield route.dst, route.dst_len
    for rule in state.rules:
        yield rule.src, rule.src_len
        yield rule.dst, rule.dst_len


@lru_cache(_STATES)
def _boundaries6(state: NetworkState) -> np.ndarray[Any, Any]:
    """The same of IPv6, by the rules alone, as bytes: of its route each lookup says itself which it is."""
    pairs = {pair for rule in state.rules6 for pair in ((rule.src, rule.src_len), (rule.dst, rule.dst_len))}
    edges = {edge for start, length in pairs if length for edge in (start, start + (1 << (128 - length)))}
    return np.array([edge.to_bytes(16, "big") for edge in sorted(edges) if edge < 1 << 128], "S16")


def numbers6(state: NetworkState, addresses: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The number of the interval that each IPv6 address (16 bytes) lies in, among the prefixes of rules."""
    packed = np.ascontiguousarray(addresses).view("S16")[:, 0]
    return np.searchsorted(_boundaries6(state), packed, side="right")


def leading(addresses: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The first so many bits of each address, the rest zero."""
    result: np.ndarray[Any, Any] = addresses & _MASKS[np.minimum(lengths, len(_MASKS) - 1)]
    return result


_MASKS = np.array(
    [list(((1 << 128) - (1 << (128 - length))).to_bytes(16, "big")) for length in range(129)], np.uint8
)
"""The mask of each prefix length."""


def numbers(state: NetworkState, addresses: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The number of the interval that each address (a host-order number) lies in."""
    return np.searchsorted(boundaries(state), addresses.astype(np.uint64), side="right")
