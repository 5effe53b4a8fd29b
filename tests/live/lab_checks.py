"""A traced lab against what the lab says: every step's packets and answers, hop by hop."""

from __future__ import annotations

import pytest

from tests.live.lab_legs import check_legs
from tests.live.lab_runs import ICMP, LabRun, is_of, is_of_legs, is_own, is_reply, may_be_in_list, problems


def matches(path, alternatives):
    """Number of the alternative that a path is; fails with all differences if it is none."""
    found = [problems(path, expected) for expected in alternatives]
    if [] in found:
        return found.index([])
    told = "\n".join(f"  not {index}: {'; '.join(items)}" for index, items in enumerate(found))
    pytest.fail(f"{path.text()}\n{told}")
    return None


def strays(done: LabRun) -> list[str]:
    """Paths that no step's packets or their answers explain."""
    found = []
    for path in done.captured.paths:
        step = done.step_of(path)
        igmp = path.first["proto"] == "igmp"  # membership reports are repeated by a timer of the kernel
        if igmp or is_own(done.lab, path):
            continue
        if not (step and (is_of(step, path) or is_reply(step, path) or is_of_legs(step, path))):
            found.append(path.text())
    return found


def check_step(done: LabRun, label: str) -> None:
    """As many packets as were sent, and as many answers: each in these namespaces, by this rule and route."""
    (step,) = [step for step in done.lab.steps if step.label == label]
    mine = [path for path in done.captured.paths if done.step_of(path) is step]
    if step.expect.legs:
        for leg, paths in zip(step.expect.legs, check_legs(step, mine), strict=True):
            check_cached(paths, [leg.path])
        return
    there = [path for path in mine if is_of(step, path)]
    back = [path for path in mine if is_reply(step, path) and path not in there]
    expect = step.expect
    if step.flow.proto in ICMP and step.flow.dst in {"127.0.0.1", "::1"}:
        there, back = there[: step.packets], there[step.packets :]  # both directions look the same
    kinds = [matches(path, [*expect.paths, *expect.copies]) for path in there]
    sent = [path for path, kind in zip(there, kinds, strict=True) if kind < len(expect.paths)]
    if step.packets is None:
        assert len(sent) >= 4
        assert len(back) >= 3
    else:
        assert len(sent) == step.packets
        assert len(there) == step.packets * (1 + len(expect.copies))
        assert len(back) == (step.packets if expect.replies else 0)
    assert set(range(len(expect.paths))) <= set(kinds)
    for path in back:
        matches(path, expect.replies)
    for paths, alternatives in ((sent, expect.paths), (back, expect.replies)):
        check_cached(paths, alternatives)


def inner_decision(seen, hop):
    """The decision about the packet itself: where it is wrapped, that about the outer header follows."""
    routing = [decision for decision in seen.decisions if decision.purpose in {"input", "output"}]
    if hop.outer and hop.outer.wraps:
        routing = routing[:-1]
    return routing[-1] if routing else None


def check_cached(paths, alternatives):
    """Where the lab says so, most packets name the decision that an earlier one made, and it was one."""
    for number, hop in enumerate(alternatives[0] if alternatives else ()):
        decisions = [inner_decision(path.hops[number], hop) for path in paths]
        without = [decision for decision in decisions if decision is None or decision.cached]
        if hop.out_dev == "lo" or hop.rule is None or (without and may_be_in_list(hop)):
            continue
        # TCP remembers the route of what it gets when it has processed it: of four segments maybe none is spared.
        if paths[0].first["proto"] != "tcp" or without:
            assert bool(without) is hop.cached, f"{hop.netns}: {len(without)} of {len(paths)} spared"
        for decision in without:
            assert decision.row["reason"].startswith(("cached: decided by #", "cached: decided before"))
