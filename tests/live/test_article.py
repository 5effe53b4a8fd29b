"""The article's figures: what their commands show today is what the page says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "scripts"))  # articlelib is no part of what is installed

from articlelib.main import PAGE, impossible  # noqa: E402 - needs the line above
from articlelib.page import Figure, figures, normal  # noqa: E402
from articlelib.runs import missing, render  # noqa: E402

pytestmark = pytest.mark.live
FIGURES = figures(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_is_what_its_commands_show(figure: Figure):
    """Rules, tables, routes, verdicts and functions are those of the page, for every packet that it shows."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if reason := missing(figure) or impossible(figure):
        pytest.skip(reason)
    assert normal(render(figure)) == normal(figure.body)
