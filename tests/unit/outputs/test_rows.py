"""Distinct rows are kept once and gathered by number, column by column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tracer.model.columns import COLUMNS, INTERNAL
from tracer.outputs import rows
from tracer.outputs.rows import DYNAMIC, Statics, table
from tracer.outputs.schema import arrow_field

FIELDS = {column.name: column for column in (*COLUMNS, *INTERNAL)}


def dynamic(count, **columns):
    zero = np.zeros(count, np.int64)
    return {**dict.fromkeys(DYNAMIC, zero), "complete": np.ones(count, bool), "relays": zero - 1, **columns}


def test_rows_are_numbered_as_they_are_added_and_gathered_in_any_order():
    """Also more often than once."""
    statics = Statics()
    assert [statics.add({"netns": name, "error": -n}) for n, name in enumerate("abc")] == [0, 1, 2]
    assert statics.gather("netns", np.array([2, 0, 2])).to_pylist() == ["c", "a", "c"]
    assert statics.gather("error", np.array([2, 0, 2])).to_pylist() == [-2, 0, -2]


def test_rows_may_be_added_after_some_were_gathered():
    """New texts join the dictionary, old numbers stay."""
    statics = Statics()
    statics.add({"rule_text": "from all"})
    assert statics.gather("rule_text", np.array([0])).to_pylist() == ["from all"]
    statics.add({"rule_text": "from 10.0.0.0/8"})
    statics.add({"rule_text": "from all"})
    assert statics.gather("rule_text", np.array([1, 2, 0])).to_pylist() == [
        "from 10.0.0.0/8",
        "from all",
        "from all",
    ]


def test_what_is_absent_is_empty_and_zero_is_not():
    """None, 0, and an empty text are three things."""
    statics = Statics()
    statics.add({})
    statics.add({"mark": 0, "comm": "", "cached": False})
    both = np.array([0, 1])
    assert statics.gather("mark", both).to_pylist() == [None, 0]
    assert statics.gather("comm", both).to_pylist() == [None, ""]
    assert statics.gather("cached", both).to_pylist() == [None, False]


def test_the_largest_numbers_fit():
    """Marks and user ids have 32 bits, inodes more."""
    statics = Statics()
    statics.add({"mark": 2**32 - 1, "uid": 2**32 - 1, "netns_inode": 2**40, "error": -113})
    only = np.array([0])
    values = [statics.gather(name, only).to_pylist()[0] for name in ("mark", "uid", "netns_inode", "error")]
    assert values == [2**32 - 1, 2**32 - 1, 2**40, -113]


def test_a_table_has_the_types_of_the_catalogue():
    """In its order, whatever the rows hold."""
    statics = Statics()
    statics.add({"event": "receive", "evidence": "observed"})
    built = table(statics, np.array([0, 0]), dynamic(2, packet=np.array([7, 8])), ["10.0.0.1"], [])
    assert built.schema == pa.schema([arrow_field(column) for column in FIELDS.values()])
    assert built["packet"].to_pylist() == [7, 8]
    assert built["event"].to_pylist() == ["receive", "receive"]


def test_ports_and_decisions_of_zero_are_empty_but_losses_are_not():
    """A packet without ports has none; no loss is a zero."""
    statics = Statics()
    statics.add({"event": "receive"})
    built = table(
        statics,
        np.array([0, 0]),
        dynamic(2, sport=np.array([0, 53]), dport=np.array([80, 0]), decision=np.array([0, 1])),
        ["10.0.0.1"],
        [],
    )
    assert built["sport"].to_pylist() == [None, 53]
    assert built["dport"].to_pylist() == [80, None]
    assert built["decision"].to_pylist() == [None, 1]
    assert built["lost"].to_pylist() == [0, 0]


def test_no_rows_are_an_empty_table():
    """With all columns."""
    built = table(Statics(), np.zeros(0, np.int64), dynamic(0), [], [])
    assert (len(built), built.column_names) == (0, list(FIELDS))


def test_many_distinct_rows_make_it_full(monkeypatch):
    """The caller begins a new one then."""
    monkeypatch.setattr(rows, "_LIMIT", 2)
    statics = Statics()
    for number in range(3):
        assert not statics.full
        statics.add({"mark": number})
    assert statics.full


def test_relays_are_numbers_in_their_list():
    """A negative number is none."""
    statics = Statics()
    statics.add({"event": "receive", "evidence": "observed"})
    built = table(statics, np.array([0, 0]), dynamic(2, relays=np.array([-1, 0])), ["10.0.0.1"], ["[]"])
    assert built["relays"].to_pylist() == [None, "[]"]
