"""A route as `ip route` prints it in full, and what its metrics, nexthops and flags are called there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tracer.enrich.names import Names, system_names
from tracer.enrich.nexthops import nexthops_of
from tracer.enrich.routes import route_text
from tracer.model.network import IPV4, address_text

if TYPE_CHECKING:
    from tracer.model.network import NetworkState, Nexthop, Route

DEAD, PERVASIVE, ONLINK, OFFLOAD, LINKDOWN = 1, 2, 4, 8, 16
_FLAGS: Final = (
    (DEAD, "dead"), (ONLINK, "onlink"), (PERVASIVE, "pervasive"), (OFFLOAD, "offload"), (LINKDOWN, "linkdown"),
)  # fmt: skip
_BOOT: Final = 3
_METRICS: Final = {
    2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss", 9: "reordering",
    10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min", 14: "initrwnd", 15: "quickack",
    16: "congctl", 17: "fastopen_no_cookie",
}  # fmt: skip
"""RTAX_* of linux/rtnetlink.h by number; 1 tells which of them are locked."""
_LOCK: Final = 1
_PREFERENCES: Final = {0: "medium", 1: "high", 3: "low"}


def full_route_text(route: Route, state: NetworkState, names: Names | None = None) -> str:
    """The line of `ip route show table T` for the route, on one line; metrics are `metric_words`."""
    words = names or system_names()
    single = len(nexthops_of(route, state.nexthops)) < 2  # noqa: PLR2004 - several: each has its own
    head, several = _split(route_text(route, state, words))
    parts = [head]
    if route.protocol != _BOOT:
        parts.append(f"proto {words.protocols.get(route.protocol, str(route.protocol))}")
    if route.family == IPV4 and route.scope:
        parts.append(f"scope {words.scopes.get(route.scope, str(route.scope))}")
    if route.prefsrc is not None:
        parts.append(f"src {address_text(route.family, route.prefsrc)}")
    if route.metric:
        parts.append(f"metric {route.metric}")
    if single:
        parts += flag_words(route.flags)
    parts += metric_words(route)
    if several:
        parts.append(several)
    if route.family != IPV4:
        parts.append(f"pref {_PREFERENCES.get(route.pref, str(route.pref))}")
    return " ".join(parts)


def _split(text: str) -> tuple[str, str]:
    """The start of the line, and its nexthops, which stand behind everything else."""
    head, word, rest = text.partition(" nexthop ")
    return head, f"nexthop {rest}" if word else ""


def flag_words(flags: int) -> list[str]:
    """RTNH_F_* as `ip route` names them."""
    return [name for bit, name in _FLAGS if flags & bit]


def metric_words(route: Route) -> list[str]:
    """`mtu 1400`, `mtu lock 1400`, `advmss 1360`; a name that stands for text (congctl) keeps its text."""
    locks = dict(route.metrics).get(_LOCK, 0)
    locked = locks if isinstance(locks, int) else 0
    said = []
    for number, value in route.metrics:
        if number != _LOCK:
            lock = "lock " if locked >> number & 1 else ""
            said.append(f"{_METRICS.get(number, f'metric-{number}')} {lock}{value}")
    return said


def nexthop_words(route: Route, nexthop: Nexthop, state: NetworkState) -> str:
    """`via 10.1.0.1 dev r1`, `dev r1`."""
    parts = []
    if nexthop.gateway_family:
        other = nexthop.gateway_family != route.family
        family = ("inet " if nexthop.gateway_family == IPV4 else "inet6 ") if other else ""
        parts.append(f"via {family}{address_text(nexthop.gateway_family, nexthop.gateway)}")
    if nexthop.ifindex:
        link = state.links.get(nexthop.ifindex)
        parts.append(f"dev {link.name if link else f'if{nexthop.ifindex}'}")
    return " ".join(parts)


def trouble(nexthop: Nexthop, state: NetworkState) -> str:
    """What is wrong with a nexthop: dead, linkdown, its device down; empty if nothing."""
    link = state.links.get(nexthop.ifindex)
    if nexthop.flags & DEAD and nexthop.flags & LINKDOWN:
        return "no carrier, and not used for that (ignore_routes_with_linkdown)"
    if nexthop.flags & DEAD:
        return "dead"
    if nexthop.flags & LINKDOWN:
        return "linkdown: no carrier"
    return f"{link.name} is down" if link and not link.up else ""
