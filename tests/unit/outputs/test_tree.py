"""The tree and the line say what the design shows."""

from __future__ import annotations

import io
import os
import pty

import pytest

from tests.unit.outputs.builder import LOCAL_MISS, Rows, design_rows, hit, many, strange_rows, tunnel_rows
from tracer.outputs.line import line
from tracer.outputs.paths import paths
from tracer.outputs.registry import open_output
from tracer.outputs.tree import tree

DESIGN = """\
#17  10.1.0.2:41234 → 10.2.0.2:80  tcp  SYN                                          0.015 ms
├─ c   client   curl[812] connect                                                send → c0
│  └─ output     rule 0      from all lookup local           local    miss
│                rule 32766  from all lookup main            main     hit   default via 10.1.0.1 dev c0
├─ r   router   r0                                                            forward → r1
│  ├─ input      rule 0      from all lookup local           local    miss
│  │             rule 100    from 10.1.0.0/24 lookup 100     100      hit   default via 10.2.0.2 dev r1
│  └─ source     rule 0      from all lookup local           local    miss
│     check      rule 32766  from all lookup main            main     hit   10.1.0.0/24 dev r0   strict: same device, pass
└─ s   server   s0                                                            deliver → nginx[640]
   └─ input      rule 0      from all lookup local           local    hit   local 10.2.0.2 dev s0

"""  # noqa: E501 - the sample of the design, as it stands there


def _written(rows, wanted="tree", encoding="utf-8"):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    output = open_output(stream, wanted)
    output.write(rows.table())
    output.close()
    return raw.getvalue().decode(encoding)


def _trees(rows):
    return [tree(path) for path in paths(rows.table())]


def test_the_designs_path_looks_as_in_the_design():
    """Character for character, but for the time."""
    assert _written(design_rows()) == DESIGN


def test_the_line_has_everything_on_it():
    """Who to whom, each hop with its rule and its end, the time."""
    (path,) = paths(design_rows().table())
    assert line(path) == (
        "#17 10.1.0.2:41234 > 10.2.0.2:80 tcp SYN  c(rule 32766 table main send c0) "
        "r(rule 100 table 100 forward r1) s(rule 0 table local deliver nginx[640])  0.015ms"
    )


def test_a_long_drop_reason_gets_its_own_lines_and_loses_no_word():
    """The lookup that caused a drop is named in full under the hop."""
    shown = _trees(strange_rows())[0]
    assert "└─ drop: source check failed: 10.1.0.2 is reached through r1 (rule 100, table 100)" in shown
    assert "rp_filter is strict on r0 (SKB_DROP_REASON_IP_RPFILTER)" in " ".join(shown.split())
    assert "   ├─ source     rule 100" in shown
    assert "strict: other device, fail" in shown


def test_equal_decisions_become_one_with_their_number():
    """A connect decides three times and shows once."""
    shown = _trees(strange_rows())[1]
    assert shown.count("output") == 1
    assert "output \u00d73" in shown


def test_decisions_that_differ_do_not_collapse():
    """Another route in the second decision is another block."""
    rows = Rows().path(1).hop("c", "client")
    for dev in ("a", "b"):
        rows.decide("output", hit(0, "a", "main", f"10.0.0.0/8 dev {dev}"))
    assert _trees(rows.end("send", "a"))[0].count("output") == 2


def test_loss_and_holes_are_in_the_header():
    """A path that may have a hole says which."""
    header = _trees(strange_rows())[1].splitlines()[0]
    assert "incomplete: its end in netns:4026531840 was not seen, 3 records lost near here" in header
    assert "end not seen" in _trees(strange_rows())[1]


def test_what_no_probe_saw_is_marked_and_explained_once():
    """`~` before the rule, one legend at the end, none where nothing was inferred."""
    shown = _written(strange_rows())
    assert "rule ~100" in shown
    assert "rule 60 " in shown
    assert shown.count("inferred") == 1
    assert shown.splitlines()[-1].startswith("~ inferred")
    assert "inferred" not in _written(design_rows())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "suppressed  default dev c0"),
        (1, "10.2.0.2 via inet6 fe80::1 dev wg0"),
        (1, "rule ?"),
        (2, "cached: decided by #12 (socket route)   default via 10.1.0.1 dev c0"),
        (3, "from all to 10.9.9.9 prohibit   -        prohibit"),
        (3, "result EACCES"),
        (3, "drop: rule 200 says prohibit"),
        (4, "miss (EIO)"),
        (4, "[2001:db8::1]:41234 → [2001:db8::2]:80"),
        (5, "blackhole  blackhole 10.9.1.0/24"),
    ],
)
def test_strange_things_are_said_in_words(number, words):
    """Suppressed, thrown, refused, cached, unknown: each by its own word."""
    assert words in _trees(strange_rows())[number]


def test_unknown_is_shown_as_unknown():
    """A hit whose route nobody knows shows `?`, never a guess."""
    rows = Rows().path(1, None, None, proto=None, sport=None, dport=None).hop(None, None, None)
    unknown = dict.fromkeys(("rule", "rule_text", "table", "table_id"))
    found = {**LOCAL_MISS, **unknown, "result": "hit", "error": 0}
    shown = _trees(rows.decide("input", found))[0]
    assert shown.startswith("#1  ? → ?  ?")
    assert "rule ?      ?                               ?        hit   ?" in shown


def test_ascii_streams_get_ascii():
    """Where the encoding has no box characters, plain ones stand in for them."""
    shown = _written(strange_rows(design_rows()), encoding="ascii")
    assert "|- c   client   curl[812] connect" in shown
    assert "`- s   server" in shown
    assert "send -> c0" in shown
    assert "output x3" in shown
    assert "\\u" in _written(Rows().path(1).hop("é", "client").end("send", "→"), "line", "ascii")


def test_a_wrapped_packet_shows_its_tunnel_and_the_outer_header():
    """One hop: where it was handed to, where it left by, and whose header each decision is about."""
    (shown,) = _trees(tunnel_rows())
    lines = [" ".join(line.split()) for line in shown.splitlines() if line]
    assert lines[1:4] == [
        "├─ a router a0 forward → tun1 → a1",
        "│ ├─ input rule 32766 from all lookup main main hit 10.2.0.0/24 dev tun1",
        "│ └─ output ~cached: decided by #3 (route of the tunnel) 10.11.0.1 → 10.12.0.1 gre",
    ]
    assert lines[5].endswith("dev r1 outer header 10.11.0.1 → 10.12.0.1 gre")
    assert "a(rule 32766 table main forward tun1 → a1)" in _written(tunnel_rows(), "line")


def _on_terminal(rows):
    parent, child = pty.openpty()
    with os.fdopen(child, "w", encoding="utf-8") as stream:
        output = open_output(stream, "tree")
        output.write(rows.table())
        output.close()
        shown = os.read(parent, 65536).decode()
    os.close(parent)
    return shown


def test_colour_only_on_a_terminal_and_without_no_color(monkeypatch):
    """A pipe gets no escape; a terminal does, unless NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[" in _on_terminal(design_rows())
    assert "\033[" not in _written(design_rows())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033[" not in _on_terminal(design_rows())


def test_many_rows_give_one_tree_each_across_chunks():
    """Paths are never cut where rows are taken in parts."""
    found = list(paths(many(2500)))
    assert [path.packet for path in found] == list(range(1, 2501))
    assert {len(path.hops) for path in found} == {3}
