"""The pages with trees are those that this version writes, as far as a run does not decide what stands in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.networks import lab

ROOT = Path(__file__).parents[2]
QUESTION = re.compile(r"```console\n\$ (?:sudo )?fibtrace (explain [^\n]*)\n(.*?)\n```", re.DOTALL)
pytestmark = pytest.mark.live


def test_the_answers_in_the_page_are_those_of_the_lab():
    """Each question of docs/explain.md, asked again in the lab, has the output that the page shows."""
    shown = QUESTION.findall((ROOT / "docs" / "explain.md").read_text())
    assert len(shown) >= 3
    with lab("policy"):
        for words, text in shown:
            command = [sys.executable, "-m", "tracer.cli.main", *words.split()]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            assert (done.stdout + done.stderr).rstrip() == text, words


def rules_and_words(text):
    """Lines about rules, tables, routes and checks, without widths and what differs between runs."""
    lines = {re.sub(r"\s+", " ", re.sub(r"[│├└─]", " ", line)).strip() for line in text.splitlines()}
    return {line for line in lines if re.match(r"(route|table|check|change|walk|nexthop) ", line)}


def test_the_trees_of_a_lab_are_not_stale():
    """Every line about routes, nexthops and checks in the page's part for `rpfilter` is in a run of today."""
    page = (ROOT / "docs" / "lab-trees.md").read_text()
    part = page.partition("\n## rpfilter\n")[2].partition("\n## ")[0]
    shown = rules_and_words(part)
    assert len(shown) > 10
    command = [sys.executable, "-m", "tracer.cli.main", "lab", "run", "rpfilter", "--why"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown - rules_and_words(done.stdout) == set()
