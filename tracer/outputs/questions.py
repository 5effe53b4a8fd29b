"""What `explain` prints of one question: the tree with every why, one line, or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tracer.model.visible import made_visible, visible
from tracer.outputs import words
from tracer.outputs.jsonl import path_object
from tracer.outputs.sink import StreamSink
from tracer.outputs.tree import has_inferred, look_for, readable, tree
from tracer.outputs.tree_lines import Look

if TYPE_CHECKING:
    from tracer.enrich.asking import Answer
    from tracer.enrich.question import Question
    from tracer.model.path import Decision, Path


@dataclass(frozen=True, slots=True)
class Explanation:
    """The path of a question, the kernel's answer, and why it refused (empty where it did not).

    `source` says where the answer is from, when that is not this kernel: the name of a snapshot. `note` is said with
    it.
    """

    question: Question
    path: Path
    answer: Answer
    refused: str = ""
    source: str = ""
    note: str = ""


def text(explanation: Explanation, stdout_format: str) -> str:
    """One question in a format: `tree`, `line` or `jsonl`."""
    if stdout_format == "jsonl":
        return json.dumps(question_object(explanation), ensure_ascii=False, separators=(",", ":")) + "\n"
    if stdout_format == "line":
        return question_line(explanation) + "\n"
    sink = StreamSink(sys.stdout)
    return readable(question_tree(explanation, look_for(sink)), sink.encoding)


def question_object(explanation: Explanation) -> dict[str, object]:
    """The object of the path, with the question and the answer besides."""
    made = path_object(explanation.path)
    answer = explanation.answer
    made["question"] = explanation.question.to_dict()
    made["model"] = explanation.source or None
    made["note"] = explanation.note or None
    made["answer"] = {
        "error": -answer.error,
        "message": answer.message or None,
        "why": explanation.refused or None,
    }
    return made


def question_tree(explanation: Explanation, look: Look) -> str:
    """The tree with all that the decisions say of themselves, and a legend where something is inferred."""
    where = f" in {explanation.question.netns}" if explanation.question.netns else ""
    by = f", by the model of {explanation.source}: no kernel was asked" if explanation.source else ""
    title = visible(f"{explanation.question.words}{where}{by}")
    shown = tree(made_visible(explanation.path), replace(look, why=True), title)
    legend = f"{words.INFERRED} inferred from the rules and tables, not seen by a probe\n"
    notes = (f"{visible(explanation.note)}\n" if explanation.note else "") + (
        legend if has_inferred(explanation.path) else ""
    )
    return shown + (f"{look.dim}{notes}{look.off}" if notes else "")


def question_line(explanation: Explanation) -> str:
    """`10.2.0.2 from 10.1.0.2 iif r0: rule 510 table 200 default via 10.12.0.2 dev r2: forward r2`."""
    (hop,) = explanation.path.hops
    deciding = next((made for made in hop.decisions if made.purpose != "source-check"), None)
    way = _way(deciding) if deciding and deciding.lookups else ""
    if explanation.answer.error:
        said = f"{explanation.answer.message}: {explanation.refused}"
    else:
        said = f"{hop.verdict or 'not known'} {words.target(hop)}".rstrip()
    model = "model" if explanation.source else ""
    return visible(": ".join(part for part in (explanation.question.words, model, way, said) if part))


def _way(decision: Decision) -> str:
    last = decision.lookups[-1]
    table = words.table_name(last)
    parts = [words.rule_name(last), *([] if table == words.NO_TABLE else ["table", table])]
    return " ".join([*parts, words.route_text(last) if last.result == "hit" else words.result_name(last)])
