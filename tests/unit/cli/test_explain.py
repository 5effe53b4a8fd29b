"""The words of `fibtrace explain`, its answers from a snapshot, and its errors: none of this needs root."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.unit.outputs.worlds import NAMES, R, state
from tracer.enrich.question import parse
from tracer.errors import BadRequest
from tracer.model.network import DeviceSettings

SETTINGS = {"all": DeviceSettings(forwarding=1), "r0": DeviceSettings(rp_filter=1, forwarding=1)}


def fibtrace(*words):
    command = [sys.executable, "-m", "tracer.cli.main", "explain", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def snapshot(tmp_path):
    """The imaginary router as a snapshot."""
    made = state(R, settings=SETTINGS).to_dict()
    file = tmp_path / "snapshot.json"
    file.write_text(json.dumps({"snapshot": 1, "kernel": "6.1", "time_ns": 1, "namespaces": [made]}))
    return file


def test_words_are_those_of_ip_route_get():
    """Every word has its field; hexadecimal and names are read as iproute2 reads them."""
    words = "to 10.2.0.2 from 10.1.0.2/32 iif r0 mark 0x7 tos 10 ipproto udp sport 5 dport 6 uid 8 netns r"
    asked = parse(words.split(), NAMES)
    assert asked.words == "10.2.0.2 from 10.1.0.2 iif r0 mark 0x7 tos 0x10 ipproto 17 sport 5 dport 6 uid 8"
    assert (asked.netns, asked.tos, asked.proto) == ("r", 0x10, 17)
    assert parse(["::1", "vrf", "red", "flowlabel", "7"], NAMES).words == "::1 oif red flowlabel 0x7"
    assert parse(asked.words.split(), NAMES) == parse(words.split()[:-2], NAMES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "no destination"),
        ("10.0.0.0/8", "not an address"),
        ("name.example", "not an address"),
        ("10.2.0.2 from ::1", "not of the same family"),
        ("10.2.0.2 iif a oif b", "give one of them"),
        ("10.2.0.2 mark", "its value is missing"),
        ("10.2.0.2 mark 5000000000", "between 0 and"),
        ("10.2.0.2 tos zz", "hexadecimal"),
        ("10.2.0.2 ipproto nope", "no such IP protocol"),
        ("10.2.0.2 uid no-such-user", "no such user"),
        ("10.2.0.2 fibmatch", "leave it out"),
        ("10.2.0.2 wrong", "not a word of a question"),
        ("10.2.0.2 mark 1 mark 2", "given twice"),
        ("10.2.0.2 flowlabel 1", "only IPv6"),
    ],
)
def test_a_word_that_means_nothing_is_refused(words, message):
    """Each says what is wrong with it."""
    with pytest.raises(BadRequest, match=message):
        parse(words.split(), NAMES)


def test_a_snapshot_answers_by_the_model_and_says_so(snapshot):
    """The rule of the router, the source check that comes with it, and no claim that a kernel was asked."""
    done = fibtrace("10.2.0.2", "from", "10.1.0.2", "iif", "r0", "netns", "r", "--offline", snapshot)
    assert (done.returncode, done.stderr) == (0, "")
    assert "by the model of snapshot.json: no kernel was asked" in done.stdout
    assert "rule ~100" in done.stdout
    assert "strict: same device, pass" in done.stdout


def test_a_refusal_has_its_cause_and_exit_code(snapshot):
    """A blackhole of table 100 is named on stderr, with the kernel's word for it."""
    done = fibtrace("10.7.0.1", "from", "10.1.0.2", "iif", "r0", "--offline", snapshot, "--short")
    assert done.returncode == 1
    assert "RTNETLINK answers: Invalid argument" in done.stderr
    assert "blackhole route 10.7.0.0/16 (rule 100, table 100)" in done.stderr


def test_a_failed_source_check_says_what_it_hangs_on(snapshot):
    """The rule and route that failed it, and what would have changed it, as a possibility."""
    done = fibtrace("10.1.0.9", "from", "10.2.0.9", "iif", "r0", "--offline", snapshot, "--format", "jsonl")
    (hop,) = json.loads(done.stdout)["hops"]
    assert hop["verdict"] == "drop"
    said = {line["kind"]: line["text"] for line in hop["decisions"][-1]["why"]}
    assert "10.2.0.9 is reached through r1" in said["check"]
    assert said["change"].startswith("would pass if")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("10.2.0.2", "netns", "nowhere"), "not in the snapshot"),
        (("10.2.0.2", "iif", "r7"), "no such device"),
        (("10.2.0.2", "--format", "csv"), "there is tree, line, jsonl"),
    ],
)
def test_what_is_not_there_is_a_usage_error(snapshot, words, message):
    """A namespace, a device, a format."""
    done = fibtrace(*words, "--offline", snapshot)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_file_that_is_no_snapshot_or_capture_is_refused(tmp_path):
    """One clear error each, before anything is asked of the kernel."""
    file = tmp_path / "x.json"
    file.write_text("{")
    assert "is no snapshot" in fibtrace("10.2.0.2", "--offline", file).stderr
    assert "which packet?" in fibtrace("--from-file", "capture.jsonl").stderr
    assert "no such file" in fibtrace("--from-file", f"{tmp_path}/none.jsonl#1").stderr
