"""One run of `top`: probes attached, counters read every interval, COMMAND run, everything accounted for."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracer.console import Stop, say
from tracer.errors import BadRequest, Exit
from tracer.top.items import KINDS
from tracer.top.table import FORMATS, Line, Moment, as_csv, as_jsonl, as_table, as_unused, lines

if TYPE_CHECKING:
    from tracer.enrich.follower import Follower
    from tracer.enrich.names import Names
    from tracer.enrich.resolve import FilterWords
    from tracer.kernel.loader import Loaded
    from tracer.top.counters import Counters
    from tracer.top.items import Item
    from tracer.top.screen import Screen

_POLL_S = 0.04
_SETTLE_S = 0.1
_WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class TopOptions:
    """What `fibtrace top` was asked for."""

    filter: FilterWords
    kinds: tuple[str, ...] = KINDS
    format: str = "table"
    interval_s: float = 1.0
    duration_s: float | None = None
    once: bool = False
    unused: bool = False
    everything: bool = False
    strict: bool = False
    command: tuple[str, ...] = ()

    @property
    def at_end_only(self) -> bool:
        """Whether there is one output, at the end."""
        return self.once or bool(self.command)

    @property
    def window_s(self) -> float | None:
        """How long is counted; None for until asked to end."""
        if self.duration_s is None and self.once and not self.command:
            return _WINDOW_S
        return self.duration_s


def top(options: TopOptions) -> int:
    """Count until COMMAND ends, the time is over, or a signal; returns the exit code."""
    _check(options)
    with Stop() as stop, contextlib.ExitStack() as stack:
        return _Session(options, stop, stack).run()


def _check(options: TopOptions) -> None:
    """What can be known to be wrong before anything is loaded."""
    unknown = [kind for kind in options.kinds if kind not in KINDS]
    if unknown:
        raise BadRequest(f"--by {unknown[0]}: there is {', '.join(KINDS)}")
    if options.format not in FORMATS:
        raise BadRequest(f"--format {options.format}: there is {', '.join(FORMATS)}")
    if options.command and shutil.which(options.command[0]) is None:
        raise BadRequest(
            f"command not found: {options.command[0]}\n  give a program on the PATH, or its path, after --"
        )


class _Session:
    """The parts of one run."""

    def __init__(self, options: TopOptions, stop: Stop, stack: contextlib.ExitStack) -> None:
        from tracer.enrich.names import system_names

        self._options, self._stop = options, stop
        self._names: Names = system_names()
        self._loaded, self._follower = _start(stack)
        self._counters: Counters = _counters(self._loaded, self._follower, options, self._names)
        self._apply()
        self._start_ns = self._shown_ns = time.monotonic_ns()
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._before: dict[Item, int] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._header = True

    def run(self) -> int:
        if self._options.command:
            try:
                self._child = subprocess.Popen(self._options.command, stdout=sys.stderr)  # stdout is for data
            except OSError as error:
                raise BadRequest(f"cannot run {self._options.command[0]}: {error.strerror}") from error
        live = sys.stdout.isatty() and not self._options.at_end_only and self._options.format == "table"
        with _screen(live=live) as screen:
            self._follow(screen)
        if self._child is not None:
            time.sleep(_SETTLE_S)  # what it sent last is still under way
        self._poll()
        self._counters.stop()
        if live or self._options.at_end_only:
            self._before.clear()
            self._shown_ns = self._start_ns
        if live or self._options.at_end_only or self._counters.totals.items:
            self._print()
        return self._account()

    def _follow(self, screen: Screen | None) -> None:
        """Until the end was reached: follow the configuration, show the counters every interval."""
        while not self._at_end(screen):
            time.sleep(_POLL_S)
            self._poll()
            self._counters.collect()  # often, so that a change leaves little in doubt
            due_s = (time.monotonic_ns() - self._shown_ns) / 1e9
            if due_s < self._options.interval_s:
                continue
            self._counters.turn()
            if screen is not None:
                screen.show(self._text(), "q ends")
                self._remember()
            elif not self._options.at_end_only:
                self._print()
            else:
                self._shown_ns = time.monotonic_ns()

    def _poll(self) -> None:
        if self._follower.poll() or self._counters.outdated:
            self._apply()

    def _apply(self) -> None:
        network = self._follower.network
        self._counters.apply([state for state in map(network.latest, network.inodes()) if state])

    def _at_end(self, screen: Screen | None) -> bool:
        window_s = self._options.window_s
        if self._stop.asked or (screen is not None and screen.asked_to_end()):
            return True
        if self._child is not None and self._child.poll() is not None:
            return True
        return window_s is not None and time.monotonic_ns() - self._start_ns >= window_s * 1e9

    def _lines(self, now_ns: int) -> list[Line]:
        items, options = self._counters.totals.items, self._options
        if options.unused:
            from tracer.top.unused import unused

            found = unused(
                self._follower.network,
                self._counters.totals,
                self._names,
                self._counters.families,
                everything=options.everything,
            )
            chosen = self._counters.selection.netns
            return [
                line
                for line in found
                if line.item.by in options.kinds and chosen in {None, line.item.netns_inode}
            ]
        seconds = (now_ns - self._shown_ns) / 1e9
        return lines(items, self._before, seconds, self._follower.name, options.kinds)

    def _text(self) -> str:
        moment = Moment(time.monotonic_ns(), self._offset_ns)
        found = self._lines(moment.now_ns)
        if self._options.format == "csv":
            return as_csv(found, moment, header=self._header)
        if self._options.format == "jsonl":
            return as_jsonl(found, moment)
        return as_unused(found, moment) if self._options.unused else as_table(found, moment)

    def _print(self) -> None:
        sys.stdout.write(self._text() + ("\n" if self._options.format == "table" else ""))
        sys.stdout.flush()
        self._header = False
        self._remember()

    def _remember(self) -> None:
        self._before = {item: tally.hits for item, tally in self._counters.totals.items.items()}
        self._shown_ns = time.monotonic_ns()

    def _account(self) -> int:
        """Say exactly what was counted and what was not; choose the exit code."""
        totals, missed = self._counters.totals, self._loaded.missed()
        seconds = (time.monotonic_ns() - self._start_ns) / 1e9
        say(
            f"counted {totals.decisions} decisions with {totals.lookups} lookups and {totals.drops} drops "
            f"in {seconds:.1f} s, {sum(missed.values()) + sum(totals.lost.values())} lost"
        )
        for line in _losses(totals.lost, missed):
            say(f"  {line}")
        for point, why in self._loaded.missing.items():
            say(f"  not counted: {point}: {why.splitlines()[0]}")
        if self._options.unused:
            from tracer.top.unused import unread

            for netns, table in unread(self._follower.network):
                say(f"  table {table} of {netns} is too large to be read: its unused routes are not listed")
        if self._options.strict and (missed or totals.lost):
            return Exit.LOST
        return self._end_command()

    def _end_command(self) -> int:
        if self._child is None:
            return Exit.DONE
        if self._child.poll() is None:  # the window was over before it
            self._child.terminate()
            self._child.wait()
            return Exit.DONE
        code = self._child.returncode
        return 128 - code if code < 0 else code


def _losses(lost: dict[str, int], missed: dict[str, int]) -> list[str]:
    words = {
        "decisions": "decisions were not counted: the map was full",
        "ends": "decisions were not counted: their last lookup was not known to be the last",
        "drops": "dropped packets were not counted: the map was full",
    }
    found = [f"{lost[name]} {text}" for name, text in words.items() if lost.get(name)]
    found += [f"{lost['lookups']} lookups belong to those decisions"] if lost.get("lookups") else []
    return found + [
        f"{number} events at {point} came while its probe was running on that CPU"
        for point, number in missed.items()
    ]


def _start(stack: contextlib.ExitStack) -> tuple[Loaded, Follower]:
    """Compile the probes and read the namespaces at the same time: both wait for the kernel most of the while."""
    from tracer.enrich.follower import Follower
    from tracer.kernel.loader import load_counters

    follower = Follower()
    errors: list[BaseException] = []

    def read_namespaces() -> None:
        try:
            follower.start()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            errors.append(error)

    reader = threading.Thread(target=read_namespaces)
    reader.start()
    try:
        loaded = load_counters()
        stack.callback(loaded.close)
    finally:
        reader.join()
    stack.callback(follower.close)
    if errors:
        raise errors[0]
    return loaded, follower


def _counters(loaded: Loaded, follower: Follower, options: TopOptions, names: Names) -> Counters:
    from tracer.enrich.resolve import resolve
    from tracer.kernel import source
    from tracer.top.counters import Counters, World
    from tracer.wire.layout import parse

    layouts = parse(source.counters_header()), parse(source.wire_header())
    selection = resolve(options.filter, follower.network, names)
    world = World(follower.network, follower.ensure, names, loaded.types.drop_reasons)
    return Counters(loaded, layouts, selection, world)


@contextlib.contextmanager
def _screen(*, live: bool):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """The terminal's second screen, or None."""
    if not live:
        yield None
        return
    from tracer.top.screen import Screen

    with Screen() as screen:
        yield screen
