"""Notifications → changes on the timeline, in the words of `ip monitor`; what says nothing new is none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer.enrich import decode
from tracer.enrich.changes import NEW_ADDRESS, NEW_LINK, NEW_NEXTHOP, NEW_ROUTE, NEW_RULE, RTA_TABLE
from tracer.enrich.names import system_names
from tracer.enrich.netlink import parse
from tracer.enrich.routes import route_text
from tracer.enrich.selectors import rule_text
from tracer.model import change as kinds
from tracer.model.change import ADDED, CHANGED, DELETED, Change
from tracer.model.network import IPV4, Link, NetworkState, NexthopObject, Route, address_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tracer.enrich.decode import Message
    from tracer.enrich.notifications import Arrived

NEW_NEIGHBOUR = 28
NLM_F_REPLACE, RTM_F_CLONED = 0x100, 0x200
MAIN, UNIVERSE, GLOBAL, BOOT = 254, 0, 0, 3
IFF_UP, IFF_CARRIER = 1, 0x10040  # the latter: RUNNING and LOWER_UP
# IFA_F_*; `ip address` names them
ADDRESS_FLAGS = ((0x40, "tentative"), (0x08, "dadfailed"), (0x20, "deprecated"))
# NUD_*
NEIGHBOUR_STATES = {
    1: "INCOMPLETE", 2: "REACHABLE", 4: "STALE", 8: "DELAY", 16: "PROBE", 32: "FAILED", 64: "NOARP", 128: "PERMANENT",
}  # fmt: skip
PREFERENCES = {0: "medium", 1: "high", 3: "low"}  # ICMPV6_ROUTER_PREF_*
SIGNS = {ADDED: "+ ", DELETED: "- ", CHANGED: ""}
# Of the settings in a state, those whose change the kernel announces (RTNLGRP_IPV4_NETCONF).
SETTINGS = ("rp_filter", "forwarding", "ignore_routes_with_linkdown")
LOST_TEXT = "changes were lost: the queue for this namespace was full; its configuration was read again"


class _Device(NamedTuple):
    """What is told of a device when it changes."""

    name: str
    status: str
    mtu: int
    mac: str
    master: int
    group: int


@dataclass(slots=True)
class Seen:
    """What was last known of things whose notifications repeat themselves."""

    devices: dict[int, _Device] = field(default_factory=dict)
    addresses: dict[tuple[int, int, int, int], tuple[str, ...]] = field(default_factory=dict)
    neighbours: dict[tuple[int, str], tuple[str, str]] = field(default_factory=dict)

    def remember(self, devices: Iterable[Message], addresses: Iterable[Message]) -> None:
        """What a dump says is how it was before the next notification."""
        self.devices = {message.fields["index"]: _device(message) for message in devices}
        self.addresses = {_address_key(message): _address_flags(message) for message in addresses}


class Announced:
    """Turns what has arrived on one namespace's socket into changes."""

    def __init__(self, seen: Seen, before: NetworkState, after: NetworkState) -> None:
        self._seen, self._before, self._after = seen, before, after
        # A device that has gone is only in the state before, a new one only in that after.
        self._names = replace(after, links={**before.links, **after.links})

    def changes(self, arrived: Iterable[Arrived]) -> Iterator[Change]:
        """The changes in order."""
        last: Arrived | None = None
        for one in arrived:
            last = one
            if one.data is None:
                yield self._made(one, kinds.LOST, CHANGED, LOST_TEXT)
                continue
            for message in parse(one.data):
                words = _WORDS.get(message.type & ~3)
                if words:
                    for kind, op, text, facts in words(self, message):
                        yield self._made(one, kind, op, text, **facts)
        if last is not None:
            for text in self._settings():
                yield self._made(last, kinds.SETTING, CHANGED, text)

    def _made(self, one: Arrived, kind: str, op: str, text: str, **facts: Any) -> Change:
        pid, comm = one.sender or (0, "")
        state = self._after
        return Change(one.ts_ns, one.unsure_ns, state.inode, kind, op, text, state.name, pid, comm, **facts)

    def _settings(self) -> Iterator[str]:
        before, after = self._before.settings, self._after.settings
        for device in sorted(before.keys() & after.keys()):
            for name in SETTINGS:
                old, new = getattr(before[device], name), getattr(after[device], name)
                if old != new:
                    yield f"setting net.ipv4.conf.{device}.{name} = {new} (was {old})"

    def rule(self, message: Message) -> Iterator[_Said]:
        """`rule 100: from all lookup 100`."""
        rule = decode.rule(message)
        op = _op(message)
        text = rule_text(rule, self._after.table_names)
        facts = {"family": _version(rule.family), "rule": rule.priority, "table_id": rule.table or None}
        yield kinds.RULE, op, f"{SIGNS[op]}rule {rule.priority}: {text}", facts

    def route(self, message: Message) -> Iterator[_Said]:
        """`route 10.9.0.0/16 via 10.1.0.1 dev r0`; what the kernel remembers of one destination is no route."""
        if message.fields["flags"] & RTM_F_CLONED:
            return
        route = decode.route(message)
        op = _op(message)
        replaces = " (replaces)" if op == ADDED and message.flags & NLM_F_REPLACE else ""
        hop = route.nexthops[0] if len(route.nexthops) == 1 else None
        facts = {
            "family": _version(route.family), "table_id": decode.number(message.attributes.get(RTA_TABLE), route.table),
            "prefix": route.prefix, "protocol": _protocol(route.protocol),
            "gateway": address_text(hop.gateway_family, hop.gateway) if hop and hop.gateway_family else "",
            "dev": self._device_name(hop.ifindex) if hop and hop.ifindex else "",
        }  # fmt: skip
        yield kinds.ROUTE, op, f"{SIGNS[op]}route {route_words(route, self._names)}{replaces}", facts

    def nexthop(self, message: Message) -> Iterator[_Said]:
        """`nexthop id 5 via 10.1.0.1 dev r0`."""
        item = decode.nexthop_object(message)
        op = _op(message)
        replaces = " (replaces)" if op == ADDED and message.flags & NLM_F_REPLACE else ""
        facts = {
            "family": _version(item.family) if item.family else 0,
            "gateway": address_text(item.gateway_family, item.gateway) if item.gateway_family else "",
            "dev": self._device_name(item.ifindex) if item.ifindex else "",
        }
        yield kinds.NEXTHOP, op, f"{SIGNS[op]}nexthop {_nexthop_words(item, facts)}{replaces}", facts

    def address(self, message: Message) -> Iterator[_Said]:
        """`address 10.1.0.1/24 dev r0`; of one that is there, what became of it."""
        address, flags, key = decode.address(message), _address_flags(message), _address_key(message)
        dev = self._device_name(address.ifindex)
        shown = f"address {address_text(address.family, address.address)}/{address.prefix_len} dev {dev}"
        facts = {"family": _version(address.family), "prefix": shown.split()[1], "dev": dev}
        known = self._seen.addresses.get(key)
        if message.type != NEW_ADDRESS:
            self._seen.addresses.pop(key, None)
            yield kinds.ADDRESS, DELETED, f"- {shown}", facts
            return
        self._seen.addresses[key] = flags
        if known is None:
            yield kinds.ADDRESS, ADDED, " ".join([f"+ {shown}", *flags]), facts
            return
        told = [*(flag for flag in flags if flag not in known)]
        told += [f"no longer {flag}" for flag in known if flag not in flags]
        if told:
            yield kinds.ADDRESS, CHANGED, f"{shown} {', '.join(told)}", facts

    def link(self, message: Message) -> Iterator[_Said]:
        """`link r1 down`; what a bridge says of its ports is not about the device."""
        if message.fields["family"]:
            return
        index, device = message.fields["index"], _device(message)
        known = self._seen.devices.get(index)
        facts = {"dev": device.name, "state": device.status}
        if message.type != NEW_LINK:
            self._seen.devices.pop(index, None)
            yield kinds.LINK, DELETED, f"- link {device.name}", facts
            return
        self._seen.devices[index] = device
        if known is None:
            kind = decode.link(message).kind
            yield kinds.LINK, ADDED, f"+ link {device.name}" + (f" type {kind}" if kind else ""), facts
            return
        for text in self._device_words(known, device):
            yield kinds.LINK, CHANGED, f"link {known.name} {text}", facts

    def _device_words(self, known: _Device, device: _Device) -> Iterator[str]:
        if device.status != known.status:
            yield device.status
        if device.name != known.name:
            yield f"name {device.name}"
        if device.mtu != known.mtu:
            yield f"mtu {device.mtu}"
        if device.mac != known.mac:
            yield f"address {device.mac}"
        if device.master != known.master:
            yield f"master {self._device_name(device.master)}" if device.master else "nomaster"
        if device.group != known.group:
            yield f"group {system_names().groups.get(device.group, str(device.group))}"

    def neighbour(self, message: Message) -> Iterator[_Said]:
        """`neighbour 10.1.0.2 dev r0 lladdr 02:00:00:00:00:01 REACHABLE`."""
        fields, found = message.fields, message.attributes
        family = fields["family"]
        if 1 not in found or len(found[1]) not in {4, 16}:
            return
        target = address_text(family, int.from_bytes(found[1], "big"))
        mac, state = found.get(2, b"").hex(":"), NEIGHBOUR_STATES.get(fields["state"], "")
        key, dev = (fields["ifindex"], target), self._device_name(fields["ifindex"])
        op = DELETED if message.type != NEW_NEIGHBOUR else CHANGED if key in self._seen.neighbours else ADDED
        if self._seen.neighbours.get(key) == (mac, state) and op != DELETED:
            return
        if op == DELETED:
            self._seen.neighbours.pop(key, None)
        else:
            self._seen.neighbours[key] = mac, state
        words = [f"{SIGNS[op]}neighbour {target} dev {dev}", *([f"lladdr {mac}"] if mac else []), state]
        facts = {"family": _version(family), "gateway": target, "dev": dev, "state": state}
        yield kinds.NEIGHBOUR, op, " ".join(words).rstrip(), facts

    def _device_name(self, index: int) -> str:
        link: Link | None = self._names.links.get(index)
        known = self._seen.devices.get(index)
        return link.name if link else known.name if known else f"if{index}"


