"""What probed functions add to other records: folded into these before anything else looks at them.

A lookup carries the number of the call it was made in; the call's result and a suppression follow as records of their
own, with this number. A packet's stage follows the packet's own records, with the address of its sk_buff.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.correlate.callers import Purpose
from tracer.correlate.columns import Array, codes_of, last_where, order_by, take_rows

if TYPE_CHECKING:
    from tracer.correlate.kinds import Kinds

HINT_RULE, HINT_PREFIX, HINT_SUPPRESSED, HINT_CHOSEN = 16, 32, 64, 128
CALL_INPUT, CALL_OUTPUT, CALL_CHECK = 1, 2, 3
OUTCOME_FAILED = 2
STAGE_DELIVER = 2
RTN_UNICAST = 1

PURPOSES = np.array(
    [Purpose.UNKNOWN, Purpose.INPUT, Purpose.OUTPUT, Purpose.SOURCE_CHECK, Purpose.OTHER], np.int64
)
"""Purpose by `enum call_kind`."""


def fold(records: Array, kinds: Kinds) -> Array:
    """The records (sorted by time) with what function probes said of lookups and packets written into these.

    Records of the kinds RESULT, SUPPRESSED and STAGE stay, and mean nothing any more.
    """
    kind = records["kind"]
    if not (kind >= kinds.RESULT).any():
        return records
    records = take_rows(records, np.arange(len(records)))
    calls = np.flatnonzero((records["call"] != 0) & (kind != kinds.STAGE))
    _fold_calls(records, calls, kinds)
    _fold_stages(records, np.flatnonzero((records["skb"] != 0) | (kind == kinds.STAGE)), kinds)
    return records


def _line(keys: Array, rows: Array) -> tuple[Array, Array]:
    """The rows by key, then time, and a number for the key of each."""
    codes, _ = codes_of(keys)
    order = order_by(codes)
    return rows[order], codes[order]


def _fold_calls(records: Array, rows: Array, kinds: Kinds) -> None:
    rows, group = _line(records["call"][rows], rows)
    kind = records["kind"][rows]
    before = last_where(kind == kinds.LOOKUP, group)
    told = before >= 0
    thrown = rows[before[told & (kind == kinds.SUPPRESSED)]]
    records["hints"][thrown] |= HINT_SUPPRESSED
    ended = told & (kind == kinds.RESULT)
    lookup, result = rows[before[ended]], rows[ended]
    # A source check that fails at its first try is looked up once more: what it says holds for both.
    records["outcome"][lookup] = records["outcome"][result]
    chosen = (records["error"][lookup] == 0) & (records["error"][result] == 0)
    chosen &= (records["route_type"][result] == RTN_UNICAST) & (records["ifindex"][result] != 0)
    lookup, result = lookup[chosen], result[chosen]
    # An rtable that could not be cached has the destination for a gateway where there is none (rt_set_nexthop).
    own = (records["gateway"][result] == records["daddr"][lookup]).all(axis=1)
    on_link = own & (records["gateway_family"][lookup] == 0)
    records["ifindex"][lookup] = records["ifindex"][result]
    for name in ("gateway", "gateway_family"):
        records[name][lookup[~on_link]] = records[name][result[~on_link]]
    records["hints"][lookup] |= HINT_CHOSEN


def _fold_stages(records: Array, rows: Array, kinds: Kinds) -> None:
    stage = records["kind"][rows] == kinds.STAGE
    rows, group = _line(np.where(stage, records["routed"][rows], records["skb"][rows]), rows)
    stage = records["kind"][rows] == kinds.STAGE
    before = last_where(~stage, group)
    passed = stage & (before >= 0)
    target, told = rows[before[passed]], records["stage"][rows[passed]]
    received = records["kind"][target] == kinds.RECEIVE
    np.bitwise_or.at(records["stage"], target[received], told[received])
