"""One decision, explained: the rule behind each of its lookups, the route and its prefix, and what came of it.

What the probe read stands as it is; rule, prefix and suppression are inferred from the configuration that was in
force, and left empty where that does not explain what was observed.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracer.correlate.callers import PURPOSE_NAMES, Purpose
from tracer.correlate.observed import (
    CALL_CHECK,
    CALL_INPUT,
    HINT_CHOSEN,
    HINT_PREFIX,
    HINT_RULE,
    HINT_SUPPRESSED,
)
from tracer.enrich.nexthops import Selectors, nexthops_of
from tracer.enrich.observed import address_number, is_rule_only, prefix_of, result_of, route6_of, step_of
from tracer.enrich.routes import Observed, match
from tracer.enrich.rules import Assignment, Step, assign, rule_text
from tracer.enrich.selectors import FlowKey
from tracer.enrich.vrf import in_vrf
from tracer.model.routing import ROUTE_TYPES, address_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.enrich.names import Names
    from tracer.model.network import NetworkState, Route, Rule

Row = dict[str, Any]

HINT_TASK_NETNS, HINT_STACK_SHARED, HINT_NEXTHOP_OBJECT = 1, 2, 4
_SCOPES = {0: "universe", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_RULE_ERRORS = {"blackhole": -errno.EINVAL, "unreachable": -errno.ENETUNREACH, "prohibit": -errno.EACCES}
_RULE_RESULTS = {error: action for action, error in _RULE_ERRORS.items()}


@dataclass(slots=True)
class Explained:
    """The static columns of one decision's rows, and what the words about a drop need.

    `extra` is a row for a rule with an error action: it ends the walk without a lookup of its own. `steps` and
    `routes` have the rule and the route behind each lookup, `flow` and `state` what explained them.
    """

    lookups: list[Row]
    decision: Row
    extra: Row | None = None
    route: Route | None = None
    rule: Rule | None = None
    merged: bool = False
    chosen: bool = False
    devices: frozenset[str] = field(default_factory=frozenset)
    steps: list[Step | None] = field(default_factory=list)
    routes: list[Route | None] = field(default_factory=list)
    flow: FlowKey = field(default_factory=FlowKey)
    state: NetworkState | None = None
    assignment: Assignment | None = None

    @property
    def ending_rule(self) -> Row | None:
        """The row of a rule that ended the walk by itself, seen or inferred; None where a table did."""
        last = self.lookups[-1]
        return self.extra or (last if last.get("table_id", 0) is None else None)


def address(family: int, raw: bytes) -> str:
    """An address of the wire as text; empty for no family."""
    if family == 0:
        return ""
    return socket.inet_ntop(family, raw[:4] if family == socket.AF_INET else raw)


def explain_decision(
    records: Sequence[Any], purpose: Purpose, caller: str, states: Sequence[NetworkState], names: Names
) -> Explained:
    """Explain the lookups `records` of one decision with the first of `states` (likeliest first) that does."""
    key = _flow_key(records[0])
    observed = tuple(_observation(record) for record in records if not is_rule_only(record))
    best: tuple[NetworkState | None, Assignment | None] = (states[0] if states else None, None)
    used, check = key, purpose is Purpose.SOURCE_CHECK
    for state, flow in ((known, flow) for known in states for flow in in_vrf(known, key, check=check)):
        assignment = assign(state, flow, observed) if _walks_rules(purpose, flow) else None
        if assignment is None or assignment.consistent:
            best, used = (state, assignment), flow
            break
    explained = _rows(records, purpose, caller, best, names)
    explained.flow, (explained.state, explained.assignment) = used, best
    return explained


def _walks_rules(purpose: Purpose, flow: FlowKey) -> bool:
    """Address-type lookups (inet_addr_type and its kin) search one table and ask no rule: their key is all zero.

    IPv6 has none of these: what searches one table there has no walk that explains it.
    """
    return purpose is not Purpose.OTHER or flow.iif != 0 or flow.family == socket.AF_INET6


def _flow_key(record: Any) -> FlowKey:
    return FlowKey(
        family=int(record["family"]),
        saddr=address_number(record, "saddr"),
        daddr=address_number(record, "daddr"),
        iif=int(record["iif"]),
        oif=int(record["oif"]),
        mark=int(record["mark"]),
        uid=int(record["uid"]),
        tos=int(record["tos"]),
        proto=int(record["proto"]),
        sport=int(record["sport"]),
        dport=int(record["dport"]),
    )


def _observation(record: Any) -> tuple[int, int, str]:
    return (
        int(record["walked_table"]),
        int(record["owner_table"]),
        result_of(record, "unknown"),
    )


def _rows(
    records: Sequence[Any],
    purpose: Purpose,
    caller: str,
    best: tuple[NetworkState | None, Assignment | None],
    names: Names,
) -> Explained:
    state, assignment = best
    explained = Explained([], {})
    for index, record in enumerate(records):
        inferred = assignment.steps[index : index + 1] if assignment and assignment.consistent else ()
        step = step_of(record, state, inferred[0] if inferred else None)
        row = _lookup_row(record, state, names)
        route = None if is_rule_only(record) else _route(record, state)
        _name_route(row, record, route)
        _name_rule(row, record, step, (state, names))
        row["evidence"] = _evidence(row, record, step)
        row["purpose"], row["caller"] = PURPOSE_NAMES[purpose], caller
        explained.lookups.append(row)
        explained.route, explained.rule = route, step.rule if step else None
        explained.steps.append(step)
        explained.routes.append(route)
    explained.chosen = bool(int(records[-1]["hints"]) & HINT_CHOSEN)
    explained.merged = bool(assignment and assignment.merged)
    _finish(explained, records[-1], state, assignment, names)
    return explained


def _name_route(row: Row, record: Any, route: Route | None) -> None:
    """What is known of the route beyond its nexthop: the prefix above all."""
    if route is not None:
        row["prefix"] = route.prefix
        if route.type_name == "throw":
            row["result"] = "throw"
        row["route_type"] = route.type_name
        row["scope"] = scope_name(route.scope)
    row["prefix"] = prefix_of(record) or row.get("prefix")


def _name_rule(row: Row, record: Any, step: Step | None, world: tuple[NetworkState | None, Names]) -> None:
    state, names = world
    if int(record["hints"]) & HINT_RULE:
        row["rule"] = int(record["rule"])
    if step and step.rule:
        row["rule"] = step.rule.priority
        row["rule_text"] = rule_text(step.rule, _table_names(state), names)
    if step and step.suppressed:
        row["result"] = "suppressed"
    if is_rule_only(record):
        row.update(table=None, table_id=None, walked_table_id=None)
        row["result"] = step.rule.action if step and step.rule else _RULE_RESULTS[int(record["error"])]


def _evidence(row: Row, record: Any, step: Step | None) -> str:
    """Everything that a lookup's row shows was read by a probe, or some of it is inferred."""
    hints = int(record["hints"])
    rule = row.get("rule") is not None and not hints & HINT_RULE
    prefix = row.get("prefix") is not None and not hints & HINT_PREFIX
    thrown = bool(step and step.suppressed) and not hints & HINT_SUPPRESSED
    return "inferred" if rule or prefix or thrown or hints & HINT_TASK_NETNS else "observed"


