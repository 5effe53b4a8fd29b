"""Full disks, closed pipes, foreign and damaged files: one clear error, what was written stays readable."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tracer
from tests.unit.outputs.builder import design_rows, many
from tracer.errors import BadCapture, BadRequest
from tracer.model.columns import NAMES
from tracer.outputs.parquet import ParquetOutput
from tracer.outputs.read import read_rows
from tracer.outputs.registry import open_output
from tracer.outputs.schema import CONTRACT, conform

FORMATS = ("csv", "jsonl", "parquet")


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 1 MiB, where the machine lets us mount one."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "fibtrace-test", str(place)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_full_disk_keeps_the_batches_before_it(small_disk, suffix):
    """Whole batches stay, the error says why, and the file reads back."""
    table = many(100)
    output = open_output(small_disk / f"t.{suffix}")
    written = 0
    with pytest.raises(BadCapture, match="no space left on device"):  # noqa: PT012
        for _ in range(1000):
            output.write(table)
            written += 1
    output.close()
    got = read_rows(small_disk / f"t.{suffix}")
    assert written > 1
    assert (len(got.rows), got.dropped_lines) == (written * len(table), 0)


def _group(seed):
    """Rows of one row group that does not compress well: about 150 kB."""
    table = many(4200)
    noise = np.random.default_rng(seed).integers(0, 2**16, len(table))
    return conform(table.set_column(2, table.schema.field(2), pa.array(noise)))


def test_full_disk_keeps_whole_row_groups_of_parquet(small_disk):
    """Wherever the disk gets full, even in the footer, the file holds the groups before it, exactly."""
    groups = [_group(seed) for seed in range(4)]
    kept = set()
    for filler_bytes in range(520_000, 1_000_000, 18_000):
        (small_disk / "filler").write_bytes(bytes(filler_bytes))
        file = small_disk / "t.parquet"
        output = open_output(file)
        with pytest.raises(BadCapture, match="no space left"):  # noqa: PT012
            for group in groups:
                output.write(group)
            output.close()
        output.close()
        got = read_rows(file).rows
        whole = len(got) // len(groups[0])
        assert got.equals(conform(pa.concat_tables([CONTRACT.empty_table(), *groups[:whole]])))
        kept.add(whole)
        file.unlink()
    assert kept == {0, 1, 2, 3}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_device_is_a_clear_error(suffix):
    """/dev/full refuses everything: BadCapture, no traceback of another kind."""
    refused = pytest.raises(BadCapture, match="cannot write /dev/full: no space")
    with Path("/dev/full").open("wb", buffering=0) as full, refused:
        output = open_output(full, suffix)
        output.write(design_rows().table())
        output.close()


@pytest.mark.parametrize("wanted", ["csv", "jsonl", "parquet", "tree", "line"])
def test_a_closed_pipe_passes_through(wanted):
    """Nobody reads any more: that is for the caller to handle quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as stream, pytest.raises(BrokenPipeError):  # noqa: PT012
        output = open_output(stream, wanted)
        output.write(design_rows().table())
        output.close()


def test_a_file_that_cannot_be_created(tmp_path):
    """No such folder: said with the file's name."""
    with pytest.raises(BadCapture, match=r"cannot create .*nowhere/x.csv: No such file"):
        open_output(tmp_path / "nowhere" / "x.csv")


def _file(tmp_path, suffix, paths=3):
    file = tmp_path / f"t.{suffix}"
    output = open_output(file)
    output.write(many(paths))
    output.close()
    return file


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_last_line_cut_short_is_left_out_and_counted(tmp_path, suffix):
    """After kill -9 everything up to the last whole line is there."""
    file = _file(tmp_path, suffix)
    whole = len(read_rows(file).rows)
    file.write_bytes(file.read_bytes()[:-20])
    got = read_rows(file)
    assert got.dropped_lines == 1
    assert len(got.rows) == whole - (1 if suffix == "csv" else 16)
    with pytest.warns(UserWarning, match="cut short"):
        tracer.read(file)


def test_a_csv_cut_inside_quotes_with_a_line_break(tmp_path):
    """A line break inside a quoted cell is no end of a line."""
    file = tmp_path / "t.csv"
    output = open_output(file)
    output.write(design_rows().row("drop", verdict="drop", reason="two\nlines").table())
    output.close()
    data = file.read_bytes()
    file.write_bytes(data[: data.index(b"two\n") + 6])
    got = read_rows(file)
    assert (len(got.rows), got.dropped_lines) == (16, 1)


