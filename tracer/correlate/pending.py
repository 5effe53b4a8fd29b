"""Decisions that no packet took at once, and the packets that take them later.

A packet that waits for address resolution leaves in another context than it was routed in.
"""

from __future__ import annotations

import numpy as np

from tracer.correlate.callers import Purpose
from tracer.correlate.columns import Array, Records, Rows, address_words, hash_rows, join_rows, take_rows
from tracer.correlate.packets import decision_of_packet


def take_pending(batch: Records, notes: Array, held: Array, held_notes: Array) -> None:
    """Tie packets made here to the open decisions with their flow, in the order of both; writes `packet` of the notes.

    `batch` is what is being settled, `held` what waits from before, each with its notes.
    """
    here, before = np.flatnonzero(_open_outputs(notes)), np.flatnonzero(_open_outputs(held_notes))
    if not len(here) + len(before):
        return
    candidates = join_rows(take_rows(held, before), take_rows(batch.raw, here))
    told = join_rows(take_rows(held_notes, before), take_rows(notes, here))
    by_time = np.argsort(candidates["ts_ns"], kind="stable")
    candidates, told = take_rows(candidates, by_time), take_rows(told, by_time)
    waiting, has_own = _may_take(batch, notes, candidates, told["connects"])
    owner = _owners(batch, (candidates, told["connects"]), waiting, has_own)
    taken = np.flatnonzero(owner >= 0)
    if len(taken):
        order = taken[np.argsort(told["packet"][taken])]
        for kept in (notes, held_notes):
            _give(kept, told["packet"][order], notes[owner[order]])


def _may_take(batch: Records, notes: Array, candidates: Array, connects: Array) -> tuple[Array, Array]:
    """First rows of packets made here or wrapped here, in time order, that share an end with an open decision.

    And whether each has a decision of its own: then it only takes those of its connect.
    """
    rows = np.flatnonzero(notes["origin"] | notes["wrapped"])
    rows = rows[np.argsort(batch["ts_ns"][rows], kind="stable")]
    of_leg = hash_rows(notes["packet"], notes["leg"])
    has_own = np.isin(of_leg[rows], of_leg[(notes["purpose"] == Purpose.OUTPUT) & (notes["packet"] > 0)])
    near = np.zeros(len(rows), bool)
    for end, port in (("daddr", "dport"), ("saddr", "sport")):
        mine = _end_keys(batch, end, port)[rows]
        open_ends = _end_keys(candidates, end, port)
        near |= np.isin(mine, open_ends[connects]) | (~has_own & np.isin(mine, open_ends))
    return rows[near], has_own[near]


def _end_keys(records: Rows, end: str, port: str) -> Array:
    return hash_rows(*address_words(records[end]), records["netns"], records["proto"], records[port])


def _owners(batch: Records, open_ones: tuple[Array, Array], waiting: Array, has_own: Array) -> Array:
    """The row of the packet that takes each of the open decisions (with whether it is a connect's), -1 for none."""
    candidates, connects = open_ones
    free = candidates["error"] == 0
    owner = np.full(len(candidates), -1)
    for row, only_connects in zip(waiting.tolist(), has_own.tolist(), strict=True):
        packet = batch.raw[row : row + 1]
        fits = free & (connects | (not only_connects))
        fits &= decision_of_packet(candidates, packet)
        fits &= (candidates["ts_ns"] < packet["ts_ns"]) & (candidates["netns"] == packet["netns"])
        chosen = _of_one_sender(candidates, np.flatnonzero(fits), batch.raw[row])
        # Decisions of a connection all belong to its first packet; those of single sends to one packet each.
        single = np.flatnonzero(~connects[chosen])
        if len(single):
            chosen = chosen[: single[0] + 1]
        free[chosen] = False
        owner[chosen] = row
    return owner


def _give(notes: Array, decisions: Array, owners: Array) -> None:
    """All rows of these decisions now belong to the packets of these notes, one each.

    `decisions` are their numbers as packets (negative), sorted: what was tried first has that of what came of it.
    """
    at = np.minimum(np.searchsorted(decisions, notes["packet"]), len(decisions) - 1)
    mine = (notes["packet"] < 0) & (decisions[at] == notes["packet"])
    for name in ("packet", "leg", "depth"):
        notes[name] = np.where(mine, owners[name][at], notes[name])


def _of_one_sender(candidates: Array, chosen: Array, packet: Array) -> Array:
    """Leave out decisions without a port yet (the first of a connect) that another task made for its own packet."""
    exact = candidates["sport"][chosen] == packet["sport"]
    senders = candidates["context"][chosen[exact]]
    if packet["context_kind"] == 0:
        senders = np.append(senders, packet["context"])
    if not len(senders):
        return chosen
    result: Array = chosen[exact | np.isin(candidates["context"][chosen], senders)]
    return result


def _open_outputs(notes: Array) -> Array:
    """Last lookups of output decisions that no packet has taken."""
    result: Array = (notes["packet"] < 0) & (notes["purpose"] == Purpose.OUTPUT) & notes["last"]
    return result
