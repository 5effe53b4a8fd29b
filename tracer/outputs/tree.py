"""The path as a tree: a header line, one block per hop, in it the decisions, in them the lookups."""

from __future__ import annotations

import os
import shutil
import textwrap
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from tracer.enrich.flowpaths import FlowPaths
from tracer.model.relay import FROM, TO
from tracer.model.visible import made_visible
from tracer.outputs import words
from tracer.outputs.schema import shown
from tracer.outputs.timeline import MARK, change_line, changed_words, compared
from tracer.outputs.tree_lines import PLAIN, Columns, Look, why_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from tracer.model.change import Change
    from tracer.model.path import Decision, Hop, Path
    from tracer.outputs.sink import Sink

_PURPOSE_WIDTH: Final = 10
_LABEL_GAP: Final = 3
_ROUTE_TO_ARROW: Final = 13
_VERDICT_WIDTH: Final = 7
_LONG_REASON: Final = 36
_WRAP: Final = 100
_WIDE: Final = 100
_TWO_WORDS: Final = {"source-check": ("source", "check")}
_TIMES: Final = "\u00d7"
_ASCII: Final = str.maketrans(
    {
        "├": "|",
        "└": "`",
        "│": "|",
        "─": "-",
        "→": "->",
        _TIMES: "x",
        "…": "...",
        "≠": "!=",
        "≤": "<=",
        "∋": "holds",
        "∌": "does not hold",
    }
)


def look_for(sink: Sink) -> Look:
    """Colours only on a terminal without NO_COLOR (https://no-color.org); narrow columns on a narrow one."""
    wide = not sink.terminal or shutil.get_terminal_size().columns >= _WIDE
    widths = (12, 32, 9, 6) if wide else (0, 0, 0, 0)
    if not sink.terminal or os.environ.get("NO_COLOR"):
        return Look("", "", "", "", "", *widths)
    return Look("\033[1m", "\033[32m", "\033[31m", "\033[2m", "\033[0m", *widths)


class TreeOutput:
    """Writes paths as trees, and a legend at the end if one is needed."""

    def __init__(self, sink: Sink, *, why: bool = False) -> None:
        self._sink = sink
        self._look = replace(look_for(sink), why=why)
        self.flows = FlowPaths(None)
        self._inferred = False
        self._closed = False

    def write(self, rows: pa.Table) -> None:
        """Append the trees of a batch."""
        said = []
        for path in compared(shown(rows), self.flows):
            said.append(tree(made_visible(path) if self._look.why or path.relays else path, self._look))
            self._inferred = self._inferred or has_inferred(path)
        self._put("".join(said))

    def tell(self, changes: Sequence[Change]) -> None:
        """Append a line for each change, and an empty line behind them."""
        look = self._look
        lines = (f"{look.bold}{change_line(change)}{look.off}\n" for change in changes)
        self._put("".join((*lines, "\n")))

    def close(self) -> None:
        """Write the legend and close; may be called again."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._inferred:
                legend = f"{words.INFERRED} inferred from the rules and tables, not seen by a probe\n"
                self._put(f"{self._look.dim}{legend}{self._look.off}")
        finally:
            self._sink.close()

    def _put(self, text: str) -> None:
        self._sink.write(encoded(text, self._sink.encoding))


def encoded(text: str, encoding: str) -> bytes:
    """Text with trees in it as bytes; in ASCII where the encoding has no lines to draw with."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, errors="backslashreplace")


def readable(text: str, encoding: str) -> str:
    """The text in characters that the encoding has."""
    return encoded(text, encoding).decode(encoding)


def has_inferred(path: Path) -> bool:
    """Whether anything of a path needs the legend."""
    decisions = [decision for hop in path.hops for decision in hop.decisions]
    return any(
        decision.evidence == "inferred" or any(lookup.evidence == "inferred" for lookup in decision.lookups)
        for decision in decisions
    )


def tree(path: Path, look: Look = PLAIN, title: str = "") -> str:
    """One path as lines of text, each ending with a line break, and an empty line behind them.

    Without a title it begins with the packet.
    """
    layout = _Layout(path, look)
    lines = [f"{look.bold}{title}{look.off}" if title else layout.header()]
    if path.changed is not None:
        lines += [f"{look.bold}{text}{look.off}" for text in _changed_lines(path)]
    lines += [f"   {words.relay_words(relay)}" for relay in path.relays if relay.direction == FROM]
    for hop in path.hops:
        lines += layout.hop(hop, last=hop is path.hops[-1])
    lines += [f"   {words.relay_words(relay)}" for relay in path.relays if relay.direction == TO]
    return "\n".join(lines) + "\n\n"


