"""A packet that gets a further header around it, or loses one, is still the same packet.

The sk_buff stays, and says nothing by itself: its address is reused at once. What makes it certain is the device: a
packet handed to a tunnel goes on, in the same namespace, as one of the tunnel's protocol and longer by a header; what
a tunnel hands to the stack came in, in the same namespace, in such a packet. IPsec by policy has no device: there
ESP follows on what was received, and belongs to no socket.

The part of a packet's way under one header is a *leg*, numbered from 0; `depth` says how many headers are around the
one it was first seen with (negative: it was seen with its outer header first).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.callers import Purpose
from tracer.correlate.columns import (
    Array,
    Rows,
    address_words,
    device_keys,
    hash_rows,
    last_where,
    next_where,
    shifted,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracer.correlate.kinds import Kinds

ESP = 50
_HEADER = (20, 256)
"""By how many bytes a packet grows by a header: IPv4 alone, up to Ethernet, UDP, IPv6 and what encrypts."""
_ESP_HEADER = 50
"""IPv4, ESP, its initialisation vector, padding and check value are longer than this."""
_LONGEST_NS = 3_200_000_000
"""Workers that encrypt and the neighbour's address take their time; longer than this no path waits for it."""
_LEG, _DEPTH, _MIDDLE = 8, 8, 128


def _none() -> Array:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True)
class Layers:
    """What netlink says of devices that lie over others.

    `tunnels` are device keys (netns << 32 | ifindex), sorted, and `protocols` the bits of the IP protocols that the
    outer header of each may have. `above` are hashes of (netns, device, device it lies on) for devices like a VLAN,
    whose packets are received once, on the lower one.
    """

    tunnels: Array = field(default_factory=_none)
    protocols: Array = field(default_factory=_none)
    above: Array = field(default_factory=_none)

    @classmethod
    def of(cls, tunnels: Mapping[int, int], above: Iterable[tuple[int, int, int]]) -> Layers:
        """From device key to bits of protocols, and (netns, device, device below)."""
        keys = np.array(sorted(tunnels), np.uint64)
        bits = np.array([tunnels[key] for key in sorted(tunnels)], np.uint64)
        triples = np.array(sorted(above), np.int64).reshape(-1, 3)
        return cls(keys, bits, hash_rows(*triples.T))

    def carries(self, devices: Array, protocols: Array) -> Array:
        """Whether each device is a tunnel whose outer header may be of this protocol."""
        if not len(self.tunnels):
            return np.zeros(len(devices), bool)
        at = np.minimum(np.searchsorted(self.tunnels, devices), len(self.tunnels) - 1)
        result: Array = (self.tunnels[at] == devices) & _has(self.protocols[at], protocols)
        return result

    def may_unwrap(self, netns: Array, protocols: Array) -> Array:
        """Whether a tunnel of this namespace may take the header of this protocol off; ESP needs none."""
        result: Array = protocols == ESP
        for inode in np.unique(self.tunnels >> np.uint64(32)).tolist():
            bits = np.bitwise_or.reduce(self.protocols[self.tunnels >> np.uint64(32) == inode])
            result = result | ((netns == inode) & _has(bits, protocols))
        return result

    def below(self, netns: Array, upper: Array, lower: Array) -> Array:
        """Whether packets of the one device are received on the other."""
        result: Array = (upper == lower) | np.isin(hash_rows(netns, upper, lower), self.above)
        return result


def _has(bits: Array, protocols: Array) -> Array:
    small = protocols < 64  # noqa: PLR2004 - bits
    shift = np.where(small, protocols, 0).astype(np.uint64)
    result: Array = small & ((bits >> shift) & np.uint64(1) > 0)
    return result