_Said = tuple[str, str, str, dict[str, Any]]
"""Kind, what became of it, the text, and the fields of the change that the kind has."""

_WORDS: dict[int, Callable[[Announced, Message], Iterator[_Said]]] = {
    NEW_RULE: Announced.rule,
    NEW_ROUTE: Announced.route,
    NEW_NEXTHOP: Announced.nexthop,
    NEW_ADDRESS: Announced.address,
    NEW_LINK: Announced.link,
    NEW_NEIGHBOUR: Announced.neighbour,
}


def route_words(route: Route, state: NetworkState) -> str:
    """The line of `ip monitor route`: type, prefix, nexthop, table, protocol, scope, source, metric, more nexthops."""
    alone = len(route.nexthops) <= 1
    head = route_text(route if alone else replace(route, nexthops=()), state)
    parts = [head]
    if route.table != MAIN:
        parts.append(f"table {state.table_name(route.table)}")
    if route.protocol != BOOT:
        parts.append(f"proto {_protocol(route.protocol)}")
    if route.scope != UNIVERSE:
        parts.append(f"scope {system_names().scopes.get(route.scope, str(route.scope))}")
    if route.prefsrc is not None:
        parts.append(f"src {address_text(route.family, route.prefsrc)}")
    if route.metric:
        parts.append(f"metric {route.metric}")
    if route.family != IPV4:
        parts.append(f"pref {PREFERENCES.get(route.pref, str(route.pref))}")
    if not alone:
        parts.append(route_text(route, state)[len(head) + 1 :])
    return " ".join(parts)


