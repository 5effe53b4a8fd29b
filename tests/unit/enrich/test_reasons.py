"""Why a packet was dropped, how a source check went, why no lookup was made: each in one sentence."""

from __future__ import annotations

import pytest

from tracer.correlate.callers import Purpose
from tracer.correlate.flows import BEFORE_THE_TRACE
from tracer.correlate.verdicts import Via
from tracer.enrich.inference import Explained
from tracer.enrich.reasons import (
    _KNOWN,
    CHECK_REASONS,
    cached_words,
    check_words,
    drop_words,
    send_failed_words,
)

FACTS = {
    "src": "10.1.0.2",
    "dst": "10.2.0.2",
    "in_dev": "r0",
    "rp_filter": "strict",
    "ttl": "64",
    "proto": "udp",
    "dport": "53",
}
RULE = {"rule": 100, "rule_text": "from 10.1.0.0/24 lookup 100", "table": "100"}


def explained(purpose="input", result="unicast", extra=None, devices=(), **won):
    """A decision of one lookup that ended so."""
    lookup = {**RULE, "result": "hit", "dev": "r1", **won}
    decision = {"purpose": purpose, "result": result, "dst": "10.2.0.2"}
    return Explained([lookup], decision, extra=extra, devices=frozenset(devices))


def dropped(reason, location="", cause=None, **facts):
    return drop_words(f"SKB_DROP_REASON_{reason}" if reason else "", location, cause, {**FACTS, **facts})


NO_ROUTE = explained(result="no route", result_=None)
CHECK = explained("source-check")
BLACKHOLE_RULE = {"rule": 50, "rule_text": "from all blackhole", "result": "blackhole"}


@pytest.mark.parametrize(
    ("reason", "location", "cause", "words"),
    [
        (
            "IP_RPFILTER",
            "ip_rcv_finish_core",
            CHECK,
            (
                "source check failed: 10.1.0.2 is reached through r1 (rule 100, table 100), the packet came in on r0, "
                "rp_filter is strict on r0 (SKB_DROP_REASON_IP_RPFILTER in ip_rcv_finish_core)"
            ),
        ),
        (
            "IP_RPFILTER",
            "",
            explained("source-check", "no route"),
            (
                "source check failed: 10.1.0.2 came in on r0, there is no route back to it, rp_filter is strict on r0 "
                "(SKB_DROP_REASON_IP_RPFILTER)"
            ),
        ),
        (
            "IP_RPFILTER",
            "",
            explained("source-check", "blackhole"),
            (
                "source check failed: 10.1.0.2 came in on r0, rule 100, table 100 says blackhole, "
                "rp_filter is strict on r0 (SKB_DROP_REASON_IP_RPFILTER)"
            ),
        ),
        (
            "IP_RPFILTER",
            "",
            explained("source-check", "prohibit", extra={"rule": 7, "rule_text": "from all prohibit"}),
            (
                "source check failed: 10.1.0.2 came in on r0, rule 7 says prohibit, rp_filter is strict on r0 "
                "(SKB_DROP_REASON_IP_RPFILTER)"
            ),
        ),
        (
            # The decision that is known is not the check: nothing is said of its device.
            "IP_RPFILTER",
            "",
            explained("input"),
            "source check failed: the packet came in on r0, rp_filter is strict on r0 (SKB_DROP_REASON_IP_RPFILTER)",
        ),
        (
            # Before 6.16 kernels gave no reason here: the place and the check before it tell.
            "NOT_SPECIFIED",
            "ip_rcv_finish_core",
            CHECK,
            (
                "source check failed: 10.1.0.2 is reached through r1 (rule 100, table 100), the packet came in on r0, "
                "rp_filter is strict on r0 (SKB_DROP_REASON_NOT_SPECIFIED in ip_rcv_finish_core)"
            ),
        ),
        ("IP_INNOROUTES", "ip_error", NO_ROUTE, "no route to 10.2.0.2 (SKB_DROP_REASON_IP_INNOROUTES in ip_error)"),
        ("IP_INNOROUTES", "ip_error", None, "no route to 10.2.0.2 (SKB_DROP_REASON_IP_INNOROUTES in ip_error)"),
        (
            "IP_INADDRERRORS",
            "ip_error",
            NO_ROUTE,
            "no route to 10.2.0.2, and forwarding is off on r0 (SKB_DROP_REASON_IP_INADDRERRORS in ip_error)",
        ),
        (
            "IP_INADDRERRORS",
            "",
            explained(),
            "forwarding is off on r0 (SKB_DROP_REASON_IP_INADDRERRORS)",
        ),
        (
            "NOT_SPECIFIED",
            "ip_error",
            explained(result="unreachable", result_="x", prefix="10.2.0.0/24"),
            "unreachable route 10.2.0.0/24 (rule 100, table 100) (SKB_DROP_REASON_NOT_SPECIFIED in ip_error)",
        ),
        ("", "ip_error", explained(result="prohibit", rule=None), "prohibit route (table 100) (freed in ip_error)"),
        (
            "",
            "ip_error",
            explained(result="blackhole", extra=BLACKHOLE_RULE),
            "rule 50 (from all blackhole) says blackhole (freed in ip_error)",
        ),
        ("NO_SOCKET", "udp_rcv", None, "no socket listens on udp port 53 (SKB_DROP_REASON_NO_SOCKET in udp_rcv)"),
        ("NOT_SPECIFIED", "something", None, "not specified (SKB_DROP_REASON_NOT_SPECIFIED in something)"),
        ("NEVER_HEARD_OF", "", None, "never heard of (SKB_DROP_REASON_NEVER_HEARD_OF)"),
        ("", "", None, "this kernel gives no reason (freed)"),
        ("", "__udp4_lib_rcv", None, "no socket listens on udp port 53 (freed in __udp4_lib_rcv)"),
        ("", "ip_forward", None, "this kernel gives no reason (freed in ip_forward)"),
    ],
)  # fmt: skip
def test_a_drop_says_which_lookup_caused_it(reason, location, cause, words):
    """In words first, then the kernel's own."""
    assert dropped(reason, location, cause) == words