def _table_names(state: NetworkState | None) -> Any:
    return state.table_names if state else {}


def _lookup_row(record: Any, state: NetworkState | None, names: Names) -> Row:
    """What the probe saw of one lookup."""
    error, family = int(record["error"]), int(record["family"])
    owner, walked = int(record["owner_table"]), int(record["walked_table"])
    table = owner or walked
    route_type = int(record["route_type"])
    row: Row = {
        "table": names.tables.get(table, str(table)),
        "table_id": table,
        "walked_table_id": walked,
        "result": result_of(record, errno.errorcode.get(-error, str(error))),
        "error": error,
        "family": 4 if family == socket.AF_INET else 6,
        "proto": names.ip_protocols.get(int(record["proto"]), str(int(record["proto"])))
        if record["proto"]
        else None,
        "mark": int(record["mark"]),
        "tos": int(record["tos"]),
        "uid": int(record["uid"]),
        "iif": int(record["iif"]),
        "oif": int(record["oif"]),
    }
    if int(record["hints"]) & HINT_PREFIX and family == socket.AF_INET6:
        row["route_type"] = _type_name(route_type)
    if error == 0:
        gateway_family = int(record["gateway_family"])
        row["gateway"] = address(gateway_family, bytes(record["gateway"])) or None
        row["dev"] = device(state, int(record["ifindex"]))
        if not int(record["hints"]) & HINT_NEXTHOP_OBJECT:
            row["route_type"] = _type_name(route_type)
            row["scope"] = scope_name(int(record["route_scope"]))
    return row


def _type_name(route_type: int) -> str:
    return ROUTE_TYPES[route_type] if route_type < len(ROUTE_TYPES) else str(route_type)


def scope_name(number: int) -> str:
    """The scope of a route by name."""
    return _SCOPES.get(number, str(number))


