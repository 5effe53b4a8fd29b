"""Draws the lives as SVG: text stays text, colours follow the reader's light or dark scheme."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from html import escape
from pathlib import Path

from articlelib.lives import LIVES, Box, Bypass, Column, Life

WIDTH, PAD, MARGIN = 360, 12, 52
GAP, COLUMN_GAP, HEAD = 30, 84, 104
TITLE_PX, LINE_PX = 14, 12
_TITLE_STEP, _LINE_STEP = 20, 17
_STYLE = """
svg { --page: #ffffff; --ink: #1b1f24; --soft: #57606a; --box: #f6f8fa; --edge: #8c959f;
      --look: #ddf4ff; --look-edge: #0969da; --cache: #fff8c5; --cache-edge: #9a6700; --end: #dafbe1;
      --end-edge: #1a7f37; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
svg { --page: #0d1117; --ink: #e6edf3; --soft: #9da7b3; --box: #161b22; --edge: #6e7681;
      --look: #0c2d4f; --look-edge: #4493f8; --cache: #332a00; --cache-edge: #d29922; --end: #0f2d19;
      --end-edge: #3fb950; --bad: #ff8f85; }
}
text { fill: var(--ink); font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.name { font: 600 14px system-ui, "DejaVu Sans", "Segoe UI", Helvetica, Arial, sans-serif; }
.page { font: 600 20px system-ui, "DejaVu Sans", "Segoe UI", Helvetica, Arial, sans-serif; }
.soft { fill: var(--soft); font: 13px system-ui, "DejaVu Sans", "Segoe UI", Helvetica, Arial, sans-serif; }
.bad { fill: var(--bad); }
.number { fill: var(--soft); }
rect { stroke-width: 1.5; }
.plain { fill: var(--box); stroke: var(--edge); }
.lookup { fill: var(--look); stroke: var(--look-edge); }
.cache { fill: var(--cache); stroke: var(--cache-edge); stroke-dasharray: 5 3; }
.end { fill: var(--end); stroke: var(--end-edge); }
.arrow { fill: none; stroke: var(--edge); stroke-width: 1.5; marker-end: url(#tip); }
.around { stroke: var(--cache-edge); stroke-dasharray: 5 3; marker-end: url(#tip-around); }
"""
_TIPS = """<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0L8 4L0 8z" fill="var(--edge)"/></marker>
<marker id="tip-around" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0L8 4L0 8z" fill="var(--cache-edge)"/></marker>
</defs>"""


@dataclass(frozen=True)
class Placed:
    """A box with its place, and its number in the order of the packet."""

    box: Box
    number: int
    x: int
    y: int

    @property
    def height(self) -> int:
        """As many lines as it has."""
        return height(self.box)

    @property
    def middle(self) -> int:
        """The y of its middle."""
        return self.y + self.height // 2


def height(box: Box) -> int:
    """The height of a box, from its lines."""
    return 2 * PAD + _TITLE_STEP - 4 + _LINE_STEP * (len(box.functions) + bool(box.ends))


def place(life: Life) -> tuple[list[Placed], list[Placed]]:
    """The boxes of both columns in the order of the packet; the columns meet at the top or at the bottom."""
    tall = max(_tall(life.left), _tall(life.right))
    left = _place(life.left, MARGIN, tall, 1, at_top=life.joined == "top")
    right_x = MARGIN + WIDTH + COLUMN_GAP
    return left, _place(life.right, right_x, tall, len(left) + 1, at_top=life.joined == "top")


def _tall(column: Column) -> int:
    return sum(height(box) + GAP for box in column.boxes) - GAP


def _place(column: Column, x: int, tall: int, number: int, *, at_top: bool) -> list[Placed]:
    """Stack a column downwards; the end at which the columns meet is level with the other one's."""
    numbered = list(enumerate(column.boxes, number))
    y = HEAD if at_top else HEAD + tall - _tall(column)
    placed = []
    for own, box in reversed(numbered) if column.up else numbered:
        placed.append(Placed(box, own, x, y))
        y += height(box) + GAP
    return sorted(placed, key=lambda one: one.number)


def draw(life: Life) -> str:
    """One life as an SVG document."""
    left, right = place(life)
    low = max(one.y + one.height for one in (*left, *right))
    wide, high = 2 * MARGIN + 2 * WIDTH + COLUMN_GAP, low + 24 + (18 if life.join_label else 0)
    size = f'viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(life.title)}</title>",
        f"<desc>{escape(life.summary)}</desc>",
        f"<style>{_STYLE}</style>",
        _TIPS,
        f'<rect width="{wide}" height="{high}" fill="var(--page)"/>',
        _text(MARGIN, 34, life.title, "page"),
        _text(MARGIN, 58, life.summary, "soft"),
    ]
    for column, placed in ((life.left, left), (life.right, right)):
        parts.append(_text(placed[0].x, HEAD - 14, f"{column.title} {'↑' if column.up else '↓'}", "name"))
        parts += [_step(a, b, up=column.up) for a, b in itertools.pairwise(placed)]
        parts += [_around(placed, bypass, outside=placed is left) for bypass in column.bypasses]
    parts += _join(life, left[-1], right[0])
    for one in (*left, *right):
        parts += _box(one)
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}{more}>{escape(text)}</text>'


def _box(one: Placed) -> list[str]:
    lines = [
        f'<rect x="{one.x}" y="{one.y}" width="{WIDTH}" height="{one.height}" rx="7" class="{one.box.kind}"/>'
    ]
    y = one.y + PAD + 12
    lines.append(_text(one.x + PAD, y, one.box.title, "name"))
    lines.append(_text(one.x + WIDTH - PAD, y, str(one.number), "number", ' text-anchor="end"'))
    for function in one.box.functions:
        y += _LINE_STEP if function != one.box.functions[0] else _TITLE_STEP - 1
        lines.append(_text(one.x + PAD, y, function))
    if one.box.ends:
        lines.append(_text(one.x + PAD, y + _LINE_STEP, f"✗ {one.box.ends}", "bad"))
    return lines


def _step(a: Placed, b: Placed, *, up: bool) -> str:
    x = a.x + WIDTH // 2
    start, end = (a.y, b.y + b.height + 1) if up else (a.y + a.height, b.y - 1)
    return f'<path class="arrow" d="M{x} {start}V{end}"/>'


def _around(placed: list[Placed], bypass: Bypass, *, outside: bool) -> str:
    """A dashed way beside the column, on the picture's margin."""
    a, b = placed[bypass.first], placed[bypass.last]
    edge = a.x if outside else a.x + WIDTH
    x = edge - 22 if outside else edge + 22
    path = f'<path class="arrow around" d="M{edge} {a.middle}H{x}V{b.middle}H{edge - 1 if outside else edge + 1}"/>'
    label_x, label_y = (x - 7 if outside else x + 17), (a.middle + b.middle) // 2
    turn = f' text-anchor="middle" transform="rotate(-90 {label_x} {label_y})"'
    return path + "\n" + _text(label_x, label_y, bypass.label, "soft", turn)


def _join(life: Life, last: Placed, first: Placed) -> list[str]:
    """From the last box of the left column to the first of the right one."""
    if life.joined == "top":
        middle = (last.x + WIDTH + first.x) // 2
        path = f"M{last.x + WIDTH} {last.middle}H{middle}V{first.middle}H{first.x - 1}"
        return [f'<path class="arrow" d="{path}"/>']
    low = max(last.y + last.height, first.y + first.height) + 18
    x, to = last.x + WIDTH // 2, first.x + WIDTH // 2
    path = f"M{x} {last.y + last.height}V{low}H{to}V{first.y + first.height + 1}"
    label = _text((x + to) / 2, low + 16, life.join_label, "soft", ' text-anchor="middle"')
    return [f'<path class="arrow" d="{path}"/>', label]


def write(directory: Path, *, check: bool) -> list[str]:
    """Write every picture that differs from what is there (or only name it)."""
    stale = []
    for life in LIVES:
        path = directory / f"{life.name}.svg"
        text = draw(life)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(text, encoding="utf-8")
    return stale
