"""An expectation made from a path holds for that path; with one field changed, it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.expect.made import CAPTURES, expectation_of, stepped
from tracer.expect.compare import compare
from tracer.expect.flows import of_flow, sights_of
from tracer.expect.keys import RESULTS, ROUTE_TYPES
from tracer.expect.parse import expectation
from tracer.expect.terms import Truth
from tracer.model.columns import ROLES, VERDICTS

CHOICES = {"role": ROLES, "verdict": VERDICTS, "result": RESULTS, "route_type": ROUTE_TYPES,
           "purpose": ("input", "output", "source-check", "query", "other"), "outer": (True, False),
           "cached": (True, False)}  # fmt: skip
NOWHERE = {"netns": "elsewhere", "in_dev": "nodev0", "out_dev": "nodev0", "dev": "nodev0", "comm": "nobody",
           "rule": 4711, "table": 4711, "prefix": "192.0.2.0/24", "gateway": "192.0.2.1",
           "reason": "no such reason"}  # fmt: skip
OTHER_FLOW = {
    "src": "192.0.2.0/24",
    "dst": "198.51.100.1",
    "proto": "sctp",
    "sport": 1,
    "dport": 1,
}
EVERY = [(capture, number) for capture in CAPTURES for number in range(len(stepped(capture)))]


def truth(keys, path, steps):
    """Whether a path is as these keys say."""
    made = expectation("generated", **keys)
    return min(of_flow(made.flow, path, sights_of(path)), compare(made, path, steps)[0])


def test_there_are_paths_of_every_kind():
    """Drops, several hops, cached decisions, refusals, source checks."""
    steps = [step for capture in CAPTURES for _, found in stepped(capture) for step in found]
    assert len(EVERY) > 60
    assert {step.facts["verdict"] for step in steps} >= set(VERDICTS)
    assert any(step.facts.get("cached") and step.facts["rule"] == 32766 for step in steps)
    assert {step.facts.get("result") for step in steps} >= {"hit", "miss", "throw", "suppressed", "blackhole"}


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_an_expectation_made_from_a_path_holds_for_it(capture):
    """With every field that is known of every step, in order."""
    for path, steps in stepped(capture):
        assert truth(expectation_of(path, steps), path, steps) is Truth.YES


@given(st.sampled_from(EVERY), st.data())
def test_with_one_field_of_a_step_changed_it_does_not_hold(which, data):
    """Whatever the field: no path is accepted that differs from what was written."""
    path, steps = stepped(which[0])[which[1]]
    keys = expectation_of(path, steps)
    number = data.draw(st.integers(0, len(keys["via"]) - 1))
    pattern = dict(keys["via"][number])
    key = data.draw(st.sampled_from(sorted(pattern)))
    if key in CHOICES:
        pattern[key] = data.draw(st.sampled_from([c for c in CHOICES[key] if c != pattern[key]]))
    else:
        pattern[key] = NOWHERE[key]
    keys["via"] = [*keys["via"][:number], pattern, *keys["via"][number + 1 :]]
    assert truth(keys, path, steps) is Truth.NO


@given(st.sampled_from(EVERY), st.data())
def test_with_one_field_of_the_flow_changed_the_path_is_not_of_it(which, data):
    """Also where a later sight of the packet has other addresses (NAT)."""
    path, steps = stepped(which[0])[which[1]]
    keys = expectation_of(path, steps)
    key = data.draw(st.sampled_from(sorted(keys["flow"])))
    keys["flow"][key] = {4: 6, 6: 4}[path.flow.family] if key == "family" else OTHER_FLOW[key]
    assert truth(keys, path, steps) is Truth.NO


@given(st.sampled_from(EVERY), st.data())
def test_with_steps_left_out_it_still_holds(which, data):
    """`via` names the steps that matter, in order; others may stand between them."""
    path, steps = stepped(which[0])[which[1]]
    keys = expectation_of(path, steps)
    kept = data.draw(st.lists(st.booleans(), min_size=len(keys["via"]), max_size=len(keys["via"])))
    keys["via"] = [pattern for pattern, keep in zip(keys["via"], kept, strict=True) if keep]
    assert truth(keys, path, steps) is Truth.YES


@given(st.sampled_from(EVERY), st.data())
def test_what_a_path_did_is_found_by_never(which, data):
    """Each step of a path, written down, is what that path must never do again."""
    path, steps = stepped(which[0])[which[1]]
    keys = expectation_of(path, steps)
    step = data.draw(st.sampled_from(keys["via"]))
    assert truth({"flow": keys["flow"], "never": [step]}, path, steps) is Truth.NO


@given(st.sampled_from(EVERY), st.data())
def test_an_incomplete_path_never_passes_for_what_was_not_seen(which, data):
    """Cut behind any hop and marked so, a path neither breaks a `via` nor clears a `never`."""
    path, steps = stepped(which[0])[which[1]]
    keys = expectation_of(path, steps)
    made = expectation("generated", **keys)
    hops = data.draw(st.integers(1, len(path.hops)))
    part = replace(path, complete=False, lost=1, hops=path.hops[:hops])
    left = tuple(step for step in steps if step.hop < hops)
    assert compare(made, part, left)[0] is Truth.UNKNOWN
    clean = expectation("generated", never=[{"dev": "nodev0"}])
    assert compare(clean, part, left)[0] is Truth.UNKNOWN
