"""Packets → hops → steps: what became of a packet in each namespace it was in, and the rows that tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.callers import Purpose
from tracer.correlate.columns import Array, Records, changed, device_keys, last_where, next_where, shifted
from tracer.correlate.links import of_the_link
from tracer.correlate.observed import STAGE_DELIVER
from tracer.correlate.tunnels import arrivals, mark_outer
from tracer.correlate.verdicts import (
    AF_INET,
    PACKET_LOOPBACK,
    RTN_LOCAL,
    RTN_UNICAST,
    Event,
    Hops,
    Role,
    Steps,
    Verdict,
    Via,
)

if TYPE_CHECKING:
    from tracer.correlate.flows import Sockets
    from tracer.correlate.kinds import Kinds
    from tracer.correlate.paths import Context, Correlator

_CACHED_BEFORE, _MAIN, _AFTER, _END = range(4)
_MULTICAST, _RESERVED, _EVERYONE = 224, 240, 255
"""First bytes of IPv4 addresses: multicast is from the first up to the second, limited broadcast the third."""


def build_steps(rows: Array, notes: Array, correlator: Correlator, context: Context) -> Steps:
    """Steps of finished packets; `rows` are sorted by packet, then time."""
    kinds = correlator.kinds
    records = Records(rows)
    scene = _Scene(records, notes, kinds, context)
    hops = _hops(scene, correlator.sockets)
    flat, slots = _slots(scene, hops)
    row, slot = flat // slots.shape[1], flat % slots.shape[1]
    packet = notes["packet"][row]
    event, cached = _events(scene, hops, row, slot)
    hop = scene.hop[row]
    first_step = changed(packet)
    path = np.cumsum(first_step) - 1
    first_hop = hop[first_step][path] if len(row) else hop
    lookup_start = (slot == _MAIN) & (event == Event.LOOKUP) & changed(notes["decision"][row])
    opened = np.cumsum(lookup_start | cached)
    base = (opened - (lookup_start | cached))[first_step][path] if len(row) else opened
    of_decision = (event == Event.LOOKUP) | (event == Event.DECISION)
    complete, lost = _completeness(scene, hops, correlator, path)
    mark_outer(notes, scene.group, np.flatnonzero(scene.packet_start))
    arrival, departure = arrivals(scene.receive, scene.out, scene.hop)
    return Steps(
        records=records,
        notes=notes,
        hops=hops,
        arrival=arrival,
        departure=departure,
        row=row,
        event=event,
        cached=cached,
        via=np.where(cached, scene.via[row], 0),
        packet=packet,
        hop=hop,
        hop_in_path=hop - first_hop + 1,
        decision=np.where(of_decision, opened - base, 0),
        complete=complete,
        lost=lost,
    )


class _Scene:
    """Rows of finished packets with what everything below asks of them."""

    def __init__(self, records: Records, notes: Array, kinds: Kinds, context: Context) -> None:
        self.records, self.notes, self.inner = records, notes, context.inner
        kind = records["kind"]
        self.packet_start = changed(notes["packet"])
        self.group = np.cumsum(self.packet_start)
        self.receive = kind == kinds.RECEIVE
        self.out = (kind == kinds.XMIT) | (kind == kinds.QUEUE)
        self.lookup = kind == kinds.LOOKUP
        self.copy = kind == kinds.COPY
        self.taken = (kind == kinds.READY) | self.copy
        self.consume = kind == kinds.CONSUME
        before = self._skb_before()
        same_netns = (before >= 0) & (records["netns"][before] == records["netns"])
        same_device = same_netns & (records["ifindex"][before] == records["ifindex"])
        self.loop = self.receive & same_device & self.out[before]
        self.copied = self.receive & (records["packet_type"] == PACKET_LOOPBACK) & ~self.loop
        self.handed_on = self.receive & same_netns & self.receive[before] & (before >= 0)
        self.unwrapped = self.handed_on & (notes["leg"] != notes["leg"][before])
        self.handed = np.zeros(len(records), bool)
        self.handed[before[notes["wrapped"] & (before >= 0)]] = True
        self.handed &= self.out
        self.hop_start = self.packet_start | (self.receive & ~self.loop & ~self.handed_on)
        self.hop = np.cumsum(self.hop_start) - 1
        taken_before = last_where(self.taken, self.hop) >= 0
        purge = np.isin(records["error"], np.array(sorted(context.purges), np.int64))
        purge |= np.isin(records["location"], np.array(sorted(context.emptied), np.uint64))
        used = (kind == kinds.DROP) & np.isin(records["location"], np.array(sorted(context.used), np.uint64))
        used &= np.isin(records["error"], np.array(sorted(context.vague), np.int64))
        self.consume |= used
        self.drop = (kind == kinds.DROP) & ~taken_before & ~purge & ~used
        self.delivered = records["stage"] & STAGE_DELIVER > 0
        self.via = self._via()

    def _skb_before(self) -> Array:
        """Index of the sk_buff row before each row, in the same packet."""
        rows = shifted(last_where(self.records["skb"] != 0, self.group))
        same = (rows >= 0) & (self.group[rows] == self.group)
        return np.where(same, rows, -1)

    def _via(self) -> Array:
        target = self.records["daddr"][:, 0]
        everyone = ((target >= _MULTICAST) & (target < _RESERVED)) | (target == _EVERYONE)
        via = np.where(self.loop, Via.LOOPBACK, self.notes["via"])
        # Early demux finds a socket of this host: what went on to a device, or had only its source checked, did not.
        checked = self.lookup & (self.notes["purpose"] == Purpose.SOURCE_CHECK)
        begins = self.hop_start | self.unwrapped  # each header that came in
        here = np.cumsum(begins) - 1
        out, checked = (_any(flags, np.flatnonzero(begins))[here] for flags in (self.out, checked))
        no_demux = (via == Via.EARLY_DEMUX) & (out | checked)
        via = np.where(no_demux, np.where(self.notes["hint"] > 0, Via.HINT, Via.UNSEEN), via)
        self.notes["ref"] = np.where(no_demux, self.notes["hint"], self.notes["ref"])
        via = np.where((via == Via.UNSEEN) & self._bridged(), Via.BRIDGED, via)
        via = np.where((via == Via.EARLY_DEMUX) & self.copied, Via.LOOPED_COPY, via)
        undecided = (via == Via.EARLY_DEMUX) | ((via == Via.SOCKET) & (self.notes["ref"] < 0))
        via = np.where(undecided & everyone & (self.records["family"] == AF_INET), Via.GROUP_ADDRESS, via)
        return np.where((via == Via.SOCKET) & of_the_link(self.records), Via.LINK, via)

    def _bridged(self) -> Array:
        """Received packets whose next sight is on another device of this namespace, with the TTL that they came with.

        ip_forward() takes one from it.
        """
        following = next_where(self.records["skb"] != 0, self.group)
        after = np.concatenate((following[1:], [-1])) if len(following) else following
        same = (after >= 0) & (self.group[after] == self.group) & self.out[after]
        for name in ("netns", "ttl"):
            same &= self.records[name][after] == self.records[name]
        result: Array = self.receive & same & (self.records["ifindex"][after] != self.records["ifindex"])
        return result


def _any(flags: Array, starts: Array) -> Array:
    result: Array = np.logical_or.reduceat(flags, starts) if len(starts) else np.zeros(0, bool)
    return result


def _last_row(flags: Array, starts: Array) -> Array:
    """Index of the last flagged row of each hop, -1 for none."""
    rows = np.where(flags, np.arange(len(flags)), -1)
    result: Array = np.maximum.reduceat(rows, starts) if len(starts) else np.zeros(0, np.int64)
    return result


def _hops(scene: _Scene, sockets: Sockets) -> Hops:
    records, notes = scene.records, scene.notes
    starts = np.flatnonzero(scene.hop_start)
    found = {
        name: _any(flags, starts)
        for name, flags in {
            "in": scene.receive & ~scene.loop,
            "loop": scene.loop,
            "out": scene.out,
            "drop": scene.drop,
            "taken": scene.taken,
            "consume": scene.consume,
            "copied": scene.copied,
            "delivered": scene.delivered,
            "bridged": scene.via == Via.BRIDGED,
        }.items()
    }
    last = scene.lookup & notes["last"]
    routed_in = last & (notes["purpose"] == Purpose.INPUT)
    hit = records["error"] == 0
    local = _any(routed_in & hit & (records["route_type"] >= RTN_LOCAL), starts)
    onward = _any(routed_in & hit & (records["route_type"] <= RTN_UNICAST), starts)
    own = _any(
        last & (notes["purpose"] == Purpose.OUTPUT) & hit & (records["route_type"] == RTN_LOCAL), starts
    )
    failed = _any(last & (notes["purpose"] == Purpose.OUTPUT) & ~hit & (notes["packet"] < 0), starts)
    failed &= ~_any(last & (notes["purpose"] == Purpose.OUTPUT) & hit, starts)
    verdict = _verdict(found, onward, failed)
    of_skb = np.where(scene.lookup & (records["hints"] & 1 > 0), 0, records["netns"])
    netns = np.maximum.reduceat(np.where(records["skb"] != 0, of_skb, 0), starts) if len(starts) else starts
    fallback = np.maximum.reduceat(records["netns"], starts) if len(starts) else starts
    in_task = (records["context_kind"] == 0) & (records["pid"] != 0)
    senders = in_task & (scene.out | scene.lookup) & (notes["leg"] == 0)
    senders &= ~_any(scene.receive & ~scene.loop, starts)[scene.hop]
    copy_row, sender_row = _last_row(scene.copy & in_task, starts), _last_row(senders, starts)
    delivers = verdict == Verdict.DELIVER
    socket_row = _last_row(
        np.where(delivers[scene.hop], scene.taken, scene.out) & (records["sock"] != 0), starts
    )
    in_row = _last_row(scene.receive & (scene.hop_start | scene.loop | scene.unwrapped), starts)
    socket = np.where(socket_row >= 0, records["sock"][socket_row], 0).astype(np.uint64)
    unknown = np.flatnonzero(delivers & (socket == 0) & (in_row >= 0))
    socket[unknown] = sockets.of_incoming(records[in_row[unknown]], records["netns"][in_row[unknown]])
    return Hops(
        start=starts,
        verdict=verdict,
        role=_role({**found, "refused": _any(routed_in & ~hit, starts)}, verdict, local, onward, own),
        netns=np.where(netns != 0, netns, fallback),
        in_row=in_row,
        out_row=_first_row(scene.out, scene, starts),
        process_row=np.where(delivers, copy_row, sender_row),
        socket=socket,
        observed=found["taken"] | found["consume"] | found["delivered"],
        cause=_last_row(last & (notes["purpose"] != Purpose.OTHER), starts),
        drop_row=_last_row(scene.drop, starts),
        pid=np.zeros(len(starts), np.int64),
        comm=np.zeros(len(starts), np.int64),
    )


def _first_row(flags: Array, scene: _Scene, starts: Array) -> Array:
    following = next_where(flags, scene.hop)
    # A packet that got a further header leaves with that one.
    return following[np.maximum(starts, _last_row(scene.notes["wrapped"], starts))]


def _verdict(found: dict[str, Array], onward: Array, failed: Array) -> Array:
    came, left = found["in"], found["out"]
    stays = (came & ~left) | found["loop"]
    delivered = stays & (found["taken"] | found["consume"] | ~onward)
    conditions = [found["drop"], delivered, came & left, left & ~came, failed]
    choices = [Verdict.DROP, Verdict.DELIVER, Verdict.FORWARD, Verdict.SEND, Verdict.DROP]
    return np.select(conditions, [int(choice) for choice in choices], int(Verdict.NONE))


def _role(found: dict[str, Array], verdict: Array, local: Array, onward: Array, own: Array) -> Array:
    came = found["in"]
    conditions = [
        (~came & (found["loop"] | own)) | found["copied"],
        ~came,
        found["bridged"],
        came & (onward | found["refused"] | (verdict == Verdict.FORWARD)),
        came & (local | (verdict == Verdict.DELIVER)),
    ]
    roles = [Role.LOCAL, Role.CLIENT, Role.NONE, Role.ROUTER, Role.SERVER]
    return np.select(conditions, [int(role) for role in roles], int(Role.NONE))


def _slots(scene: _Scene, hops: Hops) -> tuple[Array, Array]:
    """Which steps each record gives, as flat indexes of (record, slot): already in the order of the path."""
    count = len(scene.records)
    slots = np.zeros((count, 4), bool)
    rows = np.arange(count)
    first_out = hops.out_row[scene.hop] == rows if count else np.zeros(0, bool)
    dropped = hops.verdict[scene.hop] == Verdict.DROP if count else np.zeros(0, bool)
    last_drop = _last_row(scene.drop, hops.start)
    decided_here = _any(scene.lookup, hops.start)[scene.hop] if count else np.zeros(0, bool)
    entry = scene.receive & (scene.hop_start | scene.loop)
    first_drop = scene.drop & (last_drop[scene.hop] == rows) if count else scene.drop
    # A packet to this host itself is one stay: what it says of the loopback device is in its last step.
    looped = _any(scene.loop, hops.start)[scene.hop] if count else scene.loop
    slots[:, _MAIN] = (entry & ~scene.loop) | scene.lookup | (first_out & ~dropped & ~looped) | first_drop
    slots[:, _MAIN] |= scene.handed
    origin = (scene.notes["origin"] | scene.notes["wrapped"]) & (scene.out | first_drop)
    slots[:, _CACHED_BEFORE] = origin & (scene.via != Via.NONE)
    slots[:, _AFTER] = (scene.lookup & scene.notes["last"]) | (
        (entry | scene.unwrapped) & (scene.via != Via.NONE) & ~(dropped & ~decided_here)
    )
    ends = np.zeros(count, bool)
    ends[shift_ends(hops.start, count)] = True
    no_packet = dropped & (scene.notes["packet"] < 0)
    slots[:, _END] = ends & ((hops.verdict[scene.hop] == Verdict.DELIVER) | no_packet) if count else False
    return np.flatnonzero(slots.ravel()), slots


def shift_ends(starts: Array, count: int) -> Array:
    """Last rows of the groups that begin at `starts`."""
    return np.concatenate((starts[1:] - 1, [count - 1])) if len(starts) else starts


def _events(scene: _Scene, hops: Hops, row: Array, slot: Array) -> tuple[Array, Array]:
    verdict = hops.verdict[scene.hop[row]] if len(row) else row
    forwards = (verdict == Verdict.FORWARD) & ~scene.handed[row]
    out_event = np.where(forwards, Event.FORWARD, Event.SEND)
    main = np.select(
        [scene.receive[row], scene.lookup[row], scene.out[row]],
        [Event.RECEIVE, Event.LOOKUP, out_event],
        int(Event.DROP),
    )
    end = np.where(verdict == Verdict.DROP, Event.DROP, Event.DELIVER)
    event = np.select([slot == _MAIN, slot == _END], [main, end], int(Event.DECISION))
    cached = (slot == _CACHED_BEFORE) | ((slot == _AFTER) & scene.receive[row])
    return event, cached


def _torn(scene: _Scene, starts: Array) -> Array:
    """Paths that begin or end on a device whose other end is watched too: the rest of the way was not seen."""
    if not len(scene.inner):
        return np.zeros(len(starts), bool)
    inner = np.isin(device_keys(scene.records), scene.inner)
    from_inside = scene.receive & inner & ~scene.copied
    last = _last_row(scene.records["skb"] != 0, starts)
    into_inside = (last >= 0) & (scene.out & inner)[last]
    result: Array = from_inside[starts] | into_inside
    return result


def _completeness(scene: _Scene, hops: Hops, correlator: Correlator, path: Array) -> tuple[Array, Array]:
    """Per step: whether its path is whole, and how many records lost at that time may belong to it."""
    starts = np.flatnonzero(scene.packet_start)
    if not len(starts):
        return np.zeros(0, bool), np.zeros(0, np.int64)
    open_hop = (hops.verdict == Verdict.NONE)[scene.hop] & (scene.notes["packet"] > 0)
    # A packet that leaves without a decision, a socket or a known flow came from where nobody looked.
    no_start = (
        scene.notes["origin"]
        & (scene.via == Via.SOCKET)
        & (scene.notes["ref"] < 0)
        & (scene.records["sock"] == 0)
    )
    unseen = scene.receive & (scene.via == Via.UNSEEN)
    whole = ~_any(open_hop | no_start | unseen, starts) & ~_torn(scene, starts)
    ts_ns = scene.records["ts_ns"].astype(np.int64)
    lost = correlator.gaps.during(ts_ns[starts], ts_ns[shift_ends(starts, len(ts_ns))])
    return (whole & (lost == 0))[path], lost[path]
