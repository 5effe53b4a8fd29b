"""Rules replayed without a kernel; tests/live compares the same code with the kernel itself."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tracer.enrich.rules import FlowKey, RuleIndex, assign, rule_text, suppressing_tables
from tracer.enrich.selectors import Matcher
from tracer.model.network import IPV4, Link, NetworkState, Nexthop, Route, Rule

LOCAL, MAIN, DEFAULT = (
    Rule(IPV4, preference, "lookup", table=table, protocol=2)
    for preference, table in ((0, 255), (32766, 254), (32767, 253))
)
NAMES = {255: "local", 254: "main", 253: "default"}
LINKS = {1: Link(1, "lo"), 5: Link(5, "e0", group=7)}
DEVICE = (Nexthop(5),)


def ip(text):
    a, b, c, d = (int(part) for part in text.split("."))
    return a << 24 | b << 16 | c << 8 | d


def state_of(*rules, tables=(254, 255), routes=()):
    """A namespace whose tables exist and hold `routes`."""
    found = {table: tuple(route for route in routes if route.table == table) for table in tables}
    return NetworkState(1, rules=tuple(rules), tables=found, links=LINKS)


def causes(answer):
    return [(step.rule and step.rule.priority, step.suppressed) for step in answer.steps]


def test_every_lookup_gets_the_rule_that_caused_it():
    """A rule by source sends the packet to its table, the rules before and after it do not take part."""
    rules = (
        LOCAL,
        Rule(IPV4, 50, "lookup", table=50, src=ip("10.9.0.0"), src_len=16),
        Rule(IPV4, 100, "lookup", table=100, src=ip("10.1.0.0"), src_len=24),
        MAIN,
        DEFAULT,
    )
    state = state_of(*rules, tables=(50, 100, 254, 255))
    answer = assign(state, FlowKey(saddr=ip("10.1.0.7"), daddr=1), [(255, 0, "miss"), (100, 100, "hit")])
    assert causes(answer) == [(0, False), (100, False)]
    assert (answer.end, answer.consistent) == ("hit", True)


def test_an_observation_that_no_rule_explains_is_unknown():
    """A lookup of a table to which no rule leads gets no rule at all, and neither do its neighbours."""
    answer = assign(state_of(LOCAL, MAIN, DEFAULT), FlowKey(), [(255, 0, "miss"), (77, 77, "hit")])
    assert causes(answer) == [(None, None), (None, None)]
    assert not answer.consistent


def test_a_lookup_that_must_have_been_seen_contradicts():
    """A matching rule to an existing table always gives an event, so its absence refutes the explanation."""
    rules = (LOCAL, Rule(IPV4, 10, "lookup", table=100), MAIN, DEFAULT)
    observed = [(255, 0, "miss"), (254, 254, "hit")]
    assert not assign(state_of(*rules, tables=(100, 254, 255)), FlowKey(), observed).consistent
    assert causes(assign(state_of(*rules), FlowKey(), observed)) == [(0, False), (32766, False)]


def test_a_suppressed_hit_is_followed_by_the_one_that_counts():
    """What wg-quick sets up: main without its default route first, then the tunnel's table (trap 2)."""
    rules = (
        LOCAL,
        Rule(IPV4, 5208, "lookup", table=254, suppress_prefixlength=0),
        Rule(IPV4, 5209, "lookup", table=51820, mark=0xCA6C, mask=0xFFFFFFFF, invert=True),
        MAIN,
    )
    state = state_of(*rules, tables=(254, 255, 51820))
    answer = assign(state, FlowKey(daddr=8), [(255, 0, "miss"), (254, 254, "hit"), (51820, 51820, "hit")])
    assert causes(answer) == [(0, False), (5208, True), (5209, False)]
    assert suppressing_tables(state) == {254}


def test_the_last_hit_is_suppressed_when_the_route_says_so():
    """With no table left to ask, only the matched prefix tells whether the hit counted."""
    default = Route(IPV4, 254, nexthops=DEVICE)
    longer = Route(IPV4, 254, dst=ip("10.0.0.0"), dst_len=8, nexthops=DEVICE)
    state = state_of(
        LOCAL, Rule(IPV4, 9, "lookup", table=254, suppress_prefixlength=0), routes=(default, longer)
    )
    observed = [(255, 0, "miss"), (254, 254, "hit")]
    thrown = assign(state, FlowKey(daddr=ip("8.8.8.8")), observed)
    kept = assign(state, FlowKey(daddr=ip("10.1.1.1")), observed)
    assert (thrown.steps[1].suppressed, thrown.end) == (True, "no rule left")
    assert (kept.steps[1].suppressed, kept.end) == (False, "hit")


