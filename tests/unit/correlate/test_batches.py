"""However the records are cut into batches, and whatever order CPUs are read in, the paths are the same."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.correlate.records import (
    C0,
    ICMP,
    KINDS,
    LAYOUT,
    LOCAL,
    MS,
    R0,
    R1,
    S0,
    SECOND,
    TCP,
    US,
    C,
    Packet,
    S,
    Scene,
    hit,
    miss,
)  # fmt: skip
from tracer.correlate.paths import Correlator

SHOWN = ("kind", "ts_ns", "cpu")


def forwarded(scene, cpu, number):
    """A datagram through the router to a process that reads it."""
    packet = Packet(sport=40000 + number, ip_id=number, skb=0x1000 * (cpu + 1))
    task, soft = scene.task(100 + cpu, "send", C, cpu), scene.softirq(cpu)
    task.decide(packet.key(), "send", miss(255))
    yield
    task.decide(packet.key(), "send", hit(254, C0))
    yield
    task.xmit(packet, C0)
    yield
    yield from routed(soft, packet)
    yield from delivered(scene, soft, packet.but(ttl=63, sock=0x500 + cpu), cpu)


def routed(soft, packet):
    """The router's part."""
    soft.receive(packet, R0)
    yield
    soft.decide(packet.key(R0), "input", miss(255), hit(254, R1))
    yield
    soft.decide(packet.check_key(R0), "check", miss(255), hit(254, R0))
    yield
    soft.xmit(packet.but(ttl=63), R1)
    yield


def delivered(scene, soft, packet, cpu):
    """The server's part."""
    soft.receive(packet, S0)
    yield
    soft.decide(packet.key(S0), "input", hit(255, S0, LOCAL))
    yield
    soft.told("READY", packet, S)
    yield
    scene.wait(20 * US)
    scene.task(600 + cpu, "serve", S, cpu).copy(packet, S0)
    yield


def refused(scene, cpu, number):
    """A packet that the router drops after its source check."""
    packet = Packet(src="10.9.0.1", ip_id=number, skb=0x1000 * (cpu + 1))
    soft = scene.softirq(cpu)
    soft.receive(packet, R0)
    yield
    soft.decide(packet.key(R0), "input", miss(255), hit(254, R1)).decide(
        packet.check_key(R0), "check", hit(254, R1)
    )
    yield
    soft.drop(packet, R0, reason=7)
    yield


def connection(scene, cpu, number):
    """Three decisions of a connect, then segments on the socket's route, answered in softirq."""
    packet = Packet(
        proto=TCP, sport=50000 + number, dport=80, ip_id=number, skb=0x1000 * (cpu + 1), sock=0x900 + cpu
    )
    task, soft = scene.task(200 + cpu, "curl", C, cpu), scene.softirq(cpu)
    for sport in (0, packet.sport, packet.sport):
        task.decide(packet.key(sport=sport), "connect", miss(255), hit(254, C0))
        yield
    for step in range(3):
        here = packet.but(ip_id=number * 8 + step)
        task.xmit(here, C0)
        yield
        soft.receive(here, R0)
        yield
        if step == 0:
            soft.decide(packet.key(R0), "input", miss(255), hit(255, R0, LOCAL))
        yield
        soft.told("READY", here, R0.netns)
        yield


def waited(scene, cpu, number):
    """Two datagrams that wait for an address and leave in another context."""
    task, soft = scene.task(300 + cpu, "ping", C, cpu), scene.softirq(cpu)
    echo = Packet(dst=f"10.2.1.{number}", proto=ICMP, sport=0, dport=0)
    packets = [echo.but(ip_id=number * 4 + i, skb=0x1000 * (cpu + 1) + i) for i in range(2)]
    for packet in packets:
        task.decide(packet.key(), "send", miss(255), hit(254, C0))
        yield
    for packet in packets:
        soft.xmit(packet, C0)
        yield


