"""Rows with their numbers: sorted by rate, and written as a table, as CSV or as JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer.model.visible import visible
from tracer.outputs.csv import guarded
from tracer.top.items import KINDS, Item, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FORMATS = ("table", "csv", "jsonl")
SCHEMA = 1
COLUMNS = (
    "ts_ns", "by", "netns", "netns_inode", "family", "rule", "rule_text", "table", "table_id", "prefix", "route",
    "verdict", "reason", "caller", "purpose", "hits", "decided", "rate", "last_ns", "since_ns", "unsure", "evidence",
)  # fmt: skip
_UNKNOWN = "?"
_LABEL_WIDTH, _MOST_LABEL = 24, 100


class Line(NamedTuple):
    """One row: what is counted, how much, how fast; `unsure` of an unused one: hits that may have been its own."""

    item: Item
    netns: str
    tally: Tally
    rate: float
    since_ns: int | None = None
    unsure: int | None = None


class Moment(NamedTuple):
    """When the counters were read: CLOCK_MONOTONIC, and what leads from there to the time of day."""

    now_ns: int
    offset_ns: int


def lines(
    items: Mapping[Item, Tally],
    before: Mapping[Item, int],
    seconds: float,
    name: Callable[[int], str],
    kinds: Sequence[str],
) -> list[Line]:
    """All rows of these kinds, by kind and then by rate; `before` has the hits at the beginning of `seconds`."""
    found = [
        Line(item, name(item.netns_inode), tally, (tally.hits - before.get(item, 0)) / max(seconds, 1e-9))
        for item, tally in items.items()
        if item.by in kinds
    ]
    return sorted(found, key=_order)


def _order(line: Line) -> tuple[Any, ...]:
    return (
        KINDS.index(line.item.by),
        -line.rate,
        -line.tally.hits,
        line.netns,
        line.item.rule or 0,
        _label(line),
    )


def values(line: Line, moment: Moment) -> dict[str, Any]:
    """The columns of a row; None where one does not apply or is not known."""
    last_ns = line.tally.last_ns
    return {
        "ts_ns": moment.now_ns + moment.offset_ns,
        "netns": line.netns or None,
        **line.item._asdict(),
        "netns_inode": line.item.netns_inode or None,
        "hits": line.tally.hits,
        "decided": line.tally.decided,
        "rate": round(line.rate, 3),
        "last_ns": last_ns + moment.offset_ns if last_ns else None,
        "since_ns": None if line.since_ns is None else line.since_ns + moment.offset_ns,
        "unsure": line.unsure,
    }


def as_csv(found: Iterable[Line], moment: Moment, *, header: bool) -> str:
    """CSV with the columns of COLUMNS."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(
        {
            name: guarded(value) if isinstance(value, str) else value
            for name, value in values(line, moment).items()
        }
        for line in found
    )
    return text.getvalue()


def as_jsonl(found: Iterable[Line], moment: Moment) -> str:
    """One object per row."""
    rows = (values(line, moment) for line in found)
    return "".join(
        json.dumps({"schema": SCHEMA, **{name: row[name] for name in COLUMNS}}, ensure_ascii=False) + "\n"
        for row in rows
    )


def as_table(found: Sequence[Line], moment: Moment) -> str:
    """For people: a part per kind, the busiest first; `?` is what could not be told apart."""
    if not found:
        return "nothing was counted\n"
    width = max(_LABEL_WIDTH, *(min(len(_label(line)), _MOST_LABEL) for line in found))
    netns = max(len("netns"), *(len(_netns(line)) for line in found))
    parts: list[str] = []
    for kind in KINDS:
        rows = [line for line in found if line.item.by == kind]
        if not rows:
            continue
        parts.append(
            f"{kind:<{width}}  {'netns':<{netns}}  family  {'hits':>10}  {'decided':>10}  {'hits/s':>10}  {'last':>8}"
        )
        parts += [_text(line, moment, (width, netns)) for line in rows]
        parts.append("")
    return "\n".join(parts)


def as_unused(found: Sequence[Line], moment: Moment) -> str:
    """For people: what was never hit, and for how long that is so."""
    if not found:
        return "every rule and route was hit\n"
    width = max(_LABEL_WIDTH, *(min(len(_label(line)), _MOST_LABEL) for line in found))
    netns = max(len("netns"), *(len(_netns(line)) for line in found))
    parts = []
    for kind in ("rule", "route"):
        rows = [line for line in found if line.item.by == kind]
        parts += [f"{kind + ' never hit':<{width}}  {'netns':<{netns}}  family  {'for':>8}"] if rows else []
        for line in rows:
            seconds = (moment.now_ns - (line.since_ns or moment.now_ns)) / 1e9
            doubt = (
                f"  unless by some of {line.unsure} lookups that could not be told apart"
                if line.unsure
                else ""
            )
            parts.append(
                f"{_label(line):<{width}}  {_netns(line):<{netns}}  "
                f"{line.item.family or '?':>6}  {_duration(seconds):>8}{doubt}"
            )
        parts += [""] if rows else []
    return "\n".join(parts)


def _text(line: Line, moment: Moment, widths: tuple[int, int]) -> str:
    tally = line.tally
    last = _duration((moment.now_ns - tally.last_ns) / 1e9) if tally.last_ns else ""
    return (
        f"{_label(line)[:_MOST_LABEL]:<{widths[0]}}  {_netns(line):<{widths[1]}}  {line.item.family or '?':>6}  "
        f"{tally.hits:>10}  {tally.decided:>10}  {line.rate:>10,.1f}  {last:>8}"
    )


def _label(line: Line) -> str:
    """What stands in the first column."""
    return visible(_plain_label(line))


def _plain_label(line: Line) -> str:
    item = line.item
    if item.by == "rule":
        number = "" if item.rule is None else str(item.rule)
        return f"{number:<6} {item.rule_text}" if item.rule_text is not None else number or _UNKNOWN
    if item.by == "route":
        return f"{item.table or _UNKNOWN}: {item.route or item.prefix or _UNKNOWN}"
    if item.by == "table":
        return item.table or _UNKNOWN
    if item.by == "caller":
        return f"{item.caller or _UNKNOWN}  {item.purpose or _UNKNOWN}"
    return (item.reason if item.by == "reason" else item.verdict) or _UNKNOWN


def _netns(line: Line) -> str:
    return visible(line.netns) or (str(line.item.netns_inode) if line.item.netns_inode else _UNKNOWN)


def _duration(seconds: float) -> str:
    seconds = max(seconds, 0.0)
    for limit, unit, size in ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"
