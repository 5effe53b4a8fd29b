"""From records to outputs in one place: counting, numbering, limiting, and what a capture holds."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.unit.correlate.records import (
    C0,
    KINDS,
    LAYOUT,
    LOCAL,
    R0,
    R1,
    SECOND,
    STACKS,
    C,
    Packet,
    R,
    Scene,
    hit,
    miss,
)
from tests.unit.outputs.worlds import REASONS, network, state
from tracer.correlate.callers import Purpose
from tracer.enrich.filters import Selection
from tracer.model.network import Rule
from tracer.pipeline import Callers, Processing, Recorder, Symbols, clock_offset_ns
from tracer.wire.capture import CaptureReader, Kind

PACKET = Packet()
WIRE = Path(__file__).parents[2].joinpath("bpf", "wire.h").read_text()


class Kept:
    """An output that keeps what it got, or fails at its end."""

    def __init__(self, error=None):
        self.rows, self.closed, self._error = [], 0, error

    def write(self, rows):
        """Keep the rows."""
        self.rows += rows.to_pylist()

    def close(self):
        """End, or fail."""
        self.closed += 1
        if self._error:
            raise self._error


def symbols(stacks=None, addresses=None):
    stacks = list(STACKS.values()) if stacks is None else stacks
    return Symbols(
        lambda number: stacks[number] if number < len(stacks) else (), (addresses or {}).get or hex
    )


def processing(outputs=(), **changes):
    """The pipeline on the imaginary host."""
    own = {
        "layout": LAYOUT,
        "network": network(),
        "symbols": Symbols(lambda number: list(STACKS.values())[number], hex),
        "reasons": {**REASONS, 90: "SKB_DROP_REASON_QUEUE_PURGE"},
        "selection": Selection(),
        "outputs": list(outputs),
        "clock_offset_ns": 0,
    }
    return Processing(**{**own, **changes})


def sent(scene, count=1, **changes):
    """Datagrams of a task, each decided."""
    for number in range(count):
        packet = PACKET.but(skb=0x1000 * (number + 1), ip_id=number, sport=1000 + number, **changes)
        scene.task(812).decide(packet.key(), "send", miss(255), hit(254, C0)).xmit(packet, C0)
    return scene


def fed(pipeline, scene):
    pipeline.feed(scene.records(), scene.now_ns, final=True)
    return pipeline


def test_records_become_rows_of_every_output():
    """The same rows each; counted."""
    outputs = [Kept(), Kept()]
    counts = fed(processing(outputs), sent(Scene(), 3)).counts
    assert outputs[0].rows == outputs[1].rows
    assert len(outputs[0].rows) == counts.rows == 3 * 4
    assert (counts.records, counts.lookups, counts.packets) == (9, 6, 3)
    assert {row["caller"] for row in outputs[0].rows if row["event"] == "lookup"} == {"udp_sendmsg"}


def test_nothing_is_written_when_nothing_is_finished():
    """A quiet batch writes no empty table."""
    output = Kept()
    pipeline = processing([output])
    pipeline.feed(sent(Scene()).records(), 0)
    assert (output.rows, pipeline.counts.records, pipeline.counts.packets) == ([], 3, 0)
    pipeline.feed(np.zeros(0, LAYOUT.record), Scene().now_ns + 20 * SECOND)
    assert pipeline.counts.packets == 1


def test_a_path_without_a_packet_gets_a_number_of_its_own():
    """After those of the packets, and none twice, also across batches."""
    output = Kept()
    pipeline = processing([output])
    scene = sent(Scene(), 2)
    for dst in ("10.7.0.1", "10.7.0.2"):
        scene.task(5).decide(Packet(dst=dst).key(), "send", miss(255), miss(254))
    fed(pipeline, scene)
    later = sent(Scene(now_ns=scene.now_ns + SECOND), 1)
    later.seq = dict(scene.seq)
    fed(pipeline, later)
    numbers = list(dict.fromkeys(row["packet"] for row in output.rows))
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert len(numbers) == pipeline.counts.packets == 5


def test_a_limit_ends_after_so_many_paths():
    """Whole paths, no matter how many a batch has; then it is enough."""
    output = Kept()
    pipeline = processing([output], limit=2)
    assert not pipeline.enough
    fed(pipeline, sent(Scene(), 3))
    assert len({row["packet"] for row in output.rows}) == 2
    assert pipeline.enough
    fed(pipeline, sent(Scene(now_ns=10**15), 1))
    assert len({row["packet"] for row in output.rows}) == 2


def test_only_selected_paths_are_written_and_counted():
    """The others leave no trace but in the number of records."""
    output = Kept()
    pipeline = fed(processing([output], selection=Selection(sport=1001)), sent(Scene(), 3))
    assert {row["sport"] for row in output.rows} == {1001}
    assert (pipeline.counts.packets, pipeline.counts.records) == (1, 9)


def test_what_a_query_made_and_freed_is_no_packet():
    """`ip route get` frees its sk_buff in inet_rtm_getroute."""
    for name, drops in (("inet_rtm_getroute.part.0", 0), ("ip_output", 1)):
        output = Kept()
        scene = Scene()
        scene.task(1).decide(PACKET.key(), "send", hit(254, C0)).drop(PACKET, C0, location=0xBEEF)
        only = {"symbols": Symbols(lambda number: list(STACKS.values())[number], lambda _address, n=name: n)}
        fed(processing([output], **only), scene)
        assert sum(row["event"] == "drop" for row in output.rows) == drops


def test_a_queue_that_is_purged_drops_nothing():
    """The reasons of the running kernel say which number that is."""
    output = Kept()
    scene = Scene()
    soft = scene.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", hit(255, R0, LOCAL))
    soft.drop(PACKET, R0, reason=90)
    fed(processing([output]), scene)
    assert [row["verdict"] for row in output.rows if row["verdict"]] == ["deliver"]


def test_tables_that_may_be_suppressed_are_known_from_the_start_and_from_changes():
    """Once known they stay."""
    rule = Rule(2, 500, "lookup", table=254, suppress_prefixlength=0)
    pipeline = processing(network=network(state(R, rules=(rule,))))
    assert pipeline.context.suppressing.tolist() == [R << 32 | 254]
    pipeline.network_changed([state(C, rules=(rule,)), None, state(R)])
    assert pipeline.context.suppressing.tolist() == sorted([R << 32 | 254, C << 32 | 254])
    assert processing().context.suppressing.tolist() == []


def test_a_suppressed_hit_and_what_follows_are_one_decision():
    """End to end, with the rules of the namespace."""
    rules = (
        Rule(2, 0, "lookup", table=255),
        Rule(2, 500, "lookup", table=254, suppress_prefixlength=0),
        Rule(2, 510, "lookup", table=100),
    )
    output = Kept()
    scene = Scene()
    packet = PACKET.but(dst="10.99.0.1")
    soft = scene.softirq().receive(packet, R0)
    soft.decide(packet.key(R0), "input", miss(255), hit(254, R0), hit(100, R1)).xmit(packet.but(ttl=63), R1)
    tables = {**state(R).tables, 254: (*state(R).tables[254], *state(C).tables[254])}
    fed(processing([output], network=network(state(R, rules=rules, tables=tables))), scene)
    assert [row["result"] for row in output.rows if row["event"] == "lookup"] == ["miss", "suppressed", "hit"]
    assert {row["decision"] for row in output.rows if row["event"] == "lookup"} == {1}


def test_every_output_is_closed_and_the_first_error_is_raised():
    """A full disk in one does not keep another from ending well."""
    outputs = [Kept(), Kept(OSError("first")), Kept(OSError("second")), Kept()]
    with pytest.raises(OSError, match="first"):
        processing(outputs).close()
    assert [output.closed for output in outputs] == [1, 1, 1, 1]


def test_each_stack_is_read_once_and_an_unreadable_one_again():
    """A stack that the map no longer has may come back under its number."""
    asked = []

    def stack(number):
        asked.append(number)
        return () if number == 2 else STACKS["send"]

    callers = Callers(Symbols(stack, hex), KINDS)
    scene = Scene()
    for name in ("input", "list", "check", None):
        scene.task(1).decide(PACKET.key(), name, hit(254, C0))
    scene.task(1).xmit(PACKET, C0)
    callers.learn(scene.records())
    callers.learn(scene.records())
    assert asked == [0, 1, 2, 2]
    assert set(callers.by_stack) == {0, 1}
    number, caller = callers.by_stack[0]
    assert (caller.purpose, callers.name(number)) == (Purpose.OUTPUT, "udp_sendmsg")
    assert callers.by_stack[1][0] == number, "one name, one number"
    assert callers.name(0) == callers.name(99) == ""
    callers.learn(scene.records()[:0])


def test_a_capture_has_every_name_before_the_records_that_need_it(tmp_path):
    """Each once; then the records as they came; the accounts at the end."""
    path = tmp_path / "a.fibtrace"
    pipeline = processing()
    recorder = Recorder(path, WIRE, 42, REASONS)
    recorder.network(pipeline.network)
    first, second = sent(Scene()).records(), Scene()
    second.task(1).decide(PACKET.key(), "connect", hit(254, C0)).drop(PACKET, C0, location=0xBEEF)
    for records in (first, first[:0], second.records(), second.records()):
        pipeline.callers.learn(records)
        recorder.records(records, pipeline)
    recorder.close({"refused": [0]})
    with CaptureReader(path) as reader:
        frames = list(reader.frames())
        assert reader.header["clock_offset_ns"] == 42
        assert reader.header["reasons"]["7"] == REASONS[7]
        assert reader.header["wire"] == WIRE
    kinds = [Kind(frame.kind) for frame in frames]
    assert kinds == [
        Kind.NETWORK,
        Kind.STACKS,
        Kind.RECORDS,
        Kind.STACKS,
        Kind.RECORDS,
        Kind.RECORDS,
        Kind.ACCOUNTING,
    ]
    assert list(frames[1].json()["stacks"]) == [str(list(STACKS).index("send"))]
    assert list(frames[3].json()["stacks"]) == [str(list(STACKS).index("connect"))]
    assert frames[3].json()["addresses"] == {str(0xBEEF): hex(0xBEEF)}
    assert frames[2].payload == first.tobytes()


def test_the_clocks_offset_turns_monotonic_time_into_the_time_of_day():
    """To well under a second."""
    now = time.monotonic_ns() + clock_offset_ns()
    assert abs(now - time.time_ns()) < SECOND // 10
