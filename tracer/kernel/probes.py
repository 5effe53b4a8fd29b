"""The table of probes: what each tells, and what is missed without it. Adding a probe is a row here and a C file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """One attach point of one backend. `records` names the kinds it sends, `tells` what a path loses without it."""

    point: str
    function: str
    source: str
    records: tuple[str, ...]
    tells: str
    needed: bool = False
    define: str | None = None


def _tracepoint(
    point: str, source: str, *records: str, tells: str, needed: bool = False, define: str | None = None
) -> Probe:
    return Probe(point, f"tracepoint_{point}", f"probes/{source}.c", records, tells, needed, define)


TRACEPOINTS: tuple[Probe, ...] = (
    _tracepoint("softirq_entry", "context", tells="softirq or task: whose lookup it is", needed=True),
    _tracepoint("softirq_exit", "context", tells="softirq or task: whose lookup it is", needed=True),
    _tracepoint("fib_table_lookup", "lookup", "LOOKUP", tells="every search of an IPv4 table", needed=True),
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
        tells="the process behind a socket",
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
"""The tracepoint backend, in the order of attaching: context first, so that no record lacks it."""

KERNEL_TYPES: tuple[str, ...] = tuple(
    f"struct {name}"
    for name in [
        "sk_buff",
        "net_device",
        "net",
        "sock",
        "flowi4",
        "fib_nh",
        "fib_info",
        "nh_info",
        "nexthop",
        "neighbour",
        "neigh_table",
        "nsproxy",
        "task_struct",
        "Qdisc",
    ]
)
"""The kernel's structures that `bpf/` reads, taken from BTF with all they embed."""

ARGUMENT_COUNTS: tuple[str, ...] = ("kfree_skb", "consume_skb")
"""Tracepoints whose number of arguments differs between kernels; passed to C as NAME_ARGUMENTS."""
