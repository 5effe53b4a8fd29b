"""Decisions ↔ packets: whose packet a decision was made for.

Input: the packet being received in the same context. Output: the decision is made before the sk_buff exists, so the
packet is the next one that leaves in the same context with a flow that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.callers import Purpose
from tracer.correlate.columns import (
    Array,
    Rows,
    address_keys,
    changed,
    codes_of,
    last_where,
    next_where,
    order_by,
    shifted,
)
from tracer.correlate.episodes import in_list, receiving
from tracer.correlate.flows import flow_keys
from tracer.correlate.packets import decision_of_packet

if TYPE_CHECKING:
    from tracer.correlate.decisions import Decisions
    from tracer.correlate.kinds import Kinds
    from tracer.correlate.tunnels import Layers

ETH_P_ARP = 0x0806


@dataclass(slots=True)
class Scene:
    """A batch in context order: records, their context, and the packet of each sk_buff row (0: none).

    `origin` marks the first row of a packet made on this host, and those where it got a further header.
    """

    records: Rows
    group: Array
    packet: Array
    origin: Array
    kinds: Kinds
    layers: Layers


def attach(scene: Scene, decisions: Decisions) -> Array:
    """The packet of every row: lookups and socket rows get that of the packet they were made for, else 0."""
    packet = scene.packet.copy()
    receive = scene.records["kind"] == scene.kinds.RECEIVE
    enclosing = receiving(scene.records, scene.group, scene.kinds)
    _inputs(scene, decisions, enclosing, packet)
    if (decisions.in_list & decisions.first).any():
        _lists(scene, decisions, receive, packet)
    _checks(scene, decisions, enclosing, packet)
    _observed(scene, decisions, packet)
    _outputs(scene, decisions, enclosing, packet)
    _ready(scene, enclosing, packet)
    _spread(decisions, packet)
    return packet


def _ends(records: Rows) -> tuple[Array, Array]:
    return address_keys(records["saddr"]), address_keys(records["daddr"])


def _inputs(scene: Scene, decisions: Decisions, enclosing: Array, packet: Array) -> None:
    """The packet being received, if it came in on the device of the flow key and shares an end (NAT changes one)."""
    helper = (decisions.purpose == Purpose.OTHER) & decisions.of_packet
    rows = np.flatnonzero(
        decisions.first & ((decisions.purpose == Purpose.INPUT) | helper) & (enclosing >= 0)
    )
    around = enclosing[rows]
    sources, targets = _ends(scene.records)
    source, target = sources[rows], targets[rows]
    packet_source, packet_target = sources[around], targets[around]
    netns, came_by = scene.records["netns"][around], scene.records["ifindex"][around]
    same_device = scene.layers.below(netns, scene.records["iif"][rows], came_by)
    shares_end = (source == packet_source) | (target == packet_target)
    crosses = (target == packet_source) | (source == packet_target)
    fits = np.where(
        helper[rows],
        shares_end | crosses,
        shares_end & (same_device),
    )
    fits &= scene.records["ethertype"][around] != ETH_P_ARP
    packet[rows[fits]] = scene.packet[around[fits]]


def _observed(scene: Scene, decisions: Decisions, packet: Array) -> None:
    """The packet that the call was seen to be for: the last one before it at that address."""
    routed = scene.records["routed"]
    asks = decisions.first & (routed != 0)
    if not asks.any():
        return
    rows = np.flatnonzero(asks | (scene.packet != 0))
    codes, _ = codes_of(np.where(asks[rows], routed[rows], scene.records["skb"][rows]))
    by_time = np.argsort(scene.records["ts_ns"][rows], kind="stable")
    order = by_time[order_by(codes[by_time])]
    rows, codes = rows[order], codes[order]
    before = last_where(~asks[rows], codes)
    found = asks[rows] & (before >= 0)
    packet[rows[found]] = scene.packet[rows[before[found]]]


def _lists(scene: Scene, decisions: Decisions, receive: Array, packet: Array) -> None:
    """List receive announces all packets before it routes the first: decisions come in the packets' order.

    A packet with a hint has no input decision; where sources are checked, it has its check.
    """
    rows = np.flatnonzero(decisions.first & decisions.in_list & (scene.records["routed"] == 0))
    source, target = _ends(scene.records)
    follows = in_list(scene.records, scene.group, scene.kinds)
    run, taken, current, checked = range(0), set[int](), -1, False
    for row in rows.tolist():
        here = _run_before(scene, receive, follows, row)
        if here != run:
            run, current, checked = here, -1, False
        is_input = decisions.purpose[row] == Purpose.INPUT
        goes_with_last = not is_input and current >= 0 and (not checked or scene.records["oif"][row] != 0)
        if not (goes_with_last and source[current] == target[row]):
            ends = (source[row], target[row]) if is_input else (target[row], source[row])
            fits = (
                c
                for c in run
                if c not in taken and source[c] == ends[0] and (target[c] == ends[1] or not is_input)
            )
            current = next(fits, -1)
        if current >= 0:
            taken.add(current)
            packet[row] = scene.packet[current]
            checked = not is_input


def _run_before(scene: Scene, receive: Array, follows: Array, row: int) -> range:
    """The packets received one after the other before this row, in its context."""
    end = row - 1
    while end >= 0 and not receive[end] and scene.group[end] == scene.group[row]:
        end -= 1
    start = end
    while start > 0 and follows[start]:
        start -= 1
    return range(max(start, 0), end + 1)


def _checks(scene: Scene, decisions: Decisions, enclosing: Array, packet: Array) -> None:
    """A source check follows the input decision of its packet, ends swapped; after a hint it stands alone."""
    is_input = decisions.first & (decisions.purpose == Purpose.INPUT)
    before = last_where(is_input, scene.group)
    rows = np.flatnonzero(decisions.first & (decisions.purpose == Purpose.SOURCE_CHECK) & ~decisions.in_list)
    source, target = _ends(scene.records)
    decided = before[rows]
    follows = (decided >= 0) & (decided > enclosing[rows]) & (source[decided] == target[rows])
    around = enclosing[rows]
    alone = ~follows & (around >= 0) & (source[around] == target[rows])
    packet[rows[follows]] = packet[decided[follows]]
    packet[rows[alone]] = scene.packet[around[alone]]


def _outputs(scene: Scene, decisions: Decisions, enclosing: Array, packet: Array) -> None:
    """The next packet that leaves in this context, unless something else was received or sent in between."""
    receive = scene.records["kind"] == scene.kinds.RECEIVE
    leaves = (scene.records["kind"] == scene.kinds.XMIT) | (scene.records["kind"] == scene.kinds.QUEUE)
    fence = receive | (leaves & (scene.packet != 0)) | scene.origin
    following = next_where(fence, scene.group)
    rows = np.flatnonzero(decisions.first & (decisions.purpose == Purpose.OUTPUT) & (following >= 0))
    rows = rows[scene.origin[following[rows]]]
    target = following[rows]
    fits = decision_of_packet(scene.records, scene.records, (rows, target))
    fits |= _answers(scene, rows, target, enclosing[rows])
    netns, of_packet = scene.records["netns"][rows], scene.records["netns"][target]
    fits &= (netns == 0) | (of_packet == 0) | (netns == of_packet)
    # A packet of the flow that left elsewhere before this one (it waited for an address) was the one decided.
    keys = flow_keys(scene.records, scene.records["netns"])
    decided_ns, left_ns = (scene.records["ts_ns"][at].astype(np.int64) for at in (rows, target))
    fits &= _sibling_before(scene, keys)[target] < decided_ns
    other = np.flatnonzero(fits & (keys[rows] != keys[target]))
    fits[other] = _left_after(scene, keys, rows[other]) >= left_ns[other]
    packet[rows[fits]] = scene.packet[target[fits]]


def _answers(scene: Scene, decided: Array, leaving: Array, received: Array) -> Array:
    """Whether the packet that leaves answers the one being received, as the decision before it does at one end.

    A redirected connection is answered by a port of this host, which NAT turns into the one that was asked: address and
    port of the source then both differ from those of the decision.
    """
    records = scene.records
    source, target = _ends(records)
    result: Array = received >= 0
    for end, other in ((target, source), (records["dport"], records["sport"])):
        result &= (end[decided] == end[leaving]) & (end[leaving] == other[received])
        result &= other[leaving] == end[received]
    result &= (records["proto"][decided] == records["proto"][leaving]) & (records["dport"][leaving] != 0)
    result &= records["proto"][leaving] == records["proto"][received]
    return result


def _sibling_before(scene: Scene, keys: Array) -> Array:
    """When the packet made here before each one left, of the same flow and namespace: ns, -1 for never."""
    result = np.full(len(scene.records), -1, np.int64)
    rows, line, ts_ns = _made_here(scene, keys)
    same = ~changed(line)
    result[rows[same]] = shifted(ts_ns)[same]
    return result


def _left_after(scene: Scene, keys: Array, decided: Array) -> Array:
    """When the first packet with exactly the flow of each of these decisions left after it: ns, far off for never."""
    _, line, ts_ns = _made_here(scene, keys)
    asked = np.rec.fromarrays((keys[decided], scene.records["ts_ns"][decided].astype(np.int64)))
    at = np.searchsorted(np.rec.fromarrays((line, ts_ns)), asked)
    found = np.minimum(at, max(len(line) - 1, 0))
    never = np.full(len(decided), np.iinfo(np.int64).max)
    if not len(line):
        return never
    return np.where((at < len(line)) & (line[found] == keys[decided]), ts_ns[found], never)


def _made_here(scene: Scene, keys: Array) -> tuple[Array, Array, Array]:
    """First rows of packets made on this host, sorted by flow and then time: rows, flows, nanoseconds."""
    rows = np.flatnonzero(scene.origin)
    ts_ns = scene.records["ts_ns"][rows].astype(np.int64)
    order = np.lexsort((ts_ns, keys[rows]))
    return rows[order], keys[rows[order]], ts_ns[order]


def _ready(scene: Scene, enclosing: Array, packet: Array) -> None:
    """A socket told of data while a packet is received got that packet, if the local port (or protocol) agrees."""
    records = scene.records
    rows = np.flatnonzero((records["kind"] == scene.kinds.READY) & (enclosing >= 0))
    around = enclosing[rows]
    same_proto = records["proto"][rows] == records["proto"][around]
    portless = records["dport"][around] == 0
    fits = same_proto & (portless | (records["sport"][rows] == records["dport"][around]))
    packet[rows[fits]] = scene.packet[around[fits]]


def _spread(decisions: Decisions, packet: Array) -> None:
    """All lookups of a decision belong where its first one does."""
    starts = np.flatnonzero(decisions.first)
    rows = np.flatnonzero(decisions.number)
    own = packet[starts]
    # What was tried before, without a source address, was for the same packet.
    retried = np.flatnonzero(decisions.again[starts])
    own[retried - 1] = np.where(own[retried] != 0, own[retried], own[retried - 1])
    packet[rows] = own[decisions.number[rows] - 1]
