"""The independent truth: the kernel is asked again about every decision that was observed, and agrees."""

from __future__ import annotations

from tests.live.lab_runs import run
from tests.live.oracle import Comparison, write_summary
from tracer.lab.catalog import labs

ENOUGH = 1500


def test_every_decision_is_what_ip_route_get_says(capsys):
    """Over all labs no decision differs from the kernel's in table, prefix, gateway, device, type or error."""
    total = Comparison()
    for name in labs():
        total.add(run(name).comparison)
    write_summary(total)
    with capsys.disabled():
        print(f"\n{total}")
    assert total.differ == []
    assert total.compared >= ENOUGH
