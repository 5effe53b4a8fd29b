"""What each format promises: its look, its round trip, its speed on many rows."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.outputs.builder import Rows, design_rows, hit, lookup, many, strange_rows
from tracer.errors import BadRequest
from tracer.model.columns import NAMES
from tracer.outputs.parquet import GROUP_ROWS
from tracer.outputs.read import read_rows
from tracer.outputs.registry import convert, open_output
from tracer.outputs.schema import conform

FORMATS = ("csv", "jsonl", "parquet")
TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
WORD = st.sampled_from(
    ["r0", "", 'a"b', "a,b", "a\nb", "a\r\n", " x ", "NULL", "nan", "1e5", "äß→", "true", "\\"]
)
INT32 = st.none() | st.integers(-(2**31), 2**31 - 1)
INT64 = st.none() | st.integers(-(2**63), 2**63 - 1)
LOOKUP = st.builds(
    lookup,
    INT64,
    TEXT | WORD,
    st.none() | st.sampled_from(["main", "77"]),
    st.sampled_from(["hit", "miss", "throw", "suppressed"]),
    dev=TEXT | WORD,
    prefix=TEXT,
    scope=WORD,
    evidence=st.sampled_from(["observed", "inferred"]),
    uid=INT64,
    iif=INT32,
    src=WORD,
    netns=TEXT,
    ts_ns=st.integers(0, 2**63 - 1),
)


def _same(file, table):
    assert read_rows(file).rows.select(list(NAMES)).to_pylist() == conform(table).to_pylist()


def _write(file, *tables):
    output = open_output(file)
    for table in tables:
        output.write(table)
    output.close()
    return file


@st.composite
def _tables(draw):
    rows = Rows()
    for packet in draw(st.lists(st.integers(0, 2**62), max_size=3, unique=True)):
        rows.path(
            packet,
            draw(WORD),
            "b",
            sport=draw(INT32),
            mark=draw(INT64),
            info="x",
            lost=draw(st.integers(0, 9)),
        )
        for _ in range(draw(st.integers(1, 3))):
            rows.hop(draw(WORD), draw(st.none() | st.just("router")), draw(INT64))
            if draw(st.booleans()):
                rows.receive(draw(WORD))
            for lookups in draw(st.lists(st.lists(LOOKUP, max_size=3), max_size=2)):
                rows.decide("input", *lookups, reason=draw(TEXT), mark=draw(INT64))
                if draw(st.booleans()):
                    rows.row("send", out_dev=draw(WORD), tos=draw(INT32))
            if draw(st.booleans()) or not rows.rows or rows.rows[-1]["packet"] != packet:
                rows.end(
                    draw(st.sampled_from(["send", "drop"])), draw(WORD), reason=draw(TEXT), comm=draw(TEXT)
                )
    return rows.table()


@pytest.mark.parametrize("suffix", FORMATS)
@given(table=_tables())
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_rows_come_back_as_they_were(tmp_path, suffix, table):
    """rows -> file -> rows is the identity on the contract's columns, whatever stands in them."""
    _same(_write(tmp_path / f"t.{suffix}", table), table)


@pytest.mark.parametrize("suffix", FORMATS)
def test_batches_are_appended(tmp_path, suffix):
    """Two batches with other dictionaries make one file; an empty one changes nothing."""
    first, second = design_rows(1).table(), strange_rows().table()
    both = strange_rows(design_rows(1)).table()
    file = _write(tmp_path / f"t.{suffix}", first, first.slice(0, 0), second)
    got = read_rows(file).rows.drop_columns(["ts_ns"]).select([n for n in NAMES if n != "ts_ns"])
    assert got.to_pylist() == conform(both).drop_columns(["ts_ns"]).to_pylist()


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_convert_keeps_the_rows(tmp_path, source, target):
    """Each format becomes each other without a difference."""
    table = strange_rows(design_rows()).table()
    file = _write(tmp_path / f"in.{source}", table)
    done = convert(file, tmp_path / f"out.{target}")
    assert (done.rows, done.dropped_lines) == (len(table), 0)
    _same(tmp_path / f"out.{target}", table)