def _nexthop_words(item: NexthopObject, facts: dict[str, Any]) -> str:
    parts = [f"id {item.id}"]
    if item.group:
        members = (f"{member}" if weight == 1 else f"{member},{weight}" for member, weight in item.group)
        parts.append(f"group {'/'.join(members)}")
    parts += [f"via {facts['gateway']}"] if facts["gateway"] else []
    parts += [f"dev {facts['dev']}"] if facts["dev"] else []
    return " ".join([*parts, *(["blackhole"] if item.blackhole else [])])


def _op(message: Message) -> str:
    """NEW is the first of each kind's four messages, DEL the second."""
    return DELETED if message.type & 3 else ADDED


def _version(family: int) -> int:
    return 4 if family == IPV4 else 6


def _protocol(number: int) -> str:
    return system_names().protocols.get(number, str(number))


def _device(message: Message) -> _Device:
    found, flags = message.attributes, message.fields["flags"]
    status = "down" if not flags & IFF_UP else "up" if flags & IFF_CARRIER == IFF_CARRIER else "no carrier"
    return _Device(
        name=decode.text(found.get(3)),
        status=status,
        mtu=decode.number(found.get(4)),
        mac=found.get(1, b"").hex(":"),
        master=decode.number(found.get(10)),
        group=decode.number(found.get(27)),
    )


def _address_key(message: Message) -> tuple[int, int, int, int]:
    address = decode.address(message)
    return address.ifindex, address.family, address.address, address.prefix_len


def _address_flags(message: Message) -> tuple[str, ...]:
    """IFA_FLAGS has 32 bits, the fixed part its lowest eight."""
    flags = decode.number(message.attributes.get(8), message.fields["flags"])
    return tuple(name for bit, name in ADDRESS_FLAGS if flags & bit)
