"""What `scripts/test --vm` makes of the results that the guests give back."""

from __future__ import annotations

from collections import Counter

from vmlab.matrix import Result, count, table

JUNIT = """<testsuites><testsuite>
<testcase name="test_nothing_is_lost"/>
<testcase name="test_backends_agree_about_every_decision[tracepoint-fentry]"><failure/></testcase>
<testcase name="test_each_path_of_a_lab_is_whole[kprobe-router]"/>
<testcase name="test_packets_of_a_step_take_the_expected_path[kprobe-vrf: a leak]"><skipped/></testcase>
<testcase name="test_packets_of_a_step_take_the_expected_path[fentry-nat: ping]"><error/></testcase>
</testsuite></testsuites>"""


def test_results_are_counted_by_backend():
    """Tests of one backend are its own; those of agreement and of the whole run are everybody's."""
    assert count(JUNIT) == {
        "all": Counter(passed=1, failed=1),
        "kprobe": Counter(passed=1, skipped=1),
        "fentry": Counter(failed=1),
    }


def test_a_run_without_results_is_a_failure():
    """A guest that died counts as one failed test, not as none."""
    assert Result("6.1", code=125).total == Counter(failed=1)
    assert Result("6.1", counts=count(JUNIT)).total == Counter(passed=2, failed=2, skipped=1)


def test_the_table_has_a_line_for_each_kernel():
    """Backends that did not run are said to be so; what they agree on stands below."""
    done = Result(
        "6.1", release="6.1.0-56", seconds=90, counts=count(JUNIT), agreement=["2 of 2 decisions are equal"]
    )
    lines = table([done]).splitlines()
    assert lines[0] == "| kernel | tracepoint | kprobe | fentry | all at once | minutes |"
    assert lines[2] == "| 6.1.0-56 | not run | 1 passed, 1 skipped | 1 failed | 1 passed, 1 failed | 1.5 |"
    assert "    2 of 2 decisions are equal" in lines
