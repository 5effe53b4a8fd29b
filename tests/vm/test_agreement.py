"""All backends on the same packets say the same: what one infers is what another observes."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest

from tests.vm.agreement import Agreement, compare
from tests.vm.session import BACKENDS, LABS, session

_GOAL = 0.9999


@pytest.mark.parametrize(("one", "two"), list(combinations(BACKENDS, 2)))
def test_backends_agree_about_every_decision(one, two):
    """At least 99.99 % of the decisions are equal in every field; the figures are printed and kept."""
    found = Agreement()
    for name in LABS:
        if "refused" not in session().driven[name]:
            compare(session().lab(one, name).captured.paths, session().lab(two, name).captured.paths, found)
    text = "\n".join([f"{one} and {two}: {found.lines()[0]}", *found.lines()[1:]])
    print(text)
    if "FIBTRACE_OUT" in os.environ:
        Path(os.environ["FIBTRACE_OUT"], f"agreement-{one}-{two}.txt").write_text(text + "\n")
    assert found.compared > 100, text
    assert found.holes < found.compared / 20, text
    assert found.equal >= _GOAL * found.compared, text
    assert not any("path" in kind for kind in found.differ), text
