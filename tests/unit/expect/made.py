"""Paths and expectations for the tests of expectations: from captures, and from rows written by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.unit.outputs.builder import Rows, design_rows
from tracer.expect.collect import read_capture
from tracer.expect.judge import Judge
from tracer.expect.keys import DECISION_KEYS, HOP_KEYS
from tracer.expect.parse import expectation
from tracer.expect.steps import Stepper
from tracer.expect.terms import UNKNOWN
from tracer.outputs.paths import paths

REPLAYS = Path(__file__).parents[2] / "replay"
CAPTURES = sorted(REPLAYS.glob("*.fibtrace"))
WHERE = {"rule": "rule", "table": "table_id"}


@cache
def stepped(capture):
    """(path, steps) of every path in a capture, in their order."""
    seen = []
    read_capture(capture, seen.append)
    stepper = Stepper()
    return [(path, stepper.steps(path)) for path in seen]


def designed(**changes):
    """The path of the design, section 3."""
    (path,) = paths(design_rows().table())
    return replace(path, **changes)


def written(fill, packet=1, **path):
    """The path of rows that `fill` adds."""
    rows = Rows().path(packet, **path)
    fill(rows)
    (made,) = paths(rows.table())
    return made


def judged(keys, *seen, lost=""):
    """The result of one expectation against these paths."""
    judge = Judge([expectation("it", **keys)])
    for path in seen:
        judge.feed(path)
    (result,) = judge.results(lost)
    return result


def pattern_of(step):
    """Every key of a step whose value is known, as it would be written."""
    keys = {**HOP_KEYS, **DECISION_KEYS} if step.is_decision else HOP_KEYS
    pattern = {}
    for key in keys:
        value = step.facts[WHERE.get(key, key)]
        if value is UNKNOWN or (
            value is None and key in {"rule", "reason", "result", "comm", "role", "verdict"}
        ):
            continue
        pattern[key] = False if value is None else value
    return pattern


def expectation_of(path, steps):
    """The keys of an expectation that says everything which is known of a path."""
    flow = {name: getattr(path.flow, name) for name in ("family", "src", "dst", "proto", "sport", "dport")}
    keys = {
        "flow": {name: value for name, value in flow.items() if value is not None},
        "via": [pattern for step in steps if (pattern := pattern_of(step))],
    }
    if all(hop.netns for hop in path.hops):
        keys["hops"] = [hop.netns for hop in path.hops]
    if path.hops[-1].verdict:
        keys["verdict"] = path.hops[-1].verdict
    return keys
