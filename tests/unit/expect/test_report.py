"""Results as text and as JUnit XML: both say the same."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.unit.expect.made import designed
from tracer.expect.judge import Judge
from tracer.expect.junit import Run, junit
from tracer.expect.parse import expectation
from tracer.expect.report import describe, report
from tracer.outputs.tree import tree

WEB = {"dst": "10.2.0.2", "dport": 80}
# The schema that CI servers check against (Jenkins' junit-10.xsd), as far as it concerns what is written here.
CHILDREN = {
    "testsuites": {"testsuite"}, "testsuite": {"testcase"}, "testcase": {"failure", "error", "skipped"},
    "failure": set(), "error": set(), "skipped": set(),
}  # fmt: skip
NEEDED = {
    "testsuites": set(), "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "testcase": {"name", "classname", "time"}, "failure": {"message"}, "error": {"message"}, "skipped": {"message"},
}  # fmt: skip


SIDE_BY_SIDE = """\
FAILED  by r2: 1 of 1 packet differs
  packet #17: via, its step, in r
           expected  seen
    netns  r         r
    rule   100       100
    dev    r2        r1    differs
"""


def made(*keys, lost=""):
    """Results of these expectations for the design's path."""
    judge = Judge([expectation(f"number {n}", **k) for n, k in enumerate(keys, 1)])
    judge.feed(designed())
    return judge.results(lost)


def test_expected_and_seen_stand_beside_each_other():
    """With the whole path below."""
    judge = Judge([expectation("by r2", flow=WEB, via=[{"netns": "r", "rule": 100, "dev": "r2"}])])
    judge.feed(designed())
    text = describe(judge.results()[0])
    assert text.startswith(SIDE_BY_SIDE)
    assert [line[2:] for line in text[len(SIDE_BY_SIDE) :].strip("\n").splitlines()] == tree(
        designed()
    ).strip().splitlines()


def test_a_report_counts_and_shows_what_holds_first():
    """What went wrong stands at the end, where a terminal shows it."""
    text = report(
        made({"verdict": "drop"}, {"verdict": "deliver"}, {"flow": {"src": "192.0.2.1"}, "count": 1})
    )
    assert re.findall(r"^(passed|FAILED)  (.*?):", text, re.MULTILINE) == [
        ("passed", "number 2"), ("FAILED", "number 1"), ("FAILED", "number 3")
    ]  # fmt: skip
    assert text.splitlines()[-1] == "1 passed, 2 failed"
    assert "no packet seen, expected exactly 1" in text


def test_what_was_worked_out_is_marked_in_the_report():
    """As in the tree, with the tree's legend; and nothing where all was observed."""
    path = designed()
    judge = Judge([expectation("x", via=[{"netns": "r", "rule": 5}])])
    inferred = [
        replace(d, lookups=tuple(replace(one, evidence="inferred") for one in d.lookups))
        for d in path.hops[1].decisions
    ]
    judge.feed(replace(path, hops=(path.hops[0], replace(path.hops[1], decisions=tuple(inferred)))))
    text = report(judge.results())
    assert re.search(r"^    rule   5 +~100 +differs$", text, re.MULTILINE)
    assert text.splitlines()[-2].startswith("~ inferred")
    assert "~" not in report(made({"via": [{"netns": "r", "rule": 5}]}))


def test_junit_is_what_ci_servers_read():
    """Elements, attributes and counts of the schema; the text of a failure is that of the report."""
    found = made({"verdict": "deliver"}, {"verdict": "drop"}, {"flow": {"dst": "192.0.2.1"}, "hops": ["c"]})
    top = ET.fromstring(junit(found, Run("rules.toml", 1.25)))  # noqa: S314 - our own
    for element in top.iter():
        assert {child.tag for child in element} <= CHILDREN[element.tag]
        assert NEEDED[element.tag] <= set(element.keys())
    (suite,) = top
    assert {k: suite.get(k) for k in ("name", "tests", "failures", "errors", "skipped", "time")} == {
        "name": "rules.toml", "tests": "3", "failures": "2", "errors": "0", "skipped": "0", "time": "1.250",
    }  # fmt: skip
    assert [case.get("name") for case in suite] == ["number 1", "number 2", "number 3"]
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["failure"]]
    assert [case[0].text for case in suite if len(case)] == [describe(one) for one in found[1:]]
    assert suite[2][0].get("message") == "no packet seen"


@pytest.mark.parametrize(("allowed", "tag"), [(False, "error"), (True, "skipped")])
def test_what_cannot_be_judged_is_an_error_or_skipped(allowed, tag):
    """It is no failure of the network, and no pass."""
    xml = junit(made({"verdict": "deliver"}, lost="2 records lost"), Run("r"), allow_incomplete=allowed)
    (case,) = ET.fromstring(xml).iter("testcase")  # noqa: S314 - our own
    assert [child.tag for child in case] == [tag]
    assert "2 records lost" in case[0].get("message")


def test_a_command_that_failed_is_a_case_of_its_own():
    """So a server that only reads the file does not take the run for good."""
    top = ET.fromstring(junit(made({"verdict": "deliver"}), Run("r", 0, "ping failed")))  # noqa: S314 - our own
    assert (top.get("tests"), top.get("errors")) == ("2", "1")
    assert [case.get("name") for case in top.iter("testcase") if len(case)] == ["COMMAND"]


def test_names_from_outside_break_neither_terminal_nor_xml():
    """A device may be called almost anything: nothing of it is an escape sequence or no XML."""
    path = designed()
    evil = replace(path, hops=(replace(path.hops[0], netns="a\x1b[2J<&]]>\x00\ud800"),))
    judge = Judge([expectation("x", via=[{"netns": "r"}], hops=["c"])])
    judge.feed(evil)
    found = judge.results()
    text = describe(found[0])
    assert text.count("a?[2J<&]]>??") == 2
    assert text.replace("\n", "").isprintable()
    top = ET.fromstring(junit(found, Run("r\x00")))  # noqa: S314 - our own
    assert "a?[2J<&]]>??" in top[0][0][0].text
