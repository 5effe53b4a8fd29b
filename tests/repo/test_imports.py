"""Imports go one way, and each library with a gate is imported behind it only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
# A module imports only from its own layer and from those before it.
LAYERS = (
    "errors",
    "private_file",
    "model",
    "wire",
    "correlate",
    "enrich",
    "kernel",
    "outputs",
    "livetrace",
    "lab",
    "pipeline",
    "replay",
    "reporting",
    "console",
    "privilege",
    "starting",
    "tracing",
    "explaining",
    "comparing",
    "offline",
    "top",
    "expect",
    "pytest_plugin",
    "cli",
)
# What `import tracer` offers (reading a capture, tracing while a block runs) stands on the layers up to livetrace.
TOP_LEVEL = {"__init__": "livetrace"}
GATES = {
    "bcc": "tracer/kernel/loader.py",
    "pyroute2": "tracer/enrich/netlink.py",
    "typer": "tracer/cli/",
}
PURE = {"model", "wire", "correlate"}
MODULES = sorted((TOP / "tracer").rglob("*.py"))


def imported(path: Path) -> list[str]:
    """Names of all modules a file imports, at any depth of its code."""
    names: list[str] = []
    package = list(path.relative_to(TOP).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            names += [f"{module}.{alias.name}" for alias in node.names] if module == "tracer" else [module]
    return names


def layer(path: Path) -> str:
    """Layer of a file."""
    part = path.relative_to(TOP / "tracer").parts[0].removesuffix(".py")
    return TOP_LEVEL.get(part, part)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_imports_point_down(path):
    """A module imports nothing from a layer above its own."""
    assert layer(path) in LAYERS, "a file outside the layers: add it to LAYERS, and to docs/architecture.md"
    allowed = set(LAYERS[: LAYERS.index(layer(path)) + 1])
    used = {name.split(".")[1] for name in imported(path) if name.startswith("tracer.")}
    assert used <= allowed, f"imports from above: {sorted(used - allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_libraries_stay_behind_their_gates(path):
    """bcc, pyroute2 and typer are imported in one place each, so that each can be replaced there."""
    place = str(path.relative_to(TOP))
    for name in {name.split(".")[0] for name in imported(path)} & set(GATES):
        assert place.startswith(GATES[name]), f"{name} is imported outside {GATES[name]}"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if layer(p) in PURE], ids=lambda p: str(p.relative_to(TOP))
)
def test_pure_layers_touch_no_system(path):
    """Model, wire and correlation import nothing that asks the machine: columns in, columns out."""
    asks = {"ctypes", "os", "subprocess", "threading", "time", "signal", "pyroute2", "bcc"}
    if path.name == "capture.py":
        asks -= {"os"}
    assert not {name.split(".")[0] for name in imported(path)} & asks


def test_the_law_is_real():
    """The gates name files that exist, and the libraries are indeed imported there."""
    for name, place in GATES.items():
        files = [path for path in MODULES if str(path.relative_to(TOP)).startswith(place)]
        assert any(name in [found.split(".")[0] for found in imported(path)] for path in files), (name, place)