def suppressed(scene, cpu, number):
    """A walk that goes on after a hit, as wg-quick's rules have it; two in a row with one key."""
    task = scene.task(400 + cpu, "wg", C, cpu)
    for part in range(2):
        packet = Packet(dst=f"10.3.{part}.{number}", ip_id=number, skb=0x1000 * (cpu + 1) + part)
        task.decide(packet.key(), "send", miss(255))
        yield
        task.decide(packet.key(), "send", hit(SUPPRESSED, C0))
        yield
        task.decide(packet.key(), "send", hit(254, C0))
        yield
        task.xmit(packet, C0)
        yield


SUPPRESSED = 77
SUPPRESSING = {"suppressing": np.array([C << 32 | SUPPRESSED], np.uint64)}
KINDS_OF_TRAFFIC = (forwarded, refused, connection, waited, suppressed)


def play(seed: int, size: int = 12) -> Scene:
    """Traffic on three CPUs at the same time, with pauses of all lengths between."""
    chance = random.Random(seed)
    scene = Scene()
    running = {}
    left = size
    while left or running:
        cpu = chance.randrange(3)
        if cpu not in running and left:
            left -= 1
            running[cpu] = chance.choice(KINDS_OF_TRAFFIC)(scene, cpu, left + 1)
            if not chance.randrange(3) and len(running) == 1:
                scene.wait(chance.choice((5 * MS, 45 * MS, 4 * SECOND)))
        if cpu in running and next(running[cpu], "ended") == "ended":
            del running[cpu]
    return scene


def shape(batches) -> list[list[tuple]]:
    """Every path as plain values; packets are named by when they began, as numbers only count."""
    paths, began = {}, {}
    for steps in batches:
        for record, notes in zip(steps.records, steps.notes, strict=True):
            number = int(notes["packet"])
            began[number] = min(
                began.get(number, np.inf), int(record["ts_ns"]) if number < 0 or record["skb"] else np.inf
            )
        for index in range(len(steps)):
            number, row, hop = int(steps.packet[index]), steps.row[index], steps.hop[index]
            record, notes, hops = steps.records[row], steps.notes[row], steps.hops
            told = [int(record[name]) for name in SHOWN]
            told += [
                int(getattr(steps, n)[index])
                for n in ("event", "cached", "via", "hop_in_path", "decision", "complete", "lost")
            ]
            told += [
                int(getattr(hops, name)[hop]) for name in ("verdict", "role", "netns", "socket", "observed")
            ]
            told += [
                int(notes["purpose"]),
                int(notes["caller"]),
                int(notes["ref"]) if steps.cached[index] else 0,
            ]
            paths.setdefault(number, []).append(tuple(told))
    return sorted([(*step[:-1], began.get(step[-1], step[-1])) for step in path] for path in paths.values())


def fed(scene: Scene, cuts, late_ns=0, records=None):
    """Feed the records cut at these places; each batch's horizon is its last record, or `late_ns` after it."""
    records = scene.records() if records is None else records
    correlator = Correlator(KINDS, LAYOUT.record)
    edges = [0, *sorted(cuts), len(records)]
    result = []
    for start, end in pairwise(edges):
        batch = records[start:end]
        horizon_ns = int(records["ts_ns"][:end].max(initial=0))
        following = records["ts_ns"][end:].min(initial=np.iinfo(np.uint64).max)
        horizon_ns = min(horizon_ns + late_ns, int(following) - 1)
        result.append(correlator.feed(batch, horizon_ns, scene.context(**SUPPRESSING)))
    result.append(correlator.feed(records[:0], horizon_ns, scene.context(**SUPPRESSING), final=True))
    return result


@settings(deadline=None, max_examples=150)
@given(data=st.data(), seed=st.integers(0, 10_000), late_ns=st.sampled_from((0, 300, 20 * MS, SECOND)))
def test_any_split_into_batches_gives_the_same_paths(data, seed, late_ns):
    """Live horizons included: what is not yet settled waits, what is finished is right."""
    scene = play(seed)
    cuts = data.draw(st.lists(st.integers(0, len(scene.rows)), max_size=8))
    assert shape(fed(scene, cuts, late_ns)) == shape(fed(scene, []))


