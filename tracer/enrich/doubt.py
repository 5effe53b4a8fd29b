"""A decision made while the configuration changed: only what every state that explains it agrees on is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.enrich.inference import Explained, explain_decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.correlate.callers import Purpose
    from tracer.enrich.names import Names
    from tracer.model.network import NetworkState

# What the configuration says of a lookup; everything else in its row was read by a probe.
SAID = ("rule", "rule_text", "prefix")


def explain(
    records: Sequence[Any], purpose: Purpose, caller: str, states: Sequence[NetworkState], names: Names
) -> Explained:
    """Explain a decision by the states that may have been in force, likeliest first.

    A state explains it that has the rules for it, and a route for every hit. Where two do and differ, it is not known.
    """
    if len(states) < 2:  # noqa: PLR2004 - no doubt
        return explain_decision(records, purpose, caller, states, names)
    each = [explain_decision(records, purpose, caller, [state], names) for state in states]
    # Without an assignment no rules were asked, or those of the state do not lead to what was observed.
    possible = [explained for explained in each if explained.assignment is not None] or each
    # Of tables that were too large to read no state knows the routes.
    good = [explained for explained in possible if _has_routes(explained)] or possible
    first = good[0]
    for other in good[1:]:
        _leave_out(first, other)
    return first


def _has_routes(explained: Explained) -> bool:
    return all(row.get("prefix") is not None for row in explained.lookups if row["result"] == "hit")


def _leave_out(first: Explained, other: Explained) -> None:
    for number, (row, another) in enumerate(zip(first.lookups, other.lookups, strict=True)):
        differing = [name for name in SAID if row.get(name) != another.get(name)]
        row.update(dict.fromkeys(differing))
        if "prefix" in differing:
            first.routes[number] = None
        if "rule" in differing or "rule_text" in differing:
            first.steps[number] = None
    if first.route != other.route:
        first.route = None
    if first.rule != other.rule:
        first.rule = None
    if first.decision.get("prefix") != other.decision.get("prefix"):
        first.decision["prefix"] = None
    if first.extra != other.extra:
        first.extra = None
