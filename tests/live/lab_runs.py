"""One traced run of each lab, shared by the tests of paths and of decisions: they take seconds each."""

from __future__ import annotations

import errno
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from tests.live.networks import lab
from tests.live.oracle import Comparison, compare
from tests.live.tracing import Captured, Decision, Hop, Seen, capture
from tracer.kernel.btf import KernelTypes
from tracer.lab import topology
from tracer.lab.catalog import labs
from tracer.lab.needs import why_not

# Runs the traffic of a lab that is up and writes when each step ended: all packets of a step are made before.
_DRIVER = """
import json, sys, time
from tracer.lab.engine import attach
ends = []
for result in attach(sys.argv[1]).traffic():
    ends.append((result.step.label, time.time_ns(), result.ok, result.output))
with open(sys.argv[2], "w") as file:
    json.dump(ends, file)
"""


ICMP = {"icmp", "ipv6-icmp"}


@dataclass(frozen=True)
class LabRun:
    """What was traced of one lab, and what the kernel answered about its decisions while it was still up."""

    lab: topology.Lab
    captured: Captured
    ends: tuple[tuple[str, int, bool, str], ...]
    comparison: Comparison

    def step_of(self, path: Seen) -> topology.Step | None:
        """The step that made the packet: by time, and TCP's last segments by their protocol and port."""
        ts_ns = path.rows[0]["ts_ns"]
        number = next((i for i, (_, end, _, _) in enumerate(self.ends) if ts_ns <= end), len(self.ends) - 1)
        for index in range(number, -1, -1):
            step = next(step for step in self.lab.steps if step.label == self.ends[index][0])
            tcp = path.first["proto"] == "tcp"
            if step.flow and (not tcp or is_of(step, path) or is_reply(step, path) or is_of_legs(step, path)):
                return step
        return None


def skip_where_impossible(name: str) -> None:
    """Skip the test, and say why, where this machine cannot build a lab."""
    reason = why_not(labs()[name])
    if reason:
        pytest.skip(f"lab {name}: {reason}")


def run(name: str) -> LabRun:
    """A lab's run, made once; skips the test where the lab cannot be built."""
    skip_where_impossible(name)
    return _run(name)


@cache
def _run(name: str) -> LabRun:
    """Build a lab, trace its traffic, ask the kernel about every decision, take it down."""
    with lab(name) as running, tempfile.TemporaryDirectory(prefix="ft-") as directory:
        times = Path(directory, "ends.json")
        inodes = frozenset(running.namespaces.values())
        command = [sys.executable, "-c", _DRIVER, name, str(times)]
        captured = capture(Path(directory), command, only=inodes)
        ends = tuple(map(tuple, json.loads(times.read_text())))
        return LabRun(running.lab, captured, ends, compare(captured.paths, list(running.namespaces)))


# -- a path against what the lab expects


def fits(flow: topology.Flow, path: Seen) -> bool:
    """Whether a path's packet is of this flow, as far as that says."""
    wanted = (flow.proto, flow.src, flow.dst, flow.sport, flow.dport)
    return all(want in {None, seen} for want, seen in zip(wanted, path.flow(), strict=True))


def is_of_legs(step: topology.Step, path: Seen) -> bool:
    """Whether this is a packet of one of the legs of the step."""
    return any(fits(leg.flow, path) for leg in step.expect.legs)


def is_of(step: topology.Step, path: Seen) -> bool:
    """Whether this is a packet that the step sends."""
    flow, (proto, src, dst, sport, dport) = step.flow, path.flow()
    if (proto, dst) != (flow.proto, flow.dst) or (flow.src and src != flow.src):
        return False
    if flow.proto in ICMP:
        return True
    sports = range(flow.sport, flow.sport + 100) if flow.sport else [sport]
    return dport == flow.dport and sport in sports


def is_own(lab: topology.Lab, path: Seen) -> bool:
    """Whether this is a packet that the lab's devices send by themselves."""
    return any(fits(flow, path) for flow in lab.own)


def is_reply(step: topology.Step, path: Seen) -> bool:
    """Whether this is a packet that answers the step's."""
    flow, (proto, src, _, sport, _) = step.flow, path.flow()
    if step.expect.reply_icmp:
        return proto in ICMP
    if step.expect.replies and (first := step.expect.replies[0][0].flow):
        return (proto, src, sport) == (first.proto, first.src, first.sport)
    return proto == flow.proto and (src == flow.dst if proto in ICMP else sport == flow.dport)


def problems(path: Seen, expected: topology.Path) -> list[str]:
    """All in which a path differs from what the lab says, in words; TCP through lo decides once."""
    if path.first["proto"] == "tcp":
        expected = tuple(replace(hop, cached=hop.cached or hop.out_dev == "lo") for hop in expected)
    if path.names != [hop.netns for hop in expected]:
        return [f"went through {path.names}"]
    found = []
    for seen, hop in zip(path.hops, expected, strict=True):
        found += [f"{hop.netns}: {problem}" for problem in _hop_problems(seen, hop)]
    return found


