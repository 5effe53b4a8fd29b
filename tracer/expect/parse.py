"""TOML, or the arguments of a call, → expectations; what cannot be meant is refused with its place and a remedy."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tracer.errors import BadRequest
from tracer.expect.keys import DECISION_KEYS, HOP_KEYS, PACKET_KEYS, PATH_KEYS, Reader, make_term
from tracer.expect.patterns import Count, Expectation, FlowPattern, StepPattern
from tracer.expect.terms import Term, show

KEYS: Final = ("name", "flow", "via", "never", "verdict", "reason", "hops", "count", "within_ms")
_HEADER: Final = re.compile(r"^\s*\[\[\s*[\"']?expect[\"']?\s*\]\]")
_EXAMPLE: Final = '[[expect]] with name = "…", flow = { dst = "10.2.0.2" } and via = [{ dev = "eth1" }]'
_FULL_DAY_MS: Final = 86_400_000


class _Wrong(Exception):
    """Something that cannot be meant, the keys that lead to it, and what would do."""

    def __init__(self, why: str, *keys: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why, self.keys, self.remedy = why, keys, remedy

    def below(self, *keys: str) -> _Wrong:
        """The same, seen from further up."""
        return _Wrong(self.why, *keys, *self.keys, remedy=self.remedy)

    @property
    def text(self) -> str:
        where = ".".join(self.keys)
        first = f"{where}: {self.why}" if where else self.why
        return f"{first}\ntry: {self.remedy}" if self.remedy else first


def read_expectations(path: str | Path) -> tuple[Expectation, ...]:
    """The expectations in a file; raises BadRequest with the line where something cannot be meant."""
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"cannot read {path}: it is not UTF-8, as TOML must be") from error
    try:
        made = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadRequest(f"{path} is not TOML: {str(error) or 'nested too deeply'}") from error
    return _all(made, str(path), text)


def expectation(name: str, **keys: Any) -> Expectation:
    """One expectation from the keys of a `[[expect]]` table; raises BadRequest."""
    try:
        return _expectation({"name": name, **keys})
    except _Wrong as wrong:
        raise BadRequest(f"expectation {show(name)!r}: {wrong.text}") from wrong


def _all(made: dict[str, Any], path: str, text: str) -> tuple[Expectation, ...]:
    for key in made:
        if key != "expect":
            place = _line(text.splitlines(), 1, key)
            raise BadRequest(f"{path}{place}: unknown key {show(key)!r}\ntry: {_EXAMPLE}")
    tables = made.get("expect")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables) or not tables:
        raise BadRequest(f"{path} has no expectations\ntry: {_EXAMPLE}")
    found: list[Expectation] = []
    for index, table in enumerate(tables):
        try:
            found.append(_new(table, {one.name for one in found}))
        except _Wrong as wrong:
            called = f" ({show(name)})" if isinstance(name := table.get("name"), str) else ""
            place = _line(*_block(text.splitlines(), index), *wrong.keys[-1:])
            raise BadRequest(f"{path}{place}: expectation {index + 1}{called}: {wrong.text}") from wrong
    return tuple(found)


def _new(table: Mapping[str, Any], names: set[str]) -> Expectation:
    made = _expectation(table)
    if made.name in names:
        raise _Wrong(f"there is already an expectation {made.name!r}", "name")
    return made


def _block(lines: list[str], index: int) -> tuple[list[str], int]:
    """The lines of one `[[expect]]` table, and the number of the first; 0 where they cannot be told."""
    starts = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    if index >= len(starts):  # written as an array of inline tables
        return [], 0
    ends = [*starts[1:], len(lines)]
    return lines[starts[index] : ends[index]], starts[index] + 1


def _line(lines: list[str], first: int, key: str = "") -> str:
    """`, line 7`: the only line with such a key, else where the table begins; nothing where that is not known."""
    if not first:
        return ""
    bare = re.escape(key.partition("[")[0])
    pattern = re.compile(rf"(?:^|[\s{{,.\[\"'])({bare})[\"']?\s*\]?\s*(?:=|\]|$)")
    hits = [number for number, line in enumerate(lines) if bare and pattern.search(line)]
    return f", line {first + (hits[0] if len(hits) == 1 else 0)}"


def _expectation(table: Mapping[str, Any]) -> Expectation:
    _known(table, KEYS)
    name = table.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise _Wrong("needs a name: one line of text", "name")
    made = Expectation(
        name=name,
        flow=_flow(table.get("flow", {})),
        via=_steps("via", table.get("via", [])),
        never=_steps("never", table.get("never", [])),
        last=StepPattern(_terms({k: table[k] for k in ("verdict", "reason") if k in table}, HOP_KEYS)),
        hops=_hops(table["hops"]) if "hops" in table else None,
        count=_count(table["count"]) if "count" in table else Count(),
        within_ms=_milliseconds(table["within_ms"]) if "within_ms" in table else None,
    )
    if not {*table} - {"name", "flow"}:
        raise _Wrong(
            "says nothing about the packets of its flow", remedy="via, never, verdict, reason, hops or count"
        )
    return made


def _known(table: Mapping[str, Any], keys: Iterable[str]) -> None:
    keys = tuple(keys)
    for key in table:
        if key not in keys:
            near = " or ".join(difflib.get_close_matches(str(key), keys, 2))
            raise _Wrong(f"unknown key {show(key)!r}", str(key), remedy=near or ", ".join(keys))


def _table(written: Any) -> Mapping[str, Any]:
    if not isinstance(written, Mapping):
        raise _Wrong(f"{show(written)} is not a table", remedy='{ key = "value" }')
    return written


def _terms(table: Mapping[str, Any], readers: Mapping[str, Reader]) -> tuple[Term, ...]:
    _known(table, readers)
    terms = []
    for key, written in table.items():
        try:
            terms.append(make_term(key, written, readers))
        except ValueError as error:
            raise _Wrong(str(error), key) from error
    return tuple(terms)


def _flow(written: Any) -> FlowPattern:
    try:
        table = _table(written)
        terms = _terms(table, PACKET_KEYS | PATH_KEYS)
    except _Wrong as wrong:
        raise wrong.below("flow") from wrong
    packet = tuple(term for term in terms if term.key in PACKET_KEYS)
    return FlowPattern(packet, tuple(term for term in terms if term.key in PATH_KEYS))


def _steps(key: str, written: Any) -> tuple[StepPattern, ...]:
    """Patterns of steps, in order; one table is a list of one."""
    single = isinstance(written, Mapping)
    tables = [written] if single else written
    if not isinstance(tables, list | tuple):
        raise _Wrong(f"{show(written)} is not a list of steps", key, remedy=f'{key} = [{{ dev = "eth0" }}]')
    found = []
    for index, table in enumerate(tables, 1):
        place = key if single else f"{key}[{index}]"
        try:
            terms = _terms(_table(table), HOP_KEYS | DECISION_KEYS)
        except _Wrong as wrong:
            raise wrong.below(place) from wrong
        if not terms:
            raise _Wrong("an empty step: anything would be one", place)
        found.append(StepPattern(terms))
    return tuple(found)


def _hops(written: Any) -> tuple[tuple[Term, ...], ...]:
    if not isinstance(written, list | tuple) or not written:
        raise _Wrong(f"{show(written)} is not a list of namespaces", "hops", remedy='hops = ["client", "r"]')
    try:
        return tuple((make_term("netns", name, HOP_KEYS),) for name in written)
    except ValueError as error:
        raise _Wrong(str(error), "hops") from error


def _count(written: Any) -> Count:
    if _is_whole(written):
        return Count(written, written)
    if not isinstance(written, Mapping) or not written:
        raise _Wrong(
            f"{show(written)} is not a number of packets",
            "count",
            remedy="count = 3, or { min = 1, max = 5 }",
        )
    try:
        _known(written, ("min", "max"))
    except _Wrong as wrong:
        raise wrong.below("count") from wrong
    for key, value in written.items():
        if not _is_whole(value):
            raise _Wrong(f"{show(value)} is not a number of packets", "count", key)
    least, most = written.get("min", 0 if "max" in written else 1), written.get("max")
    if most is not None and least > most:
        raise _Wrong(f"min {least} is larger than max {most}", "count")
    return Count(least, most)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _milliseconds(written: Any) -> float:
    if isinstance(written, bool) or not isinstance(written, int | float) or not 0 < written <= _FULL_DAY_MS:
        raise _Wrong(f"{show(written)} is not a number of milliseconds", "within_ms")
    return float(written)
