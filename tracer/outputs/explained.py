"""An explained question as a path of one hop, so that trees and JSON of questions are those of packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.model.network import IPV4, address_text
from tracer.model.path import Decision, Flow, Hop, Lookup, Path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.enrich.answers import End, Told, World
    from tracer.enrich.question import Question
    from tracer.enrich.selectors import FlowKey

_FACTS = (
    "rule", "rule_text", "table", "table_id", "walked_table_id", "result", "prefix", "gateway", "dev",
    "route_type", "scope", "error",
)  # fmt: skip
_KEY = ("family", "proto", "mark", "tos", "uid", "iif", "oif")


def question_path(
    question: Question, told: Sequence[Told], world: World, end: End, clock_offset_ns: int = 0
) -> Path:
    """The path of a question, with how it ends."""
    made = tuple(_decision(item, clock_offset_ns) for item in told)
    times = [time for item in told for time in item.times_ns]
    source = question.src or end.source
    flow = Flow(
        family=4 if question.family == IPV4 else 6,
        src=address_text(question.family, source) if source else None,
        dst=address_text(question.family, question.dst),
        proto=world.names.ip_protocol(question.proto) if question.proto else None,
        sport=question.sport or None, dport=question.dport or None, mark=question.mark, tos=question.tos,
    )  # fmt: skip
    start, end_ns = (min(times) + clock_offset_ns, max(times) + clock_offset_ns) if times else (0, 0)
    hop = Hop(
        netns=world.state.name or None, netns_inode=world.state.inode, role=_role(question, end.verdict),
        in_dev=question.iif or None, out_dev=end.out_dev, verdict=end.verdict, reason=end.reason, process=None,
        decisions=made, ended_ns=end_ns,
    )  # fmt: skip
    return Path(1, start, complete=True, lost=0, flow=flow, hops=(hop,), end_ns=end_ns)


def _role(question: Question, verdict: str | None) -> str | None:
    """The host's part, where the end tells: a packet that is refused on its way in has none."""
    if not question.iif:
        return "client"
    return {"forward": "router", "deliver": "server"}.get(str(verdict))


def _decision(item: Told, clock_offset_ns: int) -> Decision:
    made = item.explained.decision
    flow = item.explained.flow
    rows = zip(item.explained.lookups, item.times_ns, strict=True)
    lookups = [_lookup(row, flow, time + clock_offset_ns) for row, time in rows]
    last = item.times_ns[-1] + clock_offset_ns
    if item.explained.extra is not None:
        lookups.append(_lookup(item.explained.extra, flow, last))
    return Decision(
        purpose=made.get("purpose"), caller=made.get("caller"), cached=False, result=made.get("result"),
        evidence=made["evidence"], lookups=tuple(lookups), prefix=made.get("prefix"), gateway=made.get("gateway"),
        dev=made.get("dev"), reason=made.get("reason"), ts_ns=last, why=tuple(item.why),
    )  # fmt: skip


def _lookup(row: dict[str, Any], flow: FlowKey, ts_ns: int) -> Lookup:
    columns = {name: row.get(name) for name in _KEY}
    columns["src"], columns["dst"] = (address_text(flow.family, end) for end in (flow.saddr, flow.daddr))
    return Lookup.of(tuple(row.get(name) for name in _FACTS), row["evidence"], ts_ns, columns)
