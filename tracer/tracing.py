"""One run of `trace`: probes attached, ring read, COMMAND run, everything drained and accounted for."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracer.console import Progress, Stop, say
from tracer.errors import BadRequest, Exit, NotSupported, TracerError
from tracer.outputs.registry import RAW_SUFFIX, SUFFIXES, output_format
from tracer.privilege import account, drop, start
from tracer.starting import TraceOptions, open_outputs, start_both

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tracer.enrich.filters import Selection
    from tracer.enrich.follower import Follower
    from tracer.kernel.loader import Loaded
    from tracer.kernel.reader import Reader
    from tracer.pipeline import Processing, Recorder

__all__ = ["TraceOptions", "follow", "trace"]

_WAIT_S = 0.05
_SETTLE_NS = 60_000_000
_DRAIN_NS = 1_000_000_000
_POLL_NS = 40_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its exit code, what was lost, and whether a signal ended it before its COMMAND did."""

    code: int
    lost: int
    interrupted: bool


@dataclass(slots=True)
class _Losses:
    """What is known to be missing at the end."""

    refused: int = 0
    missed: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.refused + sum(self.missed.values())


def trace(options: TraceOptions) -> int:
    """Trace until COMMAND ends, the count or the time is reached, or a signal; returns the exit code."""
    return follow(options).code


def follow(options: TraceOptions) -> Outcome:
    """The same, and what else is to be known of the run."""
    _check(options)
    with Stop() as stop:
        session = _Session(options, stop)
        code = session.run()
        return Outcome(code, session.lost, stop.asked)


def _check(options: TraceOptions) -> None:
    """What can be known to be wrong before anything is loaded."""
    for path in options.outputs:
        if path.suffix not in {RAW_SUFFIX, *SUFFIXES}:
            possible = ", ".join((*SUFFIXES, RAW_SUFFIX))
            raise BadRequest(f"cannot write {path}: its suffix must name a format\n  possible: {possible}")
    if options.stdout_format is not None:
        output_format("-", options.stdout_format)
    if options.command and shutil.which(options.command[0]) is None:
        raise BadRequest(
            f"command not found: {options.command[0]}\n  give a program on the PATH, or its path, after --"
        )
    if options.user is not None and not options.command:
        raise BadRequest("--user says as whom COMMAND is run, and there is none\n  give it after --")
    if options.stacks == "none":
        raise NotSupported(
            "--stacks none: only the caller's stack tells a packet's decision from a query or a trial (ICMP errors)\n"
            "  and paths would be wrong without\n  try: --stacks first"
        )


