"""Random rules and routes, as hypothesis strategies over the model's own values."""

from __future__ import annotations

import ipaddress
import random
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

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


def address4(index: int, host: int) -> int:
    return 10 << 24 | index << 16 | host


def address6(index: int, host: int) -> int:
    return number("2001:db8::") | index << 80 | host


OBJECTS = (
    NexthopObject(1, IPV4, FIRST, IPV4, address4(0, 9)),
    NexthopObject(2, IPV4, FIRST + 1, IPV4, address4(1, 9)),
    NexthopObject(3, IPV4, blackhole=True),
    NexthopObject(4, IPV4, FIRST + 2),
    NexthopObject(10, group=((1, 1), (2, 2))),
    NexthopObject(11, group=((4, 1), (1, 3))),
    NexthopObject(21, IPV6, FIRST, IPV6, address6(0, 9)),
    NexthopObject(22, IPV6, FIRST + 1, IPV6, address6(1, 9)),
    NexthopObject(23, IPV6, blackhole=True),
    NexthopObject(24, IPV6, FIRST + 2),
    NexthopObject(30, group=((21, 1), (22, 2))),
    NexthopObject(31, group=((24, 1), (21, 1))),
)


def masked(address: int, length: int, bits: int) -> int:
    return address >> (bits - length) << (bits - length)


def random_address(rng: random.Random, family: int) -> int:
    """Few values, so that rules, routes and packets meet."""
    if family == IPV4:
        return rng.choice(HIGH4) << 24 | rng.randrange(3) << 16 | rng.choice((0, 128)) << 8 | rng.randrange(5)
    return address6(rng.randrange(3), rng.randrange(5) | rng.randrange(2) << 64)


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
    return address6(draw(THIRD), draw(HOST) % 5 | (draw(THIRD) > 1) << 64)


def random_prefix(
    draw: st.DrawFn, family: int, lengths: st.SearchStrategy[int] | None = None
) -> tuple[int, int]:
    length = draw(LENGTHS[family] if lengths is None else lengths)
    return masked(_address(draw, family), length, 32 if family == IPV4 else 128), length


def random_hop(draw: st.DrawFn, family: int, *, last: int = 2, gateway: bool = False) -> Nexthop:
    """On link or by a gateway of the device's own network."""
    index = draw(SMALL) % (last + 1)
    if not gateway and draw(HOST) < 4:
        return Nexthop(FIRST + index)
    host = 3 + draw(THIRD)
    return Nexthop(FIRST + index, family, address4(index, host) if family == IPV4 else address6(index, host))


KINDS = st.sampled_from(("unicast",) * 8 + ("multi", "down", "nhid", "nhid", "throw", "reject", "local"))
TABLE = st.sampled_from(TABLES)
TOS = st.sampled_from((0, 0, 0, 4, 16, 28))
KNOWN_OBJECTS = {IPV4: st.sampled_from((1, 2, 3, 4, 10, 11)), IPV6: st.sampled_from((21, 22, 23, 24, 30, 31))}
REJECTS = st.sampled_from((6, 7, 8))
LOCAL_TABLE = st.sampled_from((255, 100))
OWN = {IPV4: st.sampled_from(OWN4), IPV6: st.sampled_from(OWN6)}
# Of the paths of one route a dump tells the first one's preference only, so gateways have none here.
PREFERENCES = st.sampled_from((0, 0, 0, 1, 3))


def random_route(draw: st.DrawFn, family: int) -> Route:
    """Every kind of route that the kernel accepts from us."""
    kind = draw(KINDS)
    dst, dst_len = random_prefix(draw, family)
    metric = draw(SMALL) // 2 * 2 + 2 * (family == IPV6)
    route = Route(family, draw(TABLE), dst, dst_len, metric=metric, protocol=4)
    if family == IPV4:
        route = replace(route, tos=draw(TOS))
    elif kind != "nhid" and draw(HOST) < 3:
        src, src_len = random_prefix(draw, family, SOURCE_LENGTHS)
        route = replace(route, src=src, src_len=src_len)
    return _filled(draw, route, kind)


def _filled(draw: st.DrawFn, route: Route, kind: str) -> Route:
    family = route.family
    if kind == "multi":
        several = {random_hop(draw, family, last=3, gateway=True) for _ in range(2 + draw(THIRD) // 2)}
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
    hop = random_hop(draw, family)
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


def random_rule(draw: st.DrawFn, family: int) -> Rule:
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
        src, src_len = random_prefix(draw, family)
        return {"src": src, "src_len": src_len}
    if kind == "to":
        dst, dst_len = random_prefix(draw, family)
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
