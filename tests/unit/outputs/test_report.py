"""What a page is made from: kinds of drops, parts of a capture, what is kept of too much, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.outputs.builder import Rows, many, strange_rows, tunnel_rows
from tracer.errors import BadCapture, BadRequest
from tracer.model.relay import CERTAIN, FROM, Relay, to_text
from tracer.outputs.paths import paths
from tracer.outputs.read import read_rows
from tracer.outputs.registry import open_output
from tracer.outputs.report import source as source_of_parts
from tracer.outputs.report.coding import kind_of_drop, split_reference
from tracer.outputs.report.collect import Budget, Collector
from tracer.outputs.report.page import asset, chosen
from tracer.outputs.report.source import parts
from tracer.outputs.report.trees import body
from tracer.reporting import report

KINDS = {
    "drop: source check failed: 10.1.0.2 is reached through r1 (rule 100, table 100), the packet came in on r0 "
    "(SKB_DROP_REASON_IP_RPFILTER in f)": "source check failed (SKB_DROP_REASON_IP_RPFILTER in f)",
    "no route to 10.9.9.9 (SKB_DROP_REASON_IP_INNOROUTES)": "no route to … (SKB_DROP_REASON_IP_INNOROUTES)",
    "no route to 2001:db8::9 (X)": "no route to … (X)",
    "blackhole route 10.4.0.0/16 (rule 100, table 7) (freed in f)": "blackhole route 10.4.0.0/16 (rule 100, table 7) "
    "(freed in f)",
    "rule 103 (from all to 10.4.3.0/24 prohibit) says prohibit (X in ip_error)": "rule 103 (from all to 10.4.3.0/24 "
    "prohibit) says prohibit (X in ip_error)",
    "the TTL ran out (X)": "the TTL ran out (X)",
    "": "",
}


def stored(table, file):
    """A file with these rows."""
    output = open_output(file)
    output.write(table)
    output.close()
    return file


@pytest.mark.parametrize(("reason", "kind"), KINDS.items())
def test_drops_of_one_kind_differ_only_in_their_packets(reason, kind):
    """Addresses of packets and details go; rules, routes and the kernel's reason stay."""
    assert kind_of_drop(reason) == kind


def test_references_are_left_open():
    """Only the number of another packet is taken out of a reason."""
    assert split_reference("cached: decided by #17 (socket route)") == (
        "cached: decided by #",
        17,
        " (socket route)",
    )
    assert split_reference("no lookup") == ("no lookup", -1, "")


@pytest.mark.parametrize("made", [strange_rows, tunnel_rows])
def test_a_tree_is_shared_by_paths_that_differ_in_numbers_only(made):
    """Other packet numbers and process ids of the same width give the same open text; a wider one does not."""
    for path in paths(made().table()):
        assert body(replace(path, packet=path.packet + 1)).text == body(path).text
        processes = [hop for hop in path.hops if hop.process and hop.process.pid]
        if processes:
            changed = [
                replace(hop, process=replace(hop.process, pid=int("9" * len(str(hop.process.pid)))))
                if hop in processes
                else hop
                for hop in path.hops
            ]
            assert body(replace(path, hops=tuple(changed))).text == body(path).text


def test_ways_and_flows_are_counted_once():
    """A thousand packets that went one way are one way with one tree, and as many flows as they have ports."""
    collector = Collector(Budget())
    collector.add(many(1000))
    found = collector.found
    assert (found.paths, len(found.ways), len(found.bodies)) == (1000, 1, 1)
    ports = set(np.unique(many(1000).column("sport").to_numpy()))
    assert {flow[3] for flow in found.flows} == ports


def test_batches_do_not_matter():
    """One path at a time or all at once: the same ways, trees and figures."""
    table, whole, single = strange_rows().table(), Collector(Budget()), Collector(Budget())
    whole.add(table)
    packet = table.column("packet").to_numpy()
    ends = [*(np.flatnonzero(packet[1:] != packet[:-1]) + 1).tolist(), len(packet)]
    for begin, end in zip([0, *ends], ends, strict=False):
        single.add(table.slice(begin, end - begin))
    assert told(whole.found) == told(single.found)
    assert len(told(whole.found)) == len(list(paths(table)))


def told(found):
    """Of each path its steps in words, its tree and its own columns."""
    columns = {name: np.concatenate(values).tolist() for name, values in found.columns.items()}
    words = [tuple(found.strings.values[number] for number in step) for step in found.steps]
    own = [name for name in columns if name not in {"way", "tree", "flow", "pids", "refs", "info"}]
    return [
        ([words[step] for step in found.ways[way]], found.bodies[tree], [columns[name][at] for name in own])
        for at, (way, tree) in enumerate(zip(columns["way"], columns["tree"], strict=True))
    ]


def test_trees_beyond_the_budget_are_said_to_be_of_another_path():
    """Each way keeps one tree, which others show as not their own; beyond even that there is none."""
    rows = Rows()
    for packet in range(1, 9):
        dev = "r0" if packet < 7 else f"r{packet}"
        rows.path(packet).hop("r", "router").receive(dev).end("deliver", pid=10**packet, comm="x")
    collector = Collector(Budget(trees=2, trees_of_ways=3))
    collector.add(rows.table())
    columns = {name: np.concatenate(values).tolist() for name, values in collector.found.columns.items()}
    assert columns["exact"] == [True, True, False, False, False, False, True, False]
    assert columns["tree"] == [0, 1, 0, 0, 0, 0, 2, -1]


