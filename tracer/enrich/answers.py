"""A question's lookups as decisions, each with its why, and the kernel's answer in words."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer.correlate.callers import Purpose, classify
from tracer.enrich.checks import Check, cause_text
from tracer.enrich.inference import Explained, choose_nexthop, device, explain_decision
from tracer.enrich.reasons import check_words
from tracer.enrich.source_words import select_source
from tracer.enrich.whys import decision_lines
from tracer.model.network import address_text
from tracer.model.why import Why

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tracer.enrich.asking import Answer
    from tracer.enrich.names import Names
    from tracer.enrich.question import Question
    from tracer.enrich.selectors import FlowKey
    from tracer.model.network import NetworkState

_ASKED = ("inet_rtm_getroute", "inet6_rtm_getroute")
_CHECK_ERRORS = frozenset({errno.EXDEV, errno.EINVAL})
_LOCAL_TYPES = frozenset({"local", "broadcast", "anycast", "multicast"})


@dataclass(slots=True)
class Told:
    """One decision: the rows of its lookups and its own, when the lookups were made, and its why."""

    explained: Explained
    times_ns: tuple[int, ...]
    why: list[Why]


class End(NamedTuple):
    """How a question ends: verdict (None for unknown), device, words, source address chosen, and why it was refused."""

    verdict: str | None
    out_dev: str | None = None
    reason: str | None = None
    source: int = 0
    refused: str = ""


def decisions(
    question: Question,
    records: Sequence[Any],
    stacks: Sequence[tuple[str, ...]],
    world: World,
    answer: Answer,
) -> list[Told]:
    """The decisions that a question made the kernel take, in order; lookups that were not made for it are left out."""
    told = []
    groups = list(_groups(records, stacks))
    for number, (purpose, caller, group) in enumerate(groups):
        explained = explain_decision(group, purpose, caller, (world.state,), world.names)
        last = number == len(groups) - 1
        check = None
        if purpose is Purpose.SOURCE_CHECK:
            failed = last and answer.error in _CHECK_ERRORS
            check = Check(question.iif, question.mark, failed)
            mode = world.state.rp_filter(question.iif)
            explained.decision["reason"] = check_words(explained, question.iif, mode, failed=failed)
        else:
            _use_answer(explained, answer, world.state)
        why = decision_lines(explained, world.names, check)
        if check is None:
            why += answer_lines(explained, answer, world.state)
        times = tuple(int(record["ts_ns"]) for record in group)
        told.append(Told(explained, times, _better_source(why, explained, answer, world.state)))
    return told


@dataclass(frozen=True, slots=True)
class World:
    """The namespace as it was when the question was asked, and the names of this machine."""

    state: NetworkState
    names: Names


def _groups(
    records: Sequence[Any], stacks: Sequence[tuple[str, ...]]
) -> Iterator[tuple[Purpose, str, list[Any]]]:
    """Lookups of one call each: by who asked, and by the flow key, which a second try of a check changes."""
    before: tuple[object, ...] = ()
    purpose, caller, group = Purpose.UNKNOWN, "", list[Any]()
    for record, stack in zip(records, stacks, strict=True):
        inner = _below_the_question(stack)
        if inner is None:
            continue
        found = classify(inner)
        key = (found.purpose, int(record["flow"]), int(record["iif"]), int(record["oif"]))
        if key != before and group:
            yield purpose, caller, group
            group = []
        before, purpose, caller = key, found.purpose, found.name
        group.append(record)
    if group:
        yield purpose, caller, group


def _below_the_question(stack: tuple[str, ...]) -> tuple[str, ...] | None:
    """The frames inside the handler of RTM_GETROUTE; None if that is not among them."""
    names = [frame.split(".", maxsplit=1)[0] for frame in stack]
    at = next((names.index(name) for name in _ASKED if name in names), None)
    return None if at is None else stack[:at]


def _use_answer(explained: Explained, answer: Answer, state: NetworkState) -> None:
    """The nexthop of a multipath route as the kernel answered it: that is chosen after the lookup."""
    route = answer.route
    if route is None or not route.nexthops or explained.decision.get("result") != "unicast":
        return
    used = route.nexthops[0]
    choose_nexthop(explained, state, used.ifindex)
    if explained.decision.get("dev") == device(state, used.ifindex) and explained.route is not None:
        members = {(n.ifindex, n.gateway_family, n.gateway) for n in explained.route.nexthops}
        if len(members) > 1 and (used.ifindex, used.gateway_family, used.gateway) in members:
            gateway = address_text(used.gateway_family, used.gateway) if used.gateway_family else None
            for row in (explained.lookups[-1], explained.decision):
                row["gateway"] = gateway
            explained.chosen = True


def answer_lines(explained: Explained, answer: Answer, state: NetworkState) -> list[Why]:
    """What only the kernel's answer tells: an exception that it keeps for this destination."""
    route = answer.route
    if route is None or not (answer.expires_s or answer.redirected):
        return []
    said = []
    if answer.mtu:
        said.append(f"mtu {answer.mtu}, learned from a message that packets were too big")
    known = explained.route.nexthops if explained.route else ()
    if route.nexthops and known and all(route.nexthops[0].gateway != n.gateway for n in known):
        gateway = address_text(route.family, route.nexthops[0].gateway)
        said.append(f"redirected to {gateway} by {device(state, route.nexthops[0].ifindex)}")
    text = "; ".join(said) or "the kernel keeps one for this destination"
    return [Why("exception", f"{text}; expires in {answer.expires_s:.0f} s", "observed")]


