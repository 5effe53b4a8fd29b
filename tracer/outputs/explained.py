"""An explained question as a path of one hop, so that trees and JSON of questions are those of packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.enrich.inference import address, device
from tracer.model.network import IPV4, address_text
from tracer.model.path import Decision, Flow, Hop, Lookup, Path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.enrich.answers import Told, World
    from tracer.enrich.asking import Answer
    from tracer.enrich.question import Question

_FACTS = (
    "rule", "rule_text", "table", "table_id", "walked_table_id", "result", "prefix", "gateway", "dev",
    "route_type", "scope", "error",
)  # fmt: skip
_KEY = ("family", "proto", "mark", "tos", "uid", "iif", "oif")
_LOCAL_TYPES = frozenset({"local", "broadcast", "anycast", "multicast"})


def question_path(
    question: Question, told: Sequence[Told], world: World, end: tuple[Answer, str], clock_offset_ns: int
) -> Path:
    """The path of a question; `end` is the answer with its refusal in words, empty where there is a route."""
    answer, refused = end
    made = tuple(_decision(item, clock_offset_ns) for item in told)
    times = [time for item in told for time in item.times_ns]
    verdict, out_dev = _verdict(question, answer, world)
    shown = world.names.ip_protocol(question.proto) if question.proto else None
    source = question.src or answer.source
    flow = Flow(
        family=4 if question.family == IPV4 else 6,
        src=address_text(question.family, source) if source else None,
        dst=address_text(question.family, question.dst),
        proto=shown, sport=question.sport or None, dport=question.dport or None,
        mark=question.mark, tos=question.tos,
    )  # fmt: skip
    start, end_ns = (min(times) + clock_offset_ns, max(times) + clock_offset_ns) if times else (0, 0)
    hop = Hop(
        netns=world.state.name or None, netns_inode=world.state.inode, role=_role(question, verdict),
        in_dev=question.iif or None, out_dev=out_dev, verdict=verdict,
        reason=f"drop: {answer.message}: {refused}" if answer.error else None, process=None, decisions=made,
        ended_ns=end_ns,
    )  # fmt: skip
    return Path(1, start, complete=True, lost=0, flow=flow, hops=(hop,), end_ns=end_ns)


def _role(question: Question, verdict: str) -> str | None:
    if verdict == "drop":
        return None
    return {"forward": "router", "deliver": "server"}.get(verdict, "client") if question.iif else "client"


def _verdict(question: Question, answer: Answer, world: World) -> tuple[str, str | None]:
    if answer.error or answer.route is None:
        return "drop", None
    route = answer.route
    out_dev = device(world.state, route.nexthops[0].ifindex) if route.nexthops else None
    if question.iif:
        return ("deliver", None) if route.type_name in _LOCAL_TYPES else ("forward", out_dev)
    return "send", out_dev


def _decision(item: Told, clock_offset_ns: int) -> Decision:
    made = item.explained.decision
    lookups = [
        _lookup(row, record, time + clock_offset_ns)
        for row, record, time in zip(item.explained.lookups, item.records, item.times_ns, strict=True)
    ]
    last = item.times_ns[-1] + clock_offset_ns
    if item.explained.extra is not None:
        lookups.append(_lookup(item.explained.extra, item.records[-1], last))
    return Decision(
        purpose=made.get("purpose"), caller=made.get("caller"), cached=False, result=made.get("result"),
        evidence=made["evidence"], lookups=tuple(lookups), prefix=made.get("prefix"), gateway=made.get("gateway"),
        dev=made.get("dev"), reason=made.get("reason"), ts_ns=last, why=tuple(item.why),
    )  # fmt: skip


def _lookup(row: dict[str, Any], record: Any, ts_ns: int) -> Lookup:
    columns = {name: row.get(name) for name in _KEY}
    family = int(record["family"])
    for name, field in (("src", "saddr"), ("dst", "daddr")):
        columns[name] = address(family, bytes(record[field]))
    return Lookup.of(tuple(row.get(name) for name in _FACTS), row["evidence"], ts_ns, columns)
