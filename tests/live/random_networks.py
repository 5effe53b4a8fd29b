"""Random rule sets, tables and questions, as hypothesis strategies over the model's own values."""

from __future__ import annotations

import ipaddress
import random
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tracer.enrich.selectors import FlowKey
from tracer.model.network import IPV4, IPV6, Nexthop, NexthopObject, Route, Rule

DEVICES = ("e0", "e1", "e2", "e3")  # indexes 10..13; e3 has no carrier
FIRST = 10
DOWN = FIRST + 3
TABLES = (100, 101, 1000, 254)
OWN4 = ("10.0.0.1", "10.1.0.1", "10.2.0.1", "10.1.0.7", "172.16.2.1", "192.0.2.1")
OWN6 = ("2001:db8::1", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:f::1")


def number(text: str) -> int:
    """An address as the model has it."""
    return int(ipaddress.ip_address(text))


def _v4(index: int, host: int) -> int:
    return 10 << 24 | index << 16 | host


def _v6(index: int, host: int) -> int:
    return number("2001:db8::") | index << 80 | host


OBJECTS = (
    NexthopObject(1, IPV4, FIRST, IPV4, _v4(0, 9)),
    NexthopObject(2, IPV4, FIRST + 1, IPV4, _v4(1, 9)),
    NexthopObject(3, IPV4, blackhole=True),
    NexthopObject(4, IPV4, FIRST + 2),
    NexthopObject(10, group=((1, 1), (2, 2))),
    NexthopObject(11, group=((4, 1), (1, 3))),
    NexthopObject(21, IPV6, FIRST, IPV6, _v6(0, 9)),
    NexthopObject(22, IPV6, FIRST + 1, IPV6, _v6(1, 9)),
    NexthopObject(23, IPV6, blackhole=True),
    NexthopObject(24, IPV6, FIRST + 2),
    NexthopObject(30, group=((21, 1), (22, 2))),
    NexthopObject(31, group=((24, 1), (21, 1))),
)


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


def _masked(address: int, length: int, bits: int) -> int:
    return address >> (bits - length) << (bits - length)


def random_address(rng: random.Random, family: int) -> int:
    """Few values, so that rules, routes and packets meet."""
    if family == IPV4:
        return rng.choice(HIGH4) << 24 | rng.randrange(3) << 16 | rng.choice((0, 128)) << 8 | rng.randrange(5)
    return _v6(rng.randrange(3), rng.randrange(5) | rng.randrange(2) << 64)


HIGH4 = (10, 10, 10, 172)
# Made once: hypothesis is slow at making strategies.
SMALL, HOST, THIRD, WEIGHT, PERCENT = (st.integers(0, top) for top in (3, 9, 2, 2, 99))
TOP, MIDDLE = st.sampled_from(HIGH4), st.sampled_from((0, 128))
LENGTHS = {
    IPV4: st.sampled_from((0, 8, 12, 16, 20, 24, 32)),
    IPV6: st.sampled_from((0, 32, 40, 48, 60, 64, 128)),
}
SOURCE_LENGTHS = st.sampled_from((32, 48, 64, 128))


def _address(draw: st.DrawFn, family: int) -> int:
    if family == IPV4:
        return draw(TOP) << 24 | draw(THIRD) << 16 | draw(MIDDLE) << 8 | draw(HOST) % 5
    return _v6(draw(THIRD), draw(HOST) % 5 | (draw(THIRD) > 1) << 64)


def _prefix(draw: st.DrawFn, family: int, lengths: st.SearchStrategy[int] | None = None) -> tuple[int, int]:
    length = draw(LENGTHS[family] if lengths is None else lengths)
    return _masked(_address(draw, family), length, 32 if family == IPV4 else 128), length


def _hop(draw: st.DrawFn, family: int, *, last: int = 2, gateway: bool = False) -> Nexthop:
    """On link or by a gateway of the device's own network."""
    index = draw(SMALL) % (last + 1)
    if not gateway and draw(HOST) < 4:
        return Nexthop(FIRST + index)
    host = 3 + draw(THIRD)
    return Nexthop(FIRST + index, family, _v4(index, host) if family == IPV4 else _v6(index, host))


KINDS = st.sampled_from(("unicast",) * 8 + ("multi", "down", "nhid", "nhid", "throw", "reject", "local"))
TABLE = st.sampled_from(TABLES)
TOS = st.sampled_from((0, 0, 0, 4, 16, 28))
KNOWN_OBJECTS = {IPV4: st.sampled_from((1, 2, 3, 4, 10, 11)), IPV6: st.sampled_from((21, 22, 23, 24, 30, 31))}
REJECTS = st.sampled_from((6, 7, 8))
LOCAL_TABLE = st.sampled_from((255, 100))
OWN = {IPV4: st.sampled_from(OWN4), IPV6: st.sampled_from(OWN6)}
# Of the paths of one route a dump tells the first one's preference only, so gateways have none here.
PREFERENCES = st.sampled_from((0, 0, 0, 1, 3))


def _route(draw: st.DrawFn, family: int) -> Route:
    """Every kind of route that the kernel accepts from us."""
    kind = draw(KINDS)
    dst, dst_len = _prefix(draw, family)
    metric = draw(SMALL) // 2 * 2 + 2 * (family == IPV6)
    route = Route(family, draw(TABLE), dst, dst_len, metric=metric, protocol=4)
    if family == IPV4:
        route = replace(route, tos=draw(TOS))
    elif kind != "nhid" and draw(HOST) < 3:
        src, src_len = _prefix(draw, family, SOURCE_LENGTHS)
        route = replace(route, src=src, src_len=src_len)
    return _filled(draw, route, kind)


def _filled(draw: st.DrawFn, route: Route, kind: str) -> Route:
    family = route.family
    if kind == "multi":
        several = {_hop(draw, family, last=3, gateway=True) for _ in range(2 + draw(THIRD) // 2)}
        route = replace(route, metric=route.metric + (family == IPV6))
        made = [replace(hop, weight=1 + draw(WEIGHT)) for hop in sorted(several, key=lambda hop: hop.gateway)]
        return replace(route, nexthops=tuple(made))
    if kind == "down":
        return replace(route, nexthops=(Nexthop(DOWN),), scope=253 if family == IPV4 else 0)
    if kind == "nhid":
        return replace(route, nhid=draw(KNOWN_OBJECTS[family]))
    if kind in {"throw", "reject"}:
        return replace(route, type=9 if kind == "throw" else draw(REJECTS))
    if kind == "local":
        scope = 254 if family == IPV4 else 0
        return replace(route, type=2, table=draw(LOCAL_TABLE), scope=scope, nexthops=(Nexthop(1),))
    hop = _hop(draw, family)
    if family == IPV6 and hop.gateway_family:
        # Between the paths of one route a dump does not list others of the same metric (rt6_dump_route).
        route = replace(route, metric=route.metric + 1)
    prefsrc = number(draw(OWN[family])) if draw(HOST) == 0 else None
    scope = 253 if family == IPV4 and not hop.gateway_family and draw(THIRD) else 0
    return replace(
        route,
        nexthops=(hop,),
        prefsrc=prefsrc,
        scope=scope,
        pref=draw(PREFERENCES) if family == IPV6 and not hop.gateway_family else 0,
    )


ACTIONS = st.sampled_from(("lookup",) * 14 + ("goto", "goto", "nop", "blackhole", "unreachable", "prohibit"))
ASKED = st.sampled_from((*TABLES, *TABLES, 255, 777))


def _rule(draw: st.DrawFn, family: int) -> Rule:
    """Any selectors, any action."""
    values: dict[str, Any] = {"priority": 1 + draw(PERCENT) % 59, "invert": draw(HOST) == 9}
    for _ in range(draw(SMALL)):
        values.update(_selector(draw, family))
    action = draw(ACTIONS)
    if action == "goto":
        return Rule(family, action=action, target=60 + draw(SMALL), **values)
    if action != "lookup":
        return Rule(family, action=action, **values)
    if draw(HOST) == 9:
        values["suppress_prefixlength"] = (0, 8, 16, 48)[draw(SMALL)]
    if draw(HOST) == 9:
        values["suppress_ifgroup"] = draw(THIRD)
    return Rule(family, action=action, table=draw(ASKED), **values)


def _selector(draw: st.DrawFn, family: int) -> dict[str, Any]:
    kind = draw(SELECTOR)
    if kind == "from":
        src, src_len = _prefix(draw, family)
        return {"src": src, "src_len": src_len}
    if kind == "to":
        dst, dst_len = _prefix(draw, family)
        return {"dst": dst, "dst_len": dst_len}
    return dict(kind) if kind != "tos" else {"tos": draw(TOS)}


def _ports(side: str) -> list[tuple[tuple[str, Any], ...]]:
    ranges = [((side, span),) for span in ((53, 53), (80, 450), (1000, 2000))]
    masks = ((0x50, 0xF0), (0x35, 0xFFFF), (0x400, 0xFC00))
    return ranges + [((side, (value, value)), (f"{side}_mask", mask)) for value, mask in masks]


SELECTOR = st.sampled_from(
    (
        *("from",) * 8, *("to",) * 6, "tos",
        (("src", 10 << 24), ("src_len", 7)), (("src", 10 << 24), ("src_len", 13)),
        (("mark", 1), ("mask", 0xFFFFFFFF)), (("mark", 2), ("mask", 3)), (("mark", 0), ("mask", 1)),
        *(((("iif", name),)) for name in ("lo", *DEVICES, "absent")), *((("oif", name),) for name in DEVICES),
        (("uid", (0, 0)),), (("uid", (1000, 2000)),), (("uid", (5, 5)),),
        (("ip_proto", 6),), (("ip_proto", 17),), *_ports("sport"), *_ports("dport"),
        (("dscp", 46),), (("dscp", 4),), (("dscp", 1),), (("dscp", 4), ("dscp_mask", 0x3C)),
        (("dscp", 32), ("dscp_mask", 0x20)), (("dscp", 0), ("dscp_mask", 0x01)), (("tun_id", 7),),
    )
)  # fmt: skip


def random_flow(rng: random.Random, family: int) -> FlowKey:
    """A question: output with and without a source and a device, or input."""
    target = random_address(rng, family)
    odd = (
        (*OWN4[:3], "10.0.0.255", "127.0.0.1") if family == IPV4 else (*OWN6[:3], "fe80::9", "::1", "ff02::5")
    )
    if rng.random() < 0.1:
        target = number(rng.choice(odd))
    flow = FlowKey(
        family,
        daddr=target,
        mark=rng.choice((0, 0, 1, 2, 6)),
        proto=rng.choice((6, 17)),
        sport=rng.choice((53, 1500)),
        dport=rng.choice((80, 450, 9)),
        tos=rng.choice((0, 0, 4, 16, 0x24, 0x3C, 0xB8)),
    )
    if rng.random() < 0.4:
        foreign = number("203.0.113.7" if family == IPV4 else "2001:db8:ffff::7")
        source = rng.choice((foreign, random_address(rng, family)))
        return flow._replace(iif=rng.randrange(FIRST, FIRST + 3), saddr=source)
    source = rng.choice((*("",) * 4, *(OWN4 if family == IPV4 else OWN6)))
    device = rng.choice((0, 0, 0, FIRST, FIRST + 1, FIRST + 2))
    return flow._replace(saddr=number(source) if source else 0, oif=device, uid=rng.choice((0, 5, 1500)))


SYSCTLS = {
    "ipv4/nexthop_compat_mode": (0, 1),
    "ipv4/conf/e0/rp_filter": (0, 1, 2),
    "ipv4/conf/e1/rp_filter": (0, 0, 1, 2),
    "ipv4/conf/e2/rp_filter": (0, 0, 0, 2),
    "ipv4/conf/e0/accept_local": (0, 1),
    "ipv4/conf/e1/src_valid_mark": (0, 1),
    "ipv4/conf/e2/send_redirects": (0, 1),
    "ipv4/conf/e2/route_localnet": (0, 0, 1),
    "ipv4/conf/e1/forwarding": (1, 1, 0),
    "ipv4/conf/e3/ignore_routes_with_linkdown": (0, 1),
    "ipv6/conf/e3/ignore_routes_with_linkdown": (0, 1),
    "ipv6/conf/all/forwarding": (1, 1, 0),
}


CHOICES = {name: st.sampled_from(values) for name, values in SYSCTLS.items()}
SEEDS = st.integers(0, 1 << 30)
COUNTS = {"rules": st.integers(1, 8), "routes": st.integers(4, 30)}
LOCAL_PRIORITY = st.sampled_from((0, 0, 0, 40))  # the rule of the local table, sometimes behind others


@st.composite
def configs(draw: st.DrawFn, questions: int) -> Config:
    """A whole configuration with its questions; half of everything is IPv6."""
    found_rules: list[Rule] = []
    found_routes: list[Route] = []
    for family in (IPV4, IPV6):
        found_rules += [Rule(family, draw(LOCAL_PRIORITY), "lookup", 255), Rule(family, 62, "nop")]
        found_rules += [_rule(draw, family) for _ in range(draw(COUNTS["rules"]))]
        found_routes += [_route(draw, family) for _ in range(draw(COUNTS["routes"]))]
    settings = tuple((name, draw(values)) for name, values in CHOICES.items())
    # Questions are many and easily told apart: a seed is enough of them.
    rng = random.Random(draw(SEEDS))
    asked = tuple(random_flow(rng, (IPV4, IPV6)[index % 2]) for index in range(questions))
    return Config(tuple(found_rules), tuple(found_routes), settings, asked)
