"""Where one batch of records can be cut from the next without tearing apart what belongs together.

An episode of a context is a packet received with all that follows, or a walk through the tables with what it sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.columns import Array, Rows, last_where, shifted
from tracer.correlate.observed import HINT_SUPPRESSED

if TYPE_CHECKING:
    from tracer.correlate.kinds import Kinds

_PAUSE_NS = 50_000_000
"""Rows of one task further apart than this are not of one episode, in nanoseconds.

Where the machine is emulated, taking the first stack of a call site takes milliseconds. Every run of a softirq is a
context of its own, however long it takes.
"""
_SOFTIRQ, _CPU_BITS = np.uint64(1 << 63), np.uint64(16)


def unsettled(batch: Rows, group: Array, kinds: Kinds, fresh_ns: int, suppressing: Array) -> Array:
    """Rows of episodes that may go on in the next batch; those that began before `fresh_ns` do not.

    `suppressing` is that of `decisions.decide`: after a hit in such a table a walk may go on.

    `batch` is sorted by context (`group`), then time. An episode is settled whole or waits whole, and none is settled
    that began after one that waits: what a packet met first is settled first. Rows about another packet than the one
    received (a queue is flushed, a timer fires) need no context: they go by their own time.
    """
    if not len(batch):
        return np.zeros(0, bool)
    ts_ns = batch["ts_ns"].astype(np.int64)
    start = last_where(_starts(batch, group, kinds, suppressing), group)
    ends = np.ones(len(group), bool)
    ends[:-1] = group[1:] != group[:-1]
    last = start[ends]
    fresh = ts_ns[last] > fresh_ns
    cut = ts_ns[last][fresh].min(initial=np.iinfo(np.int64).max)
    result: Array = (ts_ns[start] >= cut) | (_of_other_packets(batch, group, kinds) & (ts_ns >= cut))
    return result


def receiving(batch: Rows, group: Array, kinds: Kinds) -> Array:
    """For each row the index of the packet's RECEIVE that it may be about: the last of its context, -1 for none.

    After a pause it is not: the context was left in between. Nor when a process that wrote a packet into a TUN device
    has read one: that is another system call.
    """
    receive = last_where(batch["kind"] == kinds.RECEIVE, group)
    left = last_where(_paused(batch) | (batch["kind"] == kinds.COPY), group)
    return np.where(receive >= left, receive, -1)


def _paused(batch: Rows) -> Array:
    """Rows before which their context was left for a while; softirqs only in captures that do not number their runs."""
    context = batch["context"]
    numbered = (context & _SOFTIRQ > 0) & ((context & ~_SOFTIRQ) >> _CPU_BITS > 0)
    result: Array = (batch["ts_ns"] - shifted(batch["ts_ns"]) > _PAUSE_NS) & ~numbered
    return result


def in_list(records: Rows, group: Array, kinds: Kinds) -> Array:
    """Packets received right after another one in the same list: nothing else happened on that CPU in between."""
    received = records["kind"] == kinds.RECEIVE
    next_one = records["seq"] == shifted(records["seq"]) + np.uint64(1)
    result: Array = received & shifted(received) & (shifted(group) == group) & next_one
    if len(result):
        result[0] = False
    return result


def may_be_suppressed(records: Rows, suppressing: Array) -> Array:
    """Hits in tables that a rule with suppress_prefixlength or suppress_ifgroup names: the walk may go on after."""
    observed: Array = records["hints"] & HINT_SUPPRESSED > 0
    if not len(suppressing):
        return observed
    pair = records["netns"].astype(np.uint64) << np.uint64(32) | records["walked_table"].astype(np.uint64)
    result: Array = observed | ((records["error"] == 0) & np.isin(pair, suppressing))
    return result


def _starts(batch: Rows, group: Array, kinds: Kinds, suppressing: Array) -> Array:
    """Rows that begin an episode of their context: see `unsettled`."""
    kind, before = batch["kind"], shifted(batch["kind"])
    edge = np.ones(len(group), bool)
    edge[1:] = group[1:] != group[:-1]
    receive = kind == kinds.RECEIVE
    in_receive = receiving(batch, group, kinds) >= 0
    walk_goes_on = (
        (kind == kinds.LOOKUP) & (before == kinds.LOOKUP) & (batch["flow"] == shifted(batch["flow"]))
    )
    walk_goes_on &= (shifted(batch["error"]) != 0) | shifted(may_be_suppressed(batch, suppressing))
    leaves = (kind == kinds.XMIT) | (kind == kinds.QUEUE) | (kind == kinds.DROP)
    sent = leaves & (before == kinds.LOOKUP)
    starts = np.where(in_receive, receive & ~in_list(batch, group, kinds), ~walk_goes_on & ~sent)
    result: Array = starts | edge | _paused(batch)
    return result


def _of_other_packets(batch: Rows, group: Array, kinds: Kinds) -> Array:
    """Rows that send or end a packet other than the one being received, and follow no lookup."""
    kind = batch["kind"]
    enclosing = receiving(batch, group, kinds)
    moves = (batch["skb"] != 0) & (kind != kinds.RECEIVE) & (shifted(kind) != kinds.LOOKUP)
    other = np.zeros(len(batch), bool)
    for name in ("skb", "proto", "ip_id"):  # the address alone may be that of a freed one, used again
        other |= batch[name] != batch[name][enclosing]
    result: Array = moves & (enclosing >= 0) & other
    return result
