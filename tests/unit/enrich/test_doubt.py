"""While the configuration changes, only what every state agrees on is told of a decision."""

from __future__ import annotations

from tests.unit.correlate.records import MS, R, Scene
from tests.unit.outputs.test_build import PACKET, forwarded
from tests.unit.outputs.worlds import network, route, rows, state, world


def test_two_routes_that_agree_with_what_was_seen_leave_the_prefix_unknown():
    """Before and after a change another prefix leads to the same nexthop: which it was is not known."""
    scene: Scene = forwarded(PACKET)
    before = state(R)
    narrow = route("10.0.0.0/8", table=100, dev=3)
    tables = {**before.tables, 100: (*before.tables[100], narrow)}
    since = scene.now_ns + MS
    for unsure, prefix in ((since, "0.0.0.0/0"), (1, None)):
        after = state(R, tables=tables, since_ns=since, unsure_ns=unsure)
        found = [row for row in rows(scene, world(network(before, after))) if row.get("table") == "100"]
        assert [(row["rule"], row.get("prefix")) for row in found if row["event"] == "lookup"] == [
            (100, prefix)
        ]
