"""An explained decision, with its why: the walk, the route, the source check, and what one that failed hangs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.correlate.callers import PURPOSE_NAMES, Purpose
from tracer.enrich.checks import Check, check_lines
from tracer.enrich.choice import Chosen, route_lines
from tracer.enrich.why import Found, merged_lines, plain_lines, walk_lines
from tracer.model.why import Why

if TYPE_CHECKING:
    from tracer.enrich.inference import Explained
    from tracer.enrich.names import Names

_PURPOSES = {name: purpose for purpose, name in PURPOSE_NAMES.items()}
_NO_RULES = "a search of one table: no rule is asked"
_UNEXPLAINED = "the rules and routes known of that moment do not explain these lookups"


def decision_lines(explained: Explained, names: Names, check: Check | None = None) -> list[Why]:
    """The lines of one decision; `check` says how a source check went."""
    found = _found(explained)
    lines = _walk(explained, found, names)
    state, route = explained.state, explained.route
    purpose = _PURPOSES.get(str(explained.decision.get("purpose") or ""), Purpose.UNKNOWN)
    if state is not None and route is not None and explained.extra is None:
        result = explained.decision
        chosen = Chosen(route, result.get("dev"), result.get("gateway"), observed=explained.chosen)
        output = purpose is Purpose.OUTPUT and result.get("result") in {"unicast", "local"}
        lines += route_lines(state, explained.flow, chosen, names, output=output)
    if check is not None and state is not None:
        lines += check_lines(state, explained, check)
    return lines


def _found(explained: Explained) -> list[Found]:
    steps = zip(explained.lookups, explained.steps, explained.routes, strict=True)
    found = [
        Found(step.rule if step else None, row.get("table_id"), str(row["result"]), route, row["evidence"])
        for row, step, route in steps
    ]
    if explained.extra is not None:
        found.append(Found(explained.rule, None, str(explained.extra["result"])))
    return found


def _walk(explained: Explained, found: list[Found], names: Names) -> list[Why]:
    if explained.merged:
        return merged_lines(found)
    if explained.state is None:
        return plain_lines(found, "the rules of this namespace are not known")
    if explained.assignment is None:
        return plain_lines(found, _NO_RULES)
    seen = all(item.rule is not None for item in found)
    if not explained.assignment.consistent and not seen:
        return plain_lines(found, _UNEXPLAINED)
    return walk_lines(explained.state, explained.flow, found, names)