@pytest.mark.parametrize(("short", "words"), _KNOWN.items())
def test_each_known_reason_has_its_words(short, words):
    """Also where nothing else is known."""
    told = drop_words(f"SKB_DROP_REASON_{short}", "somewhere", None, {})
    assert told.startswith(words)
    assert told.endswith(f"(SKB_DROP_REASON_{short} in somewhere)")


def test_the_ttl_runs_out_only_where_packets_are_forwarded():
    """A TTL of 1 is no reason elsewhere."""
    assert dropped("IP_INHDR", "ip_forward", ttl="1").startswith("the TTL ran out (")
    assert dropped("IP_INHDR", "ip_forward", ttl="0").startswith("the TTL ran out (")
    assert dropped("IP_INHDR", "ip_forward", ttl="2").startswith("ip inhdr (")
    assert dropped("IP_INHDR", "ip_rcv", ttl="1").startswith("ip inhdr (")


@pytest.mark.parametrize(
    ("dst", "member"),
    [("224.0.0.1", True), ("239.255.255.255", True), ("223.1.1.1", False), ("240.0.0.1", False), ("fe80::1", False)],
)  # fmt: skip
def test_a_multicast_that_nobody_joined_is_named(dst, member):
    """By its group and device; only a group is one."""
    words = (
        "no member of the multicast group "
        + dst
        + " on r0 (SKB_DROP_REASON_NOT_SPECIFIED in ip_rcv_finish_core)"
    )
    assert (dropped("NOT_SPECIFIED", "ip_rcv_finish_core", dst=dst) == words) is member


def test_no_socket_without_a_port_says_the_protocol():
    """ICMP and its like."""
    assert dropped("NO_SOCKET", proto="icmp", dport="").startswith("no socket listens on icmp (")


