"""The walk for a question, on small configurations; tests/live compares it with the kernel."""

from __future__ import annotations

from tracer.enrich.predict import predict, predict_merged
from tracer.enrich.rules import FlowKey
from tracer.model.network import IPV4, NetworkState, Nexthop, Route, Rule

HOP = (Nexthop(5),)


def test_a_walk_names_every_table_it_asks():
    """A miss, a suppressed hit and the hit that counts, in order."""
    rules = (
        Rule(IPV4, 0, "lookup", 255),
        Rule(IPV4, 1, "lookup", 254, suppress_prefixlength=0),
        Rule(IPV4, 2, "lookup", 100),
    )
    main, other = Route(IPV4, 254, nexthops=HOP), Route(IPV4, 100, metric=1, nexthops=HOP)
    tables = {255: (), 254: (main,), 100: (other,)}
    found = predict(NetworkState(1, rules=rules, tables=tables), FlowKey(daddr=9))
    assert [(item.table, item.result, item.suppressed) for item in found.lookups] == [
        (255, "miss", False),
        (254, "hit", True),
        (100, "hit", False),
    ]
    assert found.route.metric == 1


def test_nothing_is_predicted_from_what_is_not_known():
    """A table too large to read, or a selector that cannot be evaluated: no answer instead of a guess."""
    large = NetworkState(1, rules=(Rule(IPV4, 0, "lookup", 254),), large=frozenset({254}))
    doubtful = NetworkState(1, rules=(Rule(IPV4, 0, "prohibit", unknown=((9, ""),)),))
    assert not predict(large, FlowKey()).known
    assert not predict_merged(large, FlowKey()).known
    assert predict(doubtful, FlowKey()).unknown
