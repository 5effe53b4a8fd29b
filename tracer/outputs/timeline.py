"""Changes between paths: where each stands among the rows of a batch, and how it is put into words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from tracer.enrich.flowpaths import FlowPaths, Timeline
from tracer.model import change as kinds
from tracer.model.visible import visible
from tracer.outputs.paths import paths
from tracer.outputs.registry import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    import pyarrow as pa

    from tracer.model.change import Cause, Change, Changed, Facts
    from tracer.model.path import Path
    from tracer.outputs.read import ReadResult
    from tracer.outputs.registry import Output

MARK = "*"
_SHARP_NS = 1_000_000


def follow(output: Output, timeline: Timeline) -> None:
    """Let an output that has a place for it name the changes between two packets of a flow."""
    if isinstance(output, Told):
        output.flows = FlowPaths(timeline)


def compared(rows: pa.Table, flows: FlowPaths) -> Iterator[Path]:
    """The paths of some rows, each with what is different from the last one of its flow."""
    for path in paths(rows):
        changed = path.changed or flows.compare(path)
        yield replace(path, changed=changed) if changed else path


def write_read(output: Output, read: ReadResult) -> None:
    """Write what was read from a file, with its changes if it has any."""
    if read.changes:
        timeline = Timeline(len(read.changes))
        timeline.add(read.changes)
        follow(output, timeline)
    write_between(output, read.rows, read.changes)


def write_between(output: Output, rows: pa.Table, changes: Sequence[Change]) -> None:
    """Write rows and changes in order of time: a change stands before the first path that began after it.

    An output without a place for changes gets the rows alone.
    """
    if not changes or not isinstance(output, Told):
        if len(rows):
            output.write(rows)
        return
    begin = 0
    packet, ts_ns = rows.column("packet").to_numpy(), rows.column("ts_ns").to_numpy()
    starts = (
        np.flatnonzero(np.concatenate(([True], packet[1:] != packet[:-1]))) if len(packet) else packet[:0]
    )
    waiting: list[Change] = []
    for change in changes:
        later = starts[ts_ns[starts] > change.ts_ns]
        end = max(int(later[0]) if len(later) else len(rows), begin)
        if end > begin:
            _tell(output, waiting)
            waiting = []
            output.write(rows.slice(begin, end - begin))
            begin = end
        waiting.append(change)
    _tell(output, waiting)
    if begin < len(rows):
        output.write(rows.slice(begin))


def _tell(output: Told, changes: list[Change]) -> None:
    if changes:
        output.tell(changes)


def change_line(change: Change) -> str:
    """`* 14:03:07.120 r  + rule 100: from all lookup 100  by ip[812]`, and how late it may have been noticed."""
    at = datetime.fromtimestamp(change.ts_ns / 1e9, UTC).astimezone()
    words = [f"{MARK} {at:%H:%M:%S}.{change.ts_ns // 1_000_000 % 1000:03d}", _namespace(change), change.text]
    words += [f"by {change.by}"] if change.by else []
    late_ns = change.ts_ns - change.unsure_ns
    words += [f"(noticed up to {late_ns / 1e6:.0f} ms late)"] if late_ns >= _SHARP_NS else []
    return visible("  ".join(words))


def _namespace(change: Change) -> str:
    return change.netns or f"netns:{change.netns_inode}"


def changed_words(changed: Changed) -> str:
    """`path changed: was rule 32766 table main via 10.2.0.1; now rule 100 …, after + rule 100: … (0.8 s before)`."""
    return visible(_changed_words(changed))


def _changed_words(changed: Changed) -> str:
    was, now = facts_words(changed.was, changed.now), facts_words(changed.now, changed.was)
    said = f"path changed in {changed.netns} since #{changed.packet}: was {was}; now {now}"
    causes = [f"{cause.text}{_by(cause)} ({_distance(cause.before_ns)})" for cause in changed.causes]
    if changed.more:
        causes.append(f"{changed.more} more")
    if changed.certain:
        return f"{said}, after {causes[0]}"
    if causes:
        said += f", possibly because of {' or '.join(causes)}"
    elif changed.known:
        said += ", with no change of rules, routes or devices seen between"
    return said if changed.known else f"{said} (not all changes between are known)"


def _by(cause: Cause) -> str:
    return f" by {cause.by}" if cause.by else ""


def _distance(before_ns: int) -> str:
    seconds = abs(before_ns) / 1e9
    shown = f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1e3:.1f} ms"  # noqa: PLR2004
    return f"{shown} before" if before_ns >= 0 else f"noticed {shown} after"


def facts_words(facts: Facts, other: Facts) -> str:
    """What a hop did; the verdict only where it is another one than the other time."""
    words = [] if facts.rule is None else [f"rule {facts.rule}"]
    words += [f"table {facts.table}"] if facts.table is not None else []
    if facts.prefix is not None and facts.prefix != other.prefix:
        words.append("default" if facts.prefix in {"0.0.0.0/0", "::/0"} else facts.prefix)
    words += [f"via {facts.gateway}"] if facts.gateway is not None else []
    words += [f"dev {facts.dev}"] if facts.dev is not None else []
    words += [facts.verdict] if facts.verdict is not None and facts.verdict != other.verdict else []
    return " ".join(words) or "unknown"


class Between:
    """Changes on their way to the outputs: each waits until the paths that began before it are written.

    It is written before every path that began after it. A path that is finished late (it was in a tunnel, or its end
    was never seen) may come after a change that it began before; the times say so.
    """

    def __init__(self, shown: Callable[[Change], bool] | None) -> None:
        self.timeline = Timeline()
        self.count = 0
        self._shown = shown
        self._waiting: list[Change] = []

    @property
    def waits(self) -> bool:
        """Whether there are changes to write."""
        return bool(self._waiting)

    def add(self, changes: Iterable[Change], clock_offset_ns: int) -> None:
        """Take changes with times of CLOCK_MONOTONIC, in order."""
        moved = [
            replace(one, ts_ns=one.ts_ns + clock_offset_ns, unsure_ns=one.unsure_ns + clock_offset_ns)
            for one in changes
        ]
        self.timeline.add(moved)
        if self._shown is not None:
            self._waiting += filter(self._shown, moved)

    def write(self, outputs: Sequence[Output], rows: pa.Table | None, until_ns: int) -> None:
        """Write the rows of finished paths, if any, and the changes up to `until_ns` (since the epoch)."""
        if rows is not None and self._waiting:
            until_ns = max(until_ns, _last_start(rows))
        count = sum(1 for change in self._waiting if change.ts_ns <= until_ns)
        due, self._waiting = self._waiting[:count], self._waiting[count:]
        self.count += len(due)
        for output in outputs:
            if rows is not None:
                write_between(output, rows, due)
            elif due and isinstance(output, Told):
                output.tell(due)


def _last_start(rows: pa.Table) -> int:
    """When the last of the paths in these rows began."""
    packet, ts_ns = rows.column("packet").to_numpy(), rows.column("ts_ns").to_numpy()
    starts = np.concatenate(([True], packet[1:] != packet[:-1]))
    return int(ts_ns[starts].max())


def chosen(which: str, inside: Collection[int] | None) -> Callable[[Change], bool] | None:
    """Which changes are shown: of `which` (`none`, `routing`, `all`), in these namespaces, None for every one.

    Of neighbours, which change all the time, `routing` has those that failed: packets to them are lost.
    """
    if which == "none":
        return None

    def shown(change: Change) -> bool:
        if inside is not None and change.netns_inode not in inside:
            return False
        return which == "all" or change.kind != kinds.NEIGHBOUR or change.state == "FAILED"

    return shown