def test_the_senders_own_copy_is_no_loss():
    """A broadcast comes back to its sender."""
    assert dropped("NOT_SPECIFIED", "udp_rcv", copied="1").startswith(
        "nobody here takes the sender's own copy ("
    )


def test_what_is_not_known_is_a_question_mark_or_left_out():
    """No device, no mode, no address is invented."""
    words = drop_words("SKB_DROP_REASON_IP_RPFILTER", "", None, {})
    assert words == "source check failed: the packet came in on ? (SKB_DROP_REASON_IP_RPFILTER)"
    assert drop_words("", "ip_error", None, {}) == "no route to ? (freed in ip_error)"


@pytest.mark.parametrize(
    ("cause", "why"),
    [
        (explained(result="no route"), "no route to 10.2.0.2"),
        (explained(result="blackhole", extra=BLACKHOLE_RULE), "rule 50 (from all blackhole) says blackhole"),
        (
            explained(result="unreachable", prefix="10.2.0.0/24"),
            "unreachable route 10.2.0.0/24 (rule 100, table 100)",
        ),
        (explained(result="prohibit"), "prohibit route (rule 100, table 100)"),
    ],
)
def test_a_send_that_failed_says_why(cause, why):
    """The sender got an error; there is no packet."""
    assert send_failed_words(cause, "10.2.0.2") == f"{why}: the sender got an error, no packet was made"


@pytest.mark.parametrize(
    ("result", "devices", "mode", "failed", "words"),
    [
        ("unicast", ["r0"], 1, False, "strict: same device, pass"),
        ("unicast", ["r1", "r0"], 2, False, "loose: same device, pass"),
        ("unicast", ["r1"], 1, True, "strict: reached through r1, fail"),
        ("unicast", ["r1"], 0, False, "off: reached through r1, pass"),
        ("no route", [], 2, True, "loose: no route back to the source, fail"),
        ("blackhole", [], 0, False, "off: blackhole back to the source, pass"),
        ("local", ["lo"], 1, True, "strict: the source is an address of this host, fail"),
        ("unicast", ["r0"], 7, False, "7: same device, pass"),
    ],
)
def test_a_source_check_says_its_mode_what_it_found_and_how_it_ended(result, devices, mode, failed, words):
    """The mode is rp_filter's."""
    assert check_words(explained("source-check", result, devices=devices), "r0", mode, failed=failed) == words


@pytest.mark.parametrize(
    ("via", "ref", "purpose", "words"),
    [
        (Via.SOCKET, 17, Purpose.OUTPUT, "cached: decided by #17 (socket route)"),
        (Via.SOCKET, BEFORE_THE_TRACE, Purpose.OUTPUT, "cached: decided before the trace (socket route)"),
        (Via.EARLY_DEMUX, 3, Purpose.INPUT, "cached: decided by #3 (early demux)"),
        (Via.EARLY_DEMUX, BEFORE_THE_TRACE, Purpose.INPUT, "cached: decided before the trace"),
        (Via.HINT, 3, Purpose.INPUT, "cached: decided by #3 (route hint of the packet before)"),
        (
            Via.LOOPBACK,
            3,
            Purpose.INPUT,
            "no lookup: the loopback device keeps the route of the output decision",
        ),
        (
            Via.GROUP_ADDRESS,
            3,
            Purpose.INPUT,
            "no lookup: broadcast and multicast input is decided without one",
        ),
    ],
)
def test_each_way_without_a_lookup_has_its_name(via, ref, purpose, words):
    """Never just `cached`."""
    assert cached_words(via, ref, purpose) == words


def test_every_way_has_words():
    """Also those to come."""
    for via in Via:
        if via:
            assert cached_words(via, 1, Purpose.INPUT)


def test_reasons_of_source_checks_are_the_kernels():
    """As BTF spells them."""
    assert {
        "SKB_DROP_REASON_IP_RPFILTER",
        "SKB_DROP_REASON_IP_LOCAL_SOURCE",
        "SKB_DROP_REASON_IP_INVALID_SOURCE",
    } == CHECK_REASONS
