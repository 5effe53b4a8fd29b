"""Lookups → decisions: which searches of tables belong together, and what the decision was for.

Works on records in context order (`Batch`): neighbours of one context are neighbours in its time.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.callers import Caller, Purpose
from tracer.correlate.columns import Array, Rows, address_keys, address_words, changed, last_where, shifted
from tracer.correlate.episodes import may_be_suppressed, receiving
from tracer.correlate.links import ICMPV6
from tracer.correlate.observed import CALL_OUTPUT, PURPOSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracer.correlate.kinds import Kinds

SCOPE_LINK = 253
LOOPBACK_IFINDEX = 1
HINT_TASK_NETNS = 1
HINT_STACK_SHARED = 2
FLOWI_FLAG_ANYSRC = 1
ICMP = 1
ICMPV6_INFORMS = 128
"""ICMPv6 types from here on are no errors."""


@dataclass(slots=True)
class Decisions:
    """Columns of one batch, one entry per row: 0 or UNKNOWN where the row is no lookup.

    `number` counts the decisions of the batch from 1; `first` and `last` mark their ends. `again` marks the first
    lookups of decisions that are made instead of the one before.
    """

    number: Array
    first: Array
    last: Array
    purpose: Array
    caller: Array
    in_list: Array
    of_packet: Array
    connects: Array
    again: Array

    @property
    def repeats(self) -> Array:
        """Per row 1 where its decision is made instead of the one before, else 0."""
        result = np.zeros(len(self.number), np.int64)
        lookup = self.number > 0
        result[lookup] = self.again[np.flatnonzero(self.first)][self.number[lookup] - 1]
        return result


def decide(
    records: Rows, group: Array, kinds: Kinds, callers: Mapping[int, tuple[int, Caller]], suppressing: Array
) -> Decisions:
    """Group the lookups of `records` (sorted by `group`, the context, then time) into decisions.

    `callers` maps a stack id to (number of the caller, Caller); `suppressing` holds netns << 32 | table of the
    tables that a rule with suppress_prefixlength or suppress_ifgroup names: a hit there may not end the walk.
    """
    lookup = records["kind"] == kinds.LOOKUP
    first = lookup & ~_continues(records, group, lookup, suppressing)
    number = np.where(lookup, np.cumsum(first), 0)
    last = np.zeros(len(records), bool)
    if len(records):
        last[:-1] = lookup[:-1] & (number[:-1] != number[1:])
        last[-1] = lookup[-1]
    purpose, caller, in_list, of_packet, connects = _by_stack(
        records, lookup, callers, _trial(records, group, lookup, first)
    )
    written = receiving(records, group, kinds)
    written = np.where(records["context_kind"] == 0, written, -1)
    by_stack, purpose = purpose, _of_written(records, written, purpose)
    caller = np.where(purpose == by_stack, caller, 0)
    observed = _by_call(records, lookup, purpose)
    caller = np.where(observed & (purpose != PURPOSES[records["call_kind"]]), 0, caller)
    purpose = np.where(observed, PURPOSES[records["call_kind"]], purpose)
    of_packet = np.where(observed, purpose != Purpose.OTHER, of_packet)
    unknown = lookup & (purpose == Purpose.UNKNOWN)
    if unknown.any():
        shape = _by_shape(records, group, (lookup, first), written)
        purpose = np.where(unknown, shape, purpose)
        of_packet = of_packet | (unknown & (shape <= Purpose.SOURCE_CHECK))
    starts = np.flatnonzero(first)
    spread = starts[np.maximum(number - 1, 0)] if len(starts) else np.zeros(len(records), np.int64)
    keep = lookup if len(starts) else np.zeros(len(records), bool)
    return Decisions(
        number,
        first,
        last,
        np.where(keep, purpose[spread], 0),
        np.where(keep, caller[spread], 0),
        keep & in_list[spread],
        keep & of_packet[spread],
        keep & connects[spread],
        first & _tries_again(records, group, lookup),
    )


def fill_netns(records: Rows, group: Array, decisions: Decisions, kinds: Kinds) -> None:
    """Give lookups that named no device the namespace of their decision's hit, else of the packet being received.

    The current task's namespace, the last resort, is never used in softirq (the probe leaves it out there).
    """
    rows = np.flatnonzero(decisions.number)
    if not len(rows):
        return
    starts = np.flatnonzero(decisions.first[rows])
    certain = np.where(records["hints"][rows] & HINT_TASK_NETNS, 0, records["netns"][rows])
    of_decision = np.maximum.reduceat(certain, starts)[decisions.number[rows] - 1]
    enclosing = receiving(records, group, kinds)[rows]
    softirq = (records["context_kind"][rows] != 0) & (enclosing >= 0)
    of_packet = np.where(softirq, records["netns"][enclosing], records["netns"][rows])
    netns = records["netns"].copy()
    netns[rows] = np.where(of_decision != 0, of_decision, of_packet)
    records["netns"] = netns


def _continues(records: Rows, group: Array, lookup: Array, suppressing: Array) -> Array:
    """Whether a lookup goes on with the walk of the row before it (fib_rules_lookup goes on after -EAGAIN)."""
    saddr, saddr_low = address_words(records["saddr"])
    daddr, daddr_low = address_words(records["daddr"])
    other_key = changed(
        group,
        records["flow"],
        saddr,
        saddr_low,
        daddr,
        daddr_low,
        records["iif"],
        records["oif"],
        records["mark"],
        records["proto"],
    )
    open_walk = shifted((records["error"] == -errno.EAGAIN) | may_be_suppressed(records, suppressing))
    before = shifted(lookup)
    if len(before):
        before[0] = False
    call, call_before = records["call"], shifted(records["call"])
    known = (call != 0) | (call_before != 0)
    goes_on: Array = lookup & before & ~other_key & np.where(known, call == call_before, open_walk)
    result: Array = goes_on & (known | ~_restarts(records, lookup, goes_on))
    return result


def _tries_again(records: Rows, group: Array, lookup: Array) -> Array:
    """Lookups that follow on one that failed without a source address, and differ from it in having one.

    `ip6_dst_lookup_tail()` routes once more with the address that it would send from: a route may ask for that.
    """
    source = address_keys(records["saddr"])
    same = ~changed(
        group,
        records["flow"],
        address_keys(records["daddr"]),
        records["iif"],
        records["mark"],
        records["proto"],
        records["family"],
    )
    failed = lookup & (records["error"] != 0) & (source == 0) & (records["family"] == socket.AF_INET6)
    result: Array = lookup & same & shifted(failed) & (source != 0) & (records["iif"] == LOOPBACK_IFINDEX)
    if len(result):
        result[0] = False
    return result


def _restarts(records: Rows, lookup: Array, goes_on: Array) -> Array:
    """A walk never searches its first table again: where it seems to, another decision with the same key began."""
    starts = np.where(lookup & ~goes_on, np.arange(len(records)), 0)
    start = np.maximum.accumulate(starts) if len(starts) else starts
    restarted: Array = goes_on & (records["walked_table"] == records["walked_table"][start])
    return restarted


def _by_stack(
    records: Rows, lookup: Array, callers: Mapping[int, tuple[int, Caller]], trial: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Purpose, caller number and traits from the stack, where it agrees with the shape of the flow key."""
    size = max(callers, default=-1) + 2
    table = np.zeros((6, size), np.int64)
    for stack, (number, caller) in callers.items():
        table[:, stack] = (
            caller.purpose,
            number,
            caller.in_list,
            caller.of_packet,
            caller.connects,
            caller.probes,
        )
    stack_ids = np.where(
        lookup & (records["stack"] >= 0) & (records["stack"] < size - 1), records["stack"], size - 1
    )
    purpose, number, in_list, of_packet, connects, probes = table[:, stack_ids]
    from_device = records["iif"] > LOOPBACK_IFINDEX
    contradiction = ((purpose == Purpose.INPUT) & ~from_device) | ((purpose == Purpose.OUTPUT) & from_device)
    ok = ~contradiction
    trial = trial & (probes != 0)
    purpose = np.where(trial, Purpose.OTHER, purpose) * ok
    return (
        purpose,
        number * ok,
        (in_list * ok).astype(bool),
        (of_packet * ok * ~trial).astype(bool),
        (connects * ok).astype(bool),
    )


