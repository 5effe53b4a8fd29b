"""Losses: gaps in the numbers of a CPU, and whose they may be."""

from __future__ import annotations

import numpy as np

from tests.unit.correlate.records import LAYOUT, MS, R0, R1, US, Packet, Scene, hit
from tracer.correlate.lost import Gaps


def numbered(*rows):
    """Records as (cpu, seq, ts)."""
    records = np.zeros(len(rows), LAYOUT.record)
    for record, (cpu, seq, ts_ns) in zip(records, rows, strict=True):
        record["cpu"], record["seq"], record["ts_ns"] = cpu, seq, ts_ns
    return records


def spans(gaps, *pairs):
    starts, ends = zip(*pairs, strict=True)
    return gaps.during(np.array(starts), np.array(ends)).tolist()


def test_numbers_without_a_gap_are_no_loss():
    """Each CPU counts for itself, from wherever it is when the trace begins, in any order within a batch."""
    gaps = Gaps()
    gaps.note(numbered((0, 5, 10), (1, 900, 11), (0, 7, 13), (0, 6, 12), (1, 901, 14)))
    gaps.note(numbered((0, 8, 20), (1, 902, 21)))
    assert (gaps.total, gaps.recent) == (0, [])


def test_a_gap_within_a_batch_and_between_batches_is_counted():
    """As many as are missing, in the time between the neighbours."""
    gaps = Gaps()
    gaps.note(numbered((0, 1, 100), (0, 4, 200)))
    gaps.note(numbered((0, 10, 300)))
    assert gaps.total == 2 + 5
    assert gaps.recent == [(100, 200, 2), (200, 300, 5)]


def test_a_loss_belongs_to_the_paths_of_its_time():
    """Every span that touches the gap, and no other."""
    gaps = Gaps()
    gaps.note(numbered((0, 1, 100), (0, 4, 200), (0, 5, 250), (0, 7, 260)))
    assert spans(gaps, (0, 99), (0, 100), (150, 160), (200, 240), (201, 249), (0, 900)) == [0, 2, 2, 2, 0, 3]


def test_what_is_missing_at_the_end_is_a_loss_too():
    """Numbers given after the last record that came, also on a CPU of which none came, once."""
    gaps = Gaps()
    gaps.note(numbered((0, 1, 100), (0, 2, 200), (1, 1, 150)))
    gaps.reached({0: 9, 1: 1, 2: 3}, 500)
    assert gaps.total == 7 + 3
    assert spans(gaps, (0, 90), (110, 120), (180, 250), (501, 502)) == [3, 3, 10, 0]
    gaps.reached({0: 9, 1: 1, 2: 3}, 600)
    gaps.note(numbered((0, 10, 700), (1, 2, 700), (2, 4, 700)))
    assert gaps.total == 7 + 3


def test_what_no_cpu_numbered_is_lost_between_two_looks():
    """A count that grew says how many, and since when: the last time it was looked at."""
    gaps = Gaps()
    gaps.reached({-1: 0}, 100)
    gaps.reached({-1: 0}, 200)
    gaps.reached({-1: 3}, 300)
    gaps.reached({-1: 3}, 400)
    assert gaps.recent == [(200, 300, 3)]


def test_only_recent_losses_are_kept_but_all_are_counted():
    """Under steady loss the memory stays bounded."""
    gaps = Gaps()
    for batch in range(5):
        gaps.note(numbered(*((0, 2 * n, 10 * n) for n in range(batch * 500 + 1, batch * 500 + 501))))
    assert gaps.total == 2499
    assert len(gaps.recent) <= 100_000


def test_a_path_that_may_have_a_hole_says_so():
    """The packet of the time of the loss is incomplete, with the number lost; the one long after is whole."""
    scene = Scene()
    soft = scene.softirq()
    first, second = Packet(skb=0x1000), Packet(skb=0x2000, ip_id=9)
    soft.receive(first, R0)
    scene.lose(3)
    soft.decide(first.key(R0), "input", hit(254, R1)).xmit(first.but(ttl=63), R1)
    scene.wait(20 * MS)
    soft.receive(second, R0).decide(second.key(R0), "input", hit(254, R1)).xmit(second.but(ttl=63), R1)
    assert [(story.complete, story.lost) for story in scene.stories()] == [(False, 3), (True, 0)]


def test_the_loss_of_another_cpu_counts_too():
    """A packet may go on at any CPU."""
    scene = Scene()
    soft, other = scene.softirq(0), scene.softirq(1)
    packet = Packet()
    other.receive(Packet(skb=0x9000, ip_id=1), R0)
    soft.receive(packet, R0)
    scene.lose(1, cpu=1)
    soft.decide(packet.key(R0), "input", hit(254, R1)).xmit(packet.but(ttl=63), R1)
    scene.wait(US)
    other.receive(Packet(skb=0xA000, ip_id=2), R0)
    assert scene.stories()[1].lost == 1
