"""Every lab by every backend, on the same packets: each path is the one that the lab says."""

from __future__ import annotations

import re

import pytest

from tests.live.lab_checks import check_step, strays
from tests.vm.agreement import holed
from tests.vm.session import BACKENDS, LABS, session
from tracer.lab.catalog import labs

STEPS = [
    pytest.param(name, step.label, id=f"{name}: {step.label}")
    for name in LABS
    for step in labs()[name].steps
    if step.flow
]


def driven(backend, name):
    """The lab as this backend saw it; skipped where the lab itself cannot run, with the reason."""
    refused = session().driven[name].get("refused")
    if refused:
        pytest.skip(f"the lab {name} cannot run here: {refused}")
    return session().lab(backend, name)


def test_nothing_is_lost():
    """Each of the three says how much it saw; what the kernel skipped is named, and the ring was never full.

    From Linux 7.0 on a probe can be interrupted by another task, whose event is then skipped.
    """
    told = session().told
    lost = [int(number) for number in re.findall(r"^seen \d+ packets, (\d+) lost$", told, re.MULTILINE)]
    named = [int(number) for number in re.findall(r"^  (\d+) events at .+ came while", told, re.MULTILINE)]
    assert len(lost) == len(BACKENDS), told
    assert sum(lost) == sum(named), told
    assert "found the ring full" not in told
    assert session().code == 0, told


@pytest.mark.parametrize("name", LABS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_path_of_a_lab_is_whole(backend, name):
    """Every path is complete, or says what was lost, and of the lab's traffic, which did what the lab says."""
    done = driven(backend, name)
    assert [path.text() for path in done.captured.paths if not path.complete and not holed(path)] == []
    assert [end for end in done.ends if not end[2]] == []
    assert strays(done) == []


@pytest.mark.parametrize(("name", "label"), STEPS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_packets_of_a_step_take_the_expected_path(backend, name, label):
    """As many packets as were sent, and as many answers: each in these namespaces, by this rule and route."""
    done = driven(backend, name)
    assert done.captured.paths
    holes = sum(map(holed, done.captured.paths))
    if holes:
        pytest.skip(f"this kernel skipped events of {holes} paths of the lab, and these say so")
    check_step(done, label)
