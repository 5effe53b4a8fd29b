"""Writes what is made from the command line's own definition: the man page fibtrace.8 and the shells' completions.

python scripts/packaging/from_cli.py DIRECTORY
"""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from typer._completion_shared import get_completion_script
from typer.main import get_command

from tracer.cli.main import COMPLETION, app

SHELLS = {"bash": "fibtrace", "zsh": "_fibtrace", "fish": "fibtrace.fish"}
"""The file that each shell looks for."""
_CODES = (
    ("0", "Done. With COMMAND, its own exit code is ours."),
    ("1", "Failed; an expectation does not hold."),
    ("2", "Wrong usage."),
    ("3", "Not permitted: a capability is missing, and which one is said."),
    ("4", "Not supported by this kernel or installation; the remedy is said."),
    ("5", "Records were lost, under --strict."),
)
_FILES = (
    ("/usr/share/doc/fibtrace/", "Documentation: columns, labs, expectations, security, kernels."),
    ("/etc/default/fibtrace-recorder", "Options of the flight recorder, fibtrace-recorder.service."),
)


def main() -> None:
    """Write into the directory that is named."""
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    (place / "fibtrace.8").write_text(man_page())
    for shell, name in SHELLS.items():
        script = get_completion_script(prog_name="fibtrace", complete_var=COMPLETION, shell=shell)
        (place / f"{shell}.{name}").write_text(script + "\n")


def man_page() -> str:
    """The manual of all commands, as roff."""
    group: Any = get_command(app)
    made = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    lines = [
        f'.TH FIBTRACE 8 "{time.strftime("%Y-%m-%d", made)}" "fibtrace {version("fibtrace")}" "System Administration"',
        ".SH NAME", r"fibtrace \- show the path of every packet through the routing of this host",
        ".SH SYNOPSIS", ".B fibtrace", r".I COMMAND", r"[\fIOPTION\fR...] [\fIARGUMENT\fR...]",
        ".SH DESCRIPTION", *text(group.help.partition("Exit codes:")[0]), ".SH COMMANDS",
    ]  # fmt: skip
    for name, command in group.commands.items():
        lines += subcommand(f"fibtrace {name}", command)
    lines += [".SH EXIT STATUS", *table(_CODES), ".SH FILES", *table(_FILES)]
    return "\n".join(
        [*lines, ".SH SEE ALSO", ".BR ip\\-rule (8),", ".BR ip\\-route (8),", ".BR tcpdump (8)", ""]
    )


def subcommand(name: str, command: Any) -> list[str]:
    """A command, or each of a group's."""
    if hasattr(command, "commands"):
        return [
            line for sub, inner in command.commands.items() for line in subcommand(f"{name} {sub}", inner)
        ]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    shown = " ".join(f"\\fI{safe(argument_name(p))}\\fR" for p in arguments)
    lines = [f".SS {safe(name)} [\\fIOPTION\\fR...] {shown}".rstrip(), *text(command.help or "")]
    for parameter in [*arguments, *options]:
        lines += [".TP", heading(parameter), *text(parameter.help or "")]
    return lines


def argument_name(parameter: Any) -> str:
    """An argument as its usage line shows it."""
    return parameter.metavar or parameter.name.upper()


def heading(parameter: Any) -> str:
    """An option's names and value, or an argument's name."""
    if parameter.param_type_name == "argument":
        return f"\\fI{safe(argument_name(parameter))}\\fR"
    names = ", ".join(f"\\fB{safe(name)}\\fR" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    value = parameter.metavar or parameter.name.upper()
    return f"{names} \\fI{safe(value)}\\fR"


def table(rows: tuple[tuple[str, str], ...]) -> list[str]:
    """Names with what they mean."""
    return [line for name, meaning in rows for line in (".TP", f"\\fB{safe(name)}\\fR", *text(meaning))]


def text(words: str) -> list[str]:
    """Paragraphs."""
    paragraphs = [" ".join(part.split()) for part in words.split("\n\n") if part.strip()]
    return "\n.PP\n".join(safe(part) for part in paragraphs).splitlines()


def safe(words: str) -> str:
    """Words that roff takes as they are: options keep their hyphens, no line becomes a request."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    main()
