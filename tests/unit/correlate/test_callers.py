"""Who asked for a lookup, from the kernel stack."""

from __future__ import annotations

import pytest

from tests.unit.correlate.records import STACKS
from tracer.correlate.callers import UNKNOWN_CALLER, Purpose, classify


@pytest.mark.parametrize(
    ("stack", "purpose", "name"),
    [
        ("input", Purpose.INPUT, "ip_route_input_slow"),
        ("list", Purpose.INPUT, "ip_route_input_slow"),
        ("check", Purpose.SOURCE_CHECK, "__fib_validate_source"),
        ("send", Purpose.OUTPUT, "udp_sendmsg"),
        ("connect", Purpose.OUTPUT, "tcp_v4_connect"),
        ("icmp", Purpose.OUTPUT, "icmp_route_lookup"),
        ("arp", Purpose.OTHER, "arp_process"),
        ("getroute", Purpose.QUERY, "inet_rtm_getroute"),
        ("address", Purpose.OTHER, "udp_sendmsg"),
        ("nft", Purpose.OTHER, "nft_fib4_eval"),
        ("input6", Purpose.INPUT, "ip6_route_input"),
        ("send6", Purpose.OUTPUT, "udpv6_sendmsg"),
        ("connect6", Purpose.OUTPUT, "tcp_v6_connect"),
        ("limit6", Purpose.OUTPUT, "icmp6_send"),
        ("getroute6", Purpose.QUERY, "inet6_rtm_getroute"),
        ("nft6", Purpose.OTHER, "nft_fib6_eval"),
        ("check6", Purpose.OTHER, "ip6_route_check_nh"),
    ],
)
def test_the_function_that_asked_is_named(stack, purpose, name):
    """Each way to fib_table_lookup and fib6_table_lookup has its purpose and its name."""
    caller = classify(STACKS[stack])
    assert (caller.purpose, caller.name) == (purpose, name)


def test_traits_of_the_way_are_read():
    """Lists, packets, connections and trials are told apart."""
    traits = {name: classify(stack) for name, stack in STACKS.items()}
    assert [name for name, caller in traits.items() if caller.in_list] == ["list", "list-check"]
    assert [name for name, caller in traits.items() if caller.connects] == ["connect", "connect6"]
    assert [name for name, caller in traits.items() if caller.probes] == ["icmp", "limit6"]
    of_packet = {name for name, caller in traits.items() if caller.of_packet}
    ipv6 = {"input6", "send6", "connect6", "limit6", "nft6"}
    assert of_packet == ipv6 | {
        *("input", "list", "list-check", "check", "send", "connect", "icmp", "nft", "tunnel"),
    }


@pytest.mark.parametrize(
    "stack",
    [(), ("fib_table_lookup",), ("bpf_prog_1234", "__traceiter_fib_table_lookup", "fib_table_lookup")],
)
def test_nothing_is_said_without_frames(stack):
    """An empty stack, or one that ends in the lookup itself, names nobody."""
    assert classify(stack) is UNKNOWN_CALLER


def test_what_was_interrupted_says_nothing():
    """A query interrupted by a packet does not make the packet's decision a query."""
    interrupted = ("handle_softirqs", "irq_exit_rcu", "inet_rtm_getroute", "rtnetlink_rcv_msg")
    assert classify((*STACKS["input"], *interrupted)).purpose is Purpose.INPUT
    assert classify((*STACKS["input"], *interrupted[2:])).purpose is Purpose.QUERY


def test_other_tracers_on_the_way_say_nothing():
    """fentry puts a trampoline and the function once more into the stack, kretprobe its own return address."""
    plain = (
        "fib_table_lookup",
        "ip_route_output_key_hash_rcu",
        "ip_route_output_key_hash",
        "icmp_route_lookup",
    )
    traced = (*plain[:3], "bpf_trampoline_6442503763", plain[2], "kretprobe_trampoline", plain[3])
    assert classify(traced) == classify(plain)
    assert classify(traced).probes


def test_compiler_suffixes_are_no_part_of_a_name():
    """`f.constprop.0` and `f.isra.0` are f."""
    caller = classify(("fib_table_lookup", "ip_route_input_slow.isra.0", "ip_rcv"))
    assert (caller.purpose, caller.name) == (Purpose.INPUT, "ip_route_input_slow")


def test_a_bpf_helper_is_a_query_of_its_program():
    """bpf_fib_lookup is no plumbing of ours."""
    stack = ("fib_table_lookup", "bpf_ipv4_fib_lookup", "bpf_xdp_fib_lookup")
    assert classify(stack).purpose is Purpose.QUERY


@pytest.mark.parametrize(
    "helper", ["__inet_dev_addr_type", "inet_addr_type", "__ip_dev_find", "inet_dev_addr_type"]
)
def test_who_asks_through_a_helper_is_named(helper):
    """Address-type lookups are named after who wanted to know; alone, after themselves."""
    assert classify(("fib_table_lookup", helper, "arp_process")).name == "arp_process"
    assert classify(("fib_table_lookup", helper)).name == helper