def _trial(records: Rows, group: Array, lookup: Array, first: Array) -> Array:
    """Of the routes that are looked for to send an ICMP error, those that are not the error's own.

    icmp_route_lookup() marks its key or has that of the packet in it. icmp6_send() looks its own key up several times,
    the last time in earnest: whether it may send at all depends on the route.
    """
    kind = records["detail"] >> 8
    own6 = (records["proto"] == ICMPV6) & (kind > 0) & (kind < ICMPV6_INFORMS)
    own = (records["proto"] == ICMP) & (records["flow_flags"] & FLOWI_FLAG_ANYSRC == 0)
    starts = np.flatnonzero(first)
    later = np.zeros(len(records), bool)
    if len(starts) > 1:
        others = np.cumsum(~lookup)
        same = ~changed(others[starts], group[starts], records["flow"][starts], records["detail"][starts])
        same &= ~changed(*address_words(records["daddr"][starts]), records["proto"][starts])
        later[starts[:-1]] = same[1:]
    result: Array = np.where(records["family"] == socket.AF_INET6, ~own6 | later, ~own)
    return result


def _of_written(records: Rows, written: Array, purpose: Array) -> Array:
    """Whether a lookup for a packet that a process writes into a TUN device is for its way or its source check.

    In a system call both may have been given the one stack that was taken for their call site. `written`: for each row
    the RECEIVE of that packet, -1 for none.
    """
    shared = (records["hints"] & HINT_STACK_SHARED > 0) & (written >= 0)
    rows = np.flatnonzero(shared & ((purpose == Purpose.INPUT) | (purpose == Purpose.SOURCE_CHECK)))
    source, source_low = address_words(records["saddr"])
    target, target_low = address_words(records["daddr"])
    around = written[rows]
    comes = (source[rows] == source[around]) & (source_low[rows] == source_low[around])
    back = (target[rows] == source[around]) & (target_low[rows] == source_low[around])
    result = purpose.copy()
    result[rows[comes & ~back]] = Purpose.INPUT
    result[rows[back & ~comes]] = Purpose.SOURCE_CHECK
    return result


