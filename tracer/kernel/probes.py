"""The table of probes: what each tells, and what is missed without it. Adding a probe is a row here and a C file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Attach(Enum):
    """How a program is attached."""

    TRACEPOINT = "raw tracepoint"
    FENTRY = "fentry"
    FEXIT = "fexit"
    KPROBE = "kprobe"
    KRETPROBE = "kretprobe"


class Backend(Enum):
    """How functions are probed: the value is what --backend takes and, as FUNCTIONS, what the C is told."""

    TRACEPOINT = "tracepoint"
    FENTRY = "fentry"
    KPROBE = "kprobe"

    @property
    def define(self) -> int:
        """The value of FUNCTIONS in the C."""
        return list(Backend).index(self)


@dataclass(frozen=True, slots=True)
class Probe:
    """One attach point of one backend. `records` names the kinds it sends, `tells` what a path loses without it.

    `needed`: nothing works without it. `needed_if_there`: so it is where the kernel has it at all; where not, nothing
    is missed.
    """

    point: str
    attach: Attach
    source: str
    records: tuple[str, ...]
    tells: str
    needed: bool = False
    define: str | None = None
    hides_caller: bool = False
    needed_if_there: bool = False

    @property
    def name(self) -> str:
        """What tells it from the others: a function may be probed at its entry and at its return."""
        if self.attach is Attach.TRACEPOINT:
            return self.point
        return f"{self.point}(){' return' if self.attach in {Attach.FEXIT, Attach.KRETPROBE} else ''}"


def _tracepoint(
    point: str, source: str, *records: str, tells: str, needed: bool = False, define: str | None = None
) -> Probe:
    path = f"{source}.c" if "/" in source else f"probes/{source}.c"
    return Probe(point, Attach.TRACEPOINT, path, records, tells, needed, define)


TRACEPOINTS: tuple[Probe, ...] = (
    _tracepoint("softirq_entry", "context", tells="softirq or task: whose lookup it is", needed=True),
    _tracepoint("softirq_exit", "context", tells="softirq or task: whose lookup it is", needed=True),
    _tracepoint("fib_table_lookup", "lookup", "LOOKUP", tells="every search of an IPv4 table", needed=True),
    Probe(
        "fib6_table_lookup",
        Attach.TRACEPOINT,
        "probes/lookup6.c",
        ("LOOKUP",),
        "every search of an IPv6 table",
        define="TRACE_IPV6",
        needed_if_there=True,
    ),
    _tracepoint(
        "netif_receive_skb", "device", "RECEIVE", tells="packets coming in from devices", needed=True
    ),
    _tracepoint("net_dev_start_xmit", "device", "XMIT", tells="packets going out to devices", needed=True),
    _tracepoint("net_dev_queue", "device", "QUEUE", tells="packets entering a queueing discipline"),
    _tracepoint("kfree_skb", "free", "DROP", tells="dropped packets and the reason"),
    _tracepoint("consume_skb", "free", "CONSUME", tells="packets used up by the kernel (ICMP)"),
    _tracepoint("skb_copy_datagram_iovec", "socket", "COPY", tells="the process that read a datagram"),
    _tracepoint("inet_sock_set_state", "socket", "STATE", tells="TCP listen, connect, accept and close"),
    _tracepoint(
        "sk_data_ready",
        "socket",
        "READY",
        tells="the socket a packet was delivered to",
        define="HAVE_SK_DATA_READY",
    ),
    _tracepoint(
        "sock_recv_length",
        "socket",
        "OWNER",
        "READ",
        tells="the process behind a socket, and when it read a datagram",
        define="HAVE_SOCK_RECV_LENGTH",
    ),
    _tracepoint(
        "sock_send_length",
        "socket",
        "OWNER",
        tells="the process behind a socket",
        define="HAVE_SOCK_RECV_LENGTH",
    ),
    _tracepoint("neigh_create", "neighbour", "NEIGHBOUR", tells="packets waiting for address resolution"),
    _tracepoint("neigh_update", "neighbour", "NEIGHBOUR", tells="answers of address resolution"),
)
"""Probes of every backend, in the order of attaching: context first, so that no record lacks it."""

COUNTERS: tuple[Probe, ...] = (
    _tracepoint("softirq_entry", "top/context", tells="softirq or task: whose lookup it is", needed=True),
    _tracepoint("softirq_exit", "top/context", tells="softirq or task: whose lookup it is", needed=True),
    _tracepoint("netif_receive_skb", "top/context", tells="the namespace of failed lookups"),
    _tracepoint("fib_table_lookup", "top/walk", tells="every search of an IPv4 table", needed=True),
    Probe(
        "fib6_table_lookup",
        Attach.TRACEPOINT,
        "top/walk6.c",
        (),
        "every search of an IPv6 table",
        needed_if_there=True,
    ),
    _tracepoint("kfree_skb", "top/drop", tells="dropped packets and the reason"),
)
"""Probes of `fibtrace top`: they count in maps and send no records."""


@dataclass(frozen=True, slots=True)
class _Function:
    """A function probed at its entry, or at its return.

    `many`: more arguments than fentry takes before Linux 6.12. `hides`: the caller matters, and a kretprobe hides it on
    kernels whose unwinder does not know of kretprobes.
    """

    name: str
    source: str
    records: tuple[str, ...]
    tells: str
    returns: bool = False
    many: bool = False
    hides: bool = False


_FUNCTIONS: tuple[_Function, ...] = (
    _Function("fib_table_lookup", "route", (), "the matched prefix"),
    _Function("fib4_rule_action", "route", ("LOOKUP",), "the rule, also one that ends the walk by itself"),
    _Function("fib4_rule_suppress", "route", ("SUPPRESSED",), "hits that a rule throws away", returns=True),
    _Function(
        "fib6_rule_action", "route6", ("LOOKUP",), "the rule of IPv6, also one that ends the walk by itself"
    ),
    _Function(
        "fib6_rule_suppress", "route6", ("SUPPRESSED",), "hits that a rule of IPv6 throws away", returns=True
    ),
    _Function("ip_route_output_key_hash_rcu", "route", (), "output decisions, and their namespace"),
    _Function(
        "ip_route_output_key_hash_rcu",
        "route",
        ("RESULT",),
        "the nexthop chosen for output",
        returns=True,
        hides=True,
    ),
    _Function("ip6_route_output_flags", "route6", (), "output decisions of IPv6"),
    _Function(
        "ip6_route_output_flags",
        "route6",
        ("RESULT",),
        "the nexthop chosen for output of IPv6",
        returns=True,
        hides=True,
    ),
    _Function("fib_validate_source", "route", (), "source checks, and their packet", many=True),
    _Function(
        "fib_validate_source", "route", ("RESULT",), "what a source check said", returns=True, many=True
    ),
    _Function("ip_route_input_noref", "route", (), "input decisions, and their packet"),
    _Function("ip_route_input_noref", "route", ("RESULT",), "the nexthop chosen for input", returns=True),
    _Function("ip6_route_input", "route6", (), "input decisions of IPv6, and their packet"),
    _Function("ip6_route_input", "route6", ("RESULT",), "the nexthop chosen for input of IPv6", returns=True),
    _Function("ip_local_deliver", "stage", ("STAGE",), "packets that were delivered to this host"),
    _Function("ip_forward", "stage", ("STAGE",), "packets that were forwarded (raw captures only)"),
    _Function("ip_output", "stage", ("STAGE",), "packets on their way out (raw captures only)"),
    _Function("ip6_input", "stage", ("STAGE",), "IPv6 packets that were delivered to this host"),
    _Function("ip6_forward", "stage", ("STAGE",), "IPv6 packets that were forwarded (raw captures only)"),
    _Function("ip6_output", "stage", ("STAGE",), "IPv6 packets on their way out (raw captures only)"),
    _Function("xfrm_output", "stage", ("STAGE",), "packets before IPsec encrypts them (raw captures only)"),
    _Function("xfrm_input", "stage", ("STAGE",), "packets before IPsec decrypts them (raw captures only)"),
)
"""Probes of functions. Inner calls come before those around them: nothing is attributed to a call seen half."""


def functions(backend: Backend) -> tuple[tuple[Probe, ...], ...]:
    """The probes of functions of a backend: of each the ways to attach it, the best first."""
    return () if backend is Backend.TRACEPOINT else tuple(_ways(row, backend) for row in _FUNCTIONS)


def _ways(row: _Function, backend: Backend) -> tuple[Probe, ...]:
    def way(entry: Attach, at_return: Attach) -> Probe:
        attach = at_return if row.returns else entry
        hides = row.hides and attach is Attach.KRETPROBE
        return Probe(row.name, attach, f"probes/{row.source}.c", row.records, row.tells, hides_caller=hides)

    plain = way(Attach.KPROBE, Attach.KRETPROBE)
    if backend is Backend.KPROBE:
        return (plain,)
    traced = way(Attach.FENTRY, Attach.FEXIT)
    return (traced, plain) if row.many else (traced,)


KERNEL_TYPES: tuple[str, ...] = tuple(
    f"struct {name}"
    for name in [
        "sk_buff",
        "net_device",
        "net",
        "sock",
        "flowi4",
        "flowi6",
        "fib6_result",
        "fib6_info",
        "fib6_nh",
        "fib6_table",
        "rt6_info",
        "fib_nh",
        "fib_info",
        "nh_info",
        "nexthop",
        "neighbour",
        "neigh_table",
        "nsproxy",
        "task_struct",
        "Qdisc",
        "fib_rule",
        "fib_result",
        "rtable",
        "pt_regs",
    ]
)
"""The kernel's structures that `bpf/` reads, taken from BTF with all they embed."""

ARGUMENT_COUNTS: tuple[str, ...] = ("kfree_skb", "consume_skb")
"""Tracepoints whose number of arguments differs between kernels; passed to C as NAME_ARGUMENTS."""
