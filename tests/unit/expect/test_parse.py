"""Files of expectations: what is accepted, and what is refused, where and with which remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.errors import BadRequest
from tracer.expect.keys import DECISION_KEYS, HOP_KEYS, PACKET_KEYS, PATH_KEYS
from tracer.expect.parse import KEYS, expectation, read_expectations
from tracer.expect.patterns import Count, Expectation

GOOD = """
# who uses the second uplink
[[expect]]
name = "by mark"
flow = { src = ["10.1.0.0/24", "10.3.0.1"], dst = "10.2.0.2", proto = "udp", dport = "9000-9010", mark = "0x1/0xff" }
via = { netns = "r", rule = 100, gateway = false }
never = [{ dev = ["eth0", "eth1"] }]
count = { min = 2, max = 5 }
within_ms = 10

[[expect]]
name = "second"
verdict = "drop"
reason = "rp_filter"
hops = ["c", "r"]
[expect.flow]
proto = 17
[[expect.via]]
table = "main"
purpose = "source-check"
prefix = "default"
"""


def refused(tmp_path, text):
    """The message with which a file is refused, without its path."""
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(BadRequest) as caught:
        read_expectations(file)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value).replace(str(file), "rules.toml")


def test_what_is_written_is_what_is_expected(tmp_path):
    """Inline tables, tables of their own, single steps, lists, ranges and masks."""
    file = tmp_path / "rules.toml"
    file.write_text(GOOD)
    first, second = read_expectations(file)
    assert (first.name, first.count, first.within_ms) == ("by mark", Count(2, 5), 10.0)
    assert [term.key for term in first.flow.packet] == ["src", "dst", "proto", "dport"]
    assert [[term.shown for term in step.terms] for step in first.via] == [["r", "100", "(none)"]]
    assert [term.shown for term in first.never[0].terms] == ["eth0 or eth1"]
    assert [term.key for term in second.last.terms] == ["verdict", "reason"]
    assert [terms[0].shown for terms in second.hops] == ["c", "r"]
    assert second.count == Count(1, None)
    assert [step.for_decision for step in (*first.via, *second.via)] == [True, True]


HEAD = '[[expect]]\nname = "a"\n'
WRONG = {
    "unknown key of a flow": (
        HEAD + 'via = []\n[expect.flow]\nsrc = "10.1.0.1"\ndprot = 9',
        "rules.toml, line 6: expectation 1 (a): flow.dprot: unknown key 'dprot'\ntry: proto or dport",
    ),
    "unknown key of a step": (
        HEAD + 'via = [\n  { netns = "c" },\n  { tabel = 100 },\n]',
        "rules.toml, line 5: expectation 1 (a): via[2].tabel: unknown key 'tabel'\ntry: table",
    ),
    "unknown key of the second expectation": (
        HEAD + 'verdict = "drop"\n\n[[expect]]\nname = "b"\nneverr = []',
        "rules.toml, line 7: expectation 2 (b): neverr: unknown key 'neverr'\ntry: never",
    ),
    "key at the top": (
        HEAD + 'verdict = "drop"\n[expected]\n',
        "rules.toml, line 4: unknown key 'expected'\ntry: [[expect]] with name",
    ),
    "value that several lines have": (
        HEAD + 'via = [\n  { dev = "a" },\n  { dev = "a/b" },\n]',
        "rules.toml, line 1: expectation 1 (a): via[2].dev: a/b cannot be the name of a device",
    ),
    "no TOML": (HEAD + "via = [", "rules.toml is not TOML: "),
    "nothing in it": ("", "rules.toml has no expectations\ntry: [[expect]]"),
    "a table, not several": ('[expect]\nname = "a"', "rules.toml has no expectations"),
    "no name": ('[[expect]]\nverdict = "drop"', "line 1: expectation 1: name: needs a name"),
    "twice the same name": (
        HEAD + 'verdict = "drop"\n' + HEAD + 'verdict = "drop"',
        "line 5: expectation 2 (a): name: there is already an expectation 'a'",
    ),
    "nothing expected": (HEAD, "line 1: expectation 1 (a): says nothing about the packets of its flow"),
    "an empty step": (HEAD + "never = [{}]", "line 3: expectation 1 (a): never[1]: an empty step"),
    "a list of what is no step": (HEAD + "via = [3]", "via[1]: 3 is not a table"),
    "steps that are none": (HEAD + "via = 3", "via: 3 is not a list of steps"),
    "min above max": (HEAD + "count = { min = 3, max = 1 }", "count: min 3 is larger than max 1"),
    "a negative count": (HEAD + "count = -1", "count: -1 is not a number of packets"),
    "a count of truth": (HEAD + "count = { min = true }", "count.min: true is not a number of packets"),
    "no time": (HEAD + "within_ms = 0", "within_ms: 0 is not a number of milliseconds"),
    "no namespaces": (HEAD + "hops = []", "hops: [] is not a list of namespaces"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path, case):
    """The file, the line, the expectation, the key, and the nearest right word."""
    text, message = WRONG[case]
    assert message in refused(tmp_path, text)


VALUES = [
    ("src", "10.1.0.0/33"), ("dst", "server"), ("proto", "utp"), ("proto", 256), ("dport", 65536), ("sport", "2-1"),
    ("port", True), ("mark", "0x1/zz"), ("mark", -1), ("family", 5), ("role", "bystander"), ("tos", 256),
    ("iif", "a/b"), ("oif", ""), ("pid", "one"), ("uid", -1), ("netns", 1.5), ("table", 0), ("comm", 3),
    ("src", []), ("family", {}), ("role", {}),
]  # fmt: skip
STEPS = [
    ("rule", -1), ("rule", True), ("rule", ""), ("table", 2**32), ("prefix", "10.1.0.1/24"), ("gateway", "r"),
    ("dev", "longer-than-15-bytes"), ("route_type", "unicasts"), ("result", "found"), ("purpose", "outputs"),
    ("verdict", "drops"), ("verdict", False), ("outer", "yes"), ("cached", 1), ("reason", ""), ("in_dev", 2),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), VALUES, ids=str)
def test_wrong_values_of_a_flow_are_refused(key, value):
    """Each names the key and the value."""
    with pytest.raises(BadRequest, match=rf"flow\.{key}: ") as caught:
        expectation("a", flow={key: value}, verdict="drop")
    assert str(value).lower() in str(caught.value).lower() or value in ([], "", {})


@pytest.mark.parametrize(("key", "value"), STEPS, ids=str)
def test_wrong_values_of_a_step_are_refused(key, value):
    """Each names the key and the value; `false` is for what may be absent."""
    with pytest.raises(BadRequest, match=rf"via\[1\]\.{key}: "):
        expectation("a", via=[{key: value}])


def test_a_missing_file_and_one_that_is_no_text_are_usage_errors(tmp_path):
    """Not a traceback, and not taken for a broken expectation."""
    with pytest.raises(BadRequest, match="no such file"):
        read_expectations(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadRequest, match="UTF-8"):
        read_expectations(tmp_path / "binary.toml")
    (tmp_path / "deep.toml").write_text("x = " + "[" * 20_000)
    with pytest.raises(BadRequest, match="is not TOML"):
        read_expectations(tmp_path / "deep.toml")


_TEXT = st.text("ab0/-\x1b é", max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    sorted({*HOP_KEYS, *DECISION_KEYS, *PACKET_KEYS, *PATH_KEYS, "min", "max", "nonsense"})
)
_TABLE = st.dictionaries(_KEYS, _JSON, max_size=3)
_WHOLE = st.fixed_dictionaries(
    {},
    optional={
        "flow": _TABLE | _JSON, "via": st.lists(_TABLE, max_size=2) | _JSON, "never": _TABLE | _JSON,
        "hops": _JSON, "count": _TABLE | _JSON, "within_ms": _JSON, "verdict": _JSON, "reason": _JSON, "x": _JSON,
    },
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=500)
@given(_WHOLE)
def test_whatever_is_written_is_an_expectation_or_a_usage_error(keys):
    """No other exception, whatever types stand in the places of others."""
    try:
        made = expectation("a", **keys)
    except BadRequest as error:
        assert str(error).startswith("expectation 'a': ")  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(made, Expectation)


def test_the_documents_examples_are_accepted(tmp_path):
    """All TOML of docs/expect.md; and its tables name every key there is."""
    text = (Path(__file__).parents[3] / "docs" / "expect.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "rules.toml").write_text(block)
        assert len(read_expectations(tmp_path / "rules.toml")) == block.count("[[expect]]")
    named = set(re.findall(r"`(\w+)`", text))
    assert {*KEYS, *HOP_KEYS, *DECISION_KEYS, *PACKET_KEYS, *PATH_KEYS} - named == set()
