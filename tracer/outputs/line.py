"""The path on one line: who to whom, then per hop the rule that decided and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.enrich.flowpaths import FlowPaths
from tracer.outputs import words
from tracer.outputs.schema import shown
from tracer.outputs.timeline import change_line, changed_words, compared

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from tracer.model.change import Change
    from tracer.model.path import Decision, Hop, Path
    from tracer.outputs.sink import Sink


class LineOutput:
    """Writes one line per path."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.flows = FlowPaths(None)

    def write(self, rows: pa.Table) -> None:
        """Append the lines of a batch."""
        text = "".join(line(path) + "\n" for path in compared(shown(rows), self.flows))
        self._put(text)

    def tell(self, changes: Sequence[Change]) -> None:
        """Append a line for each change."""
        self._put("".join(f"{change_line(change)}\n" for change in changes))

    def _put(self, text: str) -> None:
        self._sink.write(text.encode(self._sink.encoding, errors="backslashreplace"))

    def close(self) -> None:
        """Close; may be called again."""
        self._sink.close()


def line(path: Path) -> str:
    """`#17 10.1.0.2:41234 > 10.2.0.2:80 tcp SYN  r(rule 100 table 100 forward r1)  0.184ms`."""
    src, dst = words.flow_ends(path.flow)
    head = f"#{path.packet} {src} > {dst} {path.flow.proto or words.UNKNOWN}"
    if path.info:
        head += f" {path.info}"
    parts = [head, " ".join(_hop(hop) for hop in path.hops), f"{words.duration_ms(path):.3f}ms"]
    trouble = words.trouble(path)
    parts += [trouble] if trouble else []
    return "  ".join([*parts, changed_words(path.changed)] if path.changed is not None else parts)


def _hop(hop: Hop) -> str:
    said = _decided(hop)
    if hop.verdict is None:
        said.append("end not seen")
    elif hop.verdict == "drop":
        said.append("drop" if hop.reason is None else f"drop: {str(hop.reason).removeprefix('drop: ')}")
    else:
        said.append(f"{hop.verdict} {words.target(hop)}".rstrip())
    return f"{words.netns_name(hop)}({' '.join(said)})"


def _decided(hop: Hop) -> list[str]:
    """The rule and table that sent the packet on: of the last decision with lookups that is no source check.

    Only where none of them looked anything up, what stood in for the lookups is said.
    """
    routing = [decision for decision in reversed(hop.decisions) if decision.purpose != "source-check"]
    routing = [d for d in routing if not words.is_outer(d)] or routing
    for decision in [*(d for d in routing if d.lookups), *routing]:
        return _winner(decision)
    return []


def _winner(decision: Decision) -> list[str]:
    if not decision.lookups:
        return [str(decision.reason or "cached")] if decision.cached else []
    last = decision.lookups[-1]
    table = words.table_name(last)
    said = [words.rule_name(last)] if table == words.NO_TABLE else [words.rule_name(last), "table", table]
    return said if last.result == "hit" else [*said, words.result_name(last)]
