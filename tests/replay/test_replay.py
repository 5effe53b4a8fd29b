"""Real captures of the labs give the rows they gave before; `scripts/record-replays` renews both.

The rows were looked at when they were recorded, and the live tests compare those of every lab with the kernel's.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from tracer.errors import BadCapture
from tracer.replay import convert
from tracer.wire.capture import CaptureReader, CaptureWriter, Kind
from tracer.wire.layout import parse

HERE = Path(__file__).parent
CAPTURES = sorted(HERE.glob("*.fibtrace"))
FILE_HEAD, FRAME_HEAD = 16, 12


def rows_of(capture):
    """The CSV of a capture, and how many of its ends were missing."""
    text = io.StringIO()
    done = convert(capture, text, "csv")
    return text.getvalue(), done


def boundaries(capture):
    """Where each frame ends; the first is the header."""
    data, ends, position = capture.read_bytes(), [], FILE_HEAD
    while position < len(data):
        position += FRAME_HEAD + int.from_bytes(data[position + 4 : position + 8], "little")
        ends.append(position)
    return ends


def paths(text):
    """Rows by path, without the number that only counts them."""
    found = {}
    for row in csv.DictReader(io.StringIO(text)):
        found.setdefault(row.pop("packet"), []).append(tuple(row.items()))
    return sorted(found.values())


def reframed(source, target, size):
    """The same capture with `size` records in each frame."""
    with CaptureReader(source) as reader:
        record = parse(reader.header["wire"]).record.itemsize
        frames = list(reader.frames())
        writer = CaptureWriter(target, reader.header)
        for frame in frames:
            if frame.kind not in {Kind.RECORDS, Kind.ACCOUNTING}:
                writer.write_json(frame.kind, frame.json())
        payload = b"".join(frame.payload for frame in frames if frame.kind is Kind.RECORDS)
        for start in range(0, len(payload), size * record):
            writer.write_records(payload[start : start + size * record])
        writer.close()


def test_there_are_captures_of_several_labs():
    """Small ones, each with its rows."""
    assert len(CAPTURES) >= 8
    assert [capture.name for capture in CAPTURES if not capture.with_suffix(".csv").exists()] == []
    assert [capture.name for capture in CAPTURES if capture.stat().st_size > 60 * 1024] == []


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_gives_the_rows_it_gave(capture):
    """To the letter. If the change is meant: `scripts/record-replays --rows`, and look at the difference."""
    text, done = rows_of(capture)
    assert text == capture.with_suffix(".csv").read_text()
    assert (done.rows, done.dropped_lines) == (text.count("\n") - 1, 0)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_rows_are_complete_and_nothing_was_lost(capture):
    """The records were numbered without a gap, and every path is whole."""
    text, _ = rows_of(capture)
    assert {row["lost"] for row in csv.DictReader(io.StringIO(text))} == {"0"}


@pytest.mark.parametrize("size", [1, 7, 50, 100_000])
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_rows_do_not_depend_on_how_the_ring_was_read(capture, size, tmp_path):
    """One record at a time or all at once: the same paths."""
    other = tmp_path / "other.fibtrace"
    reframed(capture, other, size)
    assert paths(rows_of(other)[0]) == paths(rows_of(capture)[0])


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_cut_anywhere_converts_up_to_its_last_whole_frame(capture, tmp_path):
    """At each end of a frame, in its head and in its middle: as if the rest had never been written."""
    data, ends = capture.read_bytes(), boundaries(capture)
    cut = tmp_path / "cut.fibtrace"
    counts = []
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        cut.write_bytes(data[:end])
        whole, done = rows_of(cut)
        counts.append(done.rows)
        assert done.dropped_lines == 0
        if following is None:
            break
        for extra in (1, FRAME_HEAD - 1, FRAME_HEAD, (following - end) // 2, following - end - 1):
            cut.write_bytes(data[: end + extra])
            text, done = rows_of(cut)
            assert (text, done.dropped_lines) == (whole, 1)
    assert counts == sorted(counts)
    assert counts[-1] == capture.with_suffix(".csv").read_text().count("\n") - 1


@pytest.mark.parametrize("length", [0, 1, FILE_HEAD - 1, FILE_HEAD, FILE_HEAD + FRAME_HEAD, 5000])
def test_a_capture_cut_before_its_header_ends_is_refused(length, tmp_path):
    """Nothing is written over what may be there."""
    cut, target = tmp_path / "cut.fibtrace", tmp_path / "out.csv"
    cut.write_bytes(CAPTURES[0].read_bytes()[:length])
    target.write_text("precious")
    with pytest.raises(BadCapture, match="cannot read"):
        convert(cut, target)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_changed_byte_ends_the_capture_there(capture, tmp_path):
    """A frame with a wrong checksum is as good as none, and so is all behind it."""
    data, ends = bytearray(capture.read_bytes()), boundaries(capture)
    damaged = tmp_path / "damaged.fibtrace"
    data[ends[-3] + FRAME_HEAD + 5] ^= 0x40
    damaged.write_bytes(data)
    text, done = rows_of(damaged)
    damaged.write_bytes(capture.read_bytes()[: ends[-3]])
    assert (text, done.dropped_lines) == (rows_of(damaged)[0], 1)


def test_a_capture_without_its_network_shows_what_was_observed(tmp_path):
    """No rule, no prefix and no name is invented: devices have numbers, namespaces inodes, results stay."""
    capture, bare = HERE / "policy-throw.fibtrace", tmp_path / "bare.fibtrace"
    with CaptureReader(capture) as reader:
        writer = CaptureWriter(bare, reader.header)
        for frame in reader.frames():
            if frame.kind is Kind.RECORDS:
                writer.write_records(frame.payload)
            elif frame.kind is Kind.STACKS:
                writer.write_json(frame.kind, frame.json())
        writer.close()
    known, unknown = (list(csv.DictReader(io.StringIO(rows_of(path)[0]))) for path in (capture, bare))
    assert len(known) == len(unknown)
    for row, other in zip(known, unknown, strict=True):
        assert (other["rule"], other["rule_text"], other["prefix"], other["netns"]) == ("", "", "", "")
        assert other["in_dev"] == "" or other["in_dev"].startswith("if")
        for name in (
            "event",
            "purpose",
            "table_id",
            "gateway",
            "verdict",
            "pid",
            "ts_ns",
            "src",
            "dst",
            "role",
        ):
            assert row[name] == other[name]


def test_captures_hold_nothing_of_the_machine_they_were_recorded_on():
    """Only the lab's namespaces, under the lab's names."""
    for capture in CAPTURES:
        with CaptureReader(capture) as reader:
            frames = [frame.json() for frame in reader.frames() if frame.kind is Kind.NETWORK]
            names = {state["name"] for frame in frames for state in frame["namespaces"]}
            assert names <= {"a", "b", "c", "r", "s"}
            assert reader.header["release"] == "recorded in a lab"


def test_records_are_in_the_order_of_each_cpu():
    """What the seq of a record promises, over all frames."""
    for capture in CAPTURES:
        with CaptureReader(capture) as reader:
            layout = parse(reader.header["wire"])
            parts = [
                np.frombuffer(f.payload, layout.record) for f in reader.frames() if f.kind is Kind.RECORDS
            ]
        records = np.concatenate(parts)
        for cpu in np.unique(records["cpu"]):
            seq = np.sort(records["seq"][records["cpu"] == cpu])
            assert seq.tolist() == list(range(1, len(seq) + 1))