def _changed_lines(path: Path) -> list[str]:
    """What is different from the flow's last packet, under the header."""
    if path.changed is None:
        return []
    text = f"{MARK} {changed_words(path.changed)}"
    return textwrap.wrap(text, _WRAP, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


class _Layout:
    """The column positions of one path: as wide as its widest value needs, never cutting one."""

    def __init__(self, path: Path, look: Look) -> None:
        self._path, self._look = path, look
        self._columns = columns = Columns.of(path, look)
        self._netns = max((len(words.netns_name(hop)) for hop in path.hops), default=0) + _LABEL_GAP
        self._role = max((len(str(hop.role or words.UNKNOWN)) for hop in path.hops), default=0) + _LABEL_GAP
        route = 3 + 3 + _PURPOSE_WIDTH + 1 + columns.rule + columns.text + columns.table + columns.result
        longest = max((len(self._hop_label(hop)) for hop in path.hops), default=0)
        self._arrow = max(route - 3 + _ROUTE_TO_ARROW, longest + 3 + _VERDICT_WIDTH + 3)

    def header(self) -> str:
        """Who sends what to whom, how long it took, and what may be missing."""
        path, look = self._path, self._look
        src, dst = words.flow_ends(path.flow)
        parts = [f"#{path.packet}", f"{src} → {dst}", str(path.flow.proto or words.UNKNOWN)]
        parts += [f"mark {path.flow.mark}"] if path.flow.mark else []
        parts += [str(path.info)] if path.info else []
        left = "  ".join(parts)
        trouble = words.trouble(path)
        shown = f"{look.bold}{left}{look.off}" + (f"  {look.bad}{trouble}{look.off}" if trouble else "")
        length = len(left) + (len(trouble) + 2 if trouble else 0)
        return f"{shown}{' ' * max(2, self._arrow - 1 - length)}{words.duration_ms(path):.3f} ms"

    def hop(self, hop: Hop, *, last: bool) -> list[str]:
        """The line of a hop and the lines of what was decided in it."""
        branch, bar = ("└─ ", "   ") if last else ("├─ ", "│  ")
        long_reason = _long_reason(hop)
        blocks = self._decision_blocks(hop)
        if long_reason:
            blocks.append([f"{self._look.bad}{line}{self._look.off}" for line in long_reason])
        lines = [branch + self._hop_line(hop)]
        for block in blocks:
            first, rest = ("└─ ", "   ") if block is blocks[-1] else ("├─ ", "│  ")
            lines += [bar + (first if index == 0 else rest) + text for index, text in enumerate(block)]
        return lines

    def _hop_label(self, hop: Hop) -> str:
        role = str(hop.role or words.UNKNOWN)
        return f"{words.netns_name(hop):{self._netns}}{role:{self._role}}{words.origin(hop)}"

    def _hop_line(self, hop: Hop) -> str:
        look, label = self._look, self._hop_label(hop)
        verdict = str(hop.verdict or "end not seen")
        to = words.target(hop)
        tail = f" → {to}" if to and hop.verdict != "drop" else ""
        if hop.verdict == "drop" and hop.reason is not None and not _long_reason(hop):
            tail = f": {_bare(hop.reason)}"
        pad = " " * max(2, self._arrow - 3 - len(label) - len(verdict) - 1)
        colour = look.bad if hop.verdict in {"drop", None} else look.good
        noted = f"   {hop.reason}" if hop.reason is not None and hop.verdict not in {"drop", None} else ""
        return f"{label}{pad}{colour}{verdict}{look.off}{tail}{noted}"

    def _decision_blocks(self, hop: Hop) -> list[list[str]]:
        """The decisions as blocks of lines; equal ones behind each other become one with their number."""
        shown = [
            (_purpose(decision), tuple(self._decision_lines(decision, hop))) for decision in hop.decisions
        ]
        blocks = []
        for (purpose, lines), same in groupby(shown):
            count = sum(1 for _ in same)
            labels = [*purpose[:-1], f"{purpose[-1]} {_TIMES}{count}" if count > 1 else purpose[-1]]
            rows = max(len(labels), len(lines))
            padded = [*labels, *[""] * (rows - len(labels))]
            texts = [*lines, *[""] * (rows - len(lines))]
            blocks.append(
                [f"{name:{_PURPOSE_WIDTH}} {text}".rstrip() for name, text in zip(padded, texts, strict=True)]
            )
        return blocks

    def _decision_lines(self, decision: Decision, hop: Hop) -> list[str]:
        if self._look.why and decision.why:
            return why_lines(decision, hop, self._columns)
        note = words.note(decision)
        outcome = words.outcome(decision)
        if not decision.lookups:
            cached = note or ("cached" if decision.cached else "no lookup seen")
            return [f"{words.mark(decision.evidence)}{cached}   {outcome}".rstrip()]
        lines = [self._columns.lookup(lookup) for lookup in decision.lookups]
        if outcome:
            lines.append(f"{self._look.bad}{outcome}{self._look.off}" + (f"   {note}" if note else ""))
        elif note:
            lines[-1] = f"{lines[-1]}   {note}"
        return lines


def _purpose(decision: Decision) -> tuple[str, ...]:
    purpose = str(decision.purpose or words.UNKNOWN)
    return _TWO_WORDS.get(purpose, (purpose,))


def _bare(reason: object) -> str:
    return str(reason).removeprefix("drop: ")


def _long_reason(hop: Hop) -> list[str]:
    """A drop's reason as lines of its own, when it does not fit on the hop's line."""
    if hop.verdict != "drop" or hop.reason is None or len(_bare(hop.reason)) <= _LONG_REASON:
        return []
    text = f"drop: {_bare(hop.reason)}"
    return textwrap.wrap(
        text, _WRAP, subsequent_indent="      ", break_long_words=False, break_on_hyphens=False
    )
