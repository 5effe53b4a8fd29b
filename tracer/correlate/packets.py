"""sk_buff events → packets.

One packet keeps its sk_buff across devices and namespaces, but the kernel reuses the address of a freed one within
microseconds, and TCP and UDP free theirs without an event. So the lives of an address are told apart by what may
follow what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.columns import Array, Records, Rows, address_keys, address_words, shifted

if TYPE_CHECKING:
    from tracer.correlate.kinds import Kinds

BRIDGE_NS = 10_000_000
"""A packet that a bridge or VLAN device hands on is seen again within this time, in nanoseconds (emulated: 3 ms)."""
LINK_HEADER = 64
"""What a device puts before a packet is not longer than this, in bytes."""
LOOPBACK_IFINDEX = 1
TCP, UDP = 6, 17


def goes_on(records: Rows, kinds: Kinds) -> Array:
    """Whether each row is the same packet as the row before it.

    `records` are rows with an sk_buff, sorted by its address, then time.
    """
    kind, before = records["kind"], shifted(records["kind"])
    same = _Same(records)
    device_out = (kind == kinds.XMIT) | (kind == kinds.QUEUE)
    was_out = (before == kinds.XMIT) | (before == kinds.QUEUE)
    was_in = before == kinds.RECEIVE
    was_end = (before == kinds.DROP) | (before == kinds.CONSUME)
    received = (kind == kinds.RECEIVE) & (
        (was_out & same.flow & same.ttl)
        | (was_in & same.flow & same.ttl & same.netns & ~same.device & same.soon)
    )
    # Forwarding takes one from the TTL; a bridge leaves it and changes the device.
    forwarded = was_in & same.netns & same.identity & (same.hop_less | (same.ttl & same.flow & ~same.device))
    forwarded &= shifted(records["ifindex"]) != LOOPBACK_IFINDEX
    stacked = (before == kinds.XMIT) & same.netns & same.flow & same.ttl & ~same.device
    stacked &= same.soon | same.at_once
    dequeued = (before == kinds.QUEUE) & same.netns & same.identity & same.device
    sent = device_out & (forwarded | stacked | dequeued)
    ended = ((kind == kinds.DROP) | (kind == kinds.CONSUME) | (kind == kinds.COPY)) & same.identity & ~was_end
    result: Array = same.sk_buff & (received | sent | ended)
    return result


def moves(batch: Records, group: Array, kinds: Kinds) -> Array:
    """For each row the row before it if the packet was moved from that one's sk_buff into its own, else -1.

    skb_expand_head() clones a packet whose headroom is too small for the device's header, and frees the first one as
    used; IPv6 comes to that where it forwards into a tunnel. Only what was received last can move so: a driver that
    frees what it has sent looks the same. `batch` is sorted by context (`group`), then time.
    """
    before = np.arange(len(batch)) - 1
    kind = batch["kind"]
    leaves = (kind == kinds.XMIT) | (kind == kinds.QUEUE)
    moved = leaves & (shifted(kind) == kinds.CONSUME) & (shifted(group) == group)
    if not moved.any():
        return np.full(len(batch), -1)
    same = _Same(batch)
    moved &= same.flow & same.ttl & same.netns & same.device & ~same.sk_buff
    moved &= batch["seq"] == shifted(batch["seq"]) + np.uint64(1)
    grown = batch["length"].astype(np.int64) - shifted(batch["length"]).astype(np.int64)
    moved &= (grown >= 0) & (grown <= LINK_HEADER)
    moved[:1] = False
    return np.where(moved, before, -1)


def join(known: Array, rows: Array, before: int) -> None:
    """The packet of these rows is that of the row before: `known` has number, leg and depth of each."""
    known[0, rows] = 0
    known[:, rows] += known[:, before : before + 1]


class _Same:
    """Comparisons of each row with the one before it."""

    def __init__(self, records: Rows) -> None:
        def equal(name: str) -> Array:
            result: Array = records[name] == shifted(records[name])
            return result

        self.sk_buff = equal("skb")
        if len(records):
            self.sk_buff[0] = False
        self.netns = equal("netns")
        self.device = equal("ifindex")
        self.ttl = equal("ttl")
        self.hop_less = records["ttl"].astype(np.int16) == shifted(records["ttl"]).astype(np.int16) - 1
        self.identity = equal("family") & equal("proto") & equal("ip_id")
        self.flow = self.identity & equal("sport") & equal("dport")
        for end in ("saddr", "daddr"):
            for half in address_words(records[end]):
                self.flow &= half == shifted(half)
        self.soon = records["ts_ns"] - shifted(records["ts_ns"]) < BRIDGE_NS
        # Nothing else happened on that CPU in between, however long it took (emulated, or preempted).
        self.at_once = equal("context") & equal("cpu")
        self.at_once &= records["seq"] == shifted(records["seq"]) + np.uint64(1)


def decision_of_packet(decision: Rows, packet: Rows, rows: tuple[Array, Array] | None = None) -> Array:
    """Whether the flow key of a lookup row fits a packet row that follows it: unknown parts (zero) fit anything.

    NAT may have changed one end since (DNAT the destination, masquerading the source). `rows` names the rows to
    compare, pair by pair; without it all are.
    """

    def pair(name: str) -> tuple[Array, Array]:
        if rows is None:
            return decision[name], packet[name]
        return decision[name][rows[0]], packet[name][rows[1]]

    (source, packet_source), (target, packet_target) = (
        tuple(address_keys(values) for values in pair(end)) for end in ("saddr", "daddr")
    )
    proto_key, packet_proto = pair("proto")
    sport_key, packet_sport = pair("sport")
    dport_key, packet_dport = pair("dport")
    proto = (proto_key == 0) | (proto_key == packet_proto)
    sport = (sport_key == 0) | (sport_key == packet_sport)
    dport = (dport_key == 0) | (dport_key == packet_dport)
    same_sport = (sport_key != 0) & (sport_key == packet_sport)
    fits_source = (source == 0) | (source == packet_source)
    direct = (target == packet_target) & dport & sport & fits_source
    source_changed = (target == packet_target) & dport & same_sport
    target_changed = (source != 0) & (source == packet_source) & same_sport
    result: Array = proto & (direct | source_changed | target_changed)
    return result
