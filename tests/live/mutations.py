"""Deliberate mistakes in the model: a comparison that is worth its time finds each of them."""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import patch

from tracer.enrich import decide, nexthops, predict, reverse, routes, routes6, selectors, sources
from tracer.enrich.nexthops import Reach
from tracer.enrich.routes6 import RouteTable6
from tracer.enrich.rules import RuleIndex
from tracer.enrich.selectors import ACTIONS


class Mutation(NamedTuple):
    """What of the model is replaced by what."""

    name: str
    owner: Any
    attribute: str
    other: Any

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """The model with this mistake."""
        with patch.object(self.owner, self.attribute, self.other):
            yield


def _changed(owner: Any, attribute: str, change: Callable[[Any], Any]) -> Any:
    """The function with its result changed."""
    right = getattr(owner, attribute)
    return lambda *values, **named: change(right(*values, **named))


def _back(**values: Any) -> Any:
    return _changed(reverse, "reverse_of", lambda flow: flow._replace(**values))


def _back_with_mark(state: Any, flow: Any, out: int) -> Any:
    return _reverse_of(state, flow, out)._replace(mark=flow.mark)


_reverse_of, _suppresses, _members = reverse.reverse_of, RuleIndex.suppresses, nexthops.members
_device_source, _route_source = sources.device_source, sources.route_source


def _suppress(**values: Any) -> Any:
    def mistaken(self: RuleIndex, rule: Any, found: Any) -> Any:
        given = {name: change(getattr(rule, name)) for name, change in values.items()}
        return _suppresses(self, replace(rule, **given), found)

    return mistaken


def _one_less(length: int) -> int:
    return max(length - 1, -1)


def _all_but_last(nhid: int, objects: Any) -> Iterator[Any]:
    found = list(_members(nhid, objects))
    yield from found[:-1] if len(found) > 1 else found


def _any_scope(state: Any, ifindex: int, target: int, _scope: int) -> int:
    return _device_source(state, ifindex, target, 255)


def _no_preferred(state: Any, route: Any, nexthop: Any) -> int:
    return _route_source(state, replace(route, prefsrc=None), nexthop)


def _leaves(*, down: bool, own_first: bool) -> Any:
    """The search of `RouteTable6` without what is special about subtrees."""

    def mistaken(self: RouteTable6, daddr: int, saddr: int) -> Iterator[Any]:
        started = False
        for length, nodes in self._lengths:
            node = nodes.get(daddr >> (128 - length))
            inner = list(node.sources(saddr)) if node else []
            if not node or (down and not started and node.subtree and not inner and length):
                continue
            started = True
            own = [node.leaf] if node.leaf else []
            yield from own + inner if own_first else inner + own

    return mistaken


def _below(limits: tuple[int, int], field: str) -> Any:
    return lambda flow: limits[0] <= getattr(flow, field) < max(limits[1], limits[0] + 1)


MUTATIONS = (
    Mutation("the reverse lookup has no mark", reverse, "reverse_of", _back(mark=0)),
    Mutation("the reverse lookup always has the mark", reverse, "reverse_of", _back_with_mark),
    Mutation("the reverse lookup comes from loopback", reverse, "reverse_of", _back(iif=1)),
    Mutation("loose source checks are strict", reverse, "STRICT", 2),
    Mutation("source: the gateway's network is not looked at", sources, "_same_network", lambda *_: True),
    Mutation("source: of any scope", sources, "device_source", _any_scope),
    Mutation("source: the route's own is not looked at", decide, "route_source", _no_preferred),
    Mutation("every gateway answers", Reach, "is_reachable", lambda *_: True),
    Mutation(
        "suppress_prefixlength is one less",
        RuleIndex,
        "suppresses",
        _suppress(suppress_prefixlength=_one_less),
    ),
    Mutation(
        "suppress_ifgroup does nothing", RuleIndex, "suppresses", _suppress(suppress_ifgroup=lambda _: -1)
    ),
    Mutation("a group has no last member", nexthops, "members", _all_but_last),
    Mutation("dead nexthops are used", routes, "DEAD", 0),
    Mutation("dead nexthops are used, IPv6", routes6, "DEAD", 0),
    Mutation("router preference does nothing", routes6, "PREFERENCES", {0: 2, 1: 2, 3: 2}),
    Mutation(
        "a prefix with a subtree counts by its own routes",
        RouteTable6,
        "_leaves",
        _leaves(down=False, own_first=False),
    ),
    Mutation(
        "a subtree comes after the routes beside it",
        RouteTable6,
        "_leaves",
        _leaves(down=True, own_first=True),
    ),
    Mutation("tos is compared whole", routes, "TOS_MASK", 0xFF),
    Mutation("a range ends before its last", selectors, "_range", _below),
    Mutation("a rule that is unreachable says prohibited", predict, "RULE_ERRORS", dict.fromkeys(ACTIONS, -13)),
)  # fmt: skip


def found_after(mutation: Mutation, decisions: int, number: int) -> int | None:
    """After how many decisions the mistake shows; None if it does not in so many."""
    from tests.live import differential

    counts: Counter[str] = Counter()
    with mutation.made():
        try:
            differential.run(decisions, number, shrink=False, counts=counts)
        except AssertionError:
            return differential.asked_of(counts)
    return None


def report(asked: argparse.Namespace) -> int:
    """One line a mistake; exits with 1 if one is not found."""
    missed = 0
    for mutation in MUTATIONS:
        after = found_after(mutation, asked.decisions, asked.seed)
        missed += after is None
        print(f"  {mutation.name:50} {'NOT FOUND' if after is None else f'{after:6,}'}", flush=True)
    print(f"{len(MUTATIONS)} mistakes, {missed} not found in {asked.decisions:,} decisions each")
    return 1 if missed else 0
