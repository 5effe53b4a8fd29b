"""Whole random configurations with their questions, which ask mostly for what the rules and routes name."""

from __future__ import annotations

import random
from typing import NamedTuple

from hypothesis import strategies as st

from tests.live.random_motifs import SHAPE
from tests.live.random_networks import (
    FIRST,
    OWN4,
    OWN6,
    number,
    random_address,
    random_route,
    random_rule,
)
from tracer.enrich.selectors import FlowKey
from tracer.model.network import IPV4, IPV6, Route, Rule


class Config(NamedTuple):
    """One random configuration; `sysctls` are paths below /proc/sys/net with their values."""

    rules: tuple[Rule, ...]
    routes: tuple[Route, ...]
    sysctls: tuple[tuple[str, int], ...]
    flows: tuple[FlowKey, ...]

    def __repr__(self) -> str:
        """What is not a default, one object a line; the questions come from a seed."""
        lines = [str(item.to_dict()) for item in (*self.rules, *self.routes)]
        return "\n".join([*lines, *(f"{name}={value}" for name, value in self.sysctls)])


class Pool:
    """What the rules and routes of one family name, to ask for."""

    def __init__(self, family: int, rules: tuple[Rule, ...], routes: tuple[Route, ...]) -> None:
        self.family = family
        bits = 32 if family == IPV4 else 128
        own = [rule for rule in rules if rule.family == family]
        known = [*own, *(route for route in routes if route.family == family)]
        self.targets = [(item.dst, bits - item.dst_len) for item in known if item.dst_len] or [(0, bits)]
        self.sources = [(item.src, bits - item.src_len) for item in known if item.src_len] or [(0, bits)]
        self.marks = (0, 0, 1, 2, 6, *(rule.mark for rule in own if rule.mask))
        spans = [span for rule in own for span in (rule.sport, rule.dport) if span]
        self.ports = tuple(port for span in spans for port in span)
        codes = [(rule.dscp or 0) << 2 or rule.tos for rule in own if rule.dscp or rule.tos]
        self.tos = (0, 0, 0, 4, 16, 0x24, 0x3C, 0xB8, *codes)

    def address(self, rng: random.Random, named: list[tuple[int, int]]) -> int:
        """One inside of what is named: its first, or one of a few behind it."""
        first, free = rng.choice(named)
        near = random_address(rng, self.family)
        if free >= (24 if self.family == IPV4 else 96):
            return near if (near ^ first) >> free == 0 or not first else first | 1
        return first | (rng.randrange(4) & (1 << free) - 1)


def random_flow(rng: random.Random, pool: Pool) -> FlowKey:
    """A question: output with and without a source and a device, or input."""
    family = pool.family
    flow = FlowKey(
        family,
        daddr=_target(rng, pool),
        mark=rng.choice(pool.marks),
        proto=rng.choice((6, 17)),
        sport=rng.choice((53, 1500, *pool.ports)),
        dport=rng.choice((80, 450, 9, *pool.ports)),
        tos=rng.choice(pool.tos),
    )
    if rng.random() < 0.4:
        foreign = number("203.0.113.7" if family == IPV4 else "2001:db8:ffff::7")
        source = rng.choice((foreign, random_address(rng, family), pool.address(rng, pool.sources)))
        return flow._replace(iif=rng.randrange(FIRST, FIRST + 3), saddr=source)
    source = number(rng.choice(OWN4 if family == IPV4 else OWN6))
    if family != IPV4 and rng.random() < 0.5:
        source = pool.address(rng, pool.sources)
    device = rng.choice((0, 0, 0, FIRST, FIRST + 1, FIRST + 2))
    return flow._replace(saddr=rng.choice((0, source)), oif=device, uid=rng.choice((0, 5, 1500)))


def _target(rng: random.Random, pool: Pool) -> int:
    if rng.random() < 0.1:
        odd4 = (*OWN4[:3], "10.0.0.255", "127.0.0.1")
        odd = odd4 if pool.family == IPV4 else (*OWN6[:3], "fe80::9", "::1", "ff02::5")
        return number(rng.choice(odd))
    return rng.choice((random_address(rng, pool.family), pool.address(rng, pool.targets)))


SYSCTLS = {
    "ipv4/nexthop_compat_mode": (0, 1),
    "ipv4/conf/e0/rp_filter": (0, 1, 2),
    "ipv4/conf/e1/rp_filter": (0, 1, 1, 2),
    "ipv4/conf/e2/rp_filter": (0, 0, 1, 2),
    "ipv4/conf/e0/accept_local": (0, 1),
    "ipv4/conf/e0/src_valid_mark": (0, 0, 1),
    "ipv4/conf/e1/src_valid_mark": (0, 1),
    "ipv4/conf/e2/src_valid_mark": (0, 0, 1),
    "ipv4/conf/e2/send_redirects": (0, 1),
    "ipv4/conf/e2/route_localnet": (0, 0, 1),
    "ipv4/conf/e1/forwarding": (1, 1, 0),
    "ipv4/conf/e3/ignore_routes_with_linkdown": (0, 1),
    "ipv6/conf/e3/ignore_routes_with_linkdown": (0, 1),
    "ipv6/conf/all/forwarding": (1, 1, 0),
}


CHOICES = {name: st.sampled_from(values) for name, values in SYSCTLS.items()}
SEEDS = st.integers(0, 1 << 30)
COUNTS = {"rules": st.integers(0, 6), "routes": st.integers(2, 24), "shapes": st.integers(0, 6)}
LOCAL_PRIORITY = st.sampled_from((0, 0, 0, 40))  # the rule of the local table, sometimes behind others


@st.composite
def configs(draw: st.DrawFn, questions: int) -> Config:
    """A whole configuration with its questions; half of everything is IPv6."""
    found_rules: list[Rule] = []
    found_routes: list[Route] = []
    values: dict[str, int] = {}
    for _ in range(draw(COUNTS["shapes"])):
        rules, routes, settings = draw(SHAPE)(draw)
        found_rules += rules
        found_routes += routes
        values.update(settings)
    for family in (IPV4, IPV6):
        found_rules += [Rule(family, draw(LOCAL_PRIORITY), "lookup", 255), Rule(family, 62, "nop")]
        found_rules += [random_rule(draw, family) for _ in range(draw(COUNTS["rules"]))]
        found_routes += [random_route(draw, family) for _ in range(draw(COUNTS["routes"]))]
    values = {name: draw(choice) for name, choice in CHOICES.items()} | values
    made = tuple(found_rules), tuple(found_routes)
    pools = [Pool(family, *made) for family in (IPV4, IPV6)]
    # Questions are many and easily told apart: a seed is enough of them.
    rng = random.Random(draw(SEEDS))
    asked = tuple(random_flow(rng, pools[index % 2]) for index in range(questions))
    return Config(*made, tuple(values.items()), asked)
