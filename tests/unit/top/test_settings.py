"""What the kernel is told to tell apart: edges of prefixes, and the tables after which a walk may end."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.model.network import IPV4, NetworkState, Route, Rule
from tracer.top.settings import distinctions, last_tables
from tracer.top.ways import sequence_of

LOCAL, MAIN, DEFAULT = (Rule(IPV4, p, "lookup", t) for p, t in ((0, 255), (32766, 254), (32767, 253)))
prefixes = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda pair: (pair[0] >> (32 - pair[1]) << (32 - pair[1]), pair[1])
)


def state(*rules, tables=None):
    """A namespace with these rules and tables."""
    return NetworkState(1, rules=rules or (LOCAL, MAIN, DEFAULT), tables=MappingProxyType(tables or {}))


@given(st.lists(prefixes, max_size=20), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_addresses_of_one_class_match_the_same_prefixes(found, one, other):
    """Two addresses between the same edges are in the same prefixes, whatever these are."""
    routes = tuple(Route(IPV4, 254, dst, length) for dst, length in found)
    edges = distinctions([state(tables={254: routes})]).targets.astype(np.uint64)
    classes = [int(np.searchsorted(edges, address, "right")) for address in (one, other)]
    inside = [[address >> (32 - n) == dst >> (32 - n) for dst, n in found] for address in (one, other)]
    assert classes[0] != classes[1] or inside[0] == inside[1]


@pytest.mark.parametrize(
    ("rules", "tables", "ends"),
    [
        ((LOCAL, MAIN, DEFAULT), (255, 254), {253, 254}),
        ((LOCAL, MAIN, DEFAULT), (255, 254, 253), {253}),
        (
            (LOCAL, Rule(IPV4, 100, "prohibit", src=1 << 24, src_len=8), MAIN, DEFAULT),
            (255, 254),
            {0, 253, 254, 255},
        ),
        ((LOCAL, Rule(IPV4, 100, "lookup", 100, mark=1, mask=1)), (255, 100), {100, 255}),
    ],
)
def test_a_walk_may_end_where_no_lookup_is_sure_to_follow(rules, tables, ends):
    """From the last rule back to the one that every flow matches and whose table is there."""
    assert set(last_tables(state(*rules, tables=dict.fromkeys(tables, ())))) == ends


def test_too_many_prefixes_are_told():
    """With more edges than there is room for, routes are not told apart, and that is known."""
    routes = tuple(Route(IPV4, 254, number << 9, 24) for number in range(40_000))
    assert distinctions([state(tables={254: routes})]).vague_routes
    assert not distinctions([state(tables={254: routes[:1000]})]).vague_routes


def test_the_order_of_lookups_counts():
    """Walks through the same tables in another order, or with another result, have other numbers."""
    walks = [[(255, -11), (254, -11)], [(254, -11), (255, -11)], [(255, -11), (254, 0)], [(255, -11)]]
    assert len({sequence_of(walk) for walk in walks}) == len(walks)
