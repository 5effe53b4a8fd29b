"""Each selector of a rule in words, and always the verdict of the matcher that explains lookups."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.enrich.test_rules import LINKS, ip
from tests.unit.outputs.worlds import NAMES
from tracer.enrich.because import because
from tracer.enrich.selectors import FlowKey, Matcher
from tracer.model.network import IPV4, IPV6, Link, Rule

FLOW = FlowKey(
    saddr=ip("10.1.0.2"), daddr=ip("10.2.0.2"), iif=5, proto=17, sport=4000, dport=53, tos=0x10, uid=8
)
VRF = {**LINKS, 9: Link(9, "vrf0", kind="vrf", vrf_table=10)}
RULE = Rule(IPV4, 100, "lookup", table=100)


def said(flow=FLOW, links=LINKS, **selectors):
    return tuple(because(replace(RULE, **selectors), flow, links, NAMES))


@pytest.mark.parametrize(
    ("selectors", "matched", "text"),
    [
        ({}, True, ""),
        ({"mark": 1, "mask": 0xFFFFFFFF}, False, "fwmark 0x1 ≠ 0x0"),
        ({"mark": 1, "mask": 0xFF}, False, "fwmark 0x1/0xff ≠ 0x0"),
        ({"src": ip("10.9.0.0"), "src_len": 16}, False, "from 10.9.0.0/16 ∌ 10.1.0.2"),
        ({"src": ip("10.1.0.0"), "src_len": 16}, True, "from 10.1.0.0/16 ∋ 10.1.0.2"),
        ({"dst": ip("10.2.0.3"), "dst_len": 32}, False, "to 10.2.0.3 ≠ 10.2.0.2"),
        ({"iif": "lo"}, False, "iif lo ≠ e0"),
        ({"iif": "e0"}, True, "iif e0 = e0"),
        ({"iif": "gone"}, False, "iif gone: no such device here"),
        ({"oif": "e0"}, False, "oif e0 ≠ none"),
        ({"uid": (1000, 1001)}, False, "uidrange 1000-1001 ∌ 8"),
        ({"ip_proto": 6}, False, "ipproto tcp ≠ udp"),
        ({"sport": (1, 9)}, False, "sport 1-9 ∌ 4000"),
        ({"dport": (53, 53)}, True, "dport 53 = 53"),
        ({"dport": (0x36, 0x36), "dport_mask": 0xFE}, False, "dport 0x36/0xfe ≠ 53"),
        ({"tos": 0x08}, False, "tos 0x08 ≠ 0x10"),
        ({"dscp": 4}, True, "dscp 0x04 = 0x04"),
        ({"l3mdev": True}, False, "l3mdev: in no VRF"),
        ({"tun_id": 7}, False, "tun_id 7 ≠ 0"),
        ({"invert": True}, False, "not: it selects everything"),
        ({"invert": True, "iif": "lo"}, True, "not: iif lo ≠ e0"),
        ({"invert": True, "iif": "e0"}, False, "not: iif e0 = e0"),
        ({"unknown": ((31, "00"),)}, None, "unknown attribute 31: cannot be evaluated"),
        ({"unknown": ((31, "00"),), "iif": "lo"}, False, "iif lo ≠ e0"),
    ],
)
def test_a_rule_says_by_which_selector(selectors, matched, text):
    """The first selector that fails is named with both values; what is not known is not decided."""
    assert said(**selectors) == (matched, text)


def test_the_first_failing_selector_is_the_kernels_first():
    """Of several selectors that do not hold, the one that the kernel tests first is named."""
    assert said(iif="lo", mark=1, mask=1, dport=(1, 1))[1] == "iif lo ≠ e0"
    assert said(mark=1, mask=1, dport=(1, 1), src=1, src_len=32)[1].startswith("fwmark")


def test_a_vrf_is_compared_with_that_of_the_flow():
    """A rule for packets of a VRF names the VRF that the flow is in."""
    assert said(links=VRF, iif="vrf0") == (False, "iif vrf0 ≠ no VRF")
    assert said(FLOW._replace(l3mdev=9), VRF, l3mdev=True) == (True, "l3mdev: in VRF vrf0")


def test_without_a_source_no_prefix_of_ipv6_holds():
    """IPv6 compares no source that was not given, not even with a prefix around `::`."""
    rule = Rule(IPV6, 100, "lookup", src=0, src_len=8)
    assert tuple(because(rule, FlowKey(family=IPV6), LINKS, NAMES)) == (
        False,
        "from ::/8: no source is given",
    )


small = st.integers(0, 3)
port_range = st.none() | st.tuples(small, small)


@given(
    st.builds(
        replace, st.just(RULE), mark=small, mask=small, src=small, src_len=st.sampled_from((0, 31, 32)), dst=small,
        dst_len=st.sampled_from((0, 30, 32)), iif=st.sampled_from(("", "lo", "e0", "gone")), uid=port_range,
        oif=st.sampled_from(("", "e0")), ip_proto=small, sport=port_range, dport=port_range, sport_mask=small,
        tos=st.sampled_from((0, 4, 8)), dscp=st.none() | small, dscp_mask=st.sampled_from((0x3F, 1)),
        invert=st.booleans(), l3mdev=st.booleans(), tun_id=small, unknown=st.sampled_from(((), ((31, ""),))),
    ),
    st.builds(FlowKey, saddr=small, daddr=small, iif=st.sampled_from((1, 5)), oif=st.sampled_from((0, 5)), mark=small,
              uid=small, tos=st.integers(0, 12), proto=small, sport=small, dport=small, tun_id=small, l3mdev=small),
)  # fmt: skip
def test_the_words_and_the_matcher_agree(rule, flow):
    """For every rule and flow the verdict in words is the one by which lookups are explained."""
    assert because(rule, flow, LINKS, NAMES).matched == Matcher(rule, LINKS).matches(flow)
