"""The steps of one call with what their rows are made from: keys to tell distinct rows apart, and their columns."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.correlate.callers import Purpose
from tracer.correlate.columns import Array, address_words, codes_of, hash_rows
from tracer.correlate.observed import OUTCOME_FAILED
from tracer.correlate.verdicts import Event, Role, Steps, Verdict
from tracer.enrich.inference import Explained, Row, address, device
from tracer.enrich.intervals import leading, numbers, numbers6
from tracer.enrich.packet_names import packet_info
from tracer.enrich.reasons import CHECK_REASONS, NO_SOCKET, VAGUE_REASONS
from tracer.model.relay import to_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.enrich.names import Names
    from tracer.model.network import Network, NetworkState

_ONE_MORE = 1 << 32  # how many later states may already have been in force is a part of the version's number
_KEY_FIELDS = (
    "netns", "iif", "oif", "mark", "uid", "tos", "proto", "walked_table", "owner_table", "error", "ifindex",
    "route_type", "route_protocol",
    "route_scope", "priority", "nexthop_id", "hints", "flow_scope", "gateway_family", "family",
    "rule", "rule_table", "prefix_length", "length", "call_kind",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """What rows are named from. `ensure` looks for an unknown namespace; `owner` finds a socket's process.

    With `why` every decision has its lines, which name addresses and ports: then these tell decisions apart.
    """

    network: Network
    names: Names
    reasons: dict[int, str]
    symbol: Callable[[int], str]
    caller_name: Callable[[int], str]
    ensure: Callable[[int], object]
    owner: Callable[[int, int, int, int], tuple[int, str] | None]
    clock_offset_ns: int
    filtered: bool = False
    why: bool = False


class Batch:
    """The steps of one call with what their rows are made from."""

    def __init__(self, steps: Steps, world: World) -> None:
        self.steps, self._world = steps, world
        hops = steps.hops
        ends_elsewhere = (
            (steps.event == Event.DELIVER) & (hops.in_row[steps.hop] >= 0)
            if len(steps)
            else np.zeros(0, bool)
        )
        self.flow_row = (
            np.where(ends_elsewhere, hops.in_row[steps.hop], steps.row) if len(steps) else steps.row
        )
        self.explained: dict[int, Explained] = {}
        self.cause_code: dict[int, int] = {}
        self.relays: list[str] = []
        self._version, self._has_ports = self._versions()
        self._sources, self._targets, self.addresses = self._number_addresses()

    def _versions(self) -> tuple[Array, Array]:
        """Per step: the version of the configuration in force (odd: not sure), and whether its rules ask for ports."""
        steps, network = self.steps, self._world.network
        netns = steps.hops.netns[steps.hop] if len(steps) else np.zeros(0, np.int64)
        ts_ns = steps.records["ts_ns"][steps.row].astype(np.int64)
        version, ports = np.zeros(len(steps), np.int64), np.zeros(len(steps), bool)
        for inode in np.unique(netns).tolist():
            if inode and not network.versions(inode):
                self._world.ensure(inode)
            states = network.versions(inode)
            here = netns == inode
            since = np.array([state.since_ns for state in states[1:]], np.int64)
            number = np.searchsorted(since, ts_ns[here], side="right") * 2
            for state in states[1:]:
                unsure = (ts_ns[here] >= state.unsure_ns) & (ts_ns[here] < state.since_ns)
                number = np.where(unsure, (number | 1) + _ONE_MORE, number)
            version[here] = number
            ports[here] = any(
                rule.sport or rule.dport for state in states for rule in (*state.rules, *state.rules6)
            )
        return version, ports

    def lookup_keys(self, lookup: Array) -> Array:
        """A hash of all that a lookup row shows and is explained by."""
        steps = self.steps
        rows, hop = steps.row[lookup], steps.hop[lookup]
        columns = [steps.records[name][rows] for name in _KEY_FIELDS]
        columns += address_words(steps.records["gateway"][rows])
        for name in ("saddr", "daddr"):
            columns += self._places(name, lookup)
        ports = self._has_ports[lookup] | self._world.why
        columns += [np.where(ports, steps.records[name][rows], 0) for name in ("sport", "dport")]
        columns += [steps.notes["purpose"][rows], steps.notes["caller"][rows], self._version[lookup]]
        columns += [steps.hops.netns[hop], steps.hops.role[hop]]
        check = steps.notes["purpose"][rows] == Purpose.SOURCE_CHECK
        in_row, out_row = steps.arrival[rows], steps.departure[rows]
        columns.append(np.where(check & (in_row >= 0), steps.records["ifindex"][in_row], 0))
        columns.append(np.where(~check & (out_row >= 0), steps.records["ifindex"][out_row], 0))
        columns.append(np.where(check, self.checks_failed(hop, rows), False))
        columns.append(steps.notes["outer"][rows])
        return hash_rows(*columns)

    def _places(self, name: str, lookup: Array) -> list[Array]:
        """Where addresses lie among the prefixes of the configuration in force; where that is unsure, themselves.

        Of an IPv6 address the part that the route has counts besides, which the probe has read.
        """
        addresses = self.steps.records[name][self.steps.row[lookup]]
        low, high = address_words(addresses)
        number = np.ascontiguousarray(addresses).view(">u4")[:, 0].astype(np.uint64)
        family = self.steps.records["family"][self.steps.row[lookup]]
        place = low.copy()
        length = self.steps.records["prefix_length" if name == "daddr" else "length"][self.steps.row[lookup]]
        netns = self.steps.hops.netns[self.steps.hop[lookup]]
        version = self._version[lookup]
        for inode in np.unique(netns).tolist():
            states = self._world.network.versions(inode)
            for which in np.unique(version[netns == inode]).tolist():
                if which % 2 == 0 and states and not self._world.why:
                    here = (netns == inode) & (version == which) & (family == socket.AF_INET)
                    place[here] = numbers(states[which // 2], number[here])
                    here = (netns == inode) & (version == which) & (family == socket.AF_INET6)
                    place[here] = numbers6(states[which // 2], addresses[here])
                    low[here], high[here] = address_words(leading(addresses[here], length[here]))
        return [place, np.where(family == socket.AF_INET6, low, 0), high]

    def event_keys(self, rows: Array) -> Array:
        """A hash of all that a row about a packet shows."""
        steps, hops = self.steps, self.steps.hops
        hop, flow, row = steps.hop[rows], self.flow_row[rows], steps.row[rows]
        columns = [steps.event[rows], steps.cached[rows], steps.via[rows], self._version[rows]]
        columns.append(np.where(steps.cached[rows], steps.notes["ref"][row], 0))
        columns += [steps.notes["outer"][row], steps.arrival[row] == row, hops.out_row[hop] == row]
        columns += [
            hops.netns[hop],
            hops.role[hop],
            hops.verdict[hop],
            hops.observed[hop],
            hops.pid[hop],
            hops.comm[hop],
        ]
        columns += [
            steps.records[name][flow] for name in ("family", "proto", "mark", "tos", "detail", "ifindex")
        ]
        columns += [
            steps.records["ifindex"][row],
            np.where(hops.out_row[hop] >= 0, steps.records["ifindex"][hops.out_row[hop]], 0),
        ]
        drop = steps.event[rows] == Event.DROP
        if drop.any():
            columns += [np.where(drop, values, 0) for values in self._drop_keys(hop, row)]
            for name in ("saddr", "daddr"):  # its words name them
                columns += [np.where(drop, word, 0) for word in address_words(steps.records[name][row])]
        return hash_rows(*columns)

    def is_receive(self, step: int) -> bool:
        """Whether the step stands at an arrival of the packet."""
        row = int(self.steps.row[step])
        return row == int(self.steps.arrival[row])

    def is_handed(self, step: int) -> bool:
        """Whether the step is a packet handed to a tunnel, which sends it on from the same hop."""
        out_row = int(self.steps.hops.out_row[self.steps.hop[step]])
        return self.steps.event[step] == Event.SEND and int(self.steps.row[step]) != out_row

    def state(self, step: int) -> NetworkState | None:
        """The configuration of the step's namespace when it happened."""
        netns = int(self.steps.hops.netns[self.steps.hop[step]])
        return self._world.network.at(netns, int(self.steps.records["ts_ns"][self.steps.row[step]]))

    def in_device(self, row: int) -> str | None:
        """Name of the device that the packet last came in on before a row, in the same hop."""
        row = int(self.steps.arrival[row])
        if row < 0:
            return None
        record = self.steps.records[row]
        return device(
            self._world.network.at(int(record["netns"]), int(record["ts_ns"])), int(record["ifindex"])
        )

    def _drop_keys(self, hop: Array, row: Array) -> list[Array]:
        """What the words about a drop depend on besides the packet and the hop."""
        steps, hops = self.steps, self.steps.hops
        records = steps.records
        distinct, position = np.unique(hops.cause[hop], return_inverse=True)
        causes = np.array([self.cause_code.get(cause, -1) for cause in distinct.tolist()])[position]
        in_row = self.steps.arrival[row]
        in_device = np.where(in_row >= 0, records["ifindex"][in_row], 0)
        no_socket = np.isin(
            records["error"][row], [n for n, name in self._world.reasons.items() if name == NO_SOCKET]
        )
        return [
            causes,
            in_device,
            records["error"][row].astype(np.int64),
            records["location"][row].astype(np.int64),
            np.minimum(records["ttl"][row], 2).astype(np.int64),
            np.where(no_socket, records["dport"][row], 0).astype(np.int64),
            (records["skb"][row] == 0) | (steps.notes["packet"][row] < 0),
            records["packet_type"][row].astype(np.int64),
        ]

    def checks_failed(self, hop: Array, row: Array) -> Array:
        """Whether the packet of each hop was dropped because of the source check that ends in each row."""
        hops, records = self.steps.hops, self.steps.records
        dropped = (hops.verdict[hop] == Verdict.DROP) & (hops.cause[hop] == row) & (hops.drop_row[hop] >= 0)
        drop = hops.drop_row[hop]
        vague = np.isin(
            records["error"][drop],
            [n for n, name in self._world.reasons.items() if name in VAGUE_REASONS] or [0],
        )
        if (vague & dropped).any():
            here = np.array(
                [self._world.symbol(int(a)).startswith("ip_rcv_finish") for a in records["location"][drop]]
            )
            vague &= here
        failed = np.isin(
            records["error"][drop], [n for n, name in self._world.reasons.items() if name in CHECK_REASONS]
        )
        result: Array = dropped & (failed | vague | (records["outcome"][row] == OUTCOME_FAILED))
        return result

    def hop_columns(self, step: int) -> Row:
        """The columns that all rows of a hop share."""
        hop = int(self.steps.hop[step])
        inode = int(self.steps.hops.netns[hop])
        state = self.state(step)
        role = Role(int(self.steps.hops.role[hop]))
        return {
            "netns": (state.name if state else "") or None,
            "netns_inode": inode or None,
            "role": role.name.lower() if role else None,
        }

    def flow_columns(self, record: Any) -> Row:
        """The columns that say what the packet is."""
        family = int(record["family"])
        return {
            "family": 4 if family == 2 else 6,  # noqa: PLR2004 - AF_INET
            "proto": self._world.names.ip_protocols.get(int(record["proto"]), str(int(record["proto"]))),
            "mark": int(record["mark"]),
            "tos": int(record["tos"]),
            "info": packet_info(int(record["proto"]), int(record["detail"])),
        }

    def _number_addresses(self) -> tuple[Array, Array, list[str]]:
        """Source and destination of each step as numbers in a list of the distinct ones' texts."""
        records = self.steps.records
        words = [address_words(records[name][self.flow_row]) for name in ("saddr", "daddr")]
        family = records["family"][self.flow_row]
        codes, distinct = codes_of(np.concatenate([hash_rows(family, *word) for word in words]))
        count = len(self.steps)
        first = np.zeros(len(distinct), np.int64)
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        texts = []
        for index in first.tolist():
            row = self.flow_row[index % count]
            name = "saddr" if index < count else "daddr"
            texts.append(address(int(records["family"][row]), records[name][row].tobytes()))
        return codes[:count], codes[count:], texts

    def dynamic(self) -> dict[str, Array]:
        """The per-row columns, without `step`."""
        steps = self.steps
        return {
            "packet": steps.packet,
            "ts_ns": steps.records["ts_ns"][steps.row].astype(np.int64) + self._world.clock_offset_ns,
            "hop": steps.hop_in_path,
            "src": self._sources,
            "dst": self._targets,
            "decision": steps.decision,
            "sport": steps.records["sport"][self.flow_row],
            "dport": steps.records["dport"][self.flow_row],
            "complete": steps.complete,
            "lost": steps.lost,
            "relays": self._relays(),
        }

    def _relays(self) -> Array:
        """Per step the number in `relays` of its packet's links, -1 for none."""
        numbers = np.full(len(self.steps), -1)
        for number, (packet, links) in enumerate(sorted(self.steps.relays.items())):
            numbers[self.steps.packet == packet] = number
            self.relays.append(to_text(links) or "")
        return numbers
