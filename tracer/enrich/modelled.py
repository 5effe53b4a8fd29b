"""A question answered by the model instead of a kernel: the same decisions and words, everything in them inferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.correlate.callers import PURPOSE_NAMES, Purpose
from tracer.enrich.answers import End, Told, refusal
from tracer.enrich.asking import Answer
from tracer.enrich.checks import Check
from tracer.enrich.decide import decide
from tracer.enrich.inference import Explained, device, scope_name
from tracer.enrich.nexthops import LOOPBACK
from tracer.enrich.predict import RULE_ERRORS, Lookup, Prediction
from tracer.enrich.reasons import check_words
from tracer.enrich.rules import Assignment, Step, rule_text
from tracer.enrich.whys import decision_lines
from tracer.model.network import IPV4, NetworkState, address_text

if TYPE_CHECKING:
    from tracer.enrich.answers import World
    from tracer.enrich.decide import Decision
    from tracer.enrich.names import Names
    from tracer.enrich.question import Question
    from tracer.enrich.reverse import SourceCheck
    from tracer.enrich.selectors import FlowKey
    from tracer.model.network import Route

_ERRORS = {"miss": -11, "throw": -11, "blackhole": -22, "unreachable": -113, "prohibit": -13}


def modelled(question: Question, world: World) -> tuple[list[Told], End, Decision]:
    """What the model says of a question: its decisions, how it ends, and the model's own answer."""
    flow = question.flow(world.state)
    decided = decide(world.state, flow)
    told = [_told(decided.walk, flow, world)] if decided.walk and decided.walk.lookups else []
    told += [
        _checked(question, check, world) for check in decided.checks if check.walk and check.walk.lookups
    ]
    return told, _end(question, decided, told, world.state), decided


def _end(question: Question, decided: Decision, told: list[Told], state: NetworkState) -> End:
    hops = decided.nexthops
    out_dev = device(state, hops[0].ifindex) if len({hop.ifindex for hop in hops}) == 1 else None
    source = decided.source or 0
    if not decided.verdict:
        return End(None, None, f"not known: {decided.unknown}", source)
    answer = Answer(-(decided.error or 0))
    if decided.verdict != "drop":
        several = f"one of {len(hops)} nexthops" if len(hops) > 1 else None
        return End(decided.verdict, out_dev if decided.verdict != "deliver" else None, several, source)
    why = decided.reason or refusal(question, told, answer, state)
    return End(
        "drop", None, f"drop: {': '.join(part for part in (answer.message, why) if part)}", source, why
    )


def _told(walk: Prediction, flow: FlowKey, world: World, check: Check | None = None) -> Told:
    purpose = Purpose.SOURCE_CHECK if check else Purpose.OUTPUT if flow.iif == LOOPBACK else Purpose.INPUT
    explained = explained_walk(walk, flow, purpose, world.state, world.names)
    if check:
        mode = world.state.rp_filter(check.device)
        explained.decision["reason"] = check_words(explained, check.device, mode, failed=check.failed)
    return Told(explained, (0,) * len(explained.lookups), decision_lines(explained, world.names, check))


def _checked(question: Question, check: SourceCheck, world: World) -> Told:
    assert check.walk is not None  # noqa: S101 - the caller looked
    return _told(check.walk, check.flow, world, Check(question.iif, question.mark, bool(check.error)))


def explained_walk(
    walk: Prediction, flow: FlowKey, purpose: Purpose, state: NetworkState, names: Names
) -> Explained:
    """The walk as an explained decision, as if its lookups had been seen."""
    key = _key(flow, purpose, names)
    lookups = [_row(lookup, key, state, names) for lookup in walk.lookups]
    last = walk.lookups[-1]
    steps: list[Step | None] = [Step(lookup.rule, lookup.suppressed) for lookup in walk.lookups]
    explained = Explained(
        lookups, {**key, "evidence": "inferred"}, route=walk.route or last.route, steps=steps,
        routes=[lookup.route for lookup in walk.lookups], flow=flow, state=state, rule=last.rule,
        assignment=Assignment(tuple(step for step in steps if step), "hit", walk.final_rule, consistent=True),
    )  # fmt: skip
    _finish(explained, walk, state, names)
    return explained


def _finish(explained: Explained, walk: Prediction, state: NetworkState, names: Names) -> None:
    """The decision's own row, and that of a rule that refuses."""
    won, rule = explained.lookups[-1], walk.final_rule
    if rule is not None:
        text = rule_text(rule, state.table_names, names)
        error = RULE_ERRORS[rule.action]
        explained.extra = {
            **explained.decision, "rule": rule.priority, "rule_text": text, "result": rule.action, "error": error,
        }  # fmt: skip
        explained.rule, explained.decision["result"] = rule, rule.action
    elif won["result"] == "hit":
        explained.decision.update(
            {name: won.get(name) for name in ("prefix", "gateway", "dev", "route_type", "scope")}
        )
        explained.decision["result"] = won["route_type"]
    else:
        lost = won["result"] in {"miss", "throw", "suppressed"}
        explained.decision["result"] = "no route" if lost else won["result"]
    hops = walk.lookups[-1].nexthops
    explained.devices = frozenset(name for hop in hops if (name := device(state, hop.ifindex)))


def _key(flow: FlowKey, purpose: Purpose, names: Names) -> dict[str, object]:
    """The columns of the flow key."""
    return {
        "purpose": PURPOSE_NAMES[purpose], "caller": None, "family": 4 if flow.family == IPV4 else 6,
        "proto": names.ip_protocol(flow.proto) if flow.proto else None, "mark": flow.mark, "tos": flow.tos,
        "uid": flow.uid, "iif": flow.iif, "oif": flow.oif,
    }  # fmt: skip


def _row(lookup: Lookup, key: dict[str, object], state: NetworkState, names: Names) -> dict[str, object]:
    route: Route | None = lookup.route
    table = route.table if route else lookup.table
    row = {
        **key, "evidence": "inferred", "table": names.tables.get(table, str(table)), "table_id": table,
        "walked_table_id": lookup.table, "result": "suppressed" if lookup.suppressed else lookup.result,
        "error": _ERRORS.get(lookup.result, 0),
    }  # fmt: skip
    if lookup.rule is not None:
        row |= {"rule": lookup.rule.priority, "rule_text": rule_text(lookup.rule, state.table_names, names)}
    if route is None:
        return row
    row |= {"prefix": route.prefix, "route_type": route.type_name, "scope": scope_name(route.scope)}
    hops = lookup.nexthops
    if lookup.result == "hit" and len(hops) == 1:
        row["dev"] = device(state, lookup.device or hops[0].ifindex)
        row["gateway"] = (
            address_text(hops[0].gateway_family, hops[0].gateway) if hops[0].gateway_family else None
        )
    return row
