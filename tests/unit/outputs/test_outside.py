"""Names from outside (devices, namespaces, processes) reach no terminal as commands and no spreadsheet as formulas."""

from __future__ import annotations

import io
import re

import pyarrow.csv as pacsv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.outputs.builder import design_rows
from tracer.cli.common import complain
from tracer.model.path import Path
from tracer.model.visible import made_visible, visible
from tracer.outputs.paths import paths
from tracer.outputs.read import read_rows
from tracer.outputs.registry import open_output
from tracer.outputs.tree import tree

NAMES = ("netns", "in_dev", "out_dev", "dev", "comm", "rule_text", "table", "reason")
EVIL = "\x1b[2J\x1b]0;x\x07\x9b31m\n#99 forged\r\u202e\x7f"
_UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


def rows(value):
    """The path of the design page with one name everywhere."""
    made = design_rows()
    return made.row("receive", **dict.fromkeys(NAMES, value)).table()


def written(table, wanted):
    text = io.StringIO()
    output = open_output(text, wanted)
    output.write(table)
    output.close()
    return text.getvalue()


@pytest.mark.parametrize("wanted", ["tree", "line"])
def test_names_cannot_command_a_terminal_nor_forge_a_line(wanted):
    """Controls are shown as text, a line break makes no line, and the name can still be recognised."""
    plain, evil = written(rows("name"), wanted), written(rows(EVIL), wanted)
    assert not _UNSAFE.search(evil)
    assert r"\x1b[2J" in evil
    assert plain.count("\n") == evil.count("\n")


def test_an_explained_path_is_safe_in_every_part():
    """Objects of paths, which `explain` shows, have no unsafe text left in them, at any depth."""
    (path,) = paths(rows(EVIL))
    assert _UNSAFE.search(tree(path))
    made = made_visible(path)
    assert isinstance(made, Path)
    assert not _UNSAFE.search(tree(made))


def test_an_error_that_names_a_device_is_safe(capsys):
    """What a message quotes does not reach the terminal as it is."""
    complain("no such device\n  there is: \x1b[2Jeth0", 2)
    assert capsys.readouterr().err == "error: no such device\n  there is: \\x1b[2Jeth0\n"


@given(st.text())
def test_printable_text_stays_and_no_control_is_left(text):
    """Whatever the text, what is shown has no control character; text without any is the same."""
    shown = visible(text)
    assert not _UNSAFE.search(shown)
    assert "\n" not in shown
    assert shown == text or not text.isprintable()


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "'", "''=1", "plain", "a=1"]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_cell_of_csv_is_a_formula_and_reading_gives_the_name_back(tmp_path, name):
    """The cell begins with an apostrophe where a spreadsheet would calculate; our reader returns what was."""
    file = tmp_path / "x.csv"
    output = open_output(file)
    output.write(rows(name))
    output.close()
    cells = pacsv.read_csv(
        file,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(column_types={"comm": "string"}),
    )
    cell = cells.column("comm").to_pylist()[-1]
    assert cell[0] not in "=+-@\t\r"
    assert (cell == name) is (name[0] not in "=+-@\t\r'")
    assert read_rows(file).rows.column("comm").to_pylist()[-1] == name


def test_files_keep_names_as_they_are(tmp_path):
    """Data is read back to the letter from every file, and JSON has its controls escaped."""
    for suffix in ("jsonl", "csv", "parquet"):
        file = tmp_path / f"x.{suffix}"
        output = open_output(file)
        output.write(rows(EVIL))
        output.close()
        back = read_rows(file).rows
        assert [back.column(name).to_pylist() for name in NAMES] == [
            rows(EVIL).column(name).to_pylist() for name in NAMES
        ]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", written(rows(EVIL), "jsonl"))
