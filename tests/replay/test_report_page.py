"""The page against hostile names, many paths, and every size of window."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.replay.browser import chromium, open_page
from tests.unit.outputs.builder import Rows, hit, many
from tracer.model.change import Change
from tracer.outputs.registry import open_output
from tracer.reporting import report

EVIL = '</script><script>document.title="owned"</script><img src=x onerror="document.title=1">'
OTHERS = ["<!--", "\u2028\u2029", "a&lt;b", "${1}`", "\ue000\ue100\ue201", "]]>", "'\"><b>x</b>"]

MEASURED = """
from tracer.cli.main import app
app(standalone_mode=False)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests of this file."""
    with chromium() as started:
        yield started


def stored(table, file):
    """A file with these rows."""
    output = open_output(file)
    output.write(table)
    output.close()
    return file


def hostile(name):
    """Paths in which every name from outside is this one."""
    rows = Rows()
    for packet in (1, 2):
        rows.path(packet, name, name, proto=name, info=name).hop(name, "router").receive(name)
        found = hit(7, name, name.replace(" ", "_") and "77", "10.0.0.0/8 dev d")
        rows.decide(
            "input",
            {**found, "table": name, "dev": name, "prefix": name, "gateway": name},
            reason=name,
            caller=name,
        )
        rows.end("drop" if packet == 1 else "deliver", name, reason=name, pid=5, comm=name)
    return rows.table()


@pytest.mark.parametrize("name", [EVIL, *OTHERS])
def test_names_are_text_wherever_they_stand(name, browser, tmp_path):
    """Nothing in a capture becomes markup or script; it is shown as it is, private characters as U+FFFD."""
    target = tmp_path / "page.html"
    report(stored(hostile(name), tmp_path / "evil.parquet"), target, 1000, title=name)
    opened = open_page(browser, target)
    clean = "".join("\ufffd" if "\ue000" <= letter <= "\ue2ff" else letter for letter in name)
    for view in opened.js("page.views.map((view) => view.name)"):
        opened.tab(view)
        assert opened.rows()
        opened.row(0)
    opened.tab("Paths")
    opened.row(0)
    assert clean in opened.page.locator("#tree").text_content()
    assert clean in opened.rows()[0][5]
    assert opened.page.locator("#name").text_content() == name
    assert opened.page.title() == f"{name}: paths of packets".replace("\u2028", "\u2028")
    assert opened.page.locator("img, b, iframe").count() == 0
    assert opened.page.locator("script").count() == 1
    assert opened.said == []
    assert opened.asked == [target.as_uri()]


def test_the_policy_of_the_page_stops_scripts_and_requests(browser, tmp_path):
    """Even a script that got into the page would not run, and nothing can be fetched."""
    target = tmp_path / "page.html"
    report(stored(hostile("x"), tmp_path / "x.parquet"), target, 1000)
    opened = open_page(browser, target)
    opened.page.evaluate(
        "const made = document.createElement('script'); made.textContent = 'window.ran = 1';"
        "document.body.append(made)"
    )
    assert opened.page.evaluate("window.ran") is None
    assert (
        opened.page.evaluate("fetch('http://192.0.2.1/').then(() => 'fetched', () => 'refused')") == "refused"
    )
    assert any("Content Security Policy" in text for text in opened.said)


def test_a_hundred_thousand_paths(browser, tmp_path, capsys):
    """The page is small and answers at once; only the rows in sight are in the document."""
    number, target = 100_000, tmp_path / "page.html"
    source = stored(many(number), tmp_path / "many.parquet")
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "report", str(source), "-o", str(target)],
        capture_output=True,
        text=True,
        check=True,
    )
    made_s, size_mb = time.monotonic() - begun, target.stat().st_size / 1e6
    memory_mb = int(done.stdout) / 1024
    begun = time.monotonic()
    opened = open_page(browser, target)
    ready_s = time.monotonic() - begun
    assert opened.chosen() == "100,000 packets, 0 dropped"
    begun = time.monotonic()
    opened.page.get_by_role("columnheader", name="Source").get_by_role("button").click()
    opened.page.get_by_role("searchbox").fill("curl nothing")
    opened.page.get_by_role("searchbox").fill("")
    clicks_s = time.monotonic() - begun
    opened.page.locator(".grid").focus()
    opened.page.keyboard.press("End")
    assert opened.page.locator("#row99999").is_visible()
    assert len(opened.rows()) < 60
    assert opened.said == []
    with capsys.disabled():
        print(
            f"\nreport of 100,000 paths: {made_s:.1f} s, {memory_mb:.0f} MB of memory, {size_mb:.1f} MB;",
            end=" ",
        )
        print(f"opened in {ready_s:.1f} s, three clicks {clicks_s:.1f} s")
    assert size_mb < 20
    assert made_s < 20
    assert memory_mb < 500


def test_a_sample_is_said_to_be_one(browser, tmp_path):
    """What was dropped is in it; the figures at the top are of all packets, and the page says what it shows."""
    rows = Rows()
    for packet in range(1, 101):
        rows.path(packet).hop("r", "router").receive("r0")
        rows.end("drop", reason="no route to 10.9.9.9 (X)") if packet % 25 == 0 else rows.end("deliver")
    target = tmp_path / "page.html"
    done = report(stored(rows.table(), tmp_path / "x.parquet"), target, 20)
    opened = open_page(browser, target)
    assert (done.paths, done.listed) == (100, 20)
    assert opened.page.locator("#figures strong").all_inner_texts()[:2] == ["100", "4"]
    assert "a sample: 20 of 100 packets" in opened.page.locator("#notices").inner_text()
    assert opened.chosen() == "20 packets, 4 dropped"
    assert sorted(set(opened.js("[...data.columns.packet]")) & {25, 50, 75, 100}) == [25, 50, 75, 100]


def test_a_capture_without_packets_has_a_page(browser, tmp_path):
    """It says so, and nothing fails."""
    target, source = tmp_path / "page.html", tmp_path / "none.jsonl"
    source.write_text("")
    report(source, target, 10)
    opened = open_page(browser, target)
    assert "holds no packets" in opened.page.locator("#notices").inner_text()
    assert opened.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1000, 1900])
def test_the_page_fits_its_window(width, scheme, browser, tmp_path):
    """Nothing but the picture and the tables scrolls sideways, and every control has a name."""
    target = tmp_path / "page.html"
    report(stored(many(30), tmp_path / "x.parquet"), target, 1000)
    opened = open_page(browser, target, viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.row(3)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    controls = "[...document.querySelectorAll('button, input, [role=button]')]"
    named = "(one) => one.ariaLabel || one.textContent.trim() || (one.labels && one.labels.length)"
    assert opened.page.evaluate(f"{controls}.length") > 20
    assert opened.page.evaluate(f"{controls}.every({named})")
    assert opened.said == []


def test_it_prints(browser, tmp_path):
    """On paper everything selected is there, without what only a screen needs."""
    target = tmp_path / "page.html"
    report(stored(many(30), tmp_path / "x.parquet"), target, 1000)
    opened = open_page(browser, target)
    opened.page.emulate_media(media="print")
    assert opened.page.locator("#find").is_hidden()
    assert opened.page.locator("#picture svg").is_visible()
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert len(opened.rows()) == 30
    assert opened.page.pdf()[:5] == b"%PDF-"


def test_changes_stand_on_the_timeline_and_in_a_table(browser, tmp_path):
    """A change of the configuration has its mark and its row; opening the row selects the time around it."""
    target, source = tmp_path / "page.html", tmp_path / "x.jsonl"
    table, begin_ns = many(50), int(many(1).column("ts_ns")[0].as_py())
    output = open_output(source)
    output.write(table)
    text = f"- rule 100: from all lookup {EVIL}"
    output.tell([Change(begin_ns + 10_000, begin_ns, 4026532301, "rule", "delete", text, "r", 812, "ip")])
    output.close()
    report(source, target, 1000)
    opened = open_page(browser, target)
    assert opened.page.locator(".change").count() == 1
    opened.page.locator(".change").focus()
    opened.page.keyboard.press("Enter")
    assert [row[2:] for row in opened.rows()] == [["r", "rule", text, "ip[812]"]]
    opened.row(0)
    assert opened.page.locator(".chip").count() == 1
    assert opened.said == []
