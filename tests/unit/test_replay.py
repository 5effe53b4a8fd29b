"""A raw capture gives the rows that tracing gave, on any machine and any day."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.unit.correlate.records import C0, LAYOUT, R0, R1, S0, SECOND, STACKS, Packet, Scene, hit, miss
from tests.unit.outputs.worlds import REASONS, network
from tracer.enrich.filters import Selection
from tracer.errors import BadCapture, BadRequest
from tracer.outputs.registry import open_output
from tracer.pipeline import Processing, Recorder, Symbols
from tracer.replay import convert
from tracer.wire.capture import CaptureReader, CaptureWriter, Kind

WIRE = Path(__file__).parents[2].joinpath("bpf", "wire.h").read_text()
PACKET = Packet()


def scene():
    """A datagram from a client, forwarded by a router, with a pause in between batches."""
    made = Scene()
    made.task(812).decide(PACKET.key(), "send", miss(255), hit(254, C0)).xmit(PACKET, C0)
    soft = made.softirq().receive(PACKET, R0).decide(PACKET.key(R0), "input", miss(255), hit(100, R1))
    soft.xmit(PACKET.but(ttl=63), R1).receive(PACKET.but(ttl=63), S0)
    return made


def record(path, records, pipeline):
    """Trace: every batch goes to the capture and through the pipeline."""
    recorder = Recorder(path, WIRE, 1000, REASONS)
    recorder.network(pipeline.network)
    for start in range(0, len(records), 3):
        batch = records[start : start + 3]
        pipeline.callers.learn(batch)
        recorder.records(batch, pipeline)
        pipeline.feed(batch, int(batch["ts_ns"].max()))
    pipeline.feed(records[:0], int(records["ts_ns"].max()) + SECOND, final=True)
    recorder.close({})


def traced(path):
    """The CSV that tracing wrote while it wrote the capture."""
    text = io.StringIO()
    output = open_output(text, "csv")
    pipeline = Processing(
        layout=LAYOUT,
        network=network(),
        symbols=Symbols(lambda number: list(STACKS.values())[number], hex),
        reasons=REASONS,
        selection=Selection(),
        outputs=[output],
        clock_offset_ns=1000,
    )
    record(path, scene().records(), pipeline)
    pipeline.close()
    return text.getvalue()


@pytest.fixture
def capture(tmp_path):
    """A capture, and the rows that tracing gave."""
    path = tmp_path / "a.fibtrace"
    rows = traced(path)
    return path, rows


def converted(path, wanted="csv"):
    text = io.StringIO()
    convert(path, text, wanted)
    return text.getvalue()


def copied(source, target, change):
    """A copy of a capture whose frames went through `change(kind, value)`; None leaves one out."""
    with CaptureReader(source) as reader:
        writer = CaptureWriter(target, reader.header)
        for frame in reader.frames():
            if frame.kind is Kind.RECORDS:
                writer.write_records(frame.payload)
            elif (value := change(frame.kind, frame.json())) is not None:
                writer.write_json(frame.kind, value)
        writer.close()
    return target


def test_a_replay_gives_the_rows_that_tracing_gave(capture):
    """To the letter."""
    path, rows = capture
    assert converted(path) == rows
    assert rows.count("\n") == 13


def test_a_replay_goes_to_any_format(capture, tmp_path):
    """By suffix, or by name on a stream; a CSV made by way of Parquet is the same."""
    path, rows = capture
    for suffix in ("parquet", "jsonl"):
        done = convert(path, tmp_path / f"b.{suffix}")
        assert done.rows == rows.count("\n") - 1
        assert converted(tmp_path / f"b.{suffix}") == rows
    assert "10.1.0.2:40000 → 10.2.0.2:53" in converted(path, "tree")


def test_a_bad_request_leaves_the_target_alone(capture, tmp_path):
    """It is refused before anything is opened."""
    target = tmp_path / "precious.doc"
    target.write_text("precious")
    with pytest.raises(BadRequest):
        convert(capture[0], target)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_a_bad_capture_leaves_the_target_alone(tmp_path, target):
    """No capture, no output."""
    source = tmp_path / "no.fibtrace"
    source.write_bytes(b"not a capture of any kind")
    (tmp_path / target).write_text("precious")
    with pytest.raises(BadCapture, match="it is no capture of fibtrace"):
        convert(source, tmp_path / target)
    with pytest.raises(BadCapture, match="cannot read"):
        convert(tmp_path / "missing.fibtrace", tmp_path / target)
    assert (tmp_path / target).read_text() == "precious"


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"stacks": {}},
        {"stacks": [], "addresses": {}},
        {"stacks": {"x": []}, "addresses": {}},
        [1],
        {"stacks": {"1": 7}, "addresses": {}},
    ],
)
def test_names_that_make_no_sense_are_a_bad_capture(capture, tmp_path, names):
    """Whoever wrote it."""
    bad = copied(
        capture[0], tmp_path / "b.fibtrace", lambda kind, value: names if kind is Kind.STACKS else value
    )
    with pytest.raises(BadCapture, match="cannot read the names"):
        converted(bad)


def test_a_network_that_makes_no_sense_is_a_bad_capture(capture, tmp_path):
    """Whoever wrote it."""
    bad = copied(
        capture[0],
        tmp_path / "b.fibtrace",
        lambda kind, value: {"namespaces": 7} if kind is Kind.NETWORK else value,
    )
    with pytest.raises(BadCapture, match="cannot read the network configuration"):
        converted(bad)


def test_stacks_may_be_missing(capture, tmp_path):
    """Purposes come from the keys then, marked as inferred."""
    bare = copied(
        capture[0], tmp_path / "b.fibtrace", lambda kind, value: None if kind is Kind.STACKS else value
    )
    rows = list(csv.DictReader(io.StringIO(converted(bare))))
    assert [row["purpose"] for row in rows if row["event"] == "decision"][:2] == ["output", "input"]
    assert {row["caller"] for row in rows} == {""}


def test_a_capture_is_read_with_the_layout_it_carries(capture, tmp_path):
    """A field that a later version adds, or one that moves, does not matter."""
    path, rows = capture
    with CaptureReader(path) as reader:
        frames, header = list(reader.frames()), dict(reader.header)
    wider = header["wire"].replace(
        "struct record {\n", "struct record {\n\t__u64 novelty;\t/* of a later version */\n", 1
    )
    assert wider != header["wire"]
    writer = CaptureWriter(tmp_path / "b.fibtrace", {**header, "wire": wider})
    size = LAYOUT.record.itemsize
    for frame in frames:
        if frame.kind is Kind.RECORDS:
            records = [frame.payload[i : i + size] for i in range(0, len(frame.payload), size)]
            writer.write_records(b"".join(bytes(8) + one for one in records))
        else:
            writer.write_json(frame.kind, frame.json())
    writer.close()
    assert converted(tmp_path / "b.fibtrace") == rows


def test_half_a_record_at_the_end_of_a_frame_is_a_bad_capture(capture, tmp_path):
    """The checksum is right and the size is not: it says so, it does not crash."""
    with CaptureReader(capture[0]) as reader:
        writer = CaptureWriter(tmp_path / "b.fibtrace", reader.header)
        writer.write_records(bytes(LAYOUT.record.itemsize - 1))
        writer.close()
    with pytest.raises(BadCapture):
        converted(tmp_path / "b.fibtrace")
