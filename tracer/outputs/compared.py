"""A recorded decision beside the same question now: what is the same, and from which step on they differ."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from tracer.model.visible import visible
from tracer.outputs import words
from tracer.outputs.questions import question_tree
from tracer.outputs.sink import StreamSink
from tracer.outputs.tree import look_for, readable

if TYPE_CHECKING:
    from tracer.model.path import Decision, Hop, Lookup, Path
    from tracer.outputs.questions import Explanation
    from tracer.outputs.tree_lines import Look

_SHOWN = ("rule", "rule_text", "table", "result", "prefix", "gateway", "dev", "route_type")
_LABEL = 6


@dataclass(frozen=True, slots=True)
class Compared:
    """One decision then, and the explanation of the same question now; None with the reason why it was not asked.

    A question has one input or output decision, and of its source checks this is the one with `number`.
    """

    hop: Hop
    then: Decision
    now: Explanation | None
    number: int = 0
    why_not: str = ""

    @property
    def decision(self) -> Decision | None:
        """The decision of now that stands where the recorded one stood."""
        made = self.now.path.hops[0].decisions if self.now else ()
        same_kind = [item for item in made if item.purpose == self.then.purpose]
        return same_kind[self.number] if self.number < len(same_kind) else None

    @property
    def first_difference(self) -> int | None:
        """The number of the first lookup, from 0, that is another now; None where all are the same."""
        lookups = self.decision.lookups if self.decision else ()
        pairs = zip_longest(self.then.lookups, lookups)
        return next((number for number, (old, new) in enumerate(pairs) if _facts(old) != _facts(new)), None)

    @property
    def same(self) -> bool:
        """Whether the walk is the one of then."""
        return self.now is not None and self.first_difference is None


def _facts(lookup: Lookup | None) -> tuple[object, ...] | None:
    return None if lookup is None else tuple(getattr(lookup, name) for name in _SHOWN)


def text(path: Path, compared: list[Compared], stdout_format: str) -> str:
    """All decisions of a packet, then and now, in a format."""
    if stdout_format == "jsonl":
        made = {"packet": path.packet, "decisions": [_object(item) for item in compared]}
        return json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n"
    src, dst = words.flow_ends(path.flow)
    head = f"#{path.packet}  {src} → {dst}  {path.flow.proto or words.UNKNOWN}  then and now"
    sink = StreamSink(sys.stdout)
    look = look_for(sink)
    lines = [f"{look.bold}{head}{look.off}"]
    for item in compared:
        lines += _lines(item, look, short=stdout_format == "line")
    return readable("\n".join(lines) + "\n", sink.encoding)


def _object(item: Compared) -> dict[str, object]:
    decision = item.decision
    return {
        "netns": item.hop.netns, "purpose": item.then.purpose, "same": item.same,
        "first_difference": item.first_difference if item.now else None, "not_asked": item.why_not or None,
        "question": item.now.question.to_dict() if item.now else None,
        "then": [_named(lookup) for lookup in item.then.lookups],
        "now": [_named(lookup) for lookup in decision.lookups] if decision else None,
    }  # fmt: skip


def _named(lookup: Lookup) -> dict[str, object]:
    return {name: getattr(lookup, name) for name in _SHOWN}


def _lines(item: Compared, look: Look, *, short: bool) -> list[str]:
    where = visible(f"{words.netns_name(item.hop)}  {item.then.purpose}")
    if item.now is None:
        return [f"{where}: {look.bad}not asked{look.off}: {visible(item.why_not)}"]
    if item.same:
        return [f"{where}: {look.good}the same{look.off}: {_step(item.then.lookups[-1])}"]
    number = item.first_difference or 0
    lines = [f"{where}: {look.bad}differs{look.off} from lookup {number + 1} on"]
    now = item.decision.lookups if item.decision else ()
    lines += [f"  {'then':{_LABEL}}{_step(lookup)}" for lookup in item.then.lookups[number:]]
    lines += [f"  {'now':{_LABEL}}{_step(lookup)}" for lookup in now[number:]] or [
        f"  {'now':{_LABEL}}no lookup"
    ]
    if item.now.answer.error:
        lines.append(f"  {'now':{_LABEL}}{item.now.answer.message}: {visible(item.now.refused)}")
    return (
        lines
        if short or item.then.purpose == "source-check"
        else [*lines, "", *question_tree(item.now, look).splitlines()]
    )


def _step(lookup: Lookup) -> str:
    table = words.table_name(lookup)
    rule = f"{words.rule_name(lookup)} ({lookup.rule_text or words.UNKNOWN})"
    found = words.route_text(lookup) if lookup.result == "hit" else ""
    return visible(
        " ".join(part for part in (f"{rule}, table {table}:", words.result_name(lookup), found) if part)
    )