def turns(line: Rows, kinds: Kinds, layers: Layers) -> Array:
    """1 where a row is the packet of the row before it with a further header, -1 with one less, else 0.

    `line` are rows with an sk_buff, sorted by its address, then time.
    """
    result = np.zeros(len(line), np.int8)
    esp = line["proto"] == ESP
    if not len(line) or not (len(layers.tunnels) or esp.any()):
        return result
    kind, before = line["kind"], shifted(line["kind"])
    ended = (kind == kinds.DROP) | (kind == kinds.CONSUME)
    leaves = (kind == kinds.XMIT) | (kind == kinds.QUEUE)
    comes, came = kind == kinds.RECEIVE, before == kinds.RECEIVE
    proto, proto_before, device = line["proto"], shifted(line["proto"]), device_keys(line)
    same_device = device == shifted(device)
    grown = line["length"].astype(np.int64) - shifted(line["length"]).astype(np.int64)
    longer = (grown >= _HEADER[0]) & (grown <= _HEADER[1])
    shorter = (-grown >= _HEADER[0]) & (-grown <= _HEADER[1])
    # Received packets may be joined to one (GRO), which then lies in the first one's memory.
    shorter |= line["head"] == shifted(line["head"])
    by_tunnel = (before == kinds.XMIT) & ((leaves & ~same_device) | ended)
    by_tunnel &= layers.carries(shifted(device), proto)
    by_policy = came & leaves & esp & (proto_before != ESP) & (line["sock"] == 0)
    wrapped = longer & (by_tunnel | by_policy)
    off_tunnel = came & (comes | ended) & ~same_device & layers.carries(device, proto_before)
    off_policy = came & comes & same_device & ~esp & (proto_before == ESP) & (-grown >= _ESP_HEADER)
    unwrapped = shorter & (off_tunnel | off_policy)
    follows = _follows(line)
    result[wrapped & follows] = 1
    result[unwrapped & follows] = -1
    return result


def _follows(line: Rows) -> Array:
    """Rows of one sk_buff in one namespace, soon after the row before, with another header than that."""
    other = line["proto"] != shifted(line["proto"])
    for end in ("saddr", "daddr"):
        for half in address_words(line[end]):
            other |= half != shifted(half)
    result: Array = other & (line["family"] != 0) & (shifted(line["family"]) != 0)
    for name in ("skb", "netns"):
        result &= line[name] == shifted(line[name])
    result &= line["ts_ns"] - shifted(line["ts_ns"]) < _LONGEST_NS
    result[0] = False
    return result


def legs(turn: Array, head: Array, leg: Array, depth: Array) -> tuple[Array, Array]:
    """Leg and depth of each row, where `head` is the first row of its packet and `leg` and `depth` are of that one."""
    count, level = np.cumsum(turn != 0), np.cumsum(turn.astype(np.int64))
    return count - count[head] + leg[head], level - level[head] + depth[head]


def pack(packet: Array, leg: Array, depth: Array) -> Array:
    """Number, leg and depth of a packet as one number, 0 for no packet, so that they are given on together."""
    low = (leg & 0xFF) << _DEPTH | (np.clip(depth, -_MIDDLE, _MIDDLE - 1) + _MIDDLE)
    return np.where(packet > 0, packet << (_LEG + _DEPTH) | low, 0)


def unpack(packed: Array, notes: Array) -> None:
    """Write `packet`, `leg` and `depth` of the notes."""
    some = packed > 0
    notes["packet"] = packed >> (_LEG + _DEPTH)
    notes["leg"] = (packed >> _DEPTH) & 0xFF
    notes["depth"] = np.where(some, (packed & 0xFF) - _MIDDLE, 0)


def in_tunnel(last: Array, device: Array, kinds: Kinds, layers: Layers) -> Array:
    """Packets of which this is the last row so far, and that a tunnel has yet to send on or to hand to the stack."""
    sent = (last["kind"] == kinds.XMIT) & np.isin(device, layers.tunnels)
    result: Array = sent | ((last["kind"] == kinds.RECEIVE) & layers.may_unwrap(last["netns"], last["proto"]))
    return result


def mark_outer(notes: Array, group: Array, starts: Array) -> None:
    """Mark what is about an outer header: the packet was seen without it too. `group` numbers the packets from 1."""
    if len(starts):
        notes["outer"] = notes["depth"] > np.minimum.reduceat(notes["depth"], starts)[group - 1]


def arrivals(receive: Array, out: Array, hop: Array) -> tuple[Array, Array]:
    """For each row the rows of its hop at which the packet last came in, and next goes out; -1 for none."""
    return last_where(receive, hop), next_where(out, hop)


def decided_for(notes: Array, netns: Array, purpose: Purpose) -> Array:
    """Input decisions are made once per header and namespace a packet crosses, output decisions once per header."""
    where = [] if purpose is Purpose.OUTPUT else [netns]
    return hash_rows(notes["packet"], notes["leg"], *where)
