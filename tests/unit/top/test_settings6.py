"""What the kernel is told of IPv6: edges of the prefixes in rules, and the tables after which a walk may end."""

from __future__ import annotations

from bisect import bisect_right
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from tracer.kernel.source import counters_header
from tracer.model.network import IPV6, NetworkState, Route, Rule
from tracer.top.settings import EDGES6, distinctions, edges6, last_tables
from tracer.wire.layout import parse

LOCAL, MAIN = Rule(IPV6, 0, "lookup", 255), Rule(IPV6, 32766, "lookup", 254)
addresses = st.integers(0, 2**128 - 1)
prefixes = st.tuples(addresses, st.integers(1, 128)).map(
    lambda pair: (pair[0] >> (128 - pair[1]) << (128 - pair[1]), pair[1])
)


def state(*rules, tables=None):
    """A namespace with these rules and tables of IPv6."""
    return NetworkState(1, rules6=rules, tables6=MappingProxyType(tables or {}))


@given(st.lists(prefixes, max_size=20), addresses, addresses)
def test_addresses_of_one_class_match_the_same_rules(found, one, other):
    """Two addresses between the same edges are in the same prefixes, whatever these are."""
    rules = [Rule(IPV6, 100, "lookup", 254, src=address, src_len=length) for address, length in found]
    edges = distinctions([state(*rules)]).sources6
    inside = [[item >> (128 - n) == first >> (128 - n) for first, n in found] for item in (one, other)]
    assert bisect_right(edges, one) != bisect_right(edges, other) or inside[0] == inside[1]


def test_edges_keep_their_128_bits():
    """An edge crosses to the kernel as two halves, the upper one first."""
    address = 0xFD00_0009 << 96
    rule = Rule(IPV6, 100, "lookup", 254, dst=address, dst_len=113)
    layout = parse(counters_header())
    written = dict(edges6(layout, distinctions([state(rule)])))
    found = [(int(edge["high"]) << 64) + int(edge["low"]) for edge in written["EDGE6_TARGETS"]]
    assert found == [address, address + (1 << 15)]
    assert len(written["EDGE6_SOURCES"]) == 0


def test_too_many_edges_of_rules_are_told():
    """With more edges than there is room for, rules are not told apart, and that is known."""
    rules = [
        Rule(IPV6, 100, "lookup", 254, src=number << 65, src_len=64) for number in range(1, EDGES6 // 2 + 2)
    ]
    assert distinctions([state(*rules)]).vague_rules
    assert not distinctions([state(*rules[:100])]).vague_rules


def test_routes_of_ipv6_need_no_edges():
    """Their prefixes are observed, so however many there are none is in doubt."""
    routes = tuple(Route(IPV6, 254, number << 64, 64) for number in range(70_000))
    told_apart = distinctions([state(LOCAL, MAIN, tables={254: routes})])
    assert (len(told_apart.targets), told_apart.targets6, told_apart.vague_routes) == (0, (), False)


def test_a_walk_may_end_after_main():
    """IPv6 has no rule for a table `default`."""
    assert set(last_tables(state(LOCAL, MAIN, tables={255: (), 254: ()}), IPV6)) == {254}
