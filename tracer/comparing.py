"""`explain --from-file`: a recorded packet asked about again, and step by step what differs between then and now."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import count
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from tracer.errors import BadRequest, Exit, TracerError
from tracer.explaining import FORMATS, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.enrich.names import Names
    from tracer.enrich.question import Question
    from tracer.model.path import Decision, Hop, Path
    from tracer.outputs.compared import Compared

_ASKABLE = frozenset({1, 6, 17, 58})
"""Protocols that RTM_GETROUTE takes (rtm_getroute_parse_ip_proto)."""
_NO_SOURCE = frozenset({None, "0.0.0.0", "::"})


def compare(target: str, stdout_format: str = "tree", backend: str = "auto") -> int:
    """Explain packet N of FILE#N again; returns 1 where a decision is another now, or cannot be asked any more."""
    from tracer.outputs.compared import text

    if stdout_format not in FORMATS:
        raise BadRequest(f"--format {stdout_format}: there is {', '.join(FORMATS)}")
    path = recorded(target)
    compared = _compare(path, backend)
    if not compared:
        raise TracerError(f"packet {path.packet} has no decision that can be asked again")
    sys.stdout.write(text(path, compared, stdout_format))
    sys.stdout.flush()
    return Exit.DONE if all(item.same for item in compared) else Exit.FAILED


def recorded(target: str) -> Path:
    """The path that FILE#N names. Raises BadRequest or BadCapture if there is none."""
    from tracer.outputs.paths import paths
    from tracer.replay import rows_of

    name, mark, number = target.rpartition("#")
    if not mark or not number.isdecimal():
        raise BadRequest(f"--from-file {target}: which packet?\n  try: {target.rstrip('#')}#1")
    if not FilePath(name).exists():
        raise BadRequest(f"--from-file {name}: there is no such file")
    found = next((path for path in paths(rows_of(name)) if path.packet == int(number)), None)
    if found is None:
        raise BadRequest(f"--from-file {target}: {name} has no packet {number}")
    return found


def _compare(path: Path, backend: str) -> list[Compared]:
    from tracer.enrich.names import system_names
    from tracer.outputs.compared import Compared

    names = system_names()
    parts = [(hop, list(group)) for hop in path.hops for group in _groups(hop)]
    asked = [_question(path, hop, group[0], names) for hop, group in parts]
    questions = [question for question in asked if not isinstance(question, str)]
    answers = iter(ask(questions, backend) if questions else ())
    compared: list[Compared] = []
    for (hop, group), question in zip(parts, asked, strict=True):
        now = None if isinstance(question, str) else next(answers)
        why_not = question if isinstance(question, str) else ""
        checks = count()
        for made in group:
            number = next(checks) if made.purpose == "source-check" else 0
            compared.append(Compared(hop, made, now, number, why_not))
    return compared


def _groups(hop: Hop) -> Iterator[list[Decision]]:
    """Each input or output decision with the source checks that followed it."""
    group: list[Decision] = []
    for made in hop.decisions:
        if not made.lookups or made.purpose not in {"input", "output", "source-check"}:
            continue
        if made.purpose != "source-check":
            if group:
                yield group
            group = [made]
        elif group:
            group.append(made)
    if group:
        yield group


def _question(path: Path, hop: Hop, made: Decision, names: Names) -> Question | str:
    """The question that this decision answered then; in words why it cannot be asked now."""
    from tracer.enrich.question import find_namespace, parse

    netns = str(hop.netns or hop.netns_inode or "")
    try:
        find_namespace(netns)
    except BadRequest:
        return f"the network namespace {netns or '?'} is not here any more"
    row = {
        name: getattr(path.flow, name) for name in ("src", "dst", "proto", "sport", "dport", "mark", "tos")
    }
    row |= {name: value for name, value in (made.lookups[0].columns or {}).items() if value is not None}
    words = [str(row["dst"]), "netns", netns]
    if made.purpose == "input":
        words += ["from", str(row["src"]), "iif", str(hop.in_dev)] if hop.in_dev else []
    elif row["src"] not in _NO_SOURCE:
        words += ["from", str(row["src"])]
    words += _selectors(row, made, names)
    try:
        question = parse(words, names)
    except BadRequest as error:
        return str(error)
    return _bound(question, row, made)


def _selectors(row: dict[str, object], made: Decision, names: Names) -> list[str]:
    words: list[str] = []
    if row.get("mark"):
        words += ["mark", str(row["mark"])]
    if row.get("tos"):
        words += ["tos", f"{row['tos']:#x}"]
    known = {name: number for number, name in names.ip_protocols.items()}
    if known.get(str(row.get("proto"))) in _ASKABLE:
        words += ["ipproto", str(row["proto"])]
        for name in ("sport", "dport"):
            words += [name, str(row[name])] if row.get(name) else []
    if made.purpose == "output" and row.get("uid") is not None:
        words += ["uid", str(row["uid"])]
    return words


def _bound(question: Question, row: dict[str, object], made: Decision) -> Question:
    """With the device that the sender was bound to, by its number then."""
    oif = row.get("oif")
    dev = made.dev if made.purpose == "output" else None
    return replace(question, oif=str(dev)) if oif and dev else question
