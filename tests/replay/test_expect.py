"""`fibtrace expect` on captures: exit codes, streams and files; and every format of a capture is judged alike."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tracer.replay import convert

HERE = Path(__file__).parent
ROUTER = HERE / "router-udp.fibtrace"
GOOD = """
[[expect]]
name = "there by rule 100"
flow = { src = "10.1.0.0/24", dst = "10.2.0.2", proto = "udp", dport = 9000 }
via = [
  { netns = "c", gateway = "10.1.0.1", dev = "c0" },
  { netns = "r", rule = 100, table = 100, prefix = "default", dev = "r1" },
  { netns = "s", table = "local", verdict = "deliver", comm = "udp-echo" },
]
hops = ["c", "r", "s"]
never = [{ dev = "eth0" }]
count = 2

[[expect]]
name = "back by main, also the one that needs no lookup at its end"
flow = { src = "10.2.0.2", dst = "10.1.0.2", proto = "udp" }
via = [
  { netns = "r", rule = "from all lookup main", dev = "r0", gateway = false },
  { netns = "c", table = "local", dev = "c0" },
]
"""
BAD = GOOD.replace("rule = 100, table = 100", 'rule = 100, table = "main"')


def run(*words, cwd=None):
    """Run `fibtrace expect`."""
    return subprocess.run(
        [sys.executable, "-m", "tracer.cli.main", "expect", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def rules(tmp_path):
    """Writes expectations to a file."""

    def write(text):
        file = tmp_path / "rules.toml"
        file.write_text(text)
        return file

    return write


@pytest.mark.parametrize("suffix", [".fibtrace", ".jsonl", ".parquet", ".csv"])
def test_every_format_is_judged_alike(rules, tmp_path, suffix):
    """What holds for the raw capture holds for what it was converted into, and the same fails."""
    capture = ROUTER
    if suffix != ".fibtrace":
        capture = tmp_path / f"capture{suffix}"
        convert(ROUTER, capture)
    done = run(rules(GOOD), capture)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "2 passed"
    done = run(rules(BAD), capture)
    assert done.returncode == 1
    assert re.search(r"^    table +main +100 +differs$", done.stdout, re.MULTILINE)


def test_a_failure_shows_the_step_and_the_path(rules, tmp_path):
    """On stdout, and word for word in the JUnit file."""
    junit = tmp_path / "results.xml"
    done = run(rules(BAD), ROUTER, "--junit", junit)
    assert (done.returncode, done.stderr) == (1, "")
    passed, failed, *_ = done.stdout.splitlines()
    assert passed.startswith("passed  back by main")
    assert failed == "FAILED  there by rule 100: 2 of 2 packets differ"
    assert "  packet #1: via, step 2, in r\n" in done.stdout
    assert "  ├─ r   router   r0" in done.stdout
    (failure,) = ET.parse(junit).iter("failure")  # noqa: S314 - our own
    assert failure.text in done.stdout


def test_a_capture_without_its_end_cannot_be_judged(rules, tmp_path):
    """What stood there may have been of the flow; a failure that is seen in the rest is one."""
    cut = tmp_path / "cut.fibtrace"
    cut.write_bytes(ROUTER.read_bytes()[:-10])
    done = run(rules(GOOD.replace("count = 2", "")), cut)
    assert done.returncode == 1
    assert done.stdout.count("CANNOT BE JUDGED") == 2
    assert "the end of the capture is missing" in done.stdout
    allowed = run(rules(GOOD.replace("count = 2", "")), cut, "--allow-incomplete")
    assert allowed.returncode == 0
    assert "2 cannot be judged (allowed)" in allowed.stdout
    assert run(rules(BAD), cut, "--allow-incomplete").returncode == 1


USAGE = [
    (["none.toml", ROUTER], "cannot read none.toml: no such file"),
    (["good.toml"], "a capture, or what a command causes"),
    (["good.toml", ROUTER, "--", "true"], "a capture, or what a command causes"),
    (["good.toml", "--"], "a capture, or what a command causes"),
    (["good.toml", "--", "no-such-program"], "command not found: no-such-program"),
    (["bad.toml", ROUTER], "bad.toml, line 3: expectation 1 (x): via[1].tabel: unknown key 'tabel'\n  try: table"),
    (["good.toml", "capture.txt"], "unknown suffix .txt"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "named"), USAGE, ids=lambda value: str(value)[:40])
def test_what_cannot_be_meant_is_a_usage_error(tmp_path, words, named):
    """Exit 2 before anything is traced, one message, nothing on stdout, no JUnit file."""
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text('[[expect]]\nname = "x"\nvia = [{ tabel = 1 }]')
    at = words.index("--") if "--" in words else len(words)
    done = run(*words[:at], "--junit", "out.xml", *words[at:], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert named in done.stderr
    assert not (tmp_path / "out.xml").exists() or (tmp_path / "out.xml").read_bytes() == b""


def test_files_that_cannot_be_read_or_written_are_failures(rules, tmp_path):
    """Exit 1 with one message, and nothing was judged."""
    done = run(rules(GOOD), tmp_path / "none.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert "none.jsonl: no such file" in done.stderr
    done = run(rules(GOOD), ROUTER, "--junit", tmp_path / "no" / "out.xml")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot create" in done.stderr
