"""Objects keep everything their rows said."""

from __future__ import annotations

import pytest

from tests.unit.outputs.builder import design_rows, strange_rows
from tracer.model.path import path_rows
from tracer.outputs.paths import paths
from tracer.outputs.schema import conform


def _tuples(table):
    return [tuple(row.values()) for row in conform(table).to_pylist()]


@pytest.mark.parametrize("rows", [design_rows, strange_rows])
def test_rows_of_a_path_are_the_rows_it_was_made_of(rows):
    """rows -> objects -> rows is the identity, cached flags included."""
    table = rows().table()
    back = [row for path in paths(table) for row in path_rows(path)]
    assert [row for row, _ in back] == _tuples(table)
    assert [cached for _, cached in back] == table.column("cached").to_pylist()


def test_the_designs_path_has_its_hops_decisions_and_lookups():
    """The objects say what the sample of the design says."""
    (path,) = paths(design_rows().table())
    assert [(hop.netns, hop.role, hop.verdict) for hop in path.hops] == [
        ("c", "client", "send"),
        ("r", "router", "forward"),
        ("s", "server", "deliver"),
    ]
    router = path.hops[1]
    assert [decision.purpose for decision in router.decisions] == ["input", "source-check"]
    assert [lookup.rule for lookup in router.decisions[0].lookups] == [0, 100]
    assert router.decisions[1].lookups[1].columns == {"src": "10.2.0.2", "dst": "10.1.0.2"}
    assert (path.complete, path.lost, path.flow.dport) == (True, 0, 80)


def test_a_second_verdict_begins_another_hop_and_nothing_is_lost():
    """Rows that follow no grammar still come back as they were."""
    rows = design_rows()
    rows.end("drop", reason="late")
    rows.receive("s9").receive("s9")
    table = rows.table()
    (path,) = paths(table)
    assert len(path.hops) == 6
    assert [row for row, _ in path_rows(path)] == _tuples(table)


def test_a_path_without_internal_columns_is_complete_when_all_ends_were_seen():
    """After CSV, `complete` is worked out from what is there."""
    table = strange_rows(design_rows()).table()
    assert [path.complete for path in paths(conform(table))] == [True, True, False, True, True, True, True]
