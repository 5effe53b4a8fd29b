"""Results as JUnit XML, the dialect that CI servers read: one test case per expectation."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tracer.expect.judge import Result, State
from tracer.expect.report import describe

_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Run:
    """About the whole run: the file of expectations, how long it took, what went wrong with COMMAND ("" if nothing)."""

    suite: str
    seconds: float = 0.0
    trouble: str = ""


def junit(results: Sequence[Result], run: Run, *, allow_incomplete: bool = False) -> bytes:
    """The XML. What cannot be judged is an error, or skipped where that is allowed."""
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", name=_legal(run.suite))
    for result in results:
        case = ET.SubElement(
            suite, "testcase", classname="fibtrace.expect", name=_legal(result.expectation.name)
        )
        case.set("time", "0")
        tag = {
            State.FAILED: "failure",
            State.UNJUDGED: "skipped" if allow_incomplete else "error",
        }.get(result.state)
        if tag:
            _add(case, tag, result.why, describe(result))
    if run.trouble:
        case = ET.SubElement(suite, "testcase", classname="fibtrace.expect", name="COMMAND", time="0")
        _add(case, "error", run.trouble, run.trouble)
    counts = {"tests": "testcase", "failures": ".//failure", "errors": ".//error", "skipped": ".//skipped"}
    for element in (suites, suite):
        for name, path in counts.items():
            element.set(name, str(len(suite.findall(path))))
        element.set("time", f"{run.seconds:.3f}")
    suite.set("timestamp", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()))
    ET.indent(suites)
    body: str = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'.encode()


def _add(case: ET.Element, tag: str, message: str, text: str) -> None:
    element = ET.SubElement(case, tag, message=_legal(message))
    element.set("type", tag)
    element.text = _legal(text)


def _legal(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return _ILLEGAL.sub("?", text)