BAD_FILES = [
    ("e.csv", b"", "it is empty"),
    ("e.parquet", b"", "it is empty"),
    ("f.csv", b"a,b\n1,2\n", "columns packet, step, ts_ns, hop, netns, … are missing"),
    ("f.csv", b"\x00\xff\xfe", "are missing"),
    ("g.csv", (",".join(NAMES) + "\n1,2,x\n").encode(), "damaged"),
    ("h.csv", (",".join(NAMES) + "\n" + "," * 41 + "\n").encode(), "column packet has empty values"),
    ("f.jsonl", b'{"a":1}\n', "line 1 has no 'schema'"),
    ("g.jsonl", b"\x00\xff\xfe\n", "damaged"),
    ("h.jsonl", b"[]\n", "damaged"),
    ("i.jsonl", b'{"schema":99}\n', "its schema is 99"),
    ("j.jsonl", b"hello", "damaged"),
    ("f.parquet", b"PAR1 and then nothing", "damaged"),
    ("g.parquet", b"hello hello hello hello", "damaged"),
]


@pytest.mark.parametrize(("name", "data", "words"), BAD_FILES)
def test_bad_files_are_refused_in_words(tmp_path, name, data, words):
    """Empty, foreign, damaged or too new: BadCapture with the file's name and what is wrong."""
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(BadCapture, match=f"cannot read {file}") as caught:
        read_rows(file)
    assert words in str(caught.value)


def test_a_foreign_parquet_names_what_is_missing(tmp_path):
    """Somebody else's Parquet is no capture."""
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(BadCapture, match="missing"):
        read_rows(tmp_path / "x.parquet")


def test_a_damaged_parquet_is_refused(tmp_path):
    """A truncated file has no footer; bytes changed inside it do not pass as rows of another kind."""
    file = _file(tmp_path, "parquet", 50)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(BadCapture, match="readable only once it is closed"):
        read_rows(file)


def test_a_bad_line_in_the_middle_is_named(tmp_path):
    """Only the last line may be cut short."""
    file = _file(tmp_path, "jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    with pytest.raises(BadCapture, match="line 2"):
        read_rows(file)


def test_other_suffixes_and_absent_files(tmp_path):
    """What can be read is listed; what is not there is said."""
    with pytest.raises(BadRequest, match=r"\.csv, \.jsonl, \.parquet"):
        read_rows(tmp_path / "x.txt")
    for suffix in FORMATS:
        with pytest.raises(BadCapture, match="no such file"):
            read_rows(tmp_path / f"absent.{suffix}")
        (tmp_path / f"folder.{suffix}").mkdir()
        with pytest.raises(BadCapture, match="cannot read"):
            read_rows(tmp_path / f"folder.{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
def test_read_gives_a_frame_with_nullable_columns(tmp_path, suffix):
    """Integers stay integers beside none, names are categories, all formats give the same frame."""
    frame = tracer.read(_file(tmp_path, suffix))
    assert tuple(frame.columns) == NAMES
    assert {name: str(frame[name].dtype) for name in ("rule", "sport", "netns")} == {
        "rule": "Int64",
        "sport": "Int32",
        "netns": "category",
    }
    assert frame[frame["event"] == "forward"]["out_dev"].tolist() == ["r1"] * 3
    assert frame["rule"].isna().sum() == len(frame) - 21


def test_importing_the_package_imports_nothing_heavy():
    """`fibtrace --help` must not wait for pandas or Arrow."""
    heavy = ("pandas", "pyarrow", "numpy", "rich")
    code = f"import sys, tracer, tracer.outputs.registry; print([m for m in {heavy} if m in sys.modules])"
    root = Path(tracer.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


class _SmallSink:
    """A file of limited size in memory."""

    encoding, terminal, name = "utf-8", False, "small"

    def __init__(self, size):
        self.size, self.data, self.position = size, b"", 0

    def write(self, data):
        if self.position + len(data) > self.size:
            raise BadCapture("no space left on device")
        self.data += bytes(data)
        self.position = len(self.data)

    def cut(self, position):
        self.data, self.position = self.data[:position], position

    def close(self):
        """Nothing is open."""


def test_parquet_gives_up_a_row_group_when_the_footer_needs_its_room(tmp_path):
    """With room for the groups and not for the footer, the last group makes way; the rest is a true file."""
    groups = [_group(seed) for seed in range(2)]
    whole = tmp_path / "whole.parquet"
    output = open_output(whole)
    for group in groups:
        output.write(group)
    output.close()
    data = whole.read_bytes()
    footer_bytes = int.from_bytes(data[-8:-4], "little") + 8
    for missing, kept in ((0, 2), (1, 1), (footer_bytes // 2, 1), (footer_bytes, 1)):
        sink = _SmallSink(len(data) - missing)
        output = ParquetOutput(sink)
        with contextlib.suppress(BadCapture):
            for group in groups:
                output.write(group)
            output.close()
        opened = pq.ParquetFile(io.BytesIO(sink.data))
        assert (opened.num_row_groups, opened.metadata.num_rows) == (kept, kept * len(groups[0]))
        assert opened.read().equals(pa.concat_tables(groups[:kept]))
