"""Small shapes of rules and routes that belong together: what chance alone hardly ever puts side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from hypothesis import strategies as st

from tests.live.random_networks import (
    FIRST,
    KNOWN_OBJECTS,
    OWN4,
    SMALL,
    THIRD,
    address4,
    address6,
    masked,
    number,
    random_prefix,
)
from tracer.model.network import IPV4, IPV6, Nexthop, Route, Rule

FAILED, KNOWN = 4, 3  # the hosts of every network whose neighbour entry is failed, and is not
FIRST_PREFERENCE = st.integers(1, 30)
EARLIER_LENGTHS = {IPV4: st.sampled_from((8, 16, 20)), IPV6: st.sampled_from((32, 40, 48))}
SOURCE_NETWORKS = st.sampled_from((48, 64, 128))


class Motif(NamedTuple):
    """What it adds, and the settings that it needs."""

    rules: tuple[Rule, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctls: tuple[tuple[str, int], ...] = ()


def _host(family: int, device: int, host: int) -> Nexthop:
    address = address4(device, host) if family == IPV4 else address6(device, host)
    return Nexthop(FIRST + device, family, address)


def _default(family: int, table: int, device: int, metric: int = 2) -> Route:
    scope = 253 if family == IPV4 else 0
    return Route(family, table, metric=metric, protocol=4, scope=scope, nexthops=(Nexthop(FIRST + device),))


def reverse(draw: st.DrawFn) -> Motif:
    """The way back depends on the mark and on the device: rules of both, to defaults by different devices."""
    first, other, wanted = draw(THIRD), draw(THIRD), draw(THIRD)
    start = draw(FIRST_PREFERENCE)
    by_mark = Rule(IPV4, start + draw(THIRD), "lookup", 1002, mark=1 + draw(THIRD) % 2, mask=3)
    name = f"e{wanted}" if draw(SMALL) else "lo"
    by_device = Rule(IPV4, start + 1, "lookup", 1003, iif=name)
    rest = Rule(IPV4, start + 3, "lookup", 1001)
    routes = (
        _default(IPV4, 1002, first),
        _default(IPV4, 1003, other),
        _default(IPV4, 1001, (first + 1 + draw(THIRD) % 2) % 3),
    )
    sysctls = [(f"ipv4/conf/e{device}/rp_filter", 1) for device in range(3)]
    sysctls += [(f"ipv4/conf/e{device}/src_valid_mark", draw(THIRD) % 2) for device in range(3)]
    return Motif((by_mark, by_device, rest), routes, tuple(sysctls))


def suppress(draw: st.DrawFn) -> Motif:
    """A rule that throws short prefixes or a group's devices away, over a default and a longer prefix."""
    family = (IPV4, IPV6)[draw(THIRD) % 2]
    start = draw(FIRST_PREFERENCE)
    dst, dst_len = random_prefix(draw, family, EARLIER_LENGTHS[family])
    limit = (0, dst_len - 1, dst_len, dst_len + 1)[draw(SMALL)]
    group, by_group = draw(THIRD), draw(THIRD) == 0
    rule = Rule(
        family,
        start,
        "lookup",
        100,
        suppress_prefixlength=-1 if by_group else limit,
        suppress_ifgroup=group if by_group else -1,
    )
    device = draw(THIRD)
    longer = replace(_default(family, 1002, draw(THIRD)), dst=dst, dst_len=dst_len)
    routes = (_default(family, 1002, device), longer, _default(family, 1003, (device + 1) % 3))
    return Motif((rule, Rule(family, start + 1, "lookup", 1003)), routes)


def preferences(draw: st.DrawFn) -> Motif:
    """Routes of one prefix and metric, told apart by their router preference only."""
    dst, dst_len = random_prefix(draw, IPV6)
    start = draw(FIRST_PREFERENCE)
    ranks = ((0, 1, 3), (3, 0, 1), (3, 1, 0), (1, 0, 3))[draw(SMALL)]
    routes = [
        replace(_default(IPV6, 1001, device, 4), dst=dst, dst_len=dst_len, pref=rank)
        for device, rank in enumerate(ranks)
    ]
    return Motif((Rule(IPV6, start, "lookup", 1001),), tuple(routes))


