"""The page of a capture, in a real browser: what it shows is what `tracer.read` and the tree say."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

import tracer
from tests.replay.browser import chromium, open_page
from tests.unit.outputs.builder import Rows, design_rows, strange_rows, tunnel_rows
from tracer.outputs.registry import open_output
from tracer.replay import convert
from tracer.reporting import report

HERE = Path(__file__).parent
CAPTURES = sorted(HERE.glob("*.fibtrace"))
MOST = 200_000


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests; each has pages of its own."""
    with chromium() as started:
        yield started


@pytest.fixture
def shown(browser, tmp_path):
    """Makes the page of a capture and opens it; in the end no page has complained or asked for anything else."""
    pages = []

    def show(source, most=MOST, **context):
        target = tmp_path / f"{Path(source).name}.html"
        report(source, target, most)
        pages.append((open_page(browser, target, **context), target))
        return pages[-1][0]

    yield show
    for opened, target in pages:
        assert opened.said == []
        assert opened.asked == [target.as_uri()]
        opened.page.context.close()


def stored(table, tmp_path, suffix="parquet"):
    """A file with these rows."""
    file = tmp_path / f"made.{suffix}"
    output = open_output(file)
    output.write(table)
    output.close()
    return file


def trees_of(source):
    """The trees as the command line prints them, without the legend and what compares a path with the one before."""
    text = io.StringIO()
    convert(source, text, "tree")
    every = re.sub(r"^\* .*\n(?:  .*\n)*", "", text.getvalue(), flags=re.MULTILINE)
    return [tree for tree in every.split("\n\n") if tree.strip() and not tree.startswith("~ ")]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_every_tree_is_the_one_that_the_command_line_prints(capture, shown):
    """To the letter, for every path of every recorded capture."""
    assert shown(capture).trees() == trees_of(capture)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("rows", [strange_rows, tunnel_rows, design_rows])
def test_trees_of_strange_paths(rows, suffix, shown, tmp_path):
    """Losses, open ends, tunnels, repeated and cached decisions: the page says of them what the tree says."""
    file = stored(rows().table(), tmp_path, suffix)
    assert shown(file).trees() == trees_of(file)


def test_trees_differ_in_what_is_left_open(shown, tmp_path):
    """Processes and the packets that a cached decision refers to are those of each path, though trees are shared."""
    rows = Rows()
    for packet, pid in ((1, 7), (2, 8), (3, 12345), (4, 12346)):
        rows.path(packet).hop("c", "client").decide(
            "output", reason=f"cached: decided by #{packet + 10} (socket route)", result="unicast", dev="c0"
        )
        rows.end("send", "c0", pid=pid, comm="curl")
    file = stored(rows.table(), tmp_path)
    opened = shown(file)
    assert opened.trees() == trees_of(file)
    assert opened.js("data.trees.length") == 2
    assert "curl[12346]" in opened.trees()[3]
    assert "#14 (socket" in opened.trees()[3]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_figures_are_those_of_the_rows(capture, shown):
    """Packets and drops at the top; packets, lookups and hits of each rule, table, route and drop."""
    frame, opened = tracer.read(capture.with_suffix(".csv")), shown(capture)
    figures = opened.page.locator("#figures strong").all_inner_texts()
    dropped = frame[frame.event == "drop"].packet.nunique()
    assert figures[:3] == [str(frame.packet.nunique()), str(dropped), "0"]
    lookups = frame[frame.event == "lookup"]
    rules = {}
    for row in opened.js(
        "model.rules.rows.map((r) => [r.netns, String(r.rule), r.text, r.packets, r.lookups, r.hits, r.inferred])"
    ):
        rules[tuple(row[:3])] = row[3:]
    for key, group in lookups.groupby(["netns", "rule", "rule_text"], observed=True):
        hits = int((group.result == "hit").sum())
        assert rules[key[0], str(key[1]), key[2]] == [
            group.packet.nunique(),
            len(group),
            hits,
            int((group.evidence == "inferred").sum()),
        ]
    tables = {
        tuple(row[:2]): row[2:]
        for row in opened.js("model.tables.rows.map((r) => [r.netns, r.table, r.lookups, r.hits])")
    }
    for key, group in lookups.groupby(["netns", "table"], observed=True):
        assert tables[key] == [len(group), int((group.result == "hit").sum())]
    assert sum(row[0] for row in opened.js("model.drops.rows.map((r) => [r.packets])")) == dropped
    assert opened.js(
        "model.routes.rows.filter((r) => r.result === 'hit').reduce((n, r) => n + r.hits, 0)"
    ) == int((lookups.result == "hit").sum())