def test_the_last_hit_is_undecided_when_the_route_is_unknown():
    """A table that was too large to read leaves the question open instead of guessing."""
    rule = Rule(IPV4, 9, "lookup", table=254, suppress_prefixlength=0)
    state = NetworkState(1, rules=(rule,), large=frozenset({254}))
    answer = assign(state, FlowKey(), [(254, 254, "hit")])
    assert answer.steps[0].rule == rule
    assert (answer.steps[0].suppressed, answer.end, answer.consistent) == (None, "unknown", True)


def test_a_rule_of_an_interface_group_suppresses():
    """suppress_ifgroup throws a hit away whose first nexthop's device is in the group."""
    rule = Rule(IPV4, 9, "lookup", table=100, suppress_ifgroup=7)
    state = state_of(rule, MAIN, tables=(100,), routes=(Route(IPV4, 100, nexthops=DEVICE),))
    assert assign(state, FlowKey(), [(100, 100, "hit")]).end == "no rule left"


def test_the_rule_that_refuses_is_named():
    """A prohibit rule ends a walk without a lookup; it is the final rule (trap 4)."""
    refuse = Rule(IPV4, 20, "prohibit", src=ip("10.0.0.0"), src_len=8)
    answer = assign(state_of(LOCAL, refuse, MAIN), FlowKey(saddr=ip("10.1.1.1")), [(255, 0, "miss")])
    assert (answer.end, answer.final_rule) == ("rule error", refuse)


def test_goto_skips_and_nop_does_nothing():
    """goto continues at the first rule of its target, an unresolved one falls through."""
    rules = (
        Rule(IPV4, 300, "goto", target=400),
        Rule(IPV4, 350, "blackhole"),
        Rule(IPV4, 400, "nop"),
        Rule(IPV4, 410, "lookup", table=100),
    )
    assert causes(assign(state_of(*rules, tables=(100,)), FlowKey(), [(100, 100, "hit")])) == [(410, False)]
    lost = (Rule(IPV4, 300, "goto", target=330), *rules[1:])
    assert assign(state_of(*lost, tables=(100,)), FlowKey(), []).final_rule == rules[1]


def test_the_merged_trie_is_recognised():
    """With the default rules a walk that starts in 254 is the one trie of local and main (trap 1)."""
    state = state_of(LOCAL, MAIN, DEFAULT)
    mine = assign(state, FlowKey(), [(254, 255, "hit")])
    assert (mine.steps[0].rule, mine.merged) == (LOCAL, True)
    assert assign(state, FlowKey(), [(254, 254, "hit")]).steps[0].rule == MAIN
    assert assign(state, FlowKey(), [(254, 0, "miss")]).end == "no rule left"
    unknown = Route(IPV4, 254, dst=ip("10.0.0.0"), dst_len=8, nexthops=DEVICE)
    state = state_of(LOCAL, MAIN, DEFAULT, routes=(unknown,))
    assert assign(state, FlowKey(daddr=ip("10.1.1.1")), [(254, 0, "hit")]).steps[0].rule == MAIN


def test_after_the_default_table_exists_the_merged_walk_goes_on_to_it():
    """Table 253 is asked second if it exists at all."""
    state = state_of(LOCAL, MAIN, DEFAULT, tables=(253, 254, 255))
    answer = assign(state, FlowKey(), [(254, 0, "miss"), (253, 253, "hit")])
    assert [step.rule for step in answer.steps] == [MAIN, DEFAULT]
    assert not assign(state, FlowKey(), [(254, 0, "miss")]).consistent