@cache
def kernel_gives_reasons() -> bool:
    """Whether this kernel says why it drops a packet (skb_drop_reason, since 5.17)."""
    return bool(KernelTypes().drop_reasons)


def _hop_problems(seen: Hop, hop: topology.Hop) -> list[str]:
    wanted = {"verdict": hop.verdict, "in_dev": hop.in_dev, "out_dev": hop.out_dev}
    found = [f"{k} {getattr(seen, k)}, not {v}" for k, v in wanted.items() if getattr(seen, k) != v]
    if (
        hop.reason
        and kernel_gives_reasons()
        and f"SKB_DROP_REASON_{hop.reason} " not in seen.reason.replace(")", " ")
    ):
        found.append(f"reason {seen.reason!r}, not {hop.reason}")
    routing = [d for d in seen.decisions if d.purpose in {"input", "output"}]
    if hop.outer:
        found += _outer_problems(routing, hop)
        routing = routing[:-1] if hop.outer.wraps else routing[1:]
    decided = [d for d in routing if not d.cached]
    if hop.error:
        return found + _error_problems(seen, hop, decided)
    if hop.rule is None and not hop.reason and not hop.cached:
        return found + [f"decided by {d.walk()}, not without a lookup" for d in decided]
    if not decided and may_be_in_list(hop) and any("(route hint " in str(d.row["reason"]) for d in routing):
        return found
    if not decided and hop.rule is None and hop.reason != "IP_INNOROUTES":
        return found  # dropped where no decision is made: a looped copy, a multicast that nobody wants
    if not decided:
        said = [d.row["reason"] for d in seen.decisions if d.cached and d.row and d.row["reason"]]
        return found if hop.cached and said else [*found, f"no decision, and it says {said}"]
    return found + _decision_problems(decided[-1], hop)


def may_be_in_list(hop: topology.Hop) -> bool:
    """Whether packets may come in lists here: a tunnel hands on together what came soon after one another."""
    return hop.outer is not None and not hop.outer.wraps


def _outer_problems(routing: list[Decision], hop: topology.Hop) -> list[str]:
    """What differs in the decision about the outer header: the last where it is wrapped, else the first."""
    outer = hop.outer
    if len(routing) < 2:
        return [f"{len(routing)} decisions, not that of the packet and that of its outer header"]
    decision = routing[-1 if outer.wraps else 0]
    found = [] if decision.row["proto"] in {outer.proto, None} else [f"outer header {decision.row['proto']}"]
    if decision.cached:
        return found
    way = topology.Hop(
        hop.netns,
        "send" if outer.wraps else "deliver",
        out_dev=hop.out_dev,
        rule=outer.rule,
        table=outer.table,
        gateway=outer.gateway,
        prefix=outer.prefix,
        passed=outer.passed,
    )
    return found + [f"outer header: {problem}" for problem in _decision_problems(decision, way)]


def _error_problems(seen: Hop, hop: topology.Hop, decided: list[Decision]) -> list[str]:
    decision = decided[-1]
    assert len(decided) == (1 if decision.won["family"] == 4 else 2)  # IPv6 tries again with a source address
    assert len({(str(tried.walk()), tried.won["prefix"]) for tried in decided}) == 1
    number = -getattr(errno, hop.error)
    no_route = -errno.ENETUNREACH if decision.row["result"] == "no route" else None
    error = decision.won["error"] if hop.table else no_route
    found = [] if error == number else [f"error {error} ({decision.row['result']}), not {hop.error}"]
    if "no packet was made" not in seen.reason:
        found.append(f"reason {seen.reason!r}")
    return found + (_decision_problems(decision, replace(hop, verdict="drop")) if hop.table else [])


def _decision_problems(decision: Decision, hop: topology.Hop) -> list[str]:
    lookups, won, found = decision.lookups, decision.won, []
    wanted = {"rule": hop.rule, "table_id": hop.table, "prefix": hop.prefix}
    if hop.rule is None:
        wanted = {"result": "miss"}
    elif hop.table is None:
        wanted = {"rule": hop.rule, "table_id": None, "prefix": None}
    elif hop.verdict in {"send", "forward"}:
        way = {"gateway": hop.gateway, "dev": hop.inner_out_dev, "prefix": hop.prefix}
        found += [f"decided {k} {decision.row[k]}, not {v}" for k, v in way.items() if decision.row[k] != v]
    found += [f"{k} {won[k]}, not {v}" for k, v in wanted.items() if won[k] != v]
    passed = tuple((row["rule"], row["result"]) for row in lookups[:-1] if row["result"] != "miss")
    if passed != hop.passed:
        found.append(f"passed {passed}, not {hop.passed}")
    if hop.flow:
        key = {"dst": hop.flow.dst, "mark": hop.flow.mark}
        found += [f"flow key: {k} {won[k]}, not {v}" for k, v in key.items() if won[k] != v]
    return found
