"""What the imaginary host of tests/unit/correlate/records.py is configured like, and rows of scenes there."""

from __future__ import annotations

import socket
from typing import Any

from tests.unit.correlate.records import DEVICES, NETNS, STACKS, C, R, S, Scene
from tracer.correlate.callers import classify
from tracer.enrich.names import Names
from tracer.model.network import DeviceSettings, Link, Network, NetworkState, Nexthop, Route, Rule
from tracer.outputs.batch import World
from tracer.outputs.build import RowBuilder

IPV4 = int(socket.AF_INET)
NAMES = Names(
    tables={254: "main", 255: "local", 253: "default"},
    protocols={},
    scopes={},
    groups={},
    dsfields={},
    ip_protocols={6: "tcp", 17: "udp", 1: "icmp"},
)
REASONS = {
    2: "SKB_DROP_REASON_NOT_SPECIFIED",
    3: "SKB_DROP_REASON_NO_SOCKET",
    7: "SKB_DROP_REASON_IP_RPFILTER",
    8: "SKB_DROP_REASON_IP_INNOROUTES",
}
OFFSET_NS = 5_000_000_000
LOCAL_RULE = Rule(IPV4, 0, "lookup", table=255)
MAIN_RULE = Rule(IPV4, 32766, "lookup", table=254)
SOURCE_RULE = Rule(IPV4, 100, "lookup", table=100, src=0x0A010000, src_len=24)


def route(prefix: str, table: int = 254, dev: int = 0, **more: Any) -> Route:
    """A route as records show theirs: no protocol, scope or metric."""
    text, _, length = prefix.partition("/")
    dst = int.from_bytes(socket.inet_aton(text), "big")
    nexthops = (Nexthop(dev),) if dev else ()
    return Route(IPV4, table, dst=dst, dst_len=int(length), nexthops=nexthops, **more)


ROUTES = {
    C: (route("0.0.0.0/0", dev=2),),
    R: (
        route("10.1.0.0/24", dev=2),
        route("10.2.0.0/24", dev=3),
        route("0.0.0.0/0", table=100, dev=3),
        route("10.7.0.0/16", table=100, type=6),
        route("10.1.0.1/32", table=255, dev=2, type=2),
    ),
    S: (route("10.2.0.2/32", table=255, dev=2, type=2), route("0.0.0.0/0", dev=2)),
}


def state(inode: int, **changes: Any) -> NetworkState:
    """One namespace; the router has a rule by source and checks strictly on r0."""
    tables: dict[int, list[Route]] = {254: [], 255: []}
    for item in ROUTES[inode]:
        tables.setdefault(item.table, []).append(item)
    rules = (LOCAL_RULE, SOURCE_RULE, MAIN_RULE) if inode == R else (LOCAL_RULE, MAIN_RULE)
    known = {
        "name": NETNS[inode],
        "rules": rules,
        "tables": {number: tuple(routes) for number, routes in tables.items()},
        "links": {index: Link(index, name) for (netns, index), name in DEVICES.items() if netns == inode},
        "table_names": {254: "main", 255: "local"},
        "settings": {"r0": DeviceSettings(rp_filter=1)} if inode == R else {},
    }
    return NetworkState(inode, **{**known, **changes})


def network(*states: NetworkState) -> Network:
    """All three namespaces, or these."""
    known = Network()
    for item in states or tuple(state(inode) for inode in (C, R, S)):
        known.add(item)
    return known


def world(known: Network | None = None, **changes: Any) -> World:
    """Where rows get their names from."""
    names = ["", *(classify(stack).name for stack in STACKS.values())]
    own: dict[str, Any] = {
        "network": known or network(),
        "names": NAMES,
        "reasons": REASONS,
        "symbol": lambda address: {1: "ip_rcv_finish_core", 2: "ip_error"}.get(address, hex(address)),
        "caller_name": lambda number: names[number],
        "ensure": lambda _inode: None,
        "owner": lambda *_key: None,
        "clock_offset_ns": OFFSET_NS,
    }
    return World(**{**own, **changes})


def rows(scene: Scene, where: World | None = None, builder: RowBuilder | None = None) -> list[dict[str, Any]]:
    """The rows of a scene, as dicts without empty columns."""
    builder = builder or RowBuilder(where or world())
    steps, correlator = scene.run()
    builder.owners.find(steps, correlator.sockets)
    table = builder.rows(steps)
    return [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