def test_a_context_is_not_torn_by_the_cut():
    """What one CPU waits for does not part a packet from its decision on another."""
    scene = Scene()
    first, second, third = (Packet(sport=40000 + n, skb=0x1000 * n) for n in (1, 2, 3))
    here, there = scene.softirq(0), scene.softirq(1)
    here.receive(first, R0)
    there.receive(second, R0)
    here.decide(first.key(R0), "input", hit(254, R1)).xmit(first.but(ttl=63), R1).receive(third, R0)
    assert shape(fed(scene, [])) == shape([scene.run(**SUPPRESSING)[0]])


@pytest.mark.parametrize("before", ["queue", "decide"])
def test_what_waited_and_left_in_a_softirq_is_whole(before):
    """A softirq sends, between packets it receives, one that a task queued or that waited for an address."""
    scene = Scene()
    soft, task = scene.softirq(0), scene.task(1)
    packet = Packet(skb=0x2000, sport=9)
    soft.receive(Packet(skb=0x1000), R0)
    if before == "queue":
        task.queue(packet, C0)
    else:
        task.decide(packet.key(), "send", hit(254, C0))
    soft.xmit(packet, C0).receive(Packet(skb=0x3000, ip_id=77), R0)
    assert shape(fed(scene, [])) == shape([scene.run(**SUPPRESSING)[0]])


@pytest.mark.parametrize("seed", range(6))
def test_one_record_at_a_time_gives_the_same_paths(seed):
    """The smallest batches there can be."""
    scene = play(seed, size=6)
    assert shape(fed(scene, range(1, len(scene.rows)))) == shape(fed(scene, []))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(3)))
def test_the_order_in_which_cpus_are_read_does_not_matter(seed, order):
    """Only each CPU's own order is that of the ring; time tells the rest."""
    scene = play(seed)
    records = scene.records()
    by_cpu = np.concatenate([records[records["cpu"] == cpu] for cpu in order])
    whole = fed(scene, [], records=by_cpu)
    assert shape(whole) == shape(fed(scene, []))
    assert all(steps.lost.sum() == 0 for steps in whole)


def test_every_record_is_told_once():
    """Traffic of all kinds, in one batch: no lookup is missing and none is told twice."""
    scene = play(3, size=30)
    told = [steps.records["ts_ns"][steps.row[steps.event == 2]] for steps in fed(scene, [])]
    lookups = [fields["ts_ns"] for kind, fields in scene.rows if kind == "LOOKUP"]
    assert sorted(np.concatenate(told).tolist()) == lookups


def test_a_long_stream_is_held_only_as_long_as_its_packets_live():
    """A million records in batches, at full speed: what waits stays small, and nothing is lost of it."""
    scene = Scene()
    for number in range(1000):
        for _ in forwarded(scene, number % 3, number % 50):
            pass
    block = scene.records()
    correlator, context = Correlator(KINDS, LAYOUT.record), scene.context()
    span = int(block["ts_ns"][-1] - block["ts_ns"][0]) + US
    most = packets = fed_records = 0
    while fed_records < 1_000_000:
        steps = correlator.feed(block, int(block["ts_ns"][-1]), context)
        packets += len(np.unique(steps.packet))
        most = max(most, correlator.held)
        fed_records += len(block)
        block["ts_ns"] += np.uint64(span)
        for cpu in range(3):
            block["seq"][block["cpu"] == cpu] += np.uint64(scene.seq[cpu])
    per_second = len(block) / (span / SECOND)
    print(f"{fed_records:,} records, at most {most:,} held, {per_second:,.0f} records/s of event time")
    assert most < 6 * len(block)
    assert packets > 0.9 * fed_records / len(block) * 1000
    assert correlator.gaps.total == 0


def test_decisions_that_no_packet_takes_do_not_pile_up():
    """Failing or unsent lookups wait for a packet only while that is likely."""
    scene = Scene()
    task = scene.task(9, "probe", C)
    for number in range(10_000):
        task.decide(
            Packet(dst=f"10.7.{number >> 8 & 255}.{number & 255}").key(), "send", miss(255), hit(254, C0)
        )
    block = scene.records()
    correlator, context = Correlator(KINDS, LAYOUT.record), scene.context()
    most = 0
    for _ in range(24):
        correlator.feed(block, int(block["ts_ns"][-1]), context)
        most = max(most, correlator.held)
        block["ts_ns"] += np.uint64(200 * MS)
    assert most < 400_000
