"""Why this route of the table and this nexthop of it: what was passed over, the hash, the members, the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.enrich.names import Names, system_names
from tracer.enrich.nexthops import DEAD, nexthops_of
from tracer.enrich.route_words import full_route_text, metric_words, nexthop_words, trouble
from tracer.enrich.routes import TYPE_ERRORS
from tracer.enrich.selectors import HOST_LENGTH, TOS_MASK
from tracer.enrich.source_words import select_source
from tracer.model.network import IPV4, address_text
from tracer.model.why import Why

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.enrich.selectors import FlowKey
    from tracer.model.network import NetworkState, Nexthop, Route

_LOOPBACK = 1
_MOST_PASSED = 4
_HASHES = {
    0: "source and destination address",
    1: "addresses, protocol and ports",
    2: "addresses, those of the inner header where there is one",
}


class Chosen(NamedTuple):
    """What a decision ended in: the device and gateway used, as text; None where the kernel did not show them."""

    route: Route
    dev: str | None = None
    gateway: str | None = None
    observed: bool = False


def route_lines(
    state: NetworkState, flow: FlowKey, chosen: Chosen, names: Names | None = None, *, output: bool
) -> list[Why]:
    """The table, the route, its metrics, its nexthops and, for what this host sends, the source address."""
    words, route = names or system_names(), chosen.route
    lines = [Why("table", _table_text(state, flow, route))]
    lines += [Why("table", text) for text in passed_over(state, flow, route, words)]
    lines.append(Why("route", full_route_text(route, state, words)))
    if route.metrics:
        lines.append(Why("metrics", ", ".join(metric_words(route))))
    lines += _nexthop_lines(state, flow, chosen)
    if output:
        lines += _source_lines(state, flow, chosen)
    return lines


def _table_text(state: NetworkState, flow: FlowKey, route: Route) -> str:
    name = state.table_name(route.table)
    held = len(state.routes(route.family, route.table) or ())
    count = "of its one route" if held == 1 else f"of its {held} routes"
    target = address_text(route.family, flow.daddr)
    return f"{name}: {route.prefix} is the longest usable prefix {count} that holds {target}"


def passed_over(state: NetworkState, flow: FlowKey, route: Route, names: Names) -> list[str]:
    """Routes that hold the destination as well and come before the one found, and why they did not count."""
    bits = HOST_LENGTH.get(route.family, 128)
    said = []
    for other in state.routes(route.family, route.table) or ():
        shift = bits - other.dst_len
        if other == route or other.dst >> shift != flow.daddr >> shift or not _before(other, route):
            continue
        why = _unusable(state, flow, other, names)
        if why:
            said.append(f"passed over: {full_route_text(other, state, names)}: {why}")
    more = len(said) - _MOST_PASSED
    return said if more <= 0 else [*said[:_MOST_PASSED], f"passed over: {more} more routes"]


def _before(other: Route, route: Route) -> bool:
    """Whether the kernel tries it first: a longer prefix, else the larger tos, else the smaller metric."""
    return (-other.dst_len, -other.tos, other.metric) < (-route.dst_len, -route.tos, route.metric)


def _unusable(state: NetworkState, flow: FlowKey, route: Route, names: Names) -> str:
    if route.tos and route.family == IPV4 and route.tos != flow.tos & TOS_MASK:
        return f"tos {names.dsfields.get(route.tos, f'{route.tos:#04x}')} ≠ {flow.tos & TOS_MASK:#04x}"
    if route.type in TYPE_ERRORS:
        return ""
    nexthops = nexthops_of(route, state.nexthops)
    alive = [nexthop for nexthop in nexthops if not nexthop.flags & DEAD]
    if not alive:
        said = {trouble(nexthop, state) for nexthop in nexthops} - {""}
        return " and ".join(sorted(said)) or "it has no usable nexthop"
    if flow.oif and all(nexthop.ifindex != flow.oif for nexthop in alive):
        link = state.links.get(flow.oif)
        return f"not by {link.name if link else flow.oif}, which the packet is bound to"
    return ""


def _nexthop_lines(state: NetworkState, flow: FlowKey, chosen: Chosen) -> Iterator[Why]:
    route = chosen.route
    nexthops = nexthops_of(route, state.nexthops)
    if route.nhid:
        yield Why("nexthop", _object_text(state, route.nhid))
    if len(nexthops) == 1:
        wrong = trouble(nexthops[0], state)
        text = nexthop_words(route, nexthops[0], state)
        yield Why("nexthop", f"{text}, the only one{f': {wrong}' if wrong else ''}")
        return
    if not nexthops:
        return
    yield Why("nexthop", _hash_text(state, flow, route, len(nexthops)))
    total = sum(nexthop.weight for nexthop in nexthops if not nexthop.flags & DEAD) or 1
    for nexthop in nexthops:
        taken = _is_chosen(state, nexthop, chosen)
        share = 0 if nexthop.flags & DEAD else round(100 * nexthop.weight / total)
        wrong = trouble(nexthop, state)
        text = f"{nexthop_words(route, nexthop, state)} weight {nexthop.weight} ({share} %)"
        said = [text, *([wrong] if wrong else []), *(["chosen"] if taken else [])]
        yield Why("nexthop", ": ".join(said), "observed" if taken and chosen.observed else "inferred")


def _object_text(state: NetworkState, number: int) -> str:
    item = state.nexthops.get(number)
    if item is None:
        return f"nexthop object {number}, which is not known"
    if not item.group:
        return f"nexthop object {number}"
    members = ", ".join(f"{member} (weight {weight})" for member, weight in item.group)
    return f"nexthop object {number}: a group of {members}"


def _is_chosen(state: NetworkState, nexthop: Nexthop, chosen: Chosen) -> bool:
    link = state.links.get(nexthop.ifindex)
    if chosen.dev is None or link is None or link.name != chosen.dev:
        return False
    own = address_text(nexthop.gateway_family, nexthop.gateway) if nexthop.gateway_family else None
    return chosen.gateway == own or chosen.gateway is None


def _hash_text(state: NetworkState, flow: FlowKey, route: Route, count: int) -> str:
    if flow.oif:
        return f"one of {count}: the packet is bound to a device, so there is no hash"
    family = "ipv4" if route.family == IPV4 else "ipv6"
    policy = state.sysctls.get(f"net.{family}.fib_multipath_hash_policy")
    if policy is None:
        return f"one of {count}, by a hash of the packet (fib_multipath_hash_policy is not known)"
    fields = state.sysctls.get(f"net.{family}.fib_multipath_hash_fields", 0)
    what = _HASHES.get(policy, f"the fields {fields:#x} (fib_multipath_hash_fields)")
    return f"one of {count}, by a hash of {what} (fib_multipath_hash_policy {policy})"


def _source_lines(state: NetworkState, flow: FlowKey, chosen: Chosen) -> Iterator[Why]:
    if flow.saddr:
        yield Why("source", f"{address_text(flow.family, flow.saddr)}: named by the sender", "observed")
        return
    nexthops = nexthops_of(chosen.route, state.nexthops)
    used = [nexthop for nexthop in nexthops if _is_chosen(state, nexthop, chosen)] or list(nexthops[:1])
    source = select_source(state, chosen.route, used[0] if used else None, flow.daddr)
    if source:
        yield Why("source", f"{address_text(flow.family, source.address)}: {source.where}")
    else:
        yield Why("source", "not known: how the kernel chooses it here is not modelled")
