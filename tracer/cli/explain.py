"""`fibtrace explain`: ask this kernel where a packet would go, and show the whole walk."""

from __future__ import annotations

from typing import Annotated

import typer

_WORDS = (
    "DST [from SRC] [iif DEV] [oif DEV] [mark M] [tos T] [ipproto P] [sport N] [dport N] [uid U] [netns NS]"
)


def explain(  # noqa: PLR0913 - one parameter per option
    words: Annotated[
        list[str] | None, typer.Argument(metavar=_WORDS, help="The question, in the words of `ip route get`.")
    ] = None,
    *,
    from_file: Annotated[
        str | None,
        typer.Option("--from-file", metavar="FILE#N", help="Explain a recorded packet again: what differs."),
    ] = None,
    offline: Annotated[
        str | None,
        typer.Option(
            "--offline", metavar="SNAPSHOT", help="Answer from a snapshot by a model, without root."
        ),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="One line instead of the tree.")] = False,
    format_: Annotated[
        str, typer.Option("--format", metavar="tree|line|jsonl", help="What stdout gets.")
    ] = "tree",
    backend: Annotated[
        str, typer.Option("--backend", metavar="auto|fentry|kprobe|tracepoint", help="How to look in.")
    ] = "auto",
) -> int:
    """Ask this kernel where such a packet would go: every rule with its why, the route, the source check.

    `vrf NAME` and `flowlabel N` are understood, too. Exits with 1 when the kernel answers with an error.
    """
    stdout_format = "line" if short else format_
    if from_file is not None:
        if words or offline is not None:
            raise typer.BadParameter("--from-file asks this kernel what the packet asked: give nothing else")
        from tracer.comparing import compare

        return compare(from_file, stdout_format, backend)
    if offline is not None:
        from tracer.offline import explain_offline

        return explain_offline(words or [], offline, stdout_format)
    from tracer.explaining import explain as run

    return run(words or [], stdout_format, backend)
