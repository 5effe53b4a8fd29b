"""The model goes into a capture and back, and knows what was in force when."""

from __future__ import annotations

import json

import pytest

from tracer.errors import BadCapture
from tracer.model.network import (
    IPV4,
    IPV6,
    Address,
    DeviceSettings,
    Link,
    Network,
    NetworkState,
    Nexthop,
    NexthopObject,
    Route,
    Rule,
)

RULE = Rule(IPV4, 7, "lookup", 100, uid=(5, 9), sport=(1, 2), invert=True, unknown=((77, "00ff"),))
ROUTE = Route(IPV6, 254, 1 << 127, 64, prefsrc=0, nexthops=(Nexthop(3, IPV6, 1, 2), Nexthop(4)))
FULL = NetworkState(
    5,
    name="r",
    since_ns=100,
    unsure_ns=90,
    rules=(RULE,),
    rules6=(Rule(IPV6, 0, "lookup", 255),),
    tables={254: (Route(IPV4, 254),), 100: ()},
    tables6={254: (ROUTE,)},
    large=frozenset({7}),
    large6=frozenset({8}),
    links={3: Link(3, "r0", "veth", up=True, peer_ifindex=4, peer_netns=9)},
    addresses=(Address(IPV4, 3, 1, 24),),
    nexthops={1: NexthopObject(1, group=((2, 3),))},
    settings={"all": DeviceSettings(rp_filter=1), "r0": DeviceSettings(rp_filter=2)},
    table_names={100: "uplink"},
)


def test_nothing_is_lost_in_a_capture():
    """Every field of every kind of record survives JSON."""
    network = Network()
    network.add(FULL)
    again = Network.deserialise(json.loads(json.dumps(network.serialise()))).latest(5)
    for name in NetworkState.__dataclass_fields__:
        assert getattr(again, name) == getattr(FULL, name), name


def test_a_capture_with_more_than_we_know_opens():
    """Fields of a later version are ignored; nonsense is a BadCapture."""
    assert Rule.from_dict({**RULE.to_dict(), "novelty": 1}) == RULE
    for broken in ({}, {"namespaces": [{"name": "r"}]}, {"namespaces": [3]}):
        with pytest.raises(BadCapture):
            Network.deserialise(broken)


def test_the_state_in_force_is_found_by_time():
    """Before the first the first, then the newest that had begun; near a change both are candidates."""
    network = Network()
    first, second = NetworkState(1, since_ns=100, unsure_ns=100), NetworkState(1, since_ns=200, unsure_ns=150)
    network.add(first)
    network.add(second)
    assert [network.at(1, ts) for ts in (0, 100, 199, 200, 999)] == [first, first, first, second, second]
    assert network.at(2, 100) is None
    assert network.candidates(1, 149) == (first,)
    assert network.candidates(1, 150) == (first, second)
    assert network.candidates(1, 200) == (second,)
    assert network.candidates(1, 50) == (first,)
    with pytest.raises(ValueError, match="older"):
        network.add(NetworkState(1, since_ns=199))


def test_what_a_state_answers():
    """Tables that exist though empty or too large, the stricter reverse-path mode, names."""
    assert [FULL.has_table(IPV4, table) for table in (254, 100, 7, 9)] == [True, True, True, False]
    assert FULL.has_table(IPV6, 8)
    assert FULL.routes(IPV4, 7) is None
    assert (FULL.rp_filter("r0"), FULL.rp_filter("other")) == (2, 1)
    assert (FULL.table_name(100), FULL.table_name(9)) == ("uplink", "9")