def test_a_click_sorts_and_words_filter(shown):
    """Rows stand in the order of the column that was clicked, then in the opposite one; only those with the words."""
    frame, opened = tracer.read(HERE / "errors-routed.csv"), shown(HERE / "errors-routed.fibtrace")
    took = frame.groupby("packet").ts_ns.agg(lambda times: int(times.max() - times.min()))
    header = opened.page.get_by_role("columnheader", name="Took (ms)")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert int(opened.rows()[0][0]) == took.idxmax()
    header.get_by_role("button").click()
    assert [float(row[7]) for row in opened.rows()] == sorted(float(row[7]) for row in opened.rows())
    first = frame[frame.event == "send"].iloc[0]
    opened.page.get_by_role("searchbox").fill(f"{first.src}:{first.sport} {first.proto}")
    about = frame[~frame.event.isin(["lookup", "decision"])].groupby("packet").first()
    either = [
        (about.src == first.src) & (about.sport == first.sport),
        (about.dst == first.src) & (about.dport == first.sport),
    ]
    wanted = about[(either[0] | either[1]) & (about.proto == first.proto)].index
    assert {int(row[0]) for row in opened.rows()} == set(wanted)
    assert 0 < len(wanted) < frame.packet.nunique()


def test_a_flow_is_selected_and_a_path_opened(shown):
    """Everything shows the packets of the flow only; a path opens by mouse and by keys, and closes by Escape."""
    frame, opened = tracer.read(HERE / "router-http.csv"), shown(HERE / "router-http.fibtrace")
    about = frame[~frame.event.isin(["lookup", "decision"])].groupby("packet").first()
    packets = about.groupby(["src", "sport", "dst", "dport"], observed=True).size()
    opened.tab("Flows")
    source, destination, _, number, _ = opened.rows()[0]
    opened.row(0)
    src, sport, dst, dport = *source.split(":"), *destination.split(":")
    assert int(number) == packets[src, int(sport), dst, int(dport)]
    assert opened.chosen() == f"{number} packets selected, 0 dropped"
    opened.tab("Paths")
    assert {(row[2], row[3]) for row in opened.rows()} == {(source, destination)}
    opened.row(1)
    number = int(opened.rows()[1][0])
    assert (
        opened.page.locator("#tree").inner_text().rstrip()
        == trees_of(HERE / "router-http.fibtrace")[number - 1]
    )
    assert opened.page.locator(".node.on").count() >= 3
    opened.page.keyboard.press("Escape")
    assert opened.page.locator("#detail").is_hidden()
    opened.page.keyboard.press("Home")
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("Enter")
    assert opened.page.locator("#detail-title").inner_text() == f"Path #{number}"
    opened.page.get_by_role("button", name="Select all").click()
    assert opened.chosen() == f"{frame.packet.nunique()} packets, 0 dropped"


def test_the_picture_and_the_drops_select(shown):
    """A click on a drop in the picture, or Enter on it, leaves the packets that ended there; so does a table's row."""
    frame, opened = tracer.read(HERE / "errors-routed.csv"), shown(HERE / "errors-routed.fibtrace")
    dropped = frame[frame.event == "drop"].packet.nunique()
    assert f"{dropped} dropped" in opened.chosen()
    node = opened.page.locator(".node.k-drop").first
    said = node.get_attribute("aria-label")
    node.click()
    number = int(said.rpartition(": ")[2].split(" ")[0])
    word = "packet" if number == 1 else "packets"
    assert opened.chosen() == f"{number} {word} selected, {number} dropped"
    opened.page.locator(".chip").click()
    opened.page.locator(".node.k-drop").first.focus()
    opened.page.keyboard.press("Enter")
    assert opened.chosen() == f"{number} {word} selected, {number} dropped"
    opened.page.locator(".chip").click()
    opened.tab("Drops")
    shown_drops = {(row[0], row[2]): int(row[3]) for row in opened.rows()}
    assert sum(shown_drops.values()) == dropped
    opened.row(0)
    assert opened.chosen().startswith(f"{opened.rows()[0][3]} packet")


def test_a_part_of_the_time_is_selected(shown):
    """By dragging over it and by typing it: the packets that began in it, no others."""
    frame, opened = tracer.read(HERE / "router-http.csv"), shown(HERE / "router-http.fibtrace")
    starts = frame.groupby("packet").ts_ns.min()
    offsets = (starts - starts.min()).astype("int64")
    middle = float(offsets.max()) / 2
    opened.page.locator("#from").fill("0")
    opened.page.locator("#to").fill(f"{middle / 1e9:.9f}")
    opened.page.get_by_role("button", name="Select", exact=True).click()
    early = int((offsets <= middle).sum())
    assert opened.chosen().startswith(f"{early} packets selected")
    opened.page.get_by_role("button", name="Select all").click()
    box = opened.page.locator("#timeline svg").bounding_box()
    opened.page.mouse.move(box["x"] + 60, box["y"] + 30)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 64 + (box["width"] - 78) / 2, box["y"] + 30, steps=4)
    opened.page.mouse.up()
    assert opened.chosen().startswith(f"{early} packets selected")
