"""What the live tests of tracing share: one run of the tool, its paths as objects, small networks, labs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import tracer

LIMIT_S = float(os.environ.get("FIBTRACE_TEST_LIMIT_S", "60"))
"""Seconds after which a trace hangs; more where the machine is emulated."""

REPO = Path(__file__).parents[2]
Row = dict[str, Any]
_ENDS = {"send", "forward", "deliver", "drop"}


@dataclass
class Decision:
    """One routing decision of a hop: its lookups, none where it was made earlier, and its own row."""

    purpose: str
    lookups: list[Row] = field(default_factory=list)
    row: Row | None = None

    @property
    def cached(self) -> bool:
        """Whether no lookup was made for it."""
        return not self.lookups

    @property
    def won(self) -> Row:
        """The last lookup, the one that decided."""
        return self.lookups[-1]

    def walk(self) -> list[tuple[int | None, str, str]]:
        """(rule, table, result) of every lookup."""
        return [(row["rule"], row["table"], row["result"]) for row in self.lookups]


@dataclass
class Hop:
    """The rows of one stay in a namespace."""

    rows: list[Row]

    def first(self, column: str, *events: str) -> Any:
        """The first value of a column in rows of these events."""
        return next((r[column] for r in self.rows if r["event"] in events and r[column] is not None), None)

    @property
    def netns(self) -> str | None:
        """Name of the namespace."""
        return self.rows[0]["netns"]

    @property
    def role(self) -> str | None:
        """Role of the host."""
        return self.rows[0]["role"]

    @property
    def in_dev(self) -> str | None:
        """Device the packet came in on."""
        return self.first("in_dev", "receive")

    @property
    def out_dev(self) -> str | None:
        """Device the packet left by; lo where it came back at once."""
        return next((r["out_dev"] for r in self.rows if r["verdict"] and r["out_dev"] is not None), None)

    @property
    def end(self) -> Row | None:
        """The row that says how it ended."""
        return next((row for row in reversed(self.rows) if row["verdict"]), None)

    @property
    def verdict(self) -> str | None:
        """How it ended, None if not seen."""
        return self.end["verdict"] if self.end else None

    @property
    def reason(self) -> str:
        """Why it was dropped."""
        return (self.end["reason"] or "") if self.end else ""

    @cached_property
    def decisions(self) -> list[Decision]:
        """The decisions in their order."""
        found: dict[int, Decision] = {}
        for row in self.rows:
            if row["event"] not in {"lookup", "decision"}:
                continue
            decision = found.setdefault(row["decision"], Decision(row["purpose"]))
            if row["event"] == "lookup":
                decision.lookups.append(row)
            else:
                decision.row = row
        return list(found.values())

    def of(self, purpose: str) -> list[Decision]:
        """The decisions of one purpose."""
        return [decision for decision in self.decisions if decision.purpose == purpose]

    @property
    def routing(self) -> Decision | None:
        """The decision that says where the packet goes: the last that is no source check."""
        return next((d for d in reversed(self.decisions) if d.purpose in {"input", "output"}), None)

    @property
    def check(self) -> Decision | None:
        """The source check."""
        return next(iter(self.of("source-check")), None)


@dataclass
class Seen:
    """One path."""

    packet: int
    complete: bool
    rows: list[Row]

    @cached_property
    def hops(self) -> list[Hop]:
        """The hops in their order."""
        found: dict[int, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row["hop"], []).append(row)
        return [Hop(rows) for rows in found.values()]

    @property
    def names(self) -> list[str | None]:
        """Names of the namespaces it went through."""
        return [hop.netns for hop in self.hops]

    @property
    def first(self) -> Row:
        """The first row about the packet itself; of the flow key where no packet was made."""
        return next((row for row in self.rows if row["event"] in _ENDS | {"receive"}), self.rows[0])

    def flow(self) -> tuple[str, str, str, int | None, int | None]:
        """(proto, src, dst, sport, dport) of the packet as it was made."""
        row = self.first
        return row["proto"], row["src"], row["dst"], row["sport"], row["dport"]

    def hop(self, netns: str) -> Hop:
        """The only hop in this namespace."""
        (hop,) = [hop for hop in self.hops if hop.netns == netns]
        return hop

    def text(self) -> str:
        """All that matters of it, for the message of a failed test."""
        lines = [f"#{self.packet} {self.flow()} complete={self.complete}"]
        for hop in self.hops:
            lines.append(f"  {hop.netns} {hop.role} {hop.in_dev} -> {hop.out_dev} {hop.verdict} {hop.reason}")
            for decision in hop.decisions:
                reason = decision.row["reason"] if decision.row else "no decision row"
                lines.append(f"    {decision.purpose} {decision.walk()} {reason}")
        return "\n".join(lines)


@dataclass
class Captured:
    """What one run of the tool gave."""

    code: int
    told: str
    printed: str
    frame: Any
    paths: list[Seen]

    def of(self, proto: str | None = None, **ends: object) -> list[Seen]:
        """The paths whose packet has this protocol and these ends (src, dst, sport, dport)."""
        return [
            path
            for path in self.paths
            if (proto is None or path.first["proto"] == proto)
            and all(path.first[name] == value for name, value in ends.items())
        ]

    def only(self, proto: str | None = None, **ends: object) -> Seen:
        """The one path that `of` finds."""
        found = self.of(proto, **ends)
        assert len(found) == 1, f"{len(found)} paths\n" + "\n".join(path.text() for path in self.paths)
        return found[0]


def rows_of(frame: Any) -> list[Row]:
    """A frame as dicts with None for what is not there."""
    there = frame.notna()
    columns = {n: frame[n].astype(object).where(there[n], None).tolist() for n in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def paths_of(frame: Any, complete: dict[int, bool]) -> list[Seen]:
    """The rows of a frame as paths."""
    grouped: dict[int, list[Row]] = {}
    for row in rows_of(frame):
        grouped.setdefault(row["packet"], []).append(row)
    return [Seen(packet, complete[packet], rows) for packet, rows in grouped.items()]


def capture(
    directory: Path, command: Sequence[str], *words: str, only: frozenset[int] | None = None
) -> Captured:
    """Trace a command with options `words`; of what was written, the paths through the namespaces `only`."""
    files = directory / "capture.parquet", directory / "capture.jsonl"
    outputs = [word for file in files for word in ("-o", str(file))]
    done = fibtrace("trace", *words, *outputs, "--format", "line", "--", *command)
    assert files[0].exists(), done.stderr
    assert "error:" not in done.stderr, done.stderr
    frame = tracer.read(files[0])
    if only is not None:
        frame = frame[
            frame["packet"].isin(frame.loc[frame["netns_inode"].isin(list(only)), "packet"].unique())
        ]
    objects = [json.loads(line) for line in files[1].read_text().splitlines()]
    paths = paths_of(frame, {item["packet"]: item["complete"] for item in objects})
    return Captured(done.returncode, done.stderr, done.stdout, frame, paths)


def fibtrace(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line tool."""
    options = {"capture_output": True, "text": True, "timeout": LIMIT_S, "cwd": REPO} | options
    return subprocess.run([sys.executable, "-m", "tracer.cli.main", *words], check=False, **options)