def _better_source(why: list[Why], explained: Explained, answer: Answer, state: NetworkState) -> list[Why]:
    """The source address as the kernel answered it, and why where that is what is worked out as well."""
    flow: FlowKey = explained.flow
    if not answer.source or flow.saddr or explained.decision.get("purpose") != "output":
        return why
    shown = address_text(flow.family, answer.source)
    route = explained.route
    chosen = answer.route.nexthops[0] if answer.route and answer.route.nexthops else None
    found = select_source(state, route, chosen, flow.daddr) if route else None
    where = found.where if found and found.address == answer.source else "chosen by the kernel"
    line = Why("source", f"{shown}: {where}", "observed")
    return [line if item.kind == "source" else item for item in why]


def end_of(question: Question, told: Sequence[Told], answer: Answer, state: NetworkState) -> End:
    """How the kernel answered."""
    route = answer.route
    if answer.error or route is None:
        why = refusal(question, told, answer, state)
        return End("drop", None, f"drop: {answer.message}: {why}", answer.source, why)
    if question.iif and route.type_name in _LOCAL_TYPES:
        return End("deliver", None, None, answer.source)
    out_dev = device(state, route.nexthops[0].ifindex) if route.nexthops else None
    return End("forward" if question.iif else "send", out_dev, None, answer.source)


def refusal(question: Question, told: Sequence[Told], answer: Answer, state: NetworkState) -> str:
    """Which rule, route or check made the kernel answer with an error, in words."""
    if not told or told[-1].explained.decision.get("purpose") == "other":
        return _before_any_lookup(question, state)
    last = told[-1].explained
    decision = last.decision
    if decision.get("purpose") == "source-check" and answer.error in _CHECK_ERRORS:
        return f"source check failed: {cause_text(last, Check(question.iif))}"
    if last.ending_rule:
        row = last.ending_rule
        return f"rule {row['rule']} ({row['rule_text']}) says {row['result']}" if row.get("rule_text") else ""
    result = decision["result"]
    if result == "no route":
        return f"no rule leads to a route to {address_text(question.family, question.dst)}"
    won = last.lookups[-1]
    if result in {"unreachable", "prohibit", "blackhole"}:
        rule = f"rule {won['rule']}, " if won.get("rule") is not None else ""
        return " ".join([f"{result} route", str(won.get("prefix") or "?"), f"({rule}table {won['table']})"])
    return _after_the_lookup(question, state, answer)


def _before_any_lookup(question: Question, state: NetworkState) -> str:
    """Errors that the kernel answers with before it looks anything up."""
    own = {item.address for item in state.addresses if item.family == question.family}
    if question.src and not question.iif and question.src not in own:
        return f"no lookup: {address_text(question.family, question.src)} is no address of this namespace"
    down = [name for name in (question.iif, question.oif) if name and not _is_up(state, name)]
    if down:
        return f"no lookup: {down[0]} is down"
    return "no lookup: the addresses themselves are refused (martians)"


def _is_up(state: NetworkState, name: str) -> bool:
    return any(link.name == name and link.up for link in state.links.values())


def _after_the_lookup(question: Question, state: NetworkState, answer: Answer) -> str:
    """The lookup found a route, and the kernel refuses all the same."""
    settings = {name: state.settings.get(name) for name in ("all", question.iif)}
    if question.iif and answer.error == errno.EHOSTUNREACH:
        return f"forwarding is off on {question.iif}"
    own = {item.address for item in state.addresses if item.family == question.family}
    if question.iif and question.src in own and not any(s and s.accept_local for s in settings.values()):
        shown = address_text(question.family, question.src)
        return f"the source {shown} is an address of this host (accept_local is off on {question.iif})"
    return "a route was found, and refused after the lookup"
