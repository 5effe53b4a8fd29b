"""The independent truth: the kernel is asked again about every decision that was observed, and agrees."""

from __future__ import annotations

from tests.live.lab_runs import run
from tests.live.oracle import Comparison, write_summary
from tracer.lab.catalog import labs
from tracer.lab.needs import why_not

ENOUGH = 1500


def test_every_decision_is_what_ip_route_get_says(capsys):
    """Over all labs no decision differs from the kernel's in table, prefix, gateway, device, type or error."""
    total, elsewhere = (
        Comparison(),
        {name: reason for name, lab in labs().items() if (reason := why_not(lab))},
    )
    for name in labs().keys() - elsewhere.keys():
        total.add(run(name).comparison)
    write_summary(total)
    with capsys.disabled():
        print(f"\n{total}")
        for name, reason in elsewhere.items():
            print(f"not compared here: lab {name}: {reason}")
    assert total.differ == []
    assert total.compared >= ENOUGH
