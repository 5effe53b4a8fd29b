"""Every packet of every lab, traced: its path is the one the lab says, hop by hop, and none is missing."""

from __future__ import annotations

import re

import pytest

from tests.live.lab_checks import check_step, strays
from tests.live.lab_runs import run
from tracer.lab.catalog import labs

LABS = list(labs())
STEPS = [
    pytest.param(name, step.label, id=f"{name}: {step.label}")
    for name, lab in labs().items()
    for step in lab.steps
    if step.flow
]


@pytest.mark.parametrize("name", LABS)
def test_each_path_of_a_lab_is_whole(name):
    """Nothing is lost, every path is complete, and the traffic itself did what the lab says."""
    done = run(name)
    assert done.captured.code == 0
    assert re.search(r"^seen \d+ packets, 0 lost$", done.captured.told, re.MULTILINE)
    assert [path.text() for path in done.captured.paths if not path.complete] == []
    assert (done.captured.frame["lost"] == 0).all()
    assert [end for end in done.ends if not end[2]] == []


@pytest.mark.parametrize("name", LABS)
def test_each_path_of_a_lab_belongs_to_its_traffic(name):
    """No path is there that no step's packets or their answers explain."""
    assert strays(run(name)) == []


@pytest.mark.parametrize(("name", "label"), STEPS)
def test_packets_of_a_step_take_the_expected_path(name, label):
    """As many packets as were sent, and as many answers: each in these namespaces, by this rule and route."""
    done = run(name)
    assert done.captured.paths
    check_step(done, label)
