"""Whose lookup it is, read from the kernel stack of the caller (docs: kernel call chains, net/ipv4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Purpose(IntEnum):
    """Why a decision was made; the first four are of packets, the rest is not."""

    UNKNOWN = 0
    INPUT = 1
    OUTPUT = 2
    SOURCE_CHECK = 3
    QUERY = 4
    OTHER = 5


PURPOSE_NAMES = {
    Purpose.UNKNOWN: "",
    Purpose.INPUT: "input",
    Purpose.OUTPUT: "output",
    Purpose.SOURCE_CHECK: "source-check",
    Purpose.QUERY: "query",
    Purpose.OTHER: "other",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """What a stack says: the purpose, the function that asked, and traits of the way there.

    `in_list`: packets are received in lists; `of_packet`: the decision is about a packet; `connects`: it serves all
    packets of a connection, not one; `probes`: some of its decisions only try out (ICMP errors do).
    """

    purpose: Purpose
    name: str
    in_list: bool = False
    of_packet: bool = False
    connects: bool = False
    probes: bool = False


UNKNOWN_CALLER = Caller(Purpose.UNKNOWN, "")

_PLUMBING = frozenset(
    {
        "fib_table_lookup",
        "fib4_rule_action",
        "fib_rules_lookup",
        "__fib_lookup",
        "fib6_table_lookup",
        "fib6_rule_action",
        "__fib6_rule_action",
        "fib6_rule_lookup",
        "ip6_pol_route",
        "ip6_pol_route_input",
        "ip6_pol_route_output",
        "ip6_pol_route_lookup",
    }
)
_OWNERS = {
    "ip_route_input_slow": Purpose.INPUT,
    "ip6_route_input": Purpose.INPUT,
    "ip6_route_input_lookup": Purpose.INPUT,
    "__fib_validate_source": Purpose.SOURCE_CHECK,
    "fib_validate_source": Purpose.SOURCE_CHECK,
    "ip_route_output_key_hash_rcu": Purpose.OUTPUT,
    "ip6_route_output_flags": Purpose.OUTPUT,
    "ip6_route_output_flags_noref": Purpose.OUTPUT,
    "nl_fib_lookup": Purpose.QUERY,
    "bpf_ipv4_fib_lookup": Purpose.QUERY,
    "bpf_ipv6_fib_lookup": Purpose.QUERY,
}
_OUTPUT_WAY = frozenset(
    {
        "ip_route_output_key_hash_rcu",
        "ip_route_output_key_hash",
        "ip_route_output_flow",
        "ip6_route_output_flags",
        "ip6_route_output_flags_noref",
        "ip6_dst_lookup_tail",
        "ip6_dst_lookup",
        "ip6_dst_lookup_flow",
        "ip6_sk_dst_lookup_flow",
        "icmpv6_xrlim_allow",
        "icmpv6_rt_has_prefsrc",
        "icmpv6_route_lookup",
    }
)
_QUERIES = frozenset({"inet_rtm_getroute", "inet6_rtm_getroute"})
_NOT_OF_THE_PACKET = frozenset({"arp_process", "icmp_route_lookup", "ip_expire"})
_INTERRUPTED = ("handle_softirqs", "__do_softirq", "do_softirq", "asm_", "net_rx_action")
_TRACING = (
    "bpf_prog_",
    "bpf_trampoline_",
    "ftrace_",
    "kretprobe_trampoline",
    "arch_rethook_",
    "return_to_handler",
)
"""Frames of fentry and kretprobe, ours or those of others; after a trampoline the traced function comes once more."""
_CONNECTS = frozenset(
    {
        "tcp_v4_connect",
        "__ip4_datagram_connect",
        "inet_csk_route_child_sock",
        "inet_csk_route_req",
        "inet_sk_rebuild_header",
        "tcp_v6_connect",
        "__ip6_datagram_connect",
        "ip6_datagram_dst_update",
        "inet6_csk_route_req",
        "inet6_csk_route_socket",
        "inet6_sk_rebuild_header",
    }
)
_LIST = frozenset({"ip_sublist_rcv", "ip_list_rcv", "ip6_sublist_rcv", "ipv6_list_rcv"})
_PACKET_HELPERS = frozenset({"nft_fib4_eval", "rpfilter_lookup_reverse", "nft_fib6_eval", "rpfilter_mt"})
_PROBERS = frozenset({"icmp_route_lookup", "icmp6_send"})
_FOR_OTHERS = frozenset(
    {
        *("__inet_dev_addr_type", "inet_addr_type", "__ip_dev_find", "inet_dev_addr_type"),
        *("rt6_lookup", "ip6_route_lookup", "ip6_nh_lookup_table", "fib6_lookup"),
    }
)
"""Helpers that many call: who asked is their caller."""


def classify(stack: tuple[str, ...]) -> Caller:
    """The caller of a lookup from its stack, innermost first. An empty stack says nothing."""
    frames = [frame.split(".")[0] for frame in _own_part(stack) if not frame.startswith(_TRACING)]
    frames = [frame for index, frame in enumerate(frames) if frame != frames[index - 1] or not index]
    while frames and (
        frames[0] in _PLUMBING or frames[0].startswith(("bpf_", "__bpf", "trace_", "__traceiter"))
    ):
        if frames[0] in _OWNERS:
            break
        frames.pop(0)
    if not frames:
        return UNKNOWN_CALLER
    owner = frames[0]
    purpose = _OWNERS.get(owner, Purpose.OTHER)
    if purpose is Purpose.OTHER:
        asker = _asker(frames)
        return Caller(purpose, asker, of_packet=asker in _PACKET_HELPERS)
    query = next((frame for frame in frames if frame in _QUERIES), None)
    if query:
        return Caller(Purpose.QUERY, query)
    if purpose is Purpose.OUTPUT:
        return _output(next((frame for frame in frames if frame not in _OUTPUT_WAY), owner))
    foreign = next((frame for frame in frames if frame in _NOT_OF_THE_PACKET), None)
    if foreign:
        return Caller(Purpose.OTHER, foreign)
    return Caller(purpose, owner, in_list=any(frame in _LIST for frame in frames), of_packet=True)


def _output(name: str) -> Caller:
    return Caller(Purpose.OUTPUT, name, of_packet=True, connects=name in _CONNECTS, probes=name in _PROBERS)


def _own_part(stack: tuple[str, ...]) -> tuple[str, ...]:
    """Frames up to the interrupt: what is below belongs to the interrupted task."""
    for index, frame in enumerate(stack):
        if index and frame.startswith(_INTERRUPTED):
            return stack[:index]
    return stack


def _asker(frames: list[str]) -> str:
    """For a helper that many call, the function that asked it."""
    return next((frame for frame in frames if frame not in _FOR_OTHERS), frames[0])