def _by_call(records: Rows, lookup: Array, purpose: Array) -> Array:
    """Which lookups have their purpose from the call they were seen in.

    An output call may be a trial or a query (of which only the stack knows); those for packets are told apart.
    """
    aside = (purpose == Purpose.OTHER) | (purpose == Purpose.QUERY)
    result: Array = lookup & (records["call_kind"] != 0) & ~(aside & (records["call_kind"] == CALL_OUTPUT))
    return result


def _by_shape(records: Rows, group: Array, lookups: tuple[Array, Array], written: Array) -> Array:
    """Purpose from the flow key alone, for want of a stack (the tracepoint backend with --stacks none)."""
    lookup, first = lookups
    iif, scope = records["iif"], records["flow_scope"]
    saddr, daddr = address_keys(records["saddr"]), address_keys(records["daddr"])
    ipv6 = records["family"] == socket.AF_INET6
    from_device = iif > LOOPBACK_IFINDEX
    before = shifted(last_where(first & from_device, group))
    before = np.where((before >= 0) & (group[before] == group), before, -1)
    swapped = (before >= 0) & (saddr[before] == daddr) & (daddr[before] == saddr)
    swapped |= from_device & (records["oif"] != 0)
    purpose = np.where(from_device, Purpose.INPUT, Purpose.OUTPUT)
    receives = (records["context_kind"] != 0) | (written >= 0)
    purpose = np.where(swapped & ~ipv6 & receives, Purpose.SOURCE_CHECK, purpose)
    no_key = (iif == 0) & (ipv6 | ((records["oif"] == 0) & (saddr == 0)))
    purpose = np.where(no_key | (scope == SCOPE_LINK), Purpose.OTHER, purpose)
    return np.where(lookup, purpose, Purpose.UNKNOWN)