def device(state: NetworkState | None, ifindex: int) -> str | None:
    """The device's name in its namespace, `if7` when the name is not known."""
    if not ifindex:
        return None
    link = state.links.get(ifindex) if state else None
    return link.name if link else f"if{ifindex}"


def _route(record: Any, state: NetworkState | None) -> Route | None:
    """The route of the configuration that agrees with everything the probe read."""
    if state is None:
        return None
    if int(record["family"]) == socket.AF_INET6:
        return route6_of(record, state)
    error, hints = int(record["error"]), int(record["hints"])
    through_object = bool(hints & HINT_NEXTHOP_OBJECT)
    gateway_family = int(record["gateway_family"])
    size = {0: 0, socket.AF_INET: 4}.get(gateway_family, 16)

    def own(name: str) -> int | None:
        return None if through_object or error else int(record[name])

    observed = Observed(
        type=own("route_type"),
        protocol=own("route_protocol"),
        scope=own("route_scope"),
        metric=own("priority"),
        gateway=None if error else int.from_bytes(bytes(record["gateway"][:size]), "big"),
        ifindex=None if error else int(record["ifindex"]),
        nhid=int(record["nexthop_id"]) if through_object else (None if error else 0),
        error=error,
    )
    selectors = Selectors(tos=int(record["tos"]), oif=int(record["oif"]), scope=int(record["flow_scope"]))
    table = int(record["owner_table"]) or int(record["walked_table"])
    return match(state, table, address_number(record, "daddr"), observed, selectors)


def _finish(
    explained: Explained, last: Any, state: NetworkState | None, assignment: Assignment | None, names: Names
) -> None:
    """The decision's own row, and the row of a rule that ended the walk with an error."""
    won = explained.lookups[-1]
    shared = int(last["hints"]) & HINT_STACK_SHARED or int(last["stack"]) < 0
    # The calls of input and of checks name their caller themselves; of an output only the stack does.
    shared = shared and int(last["call_kind"]) not in {CALL_INPUT, CALL_CHECK}
    row: Row = {key: won.get(key) for key in ("purpose", "caller", "family", "proto", "mark", "tos", "uid")}
    row["evidence"] = "inferred" if shared else "observed"
    final = assignment.final_rule if assignment and assignment.consistent and not is_rule_only(last) else None
    if won["result"] == "hit":
        row.update({key: won.get(key) for key in ("prefix", "gateway", "dev", "route_type", "scope")})
        row["result"] = won.get("route_type") or "unicast"
    elif final is not None and final.action in _RULE_ERRORS:
        explained.extra = {
            key: won.get(key)
            for key in (
                "purpose",
                "caller",
                "family",
                "proto",
                "mark",
                "tos",
                "uid",
                "iif",
                "oif",
            )
        }
        explained.extra.update(
            rule=final.priority,
            rule_text=rule_text(final, _table_names(state), names),
            result=final.action,
            error=_RULE_ERRORS[final.action],
            evidence="inferred",
        )
        explained.rule = final
        row["result"] = final.action
    else:
        row["result"] = "no route" if won["result"] in {"miss", "throw", "suppressed"} else won["result"]
    explained.decision = row
    explained.devices = _devices(explained, state)


def choose_nexthop(explained: Explained, state: NetworkState | None, ifindex: int) -> None:
    """Show of a multipath route the nexthop whose device the packet used, as far as that tells.

    The probe sees the first usable nexthop; fib_select_path() chooses later. `ifindex` is the device by which the
    packet left (or, of a source check, came in), 0 when it did neither.
    """
    if explained.route is None or state is None or explained.chosen:
        return
    nexthops = nexthops_of(explained.route, state.nexthops)
    if len(nexthops) < 2:  # noqa: PLR2004 - several
        return
    used = [nexthop for nexthop in nexthops if nexthop.ifindex == ifindex]
    gateways = {(nexthop.gateway_family, nexthop.gateway) for nexthop in used}
    chosen = {
        "dev": device(state, ifindex) if used else None,
        "gateway": address_text(*gateways.pop()) if len(gateways) == 1 and used[0].gateway else None,
    }
    explained.lookups[-1].update(chosen)
    explained.decision.update(chosen)
    explained.decision["evidence"] = "inferred"


def _devices(explained: Explained, state: NetworkState | None) -> frozenset[str]:
    """Every device the route may use: a source check passes through any of its nexthops."""
    names = {explained.lookups[-1].get("dev")}
    if explained.route is not None and state is not None:
        names |= {device(state, nexthop.ifindex) for nexthop in nexthops_of(explained.route, state.nexthops)}
    return frozenset(name for name in names if name)
