"""The article: its links lead somewhere, its commands exist, its pictures are those of the script and readable."""

from __future__ import annotations

import re
import shlex
from xml.etree import ElementTree as ET

import pytest
from articlelib import pictures
from articlelib.lives import LIVES
from articlelib.page import figures, normal, rewrite

SVG = "{http://www.w3.org/2000/svg}"
CHARACTER = {"name": 0.62, "page": 0.62, "soft": 0.56}
"""Width of a character as a part of its height, generously; monospaced text has 0.6 of 12 pixels."""


@pytest.fixture(scope="module")
def page(top) -> str:
    """The article's text."""
    return (top / "docs" / "how-linux-routes-packets.md").read_text(encoding="utf-8")


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_links_of_the_article_lead_somewhere(top, page):
    """Each link within the page names a heading, each other one a file."""
    headings = {slug(line.lstrip("#")) for line in re.findall(r"^#+ .*$", page, re.MULTILINE)}
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) > 20
    within = {link[1:] for link in links if link.startswith("#")}
    assert within - headings == set()
    files = {link for link in links if not link.startswith("#")}
    assert {link for link in files if not (top / "docs" / link).exists()} == set()


def test_every_figure_has_commands_and_what_they_printed(page):
    """No figure of the article is empty, each shows the very commands that make it, and none was typed by hand."""
    found = figures(page)
    assert len(found) > 30
    for figure in found:
        shown = re.match(r"```sh\n(.*?)\n```\n\n```text\n(.+)\n```\n$", figure.body, re.DOTALL)
        assert shown, figure.name
        assert shown[1].splitlines() == [f"sudo {line}" for line in figure.run]
    outside = rewrite(page, lambda _: "")
    assert not re.search(r"^#\d+  \S+ → ", outside, re.MULTILINE), "a packet that no command made"


def test_scripts_of_the_article_exist(top, page):
    """Each script that a figure runs is an executable file, and each file in docs/article is used."""
    used = {word for figure in figures(page) for line in figure.run for word in shlex.split(line)}
    used = {word for word in used if word.startswith("docs/article/")}
    assert all((top / word).stat().st_mode & 0o111 for word in used)
    pictured = {f"docs/article/{life.name}.svg" for life in LIVES}
    there = {str(path.relative_to(top)) for path in (top / "docs" / "article").iterdir()}
    assert there == used | pictured


def test_what_is_made_is_taken_away(page):
    """A figure that builds something ends with removing it."""
    for figure in figures(page):
        if any(re.search(r"\bup\b", line) for line in figure.run):
            assert re.search(r"\bdown\b", figure.run[-1]), figure.name


def test_only_what_changes_by_itself_is_ignored():
    """Times, numbers, ports and process ids may differ between runs; rules, routes, servers' ports may not."""
    one = (
        "#7  10.1.0.2:33928 → 10.2.0.2:9000  udp      0.087 ms\n└─ c   client   curl[21] send   decided by #4"
    )
    two = "#12  10.1.0.2:51001 → 10.2.0.2:9000  udp   10.112 ms\n└─ c   client   curl[9] send  decided by #11"
    assert normal(one) == normal(two)
    for old, new in (("9000", "9001"), ("client", "router"), ("10.2.0.2", "10.2.0.3"), ("curl", "wget")):
        assert normal(one.replace(old, new)) != normal(one)


def test_pictures_are_those_of_the_script(top):
    """The pictures in the repository are what `scripts/article --pictures` draws."""
    assert pictures.write(top / "docs" / "article", check=True) == []


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
def test_a_picture_has_no_overlaps(life):
    """No box touches another, and every text stays inside its box or, outside of boxes, inside the picture."""
    left, right = pictures.place(life)
    boxes = [(one.x, one.y, one.x + pictures.WIDTH, one.y + one.height) for one in (*left, *right)]
    for number, a in enumerate(boxes):
        for b in boxes[number + 1 :]:
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], (a, b)
    root = ET.fromstring(pictures.draw(life))  # noqa: S314 - our own text
    assert root.findall(f"{SVG}text")
    for text in root.findall(f"{SVG}text"):
        if "transform" not in text.attrib:
            check_fits(text, boxes, float(root.attrib["width"]))


def check_fits(text: ET.Element, boxes: list[tuple[int, int, int, int]], wide: float) -> None:
    """A text ends before the edge of the box that it begins in, or of the picture."""
    kind = text.attrib.get("class", "")
    size = {"name": 14, "page": 20, "soft": 13}.get(kind, 12)
    width = len(text.text or "") * size * CHARACTER.get(kind, 0.6)
    x, y = float(text.attrib["x"]), float(text.attrib["y"])
    edge = next((box[2] for box in boxes if box[0] <= x <= box[2] and box[1] <= y <= box[3]), wide)
    if text.attrib.get("text-anchor") == "start" or "text-anchor" not in text.attrib:
        assert x + width < edge, text.text
    elif text.attrib["text-anchor"] == "end":
        assert x < edge


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
def test_a_picture_names_functions_of_the_text(page, life):
    """A kernel function that a picture names is explained in the article."""
    lines = [line for column in (life.left, life.right) for box in column.boxes for line in box.functions]
    named = {word for line in lines for word in re.findall(r"\b_*[a-z0-9]+_[a-z0-9_]+\b", line)}
    assert named
    assert {name for name in named if name not in page} == set()
