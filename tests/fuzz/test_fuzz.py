"""Bad input of every kind: it is taken or refused in clear words; nothing crashes, hangs or eats the memory.

`scripts/fuzz --cases N --seed S` does the same for longer. A case that fails is printed by hypothesis, made small.
"""

from __future__ import annotations

import os
import resource
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.targets import SHARES, TARGETS, outcome

CASES = int(os.environ.get("FIBTRACE_FUZZ_CASES", "10400"))
SEED = int(os.environ.get("FIBTRACE_FUZZ_SEED", "1"))
LIMIT_S, LIMIT_BYTES = 20, 2 << 30
ALWAYS_TAKEN = {"types"}


def _hangs(*_: object) -> None:
    raise AssertionError(f"a case took more than {LIMIT_S} s")


@pytest.fixture
def limits():
    """No case may take long, nor more memory than is usual and some more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + LIMIT_BYTES, before[1]))
    handler = signal.signal(signal.SIGALRM, _hangs)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", TARGETS)
def test_bad_input_is_taken_or_refused_in_clear_words(name, limits):
    """Whatever is done to an input, it gives a result or one TracerError, in time and within the memory."""
    target = TARGETS[name]
    cases = max(1, CASES * target.share // SHARES)
    outcomes: Counter[str] = Counter()

    @seed(SEED)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(target.cases)
    def check(case):
        signal.alarm(LIMIT_S)
        outcomes[outcome(target.run, case)] += 1

    check()
    print(f"{name}: {outcomes['good']} taken, {outcomes['refused']} refused")
    assert outcomes["good"] > 0
    assert outcomes["refused"] > 0 or name in ALWAYS_TAKEN
