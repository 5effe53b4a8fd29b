"""The doctor's judgement, and that it looks at the kernel that is there."""

from __future__ import annotations

import errno
import json
import os

import pytest

from tracer.errors import Exit
from tracer.kernel import attempt, doctor
from tracer.kernel.doctor import NO, YES, Check
from tracer.kernel.probes import TRACEPOINTS


def test_everything_needed_there_means_possible():
    """What is not needed may be missing: tracing is still possible."""
    found = [Check("a", "BTF", YES, needed=True), Check("a", "kprobe", NO)]
    assert doctor.verdict(found) is Exit.DONE
    assert doctor.backend(found) == "tracepoint"
    assert "tracing is possible, backend: tracepoint" in doctor.as_table(found)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([Exit.NOT_PERMITTED], Exit.NOT_PERMITTED),
        ([Exit.NOT_SUPPORTED], Exit.NOT_SUPPORTED),
        ([Exit.NOT_SUPPORTED, Exit.NOT_PERMITTED], Exit.NOT_PERMITTED),
    ],
)
def test_verdict_is_the_exit_code(codes, expected):
    """A missing permission is said first: the rest cannot be known without it."""
    found = [Check("a", str(code), NO, remedy="mend it", needed=True, code=code) for code in codes]
    assert doctor.verdict(found) is expected
    assert doctor.backend(found) is None
    table = doctor.as_table(found)
    assert "try: mend it" in table
    assert "tracing is not possible: " + ", ".join(map(str, codes)) in table


def test_json_says_the_same_as_the_table():
    """Every check is in both, under its name."""
    found = doctor.checks()
    data = json.loads(doctor.as_json(found))
    table = doctor.as_table(found)
    assert [check["name"] for check in data["checks"]] == [check.name for check in found]
    assert all(check.name in table for check in found)
    assert data["backend"] == doctor.backend(found)


def test_every_missing_thing_that_is_needed_has_a_remedy():
    """Where the doctor says no to something needed, it says what to do."""
    assert all(check.remedy for check in doctor.checks() if check.bad)


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: loading a program is refused")
def test_tracepoints_are_really_tried():
    """A tracepoint that no kernel has is ENOENT, fib_table_lookup is taken."""
    assert attempt.raw_tracepoints(["fib_table_lookup", "fibtrace_no_such"]) == {
        "fib_table_lookup": 0,
        "fibtrace_no_such": errno.ENOENT,
    }
    names = {check.name for check in doctor.checks()}
    assert {probe.point for probe in TRACEPOINTS} <= names


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_root_the_answer_is_not_permitted():
    """Seen by nobody (uid 65534, no capabilities) the doctor answers 3 and names the capabilities."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
        found = doctor.checks()
        os.write(writer, json.dumps([doctor.verdict(found), *(c.name for c in found if c.bad)]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        code, *missing = json.load(answer)
    assert code == Exit.NOT_PERMITTED
    assert {"root", "CAP_BPF", "CAP_PERFMON"} <= set(missing)
