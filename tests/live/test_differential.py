"""The model against the kernel: random rules, tables and questions of both families, and some real packets."""

from __future__ import annotations

import os
import random

import pytest

from tests.live.differential import run

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
SEED = int(os.environ.get("FIBTRACE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
DECISIONS = 6000


def test_no_decision_differs_from_the_kernels():
    """Table, prefix, type, nexthops, device, source and error are the kernel's, and hardly anything is unknown."""
    counts = run(DECISIONS, SEED)
    print(f"seed {SEED}: {dict(counts)}")
    unknown = counts["IPv4 unknown"] + counts["IPv6 unknown"]
    assert counts["compared"] >= 5000
    assert unknown < DECISIONS / 50
    for family in ("IPv4", "IPv6"):
        for outcome in ("output send", "output deliver", "input forward", "input deliver", "input drop"):
            assert counts[f"{family} {outcome}"] > 20, f"seed {SEED}: too few of {family} {outcome}"
