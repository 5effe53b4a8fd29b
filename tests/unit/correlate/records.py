"""Scenes of packets on an imaginary host, as the records that the probes would send.

scene = Scene()
packet = Packet("10.1.0.2", "10.2.0.2", dport=80)
scene.task(812, "curl", C).decide(packet.key(), "send", hit(254, C0)).xmit(packet, C0)
scene.softirq().receive(packet, R0).decide(packet.key(iif=R0), "input", miss(255), hit(254, R1))
assert [story.lines for story in scene.stories()] == ...
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tracer.correlate.callers import PURPOSE_NAMES, Purpose, classify
from tracer.correlate.kinds import Kinds
from tracer.correlate.paths import Context, Correlator
from tracer.correlate.verdicts import Event, Role, Steps, Verdict, Via
from tracer.wire.layout import parse

LAYOUT = parse(Path(__file__).parents[3].joinpath("bpf", "wire.h").read_text())
KINDS = Kinds.of(LAYOUT)
TCP, UDP, ICMP = 6, 17, 1
UNICAST, LOCAL, BROADCAST, MULTICAST = 1, 2, 3, 5
US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000
START_NS = 1_000 * SECOND
TASK_NETNS = LAYOUT.enums["record_hint"]["HINT_TASK_NETNS"]

STACKS: dict[str, tuple[str, ...]] = {
    "input": ("fib_table_lookup", "ip_route_input_slow", "ip_route_input_noref", "ip_rcv_finish", "ip_rcv"),
    "list": ("fib_table_lookup", "ip_route_input_slow", "ip_route_input_noref", "ip_sublist_rcv", "ip_list_rcv"),
    "check": ("fib_table_lookup", "__fib_validate_source", "fib_validate_source", "ip_route_input_slow", "ip_rcv"),
    "list-check": (
        "fib_table_lookup", "__fib_validate_source", "fib_validate_source", "ip_route_use_hint", "ip_list_rcv"
    ),
    "send": ("fib_table_lookup", "ip_route_output_key_hash_rcu", "ip_route_output_flow", "udp_sendmsg"),
    "connect": ("fib_table_lookup", "ip_route_output_key_hash_rcu", "ip_route_output_flow", "tcp_v4_connect"),
    "icmp": ("fib_table_lookup", "ip_route_output_key_hash_rcu", "ip_route_output_flow", "icmp_route_lookup"),
    "arp": ("fib_table_lookup", "ip_route_input_slow", "ip_route_input_noref", "arp_process", "arp_rcv"),
    "getroute": ("fib_table_lookup", "ip_route_output_key_hash_rcu", "inet_rtm_getroute", "rtnetlink_rcv_msg"),
    "tunnel": ("fib_table_lookup", "ip_route_output_key_hash_rcu", "ip_route_output_flow", "ip_tunnel_xmit"),
    "address": ("fib_table_lookup", "__inet_dev_addr_type", "udp_sendmsg"),
    "nft": ("fib_table_lookup", "nft_fib4_eval", "nft_do_chain"),
    "input6": ("fib6_table_lookup", "ip6_pol_route", "fib6_rule_lookup", "ip6_route_input", "ipv6_rcv"),
    "send6": ("fib6_rule_action", "fib_rules_lookup", "ip6_route_output_flags", "ip6_dst_lookup_tail", "udpv6_sendmsg"),
    "connect6": (
        "fib6_table_lookup", "ip6_pol_route", "fib6_rule_lookup", "ip6_route_output_flags", "ip6_dst_lookup_flow",
        "tcp_v6_connect",
    ),
    "limit6": (
        "fib6_table_lookup", "ip6_pol_route", "fib6_rule_lookup", "ip6_route_output_flags",
        "icmpv6_xrlim_allow.isra.0", "icmp6_send", "ip6_pkt_drop.isra.0",
    ),
    "getroute6": ("fib6_table_lookup", "ip6_pol_route", "ip6_route_output_flags", "inet6_rtm_getroute"),
    "nft6": ("ip6_pol_route_lookup", "fib6_rule_lookup", "ip6_route_lookup", "nft_fib6_eval", "nft_do_chain"),
    "check6": ("fib6_table_lookup", "ip6_nh_lookup_table", "ip6_route_check_nh", "fib6_nh_init"),
}  # fmt: skip


class Device(NamedTuple):
    """A device: inode of its namespace, ifindex, name."""

    netns: int
    ifindex: int
    name: str


# A client, a router and a server, joined by two veth pairs; `B` is a bridge port and its bridge in the router.
C, R, S = 4026532001, 4026532002, 4026532003
NETNS = {C: "c", R: "r", S: "s"}
C0, R0, R1, S0 = Device(C, 2, "c0"), Device(R, 2, "r0"), Device(R, 3, "r1"), Device(S, 2, "s0")
R2, BRIDGE = Device(R, 4, "r2"), Device(R, 9, "br")
TUNNEL, VLAN = Device(R, 7, "tun"), Device(R, 8, "vlan")
LO = Device(C, 1, "lo")
DEVICES = {
    (d.netns, d.ifindex): d.name for d in (C0, R0, R1, R2, S0, BRIDGE, TUNNEL, VLAN, LO, Device(R, 1, "lo"))
}


class Search(NamedTuple):
    """What one table answered."""

    table: int
    error: int
    device: Device | None = None
    type: int = UNICAST


def miss(table: int) -> Search:
    return Search(table, -errno.EAGAIN)


def hit(table: int, device: Device, kind: int = UNICAST) -> Search:
    return Search(table, 0, device, kind)


def fails(table: int, error: int) -> Search:
    return Search(table, -error)


@dataclass
class Packet:
    """A packet and the sk_buff it lies in; a test changes it as the kernel would."""

    src: str = "10.1.0.2"
    dst: str = "10.2.0.2"
    proto: int = UDP
    sport: int = 40000
    dport: int = 53
    ttl: int = 64
    ip_id: int = 7
    skb: int = 0xFFFF_8880_0000_1000
    sock: int = 0
    mark: int = 0
    detail: int = 0
    ethertype: int = 0x0800
    length: int = 100

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.src else socket.AF_INET

    def but(self, **changes: Any) -> Packet:
        """Another packet that differs only so."""
        return replace(self, **changes)

    def reply(self, **changes: Any) -> Packet:
        """A packet the other way, in an sk_buff of its own."""
        ends = {"src": self.dst, "dst": self.src, "sport": self.dport, "dport": self.sport}
        return replace(
            self, **{**ends, "skb": self.skb + 0x100, "ip_id": self.ip_id + 1, "sock": 0, **changes}
        )

    def key(self, iif: Device | None = None, **changes: Any) -> dict[str, Any]:
        """The flow key by which it is routed: in from a device, or out."""
        key = {
            "saddr": self.src,
            "daddr": self.dst,
            "proto": self.proto,
            "sport": self.sport,
            "dport": self.dport,
        }
        more = {"family": self.family, "mark": self.mark, "iif": iif.ifindex if iif else 1}
        return {**key, **more, **changes}

    def check_key(self, iif: Device, **changes: Any) -> dict[str, Any]:
        """The flow key of its source check: ends swapped."""
        return self.key(iif, saddr=self.dst, daddr=self.src, sport=self.dport, dport=self.sport, **changes)

    def fields(self) -> dict[str, Any]:
        """The packet as a record has it."""
        own = {
            name: getattr(self, name)
            for name in ("proto", "sport", "dport", "ttl", "ip_id", "skb", "sock", "length")
        }
        more = {"saddr": self.src, "daddr": self.dst, "mark": self.mark, "detail": self.detail}
        return {**own, **more, "ethertype": self.ethertype, "family": self.family, "head": self.skb + 0x80}


@dataclass
class Actor:
    """One context that makes records: a task or the softirq of a CPU. All its methods return it."""

    scene: Scene
    base: dict[str, Any]
    netns: int = 0

    def at(self, kind: str, packet: Packet, device: Device, **fields: Any) -> Actor:
        """One record about a packet on a device."""
        where = {"ifindex": device.ifindex, "netns": device.netns}
        self.scene.add(kind, {**self.base, **packet.fields(), **where, **fields})
        return self

    def receive(self, packet: Packet, device: Device) -> Actor:
        """A device hands the packet to the stack."""
        return self.at("RECEIVE", packet, device)

    def queue(self, packet: Packet, device: Device) -> Actor:
        """The packet enters a queueing discipline."""
        return self.at("QUEUE", packet, device)

    def xmit(self, packet: Packet, device: Device) -> Actor:
        """The packet is handed to a device."""
        return self.at("XMIT", packet, device)

    def consume(self, packet: Packet, device: Device) -> Actor:
        """The packet is freed as used."""
        return self.at("CONSUME", packet, device)

    def copy(self, packet: Packet, device: Device) -> Actor:
        """A process reads the packet."""
        return self.at("COPY", packet, device)

    def drop(self, packet: Packet, device: Device, reason: int = 2, location: int = 0xF00D) -> Actor:
        """The packet is freed as dropped."""
        return self.at("DROP", packet, device, error=reason, location=location)

    def decide(self, key: dict[str, Any], stack: str | None, *searches: Search, **fields: Any) -> Actor:
        """The lookups of one decision; `stack` is a name of STACKS, None when no stack was taken."""
        for search in searches:
            self.scene.add("LOOKUP", {**self.base, **self._lookup(search), **key, "stack": stack, **fields})
        return self

    def _lookup(self, search: Search) -> dict[str, Any]:
        found = {
            "walked_table": search.table,
            "error": search.error,
            "family": socket.AF_INET,
            "flow": id(self),
        }
        if search.device:
            kind = {"route_type": search.type, "owner_table": search.table}
            return {**found, **kind, "ifindex": search.device.ifindex, "netns": search.device.netns}
        if self.netns:
            return {**found, "netns": self.netns, "hints": TASK_NETNS}
        return found

    def told(self, kind: str, packet: Packet, netns: int, **fields: Any) -> Actor:
        """A record about the local socket of a packet (READY, OWNER, STATE): its local end is the source."""
        ends = {"saddr": packet.dst, "daddr": packet.src, "sport": packet.dport, "dport": packet.sport}
        flow = {"family": socket.AF_INET, "proto": packet.proto, "netns": netns, "sock": packet.sock}
        self.scene.add(kind, {**self.base, **ends, **flow, **fields})
        return self


class Story(NamedTuple):
    """One path in words."""

    packet: int
    lines: list[str]
    hops: list[str]
    complete: bool
    lost: int
    start_ns: int


@dataclass
class Scene:
    """Records in the order of time; each takes a microsecond unless `wait` says more."""

    now_ns: int = START_NS
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    seq: dict[int, int] = field(default_factory=dict)

    def task(self, pid: int, comm: str = "curl", netns: int = C, cpu: int = 0) -> Actor:
        """A process in a namespace."""
        base = {"context": 0xFFFF_8881_0000_0000 + pid, "pid": pid, "comm": comm, "cpu": cpu}
        return Actor(self, base, netns)

    def softirq(self, cpu: int = 0) -> Actor:
        """The softirq of a CPU."""
        return Actor(self, {"context": 1 << 63 | cpu, "context_kind": 1, "cpu": cpu})

    def wait(self, ns: int) -> Scene:
        """Nothing happens for a while."""
        self.now_ns += ns
        return self

    def lose(self, count: int = 1, cpu: int = 0) -> Scene:
        """Records that the ring had no room for."""
        self.seq[cpu] = self.seq.get(cpu, 0) + count
        return self

    def add(self, kind: str, fields: dict[str, Any]) -> None:
        """One record: its fields by name, addresses and the stack in words."""
        self.now_ns += US
        cpu = fields["cpu"]
        self.seq[cpu] = self.seq.get(cpu, 0) + 1
        own = {"ts_ns": self.now_ns, "seq": self.seq[cpu], "kind": getattr(KINDS, kind)}
        self.rows.append((kind, {"stack": None, **fields, **own}))

    def records(self) -> np.ndarray[Any, Any]:
        """All records so far, as the ring has them."""
        result = np.zeros(len(self.rows), LAYOUT.record)
        for record, (_, fields) in zip(result, self.rows, strict=True):
            for name, value in fields.items():
                record[name] = _wire(name, value)
        return result

    def context(self, **other: Any) -> Context:
        """What correlation is told from outside: the callers behind the stacks, and `other`."""
        callers = {index: (index + 1, classify(stack)) for index, stack in enumerate(STACKS.values())}
        return Context(callers=callers, **other)

    def run(self, **context: Any) -> tuple[Steps, Correlator]:
        """All records in one batch, finished."""
        correlator = Correlator(KINDS, LAYOUT.record)
        return correlator.feed(self.records(), self.now_ns, self.context(**context), final=True), correlator

    def stories(self, **context: Any) -> list[Story]:
        """The paths of `run` in words, in the order in which they began."""
        return sorted(stories(self.run(**context)[0]), key=lambda story: story.start_ns)


def _wire(name: str, value: Any) -> Any:
    if name in {"saddr", "daddr", "gateway"}:
        packed = socket.inet_pton(socket.AF_INET6, value) if ":" in value else socket.inet_aton(value)
        return np.frombuffer(packed.ljust(16, b"\0"), np.uint8)
    if name == "comm":
        return np.frombuffer(value.encode().ljust(16, b"\0"), np.uint8)
    if name == "stack":
        return -1 if value is None else list(STACKS).index(value)
    return value


def stories(steps: Steps) -> list[Story]:
    """Steps in words, one story for each path."""
    found: list[Story] = []
    for index in range(len(steps)):
        if not found or found[-1].packet != steps.packet[index]:
            start_ns = int(steps.records["ts_ns"][steps.row[index]])
            more = (bool(steps.complete[index]), int(steps.lost[index]), start_ns)
            found.append(Story(int(steps.packet[index]), [], [], *more))
        story = found[-1]
        if len(story.hops) < steps.hop_in_path[index]:
            story.hops.append(_hop(steps, int(steps.hop[index])))
        story.lines.append(_line(steps, index))
    return found


def _hop(steps: Steps, hop: int) -> str:
    hops = steps.hops
    netns = NETNS.get(int(hops.netns[hop]), "?")
    return f"{netns} {Role(int(hops.role[hop])).name.lower()} {Verdict(int(hops.verdict[hop])).name.lower()}"


def _line(steps: Steps, index: int) -> str:
    event, row = Event(int(steps.event[index])), int(steps.row[index])
    record, notes = steps.records[row], steps.notes[row]
    purpose = PURPOSE_NAMES[Purpose(int(notes["purpose"]))]
    if event is Event.LOOKUP:
        error = int(record["error"])
        result = {0: "hit", -errno.EAGAIN: "miss"}.get(error) or errno.errorcode[-error]
        return f"{steps.decision[index]} {purpose} {record['walked_table']} {result}"
    if event is Event.DECISION and steps.cached[index]:
        return f"{steps.decision[index]} cached {Via(int(steps.via[index])).name.lower()} #{notes['ref']}"
    if event is Event.DECISION:
        return f"{steps.decision[index]} {purpose} decided"
    if event is Event.DELIVER:
        return "deliver"
    device = DEVICES.get((int(record["netns"]), int(record["ifindex"])), "?")
    return f"{event.name.lower()} {device}" if record["skb"] else event.name.lower()