def test_csv_is_what_other_programs_expect(tmp_path):
    """Python's own csv reads it: header, one line per row, quotes only where needed."""
    file = _write(tmp_path / "t.csv", strange_rows().table())
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert tuple(rows[0]) == NAMES
    assert rows[0]["event"] == "receive"
    assert rows[0]["rule"] == ""
    assert {row["comm"] for row in rows} >= {'a "b",c', ""}
    assert (
        file.read_text()
        .splitlines()[1]
        .startswith("1,1,1764000000000001000,1,router,4026532301,router,receive,,,")
    )


def test_jsonl_has_the_contracts_keys(tmp_path):
    """An object begins as the design shows it, with the same keys in the same order."""
    file = _write(tmp_path / "t.jsonl", design_rows().table())
    (line,) = file.read_text().splitlines()
    made = json.loads(line)
    assert list(made) == ["schema", "packet", "start_ns", "complete", "lost", "flow", "hops"]
    assert list(made["flow"]) == ["family", "src", "dst", "proto", "sport", "dport", "mark", "tos"]
    hop = made["hops"][1]
    assert list(hop)[:9] == [
        "netns", "netns_inode", "role", "in_dev", "out_dev", "verdict", "reason", "process", "decisions",
    ]  # fmt: skip
    assert list(hop["decisions"][0])[:6] == ["purpose", "caller", "cached", "result", "evidence", "lookups"]
    found = hop["decisions"][0]["lookups"][1]
    assert list(found) == [
        "rule", "rule_text", "table", "table_id", "walked_table_id", "result", "prefix", "gateway", "dev",
        "route_type", "scope", "error", "evidence", "ts_ns",
    ]  # fmt: skip
    assert (found["rule"], found["table_id"], found["gateway"], found["error"]) == (100, 100, "10.2.0.2", 0)


def test_parquet_has_one_schema_and_large_row_groups(tmp_path):
    """Small batches are collected; the schema's version is in the metadata."""
    table = many(10_000)
    file = tmp_path / "t.parquet"
    _write(file, *(table.slice(begin, 1600) for begin in range(0, len(table), 1600)))
    opened = pq.ParquetFile(file)
    assert opened.num_row_groups == len(table) // GROUP_ROWS + 1 == 3
    assert opened.schema_arrow.metadata[b"fibtrace.schema"] == b"1"
    _same(file, table)


def test_parquet_without_rows_is_a_file_of_no_rows(tmp_path):
    """A trace that saw nothing still leaves a readable file."""
    assert len(read_rows(_write(tmp_path / "t.parquet")).rows) == 0
    assert len(read_rows(_write(tmp_path / "t.csv")).rows) == 0


@pytest.mark.parametrize("name", ["x.txt", "x", "x.fibtrace", "-"])
def test_unknown_suffix_says_what_is_possible(tmp_path, name):
    """A name that chooses no format is a usage error, and no file appears."""
    target = name if name == "-" else tmp_path / name
    with pytest.raises(BadRequest, match=r"csv.*jsonl.*parquet"):
        open_output(target)
    assert not list(tmp_path.iterdir())


def test_streams_need_a_format_and_are_not_closed():
    """CSV, tree and line can go to any open stream."""
    with pytest.raises(BadRequest, match="possible"):
        open_output(io.StringIO(), "xml")
    for wanted in ("csv", "jsonl", "tree", "line"):
        stream = io.StringIO()
        output = open_output(stream, wanted)
        output.write(design_rows().table())
        output.close()
        assert "10.2.0.2" in stream.getvalue()
    binary = io.BytesIO()
    output = open_output(binary, "parquet")
    output.write(design_rows().table())
    output.close()
    assert pq.read_table(io.BytesIO(binary.getvalue())).num_rows == 16


def test_a_missing_column_is_a_mistake_in_the_caller(tmp_path):
    """Rows that lack a column are refused by name, not written with a hole."""
    with pytest.raises(ValueError, match="netns_inode"):
        open_output(tmp_path / "x.csv").write(design_rows().table().drop_columns(["netns_inode"]))


def test_hit_builds_what_the_columns_mean():
    """The builder's own reading of a route."""
    assert hit(1, "t", "main", "10.0.0.0/8 via 10.0.0.1 dev x")["gateway"] == "10.0.0.1"
