"""`fibtrace lab`: topologies of network namespaces with real services, to try and to learn with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracer.cli.common import command

if TYPE_CHECKING:
    from tracer.lab.engine import Running

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Networks of namespaces with real services, to try and to learn with.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A lab: see `fibtrace lab list`.")]


@app.command("list")
@command
def list_() -> None:
    """Name the labs, what each shows, which one is up, and which cannot run here and why (root can tell)."""
    from tracer.lab.catalog import labs
    from tracer.lab.needs import why_not
    from tracer.lab.state import State

    for name, lab in labs().items():
        print(f"{name:<13} {'up' if State(name).ready() else '  '}  {lab.summary}")
        if os.geteuid() == 0 and (reason := why_not(lab)):
            print(f"{'':<17} cannot run here: {reason}")


@app.command()
@command
def up(name: Name) -> None:
    """Build a lab; it stays until `down`."""
    from tracer.lab import engine

    running = engine.up(name)
    print(f"lab {name} is up: {', '.join(running.namespaces)}", file=sys.stderr)
    for relay in running.relays:
        print(relay.describe(), file=sys.stderr)
    print(f"try: ip -n {next(iter(running.namespaces))} rule", file=sys.stderr)


@app.command()
@command
def down(name: Name) -> None:
    """Remove a lab and all it made, also what a killed run left."""
    from tracer.lab import engine

    print(f"lab {name} {'is removed' if engine.down(name) else 'was not up'}", file=sys.stderr)


@app.command()
@command
def run(
    name: Name,
    *,
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", metavar="FILE", help="Suffix decides; several allowed."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="tree|line|csv|jsonl|none", help="What stdout gets.")
    ] = "tree",
    why: Annotated[
        bool,
        typer.Option(
            "--why", help="Explain every decision: each rule in order, the route, the source check."
        ),
    ] = False,
) -> int:
    """Build a lab, trace its traffic, print the paths, tear it down."""
    from tracer.lab import engine

    with engine.running(name) as running:
        return _trace(running, output or [], format_, why=why)


def _trace(running: Running, outputs: list[Path], stdout_format: str, *, why: bool) -> int:
    """Trace one run of the lab's traffic, within its namespaces; returns the exit code."""
    from tracer.enrich.resolve import FilterWords
    from tracer.tracing import TraceOptions, trace

    traffic = (sys.executable, "-m", "tracer.lab.run_traffic", running.lab.name)
    return trace(
        TraceOptions(
            filter=FilterWords(),
            outputs=tuple(outputs),
            stdout_format=None if stdout_format == "none" else stdout_format,
            command=traffic,
            namespaces=frozenset(running.namespaces.values()),
            why=why,
        )
    )