def subtree(draw: st.DrawFn) -> Motif:
    """A prefix with routes of its own and others for some sources, inside a shorter one."""
    dst, _ = random_prefix(draw, IPV6)
    long, short = 128 - 16 * draw(THIRD), 32 + 16 * draw(THIRD)
    size = draw(SOURCE_NETWORKS)
    source = masked(address6(draw(THIRD), 1), size, 128)
    start, device = draw(FIRST_PREFERENCE), draw(THIRD)
    shape = _default(IPV6, 1001, device)
    routes = [
        replace(shape, dst=masked(dst, long, 128), dst_len=long, src=source, src_len=size),
        replace(_default(IPV6, 1001, (device + 1) % 3), dst=masked(dst, short, 128), dst_len=short),
        replace(_default(IPV6, 1001, (device + 2) % 3), dst=masked(dst, long, 128), dst_len=long),
    ]
    if draw(SMALL) == 0:
        routes[1] = replace(routes[1], src=source, src_len=48, dst_len=0, dst=0)
        routes[1] = replace(routes[1], src=masked(source, 48, 128))
    return Motif((Rule(IPV6, start, "lookup", 1001),), tuple(routes))


def unreachable_gateway(draw: st.DrawFn) -> Motif:
    """A host that does not forward passes over gateways that do not answer, if another route is there."""
    dst, dst_len = random_prefix(draw, IPV6, EARLIER_LENGTHS[IPV6])
    first, other = draw(THIRD), draw(THIRD)
    hosts = (FAILED, FAILED, KNOWN)
    routes = []
    for device, metric, host in ((first, 1, hosts[draw(THIRD)]), (other, 3, hosts[draw(THIRD)])):
        hop = _host(IPV6, device, host)
        routes.append(Route(IPV6, 1001, dst, dst_len, metric=metric, protocol=4, nexthops=(hop,)))
    routes.append(Route(IPV6, 1001, metric=1, protocol=4, nexthops=(_host(IPV6, draw(THIRD), KNOWN),)))
    rule = Rule(IPV6, draw(FIRST_PREFERENCE), "lookup", 1001)
    return Motif((rule,), tuple(routes), (("ipv6/conf/all/forwarding", 0),))


def groups(draw: st.DrawFn) -> Motif:
    """A default by a nexthop object, in a table that a rule without selectors asks."""
    family = (IPV4, IPV6)[draw(THIRD) % 2]
    route = Route(family, 1001, metric=2, protocol=4, nhid=draw(KNOWN_OBJECTS[family]))
    return Motif((Rule(family, draw(FIRST_PREFERENCE), "lookup", 1001),), (route,))


def sources(draw: st.DrawFn) -> Motif:
    """Routes whose source is chosen: by the gateway's network, by the scope, or by the route."""
    dst, dst_len = random_prefix(draw, IPV4)
    device = draw(THIRD)
    hop = (Nexthop(FIRST + device), _host(IPV4, device, 9), _host(IPV4, device, 128 << 8 | 9))[draw(THIRD)]
    scope = (0, 253)[draw(THIRD) % 2] if not hop.gateway_family else 0
    own = number(OWN4[draw(THIRD)]) if draw(SMALL) == 0 else None
    route = Route(IPV4, 1001, dst, dst_len, metric=2, protocol=4, scope=scope, nexthops=(hop,), prefsrc=own)
    return Motif((Rule(IPV4, draw(FIRST_PREFERENCE), "lookup", 1001),), (route,))


SHAPES: tuple[Callable[[st.DrawFn], Motif], ...] = (
    reverse,
    suppress,
    preferences,
    subtree,
    unreachable_gateway,
    groups,
    sources,
)
SHAPE = st.sampled_from(SHAPES)