def test_of_too_many_paths_those_that_went_wrong_are_kept():
    """Drops and open ends come first, up to half of the list; the others are spread evenly."""
    dropped, incomplete = np.zeros(1000, bool), np.zeros(1000, bool)
    dropped[[3, 500]], incomplete[[77]] = True, True
    kept = chosen(dropped, incomplete, 100)
    assert len(kept) == len(set(kept.tolist())) == 100
    assert {3, 77, 500} <= set(kept.tolist())
    assert np.diff(kept).max() < 25
    assert len(chosen(~incomplete, incomplete, 100)) <= 100
    assert chosen(dropped, incomplete, 1000).tolist() == list(range(1000))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_parts_are_of_whole_paths_and_together_the_file(suffix, tmp_path, monkeypatch):
    """However small the parts: the rows are those of the file, and no path is split."""
    monkeypatch.setattr(source_of_parts, "_PART_BYTES", {".csv": 9_000, ".jsonl": 9_000})
    monkeypatch.setattr("tracer.outputs.parquet.GROUP_ROWS", 50)
    file = stored(many(60), tmp_path / f"x.{suffix}")
    found = [part.rows for part in parts(file)]
    assert len([rows for rows in found if len(rows)]) > 5
    seen = [set(rows.column("packet").to_pylist()) for rows in found]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 60
    together = [row for rows in found for row in rows.column("ts_ns").to_pylist()]
    assert together == read_rows(file).rows.column("ts_ns").to_pylist()


def test_a_part_that_cannot_be_read_is_told_with_its_line(tmp_path, monkeypatch):
    """The message is that of reading the whole file, and nothing is written over what was there."""
    monkeypatch.setattr(source_of_parts, "_PART_BYTES", {".csv": 9_000, ".jsonl": 9_000})
    file, target = stored(many(60), tmp_path / "x.jsonl"), tmp_path / "page.html"
    lines = file.read_bytes().split(b"\n")
    lines[41] = b'{"schema":1,"packet":'
    file.write_bytes(b"\n".join(lines))
    target.write_text("precious")
    with pytest.raises(BadCapture, match="line 42"):
        report(file, target, 10)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_capture_that_is_cut_short_is_reported_and_said_to_be(suffix, tmp_path):
    """What was whole is on the page."""
    file = stored(many(10), tmp_path / f"x.{suffix}")
    file.write_bytes(file.read_bytes()[:-30])
    done = report(file, tmp_path / "page.html", 10)
    assert done.cut_short
    assert done.paths in {9, 10}


def test_what_cannot_be_reported_is_refused(tmp_path):
    """A file that is not there, one of another kind, the capture itself as the page, a place that is none."""
    file, other = stored(many(1), tmp_path / "x.csv"), tmp_path / "x.txt"
    other.write_text("x")
    with pytest.raises(BadCapture, match="no such file"):
        report(tmp_path / "none.csv", tmp_path / "page.html", 10)
    with pytest.raises(BadRequest, match="unknown suffix"):
        report(other, tmp_path / "page.html", 10)
    with pytest.raises(BadRequest, match="the capture itself"):
        report(file, file, 10)
    with pytest.raises(BadCapture, match="cannot create"):
        report(file, tmp_path / "nowhere" / "page.html", 10)


def luminance(colour):
    """Of a colour, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_words_can_be_read():
    """Every colour of text on every ground it stands on has at least the contrast that WCAG asks for (4.5)."""
    blocks = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in asset("page.css").split("}")
    ]
    palettes = [palette for palette in blocks if {"text", "sheet", "device"} <= palette.keys()]
    assert len(palettes) == 3
    assert palettes[1] == palettes[2]
    grounds = {
        "text": (
            "ground",
            "sheet",
            "mark",
            "hover",
            "share",
            "device",
            "socket",
            "rule",
            "table",
            "cached",
            "drop",
        ),
        "dim": ("ground", "sheet", "box", "rule", "cached", "drop", "hover"),
        **dict.fromkeys(("bad", "good", "warn"), ("sheet", "mark", "hover")),
        "accent": ("ground", "hover"),
    }
    for palette in palettes:
        for text, below in grounds.items():
            for ground in below:
                light, dark = sorted((luminance(palette[text]), luminance(palette[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, palette[text], palette[ground])


def test_relayed_packets_have_trees_of_their_own():
    """Packets of one way that were relayed in different others share no tree: each names its own."""
    table = Rows()
    for packet in (1, 2, 3):
        table.path(
            packet, relays=to_text([Relay(FROM, packet + 40, 5, "vpn", CERTAIN)]) if packet < 3 else None
        )
        table.hop("r", "router").receive("r0").end("deliver")
    collector = Collector(Budget())
    collector.add(table.table())
    assert len(collector.found.ways) == 1
    said = ["from #41, relayed by vpn[5]", "from #42, relayed by vpn[5]", ""]
    assert len(collector.found.bodies) == 3
    for one, words in zip(collector.found.bodies, said, strict=True):
        assert ("relayed" in one.text, words in one.text) == (bool(words), True)