class _Session:
    """The parts of one run."""

    def __init__(self, options: TraceOptions, stop: Stop) -> None:
        self._options, self._stop = options, stop
        self._child: subprocess.Popen[bytes] | None = None
        self._user = None if options.user is None else account(options.user)
        self._recorders: list[Recorder] = []
        self._sequences: dict[int, int] = {}
        self.lost = 0
        self._progress = Progress()

    def run(self) -> int:
        with contextlib.ExitStack() as stack:
            loaded, follower = start_both(self._options)
            say(loaded.words)
            stack.callback(loaded.close)
            stack.callback(follower.close)
            processing, reader = self._assemble(loaded, follower, stack)
            with _reported_errors(processing):
                self._follow(loaded, follower, processing, reader)
            return self._account(loaded, processing)

    def _assemble(
        self, loaded: Loaded, follower: Follower, stack: contextlib.ExitStack
    ) -> tuple[Processing, Reader]:
        from tracer.enrich.names import system_names
        from tracer.enrich.processes import Processes, local_ports, threads
        from tracer.enrich.resolve import resolve
        from tracer.kernel import source
        from tracer.kernel.loader import check_ring_size
        from tracer.kernel.reader import Reader
        from tracer.kernel.ring import Ring
        from tracer.outputs.timeline import chosen
        from tracer.pipeline import Processing, Recorder, Symbols, clock_offset_ns
        from tracer.wire.layout import parse

        options = self._options
        layout = parse(source.wire_header())
        selection = resolve(options.filter, follower.network, system_names())
        selection.only_namespaces = options.namespaces
        if selection.pid is not None or selection.comm is not None or selection.uid is not None:
            loaded.watch_ports(local_ports(selection.pid, selection.comm, selection.uid))
        loaded.set_filter(
            selection.wire(layout, {"none": 0, "first": 1, "all": 2}[options.stacks], os.getpid())
        )
        ring = Ring(loaded.ring_descriptor, check_ring_size(options.ring_mb), layout)
        stack.callback(ring.close)
        reasons, offset_ns = loaded.types.drop_reasons, clock_offset_ns()
        for path in (path for path in options.outputs if path.suffix == RAW_SUFFIX):
            made = Recorder(path, source.wire_header(), offset_ns, reasons, options.filter.given)
            made.network(follower.network)
            self._recorders.append(made)
        processing = Processing(
            layout=layout,
            network=follower.network,
            symbols=Symbols(loaded.stack, loaded.symbol),
            reasons=reasons,
            selection=selection,
            outputs=open_outputs(options, self._progress.clear),
            clock_offset_ns=offset_ns,
            ensure=follower.ensure,
            owner=Processes().owner,
            threads=threads,
            limit=options.count,
            filtered=options.filter.given,
            changes_shown=chosen(options.changes, _inside(selection)),
            why=options.why,
        )
        reader = Reader(ring, layout.record, loaded.numbers)
        stack.callback(reader.close)
        if options.alone:
            drop(command=bool(options.command), user=self._user is not None)
        reader.start()
        return processing, reader

    def _follow(self, loaded: Loaded, follower: Follower, processing: Processing, reader: Reader) -> None:
        """Take records until the end was reached, then what is left of them."""
        started_ns = time.monotonic_ns()
        self._start_command()
        ended_ns: int | None = None
        while not processing.enough:
            self._step(loaded, follower, processing, reader)
            now_ns = time.monotonic_ns()
            if ended_ns is None and self._at_end(started_ns):
                ended_ns = now_ns
            if ended_ns is not None and _drained(now_ns, ended_ns, reader.quiet_since_ns):
                break
        # Before the ring is emptied for the last time: what is not in it then is lost.
        numbers, sequences = loaded.numbers(), loaded.sequences()
        reader.stop()
        while reader.backlog and not processing.enough:
            self._step(loaded, follower, processing, reader)
        self._sequences = {} if processing.enough else sequences
        self._poll(follower, processing)
        processing.finish(time.monotonic_ns(), {} if processing.enough else numbers)
        self._end_command()
        self._progress.clear()

    def _step(self, loaded: Loaded, follower: Follower, processing: Processing, reader: Reader) -> None:
        """One chunk of records, and what changed in the network meanwhile."""
        chunk = reader.next(_WAIT_S)
        # What changed before these records were made must be known before they are explained.
        if self._progress.due(_POLL_NS) or (len(chunk.records) and follower.pending()):
            self._poll(follower, processing)
        for recorder in self._recorders:
            processing.callers.learn(chunk.records)
            recorder.records(chunk.records, processing)
        processing.feed(chunk.records, chunk.horizon_ns, chunk.reached)
        self._progress.show(processing, lambda: sum(loaded.refused()))

    def _poll(self, follower: Follower, processing: Processing) -> None:
        """Take note of what changed in the network."""
        states = follower.poll()
        changes = follower.take_changes()
        if states:
            processing.network_changed(states)
        processing.changed(changes)
        for recorder in self._recorders:
            recorder.network(follower.network)
            recorder.changes(changes)

    def _start_command(self) -> None:
        if self._options.command:
            self._child = start(self._options.command, self._user)

    def _at_end(self, started_ns: int) -> bool:
        options = self._options
        if self._stop.asked:
            return True
        if self._child is not None and self._child.poll() is not None:
            return True
        return options.duration_s is not None and time.monotonic_ns() - started_ns >= options.duration_s * 1e9

    def _end_command(self) -> None:
        """The trace is over before its COMMAND: then it is ended, and its exit code says nothing."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            self._child.wait()
            self._child = None

    def _account(self, loaded: Loaded, processing: Processing) -> int:
        """Say exactly what was seen and what was lost; choose the exit code."""
        refused = loaded.refused()
        losses = _Losses(sum(refused), loaded.missed())
        counts, self.lost = processing.counts, losses.total
        for recorder in self._recorders:
            recorder.close(
                {
                    "refused": refused,
                    "missed": losses.missed,
                    "records": counts.records,
                    "sequences": self._sequences,
                }
            )
        say(f"seen {counts.packets} packets, {losses.total} lost")
        say(f"  from {counts.records} records with {counts.lookups} lookups")
        if losses.refused:
            say(f"  {losses.refused} records found the ring full: try a larger --ring-mb, or a filter")
        for point, number in losses.missed.items():
            say(f"  {number} events at {point} came while its probe was running on that CPU")
        for point, why in loaded.missing.items():
            say(f"  not seen: {point}: {why.splitlines()[0]}")
        for what, number in loaded.calls_missed().items():
            say(f"  {number} {what}")
        if losses.total and self._options.strict:
            return Exit.LOST
        if self._child is not None:
            code = self._child.wait()
            return 128 - code if code < 0 else code
        return Exit.DONE


def _inside(selection: Selection) -> Collection[int] | None:
    """The namespaces that are looked at, None for all."""
    if selection.netns is not None:
        return {selection.netns}
    return selection.only_namespaces or None


def _drained(now_ns: int, ended_ns: int, quiet_since_ns: int) -> bool:
    """Nothing more came for a while, or there is no end to it."""
    return (
        now_ns - quiet_since_ns >= _SETTLE_NS and now_ns - ended_ns >= _SETTLE_NS
    ) or now_ns - ended_ns >= _DRAIN_NS


@contextlib.contextmanager
def _reported_errors(processing: Processing) -> Iterator[None]:
    """Whatever ends the run, the outputs are closed, so that what was captured can be read."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(TracerError, OSError):
            processing.close()
        raise
    processing.close()
