"""The topmost layer of a guest's file system: a copy of this checkout, what is installed of it, and the command."""

from __future__ import annotations

import shlex
import shutil
import sys
import tomllib
from pathlib import Path

from vmlab.kernel import SQUASH
from vmlab.steps import Steps
from vmlab.userland import CHECKOUT, PYTHON, SITE_PACKAGES, VENV

_GUEST = Path(__file__).resolve().parent / "guest"
_NOT_COPIED = (".git", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "build", "dist")
_PROGRAM = f"""\
#!{VENV}/bin/python
import sys
from tracer.cli.main import main
sys.exit(main())
"""


def pack(steps: Steps, top: Path, command: list[str], work: Path) -> Path:
    """Return the image of the layer, written below `work`."""
    layer = work / "layer"
    source = layer / CHECKOUT.lstrip("/")
    shutil.copytree(top, source, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == PYTHON:
        # Natively: in an emulated guest it would take seconds, at every start.
        folders = [str(source / name) for name in ("tracer", "tests")]
        steps.quietly(
            "compiling the checkout",
            sys.executable,
            "-m",
            "compileall",
            "-q",
            "-s",
            str(layer),
            "-p",
            "/",
            *folders,
        )
    _install(layer, (top / "pyproject.toml").read_text())
    (layer / "vm").mkdir()
    shutil.copy2(_GUEST / "start", layer / "vm/start")
    _write_program(layer / "vm/command", script(command))
    image = work / "checkout.squashfs"
    steps.quietly("packing the checkout", "mksquashfs", layer, image, *SQUASH)
    shutil.rmtree(layer)
    return image


def script(command: list[str]) -> str:
    """The command as a program: a single word is for the shell, several are a program and its arguments."""
    line = command[0] if len(command) == 1 else f"exec {shlex.join(command)}"
    return f"#!/bin/bash\n{line}\n"


def _install(layer: Path, pyproject: str) -> None:
    """Do what `pip install --editable` would: the program, the path, the version."""
    project = tomllib.loads(pyproject)["project"]
    site = layer / SITE_PACKAGES.lstrip("/")
    about = site / f"fibtrace-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fibtrace\nVersion: {project['version']}\n")
    (site / "fibtrace.pth").write_text(f"{CHECKOUT}\n")
    programs = layer / VENV.lstrip("/") / "bin"
    programs.mkdir()
    _write_program(programs / "fibtrace", _PROGRAM)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
