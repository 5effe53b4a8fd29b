"""What probes read of a lookup beyond its table: the rule itself, the prefix that was found, of IPv6 the route."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from tracer.correlate.observed import HINT_PREFIX, HINT_RULE, HINT_SUPPRESSED
from tracer.enrich.nexthops import nexthops_of
from tracer.enrich.rules import Step

if TYPE_CHECKING:
    from tracer.model.network import NetworkState, Route, Rule

_RULE_ERRORS = {"blackhole", "unreachable", "prohibit"}


_THROW = 9
_RESULTS = {
    0: "hit",
    -errno.EAGAIN: "miss",
    -errno.EINVAL: "blackhole",
    -errno.EHOSTUNREACH: "unreachable",
    -errno.EACCES: "prohibit",
}


def result_of(record: Any, otherwise: str) -> str:
    """How a search ended. Only in IPv6 the type of a route that was found is known where it makes the search fail."""
    error = int(record["error"])
    if error == -errno.EAGAIN and int(record["route_type"]) == _THROW:
        return "throw"
    return _RESULTS.get(error, otherwise)


def address_number(record: Any, end: str) -> int:
    """An address of a record as a number, by its family."""
    size = 4 if int(record["family"]) == socket.AF_INET else 16
    return int.from_bytes(bytes(record[end])[:size], "big")


def route6_of(record: Any, state: NetworkState) -> Route | None:
    """The route of the configuration that an IPv6 lookup was seen to end in; None where it has none such, or several.

    Nothing is searched: the probe has read the prefixes, the metric and the rest from the route itself.
    """
    hints, error = int(record["hints"]), int(record["error"])
    if not hints & HINT_PREFIX:
        return None
    lengths = int(record["prefix_length"]), int(record["length"])
    target, source = (
        _leading(address_number(record, end), length)
        for end, length in zip(("daddr", "saddr"), lengths, strict=True)
    )
    way = _way(record)
    found = [
        route
        for route in state.routes(socket.AF_INET6, int(record["owner_table"])) or ()
        if (route.dst_len, route.src_len, route.dst, route.src) == (*lengths, target, source)
        and _same_origin(route, record)
        and (error or way in _ways(route, state))
    ]
    return found[0] if len(found) == 1 else None


def _leading(address: int, length: int) -> int:
    return address >> (128 - length) << (128 - length)


def _same_origin(route: Route, record: Any) -> bool:
    # A route through an object that is a blackhole is of another type than it says.
    of_type = int(record["nexthop_id"]) or route.type == int(record["route_type"])
    own = (route.metric, route.protocol, route.nhid != 0)
    seen = (int(record["priority"]), int(record["route_protocol"]), int(record["nexthop_id"]) != 0)
    return bool(of_type) and own == seen


def _way(record: Any) -> tuple[int, int]:
    gateway = int.from_bytes(bytes(record["gateway"]), "big") if int(record["gateway_family"]) else 0
    return int(record["ifindex"]), gateway


def _ways(route: Route, state: NetworkState) -> set[tuple[int, int]]:
    return {(nexthop.ifindex, nexthop.gateway) for nexthop in nexthops_of(route, state.nexthops)}


def is_rule_only(record: Any) -> bool:
    """Whether the record is of a rule that ended the walk by itself: no table was searched."""
    return not int(record["walked_table"]) and bool(int(record["hints"]) & HINT_RULE)


def step_of(record: Any, state: NetworkState | None, inferred: Step | None) -> Step | None:
    """The rule behind a lookup and whether its hit was thrown away: what was seen goes before what was inferred.

    A rule that the known configuration does not have (it changed since) leaves the rule out, not the observation.
    """
    hints = int(record["hints"])
    if not hints & HINT_RULE:
        return inferred
    rule = inferred.rule if inferred and _is(inferred.rule, record) else _find(record, state)
    thrown = bool(hints & HINT_SUPPRESSED) or bool(inferred and inferred.suppressed)
    return Step(rule, suppressed=thrown)


def prefix_of(record: Any) -> str | None:
    """The prefix that was matched, None where the probe did not read it."""
    if not int(record["hints"]) & HINT_PREFIX:
        return None
    family = int(record["family"])
    raw = bytes(record["daddr"])[: 4 if family == socket.AF_INET else 16]
    return str(ipaddress.ip_network((raw, int(record["prefix_length"])), strict=False))


def _is(rule: Rule | None, record: Any) -> bool:
    if rule is None or rule.priority != int(record["rule"]):
        return False
    if is_rule_only(record):
        return rule.action in _RULE_ERRORS
    return rule.action == "lookup" and (bool(rule.l3mdev) or rule.table == int(record["rule_table"]))


def _find(record: Any, state: NetworkState | None) -> Rule | None:
    """The one rule of the configuration that this can be; None where it is none or any of several."""
    rules = state.rules_of(int(record["family"])) if state else ()
    found = [rule for rule in rules if _is(rule, record)]
    return found[0] if len(found) == 1 else None