def test_two_rules_that_explain_equally_well_leave_the_rule_unknown():
    """An attribute that cannot be read makes a rule doubtful; what hangs on it is not claimed."""
    doubtful = Rule(IPV4, 10, "lookup", table=100, unknown=((99, "00"),))
    certain = Rule(IPV4, 11, "lookup", table=100)
    answer = assign(state_of(doubtful, certain, tables=(100,)), FlowKey(), [(100, 100, "hit")])
    assert (answer.steps[0].rule, answer.end, answer.consistent) == (None, "hit", True)
    assert rule_text(doubtful, NAMES) == "from all [unknown attribute 99] lookup 100"


def test_each_selector_is_compared_with_its_own_field():
    """One rule with every selector matches exactly the flow that has all of them (`fib_rule_match`)."""
    rule = Rule(
        IPV4,
        1,
        "lookup",
        table=9,
        src=ip("10.0.0.0"),
        src_len=8,
        dst=ip("8.8.8.8"),
        dst_len=32,
        iif="e0",
        oif="lo",
        mark=2,
        mask=3,
        uid=(5, 6),
        ip_proto=6,
        sport=(7, 8),
        dport=(80, 80),
        tos=4,
        tun_id=3,
    )
    flow = FlowKey(IPV4, ip("10.2.3.4"), ip("8.8.8.8"), 5, 1, 6, 5, 0xE4, 6, 8, 80, 3)
    assert Matcher(rule, LINKS).matches(flow)
    for name in FlowKey._fields[1:-1]:
        changed = flow._replace(**{name: 0x55})
        assert not Matcher(rule, LINKS).matches(changed), name
        assert Matcher(replace(rule, invert=True), LINKS).matches(changed), name
    assert not Matcher(replace(rule, iif="absent"), LINKS).matches(flow)


def test_dscp_and_port_masks_are_compared_as_newer_kernels_do():
    """dscp compares all six bits under its mask, a masked port its bits instead of a range."""
    rule = Rule(IPV4, 1, "lookup", dscp=0x2A, dscp_mask=0x3E, sport=(0x10, 0x10), sport_mask=0xF0)
    matcher = Matcher(rule, {})
    assert matcher.matches(FlowKey(tos=0x2B << 2, sport=0x11))
    assert not matcher.matches(FlowKey(tos=0x28 << 2, sport=0x11))
    assert not matcher.matches(FlowKey(tos=0x2B << 2, sport=0x21))


ranges = st.none() | st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda pair: (min(pair), max(pair)))
prefixes = st.tuples(st.integers(0, 7), st.sampled_from((0, 30, 31, 32))).map(
    lambda pair: (pair[0] >> (32 - pair[1]) << (32 - pair[1]), pair[1])
)
rules = st.builds(
    lambda src, dst, rest, invert: Rule(
        IPV4,
        1,
        "lookup",
        table=100,
        src=src[0],
        src_len=src[1],
        dst=dst[0],
        dst_len=dst[1],
        invert=invert,
        **rest,
    ),
    prefixes,
    prefixes,
    st.fixed_dictionaries(
        {},
        optional={
            "mark": st.integers(0, 3),
            "mask": st.integers(0, 3),
            "uid": ranges,
            "sport": ranges,
            "dport": ranges,
            "ip_proto": st.sampled_from((0, 6)),
            "tos": st.sampled_from((0, 4, 16)),
            "iif": st.sampled_from(("", "e0", "no")),
            "dscp": st.sampled_from((None, 1)),
            "dport_mask": st.sampled_from((0, 1)),
            "oif": st.sampled_from(("", "lo")),
        },
    ),
    st.booleans(),
)
small = st.integers(0, 9)
flows = st.builds(
    FlowKey,
    saddr=small,
    daddr=small,
    iif=st.sampled_from((1, 5)),
    oif=st.sampled_from((0, 1)),
    mark=small,
    uid=small,
    tos=st.sampled_from((0, 4, 16, 20)),
    proto=st.sampled_from((0, 6)),
    sport=small,
    dport=small,
)


@given(st.lists(rules, min_size=1, max_size=4), st.lists(flows, min_size=2, max_size=8))
def test_the_cache_never_changes_an_answer(found, asked):
    """Flows that share a cache key are matched by the same rules."""
    index = RuleIndex(state_of(*found, tables=()))
    by_key = {}
    for flow in asked:
        answer = tuple(Matcher(rule, LINKS).matches(flow) for rule in found)
        assert by_key.setdefault(index._key(flow), answer) == answer
