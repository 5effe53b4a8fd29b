"""`explain --offline`: a question answered from a snapshot by the model, without root and without the host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import MALFORMED, BadCapture, BadRequest, Exit
from tracer.explaining import FORMATS, end, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.model.network import NetworkState


def explain_offline(words: Sequence[str], snapshot: str, stdout_format: str = "tree") -> int:
    """Answer and print; exit codes are those of a question to the kernel, and 1 where the model cannot tell."""
    from tracer.enrich.answers import World
    from tracer.enrich.asking import Answer
    from tracer.enrich.modelled import modelled
    from tracer.enrich.names import system_names
    from tracer.enrich.question import parse
    from tracer.outputs.explained import question_path
    from tracer.outputs.questions import Explanation

    if stdout_format not in FORMATS:
        raise BadRequest(f"--format {stdout_format}: there is {', '.join(FORMATS)}")
    question = parse(words, system_names())
    network = read_snapshot(snapshot)
    try:
        world = World(_state(network, question.netns), system_names())
        told, ending, decided = modelled(question, world)
    except MALFORMED as error:
        raise BadCapture(
            f"cannot use {snapshot}: what it holds does not fit together ({type(error).__name__}: {error})\n"
            f"  make one: fibtrace snapshot -o {snapshot}"
        ) from error
    assumed = decided.walk.assumed if decided.walk else ()
    note = f"the model assumes: {', '.join(assumed)}" if assumed else ""
    path = question_path(question, told, world, ending)
    answer = Answer(-(decided.error or 0))
    explanation = Explanation(question, path, answer, ending.refused, Path(snapshot).name, note)
    show(explanation, stdout_format)
    return Exit.FAILED if decided.error is None else end(explanation)


def read_snapshot(name: str) -> tuple[NetworkState, ...]:
    """The namespaces of a snapshot. Raises BadCapture if it is none."""
    from tracer.enrich.snapshot import read

    try:
        return read(name).states
    except OSError as error:
        raise BadCapture(f"cannot read {name}: {(error.strerror or str(error)).lower()}") from error


def _state(states: tuple[NetworkState, ...], netns: str) -> NetworkState:
    """The namespace asked about: by name or inode, else the host's, else the only one."""
    wanted = [state for state in states if netns in {state.name, str(state.inode)}] if netns else []
    if not netns:
        wanted = [state for state in states if state.name == "host"] or (
            list(states) if len(states) == 1 else []
        )
    if not wanted:
        known = ", ".join(sorted(state.name or str(state.inode) for state in states)) or "none"
        what = f"netns {netns}: not in the snapshot" if netns else "which namespace? give netns NAME"
        raise BadRequest(f"{what}\n  there is: {known}")
    return wanted[0]
