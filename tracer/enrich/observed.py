"""What function probes read of a lookup: the rule itself, and the length of the prefix that was found."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from tracer.correlate.observed import HINT_PREFIX, HINT_RULE, HINT_SUPPRESSED
from tracer.enrich.rules import Step

if TYPE_CHECKING:
    from tracer.model.network import NetworkState, Rule

_RULE_ERRORS = {"blackhole", "unreachable", "prohibit"}


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
