"""`explain`: ask this kernel where a packet would go, and show the walk that it made to answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from tracer.errors import BadRequest, Exit, NotPermitted, TracerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tracer.enrich.answers import Told, World
    from tracer.enrich.asking import Answer
    from tracer.enrich.question import Question
    from tracer.enrich.watch import Watched
    from tracer.kernel.own import Watch
    from tracer.model.network import Route
    from tracer.outputs.questions import Explanation

FORMATS = ("tree", "line", "jsonl")


def explain(words: Sequence[str], stdout_format: str = "tree", backend: str = "auto") -> int:
    """Ask, and print the walk. Returns 1 where the kernel answers with an error, which is said on stderr, too."""
    from tracer.enrich.names import system_names
    from tracer.enrich.question import parse

    if stdout_format not in FORMATS:
        raise BadRequest(f"--format {stdout_format}: there is {', '.join(FORMATS)}")
    question = parse(words, system_names())
    (explanation,) = ask([question], backend)
    show(explanation, stdout_format)
    return end(explanation)


def ask(questions: Sequence[Question], backend: str = "auto") -> Iterator[Explanation]:
    """Ask each of these questions in its namespace, with the probes loaded once.

    Raises BadRequest for a namespace or a device that is not there, NotPermitted and NotSupported as a trace does.
    """
    with _Namespaces() as known:
        asked = [(question, known.of(question)) for question in questions]
        for question, watched in asked:
            question.flow(watched.state)  # refuse a device before anything is loaded
        from tracer.kernel.own import Watch

        with Watch(backend) as watch:
            for question, watched in asked:
                yield _asked(question, watched, watch)


def _asked(question: Question, watched: Watched, watch: Watch) -> Explanation:
    from tracer.enrich import netns
    from tracer.enrich.answers import World, decisions, end_of
    from tracer.enrich.asking import ask as ask_kernel
    from tracer.enrich.names import system_names
    from tracer.outputs.explained import question_path
    from tracer.outputs.questions import Explanation
    from tracer.pipeline import clock_offset_ns

    world = World(watched.poll() or watched.state, system_names())
    flow = question.flow(world.state)
    answer, seen = watch.lookups_of(lambda: netns.run_in(watched.fd, lambda: ask_kernel(question, flow)))
    told = decisions(question, list(seen.records), seen.stacks, world, answer)
    note = ""
    if not told:
        told, note = _unseen(question, watched, world, answer)
    end = end_of(question, told, answer, world.state)
    path = question_path(question, told, world, end, clock_offset_ns())
    return Explanation(question, path, answer, end.refused, note=note)


def _unseen(question: Question, watched: Watched, world: World, answer: Answer) -> tuple[list[Told], str]:
    """The walk of which no lookup was seen, by the model, if its route is the one that the kernel names; else none."""
    from tracer.enrich import netns
    from tracer.enrich.asking import ask as ask_kernel
    from tracer.enrich.modelled import modelled

    flow = question.flow(world.state)
    told, _, decided = modelled(question, world)
    if not told or decided.error != -answer.error:
        return [], ""
    if not answer.error:
        matched = netns.run_in(watched.fd, lambda: ask_kernel(question, flow, fibmatch=True)).route
        if matched is None or decided.route is None or place(matched) != place(decided.route):
            return (
                [],
                "the walk was not seen, and the model of it does not come to the route that the kernel used",
            )
    return told, "the walk was not seen: it is the model's, which comes to the kernel's own answer"


def place(route: Route) -> tuple[int, int, int, int]:
    """What tells a route of a table from others: table, type, prefix."""
    return route.table, route.type, route.dst, route.dst_len


class _Namespaces:
    """The namespaces asked about, each read once and followed from then on."""

    def __init__(self) -> None:
        self._open: dict[int, Watched] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for watched in self._open.values():
            watched.close()

    def of(self, question: Question) -> Watched:
        """The namespace of a question. Raises BadRequest if there is none, NotPermitted without root."""
        from tracer.enrich.follower import ROUTES_PER_NAMESPACE
        from tracer.enrich.names import system_names
        from tracer.enrich.question import find_namespace
        from tracer.enrich.watch import Watched

        found = find_namespace(question.netns)
        if found.inode not in self._open:
            try:
                watched = Watched(found, system_names().tables, ROUTES_PER_NAMESPACE)
            except PermissionError as error:
                raise NotPermitted(f"cannot enter namespace {found.name}: not root\n  try: sudo") from error
            self._open[found.inode] = watched
            watched.load()
        return self._open[found.inode]


def show(explanation: Explanation, stdout_format: str) -> None:
    """Print one explanation on stdout."""
    from tracer.outputs.questions import text

    sys.stdout.write(text(explanation, stdout_format))
    sys.stdout.flush()


def end(explanation: Explanation) -> int:
    """Say on stderr that the kernel refused, and why; returns the exit code."""
    if not explanation.answer.error:
        return Exit.DONE
    raise TracerError("\n".join(part for part in (explanation.answer.message, explanation.refused) if part))
