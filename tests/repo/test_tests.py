"""The tests themselves: each says what holds, and none waits for time to pass."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FILES = sorted(TESTS.rglob("test_*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_each_test_says_what_holds_and_asserts_it(path):
    """A test has a docstring, and an assertion or an expected exception in it or in a helper it calls."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    tests = [node for node in functions if node.name.startswith("test_")]
    assert tests
    helpers = {node.name for node in functions if node not in tests and asserts(node, set())}
    assert [node.name for node in tests if not ast.get_docstring(node)] == []
    assert [node.name for node in tests if not asserts(node, helpers)] == []


def asserts(function: ast.FunctionDef, helpers: set[str]) -> bool:
    """Whether a function can fail by its own will."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in helpers or name.startswith(("pytest.raises", "pytest.fail", "check", "assert_")):
                return True
    return False


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_sleeps(path):
    """No test synchronises by sleeping: at most it polls, in a loop that ends when what it needs is there."""
    tree = ast.parse(path.read_text())
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While)]
    polls = {id(node) for loop in loops for node in ast.walk(loop)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in polls]
    assert [node.lineno for node in calls if ast.unparse(node.func) in {"time.sleep", "sleep"}] == []
