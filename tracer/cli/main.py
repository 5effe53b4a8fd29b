"""The `fibtrace` command: one file per command, put together here."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tracer.cli import lab
from tracer.cli.common import command, end, open_missing_streams
from tracer.cli.convert import convert
from tracer.cli.doctor import doctor
from tracer.cli.expect import WithCommand, expect
from tracer.cli.explain import explain
from tracer.cli.report import report
from tracer.cli.snapshot import snapshot
from tracer.cli.top import top
from tracer.cli.trace import trace

app = typer.Typer(
    name="fibtrace",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: loading rich would take longer than everything else in `--help`
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(command(trace))
app.command()(command(explain))
app.command()(command(top))
app.command()(command(convert))
app.command()(command(report))
app.command(cls=WithCommand)(command(expect))
app.add_typer(lab.app, name="lab")
app.command()(command(snapshot))
app.command()(command(doctor))


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"fibtrace {version('fibtrace')}")
        except PackageNotFoundError:
            print("fibtrace, run from its sources without being installed")
        raise typer.Exit


@app.callback()
def fibtrace(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Show the path of every packet through the routing of this host: which rule, table, route, and why.

    Exit codes: 0 done, 1 failed, 2 usage, 3 not permitted, 4 not supported by this kernel, 5 finished with
    losses under --strict.
    """


COMPLETION = "_FIBTRACE_COMPLETE"
"""With this in the environment a shell asks what could come next."""


def main() -> None:
    """Run the command line; what escapes a command (Ctrl-C while starting) ends it quietly too."""
    open_missing_streams()
    if COMPLETION in os.environ:
        from typer import completion

        completion.completion_init()  # type: ignore[attr-defined]
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except SystemExit as stop:
        # typer ends with 1 when nobody reads its help
        sys.exit(end(stop.__context__) if isinstance(stop.__context__, BrokenPipeError) else stop.code)
    except BaseException as error:  # noqa: BLE001 - the last place that can turn it into a message
        sys.exit(end(error))


if __name__ == "__main__":
    main()
