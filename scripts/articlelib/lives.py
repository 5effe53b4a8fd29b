"""What the three pictures show: the boxes of the way in and of the way out, in the order of the packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["plain", "lookup", "cache", "end"]


@dataclass(frozen=True)
class Box:
    """One station: what happens, in which functions, and how a packet may end there."""

    title: str
    functions: tuple[str, ...] = ()
    ends: str = ""
    kind: Kind = "plain"


@dataclass(frozen=True)
class Bypass:
    """A way around boxes of one column: from the box with one number to that with another (from 0)."""

    first: int
    last: int
    label: str


@dataclass(frozen=True)
class Column:
    """One half of the picture; `up` is the direction in which its packet goes."""

    title: str
    up: bool
    boxes: tuple[Box, ...]
    bypasses: tuple[Bypass, ...] = ()


@dataclass(frozen=True)
class Life:
    """One picture."""

    name: str
    title: str
    summary: str
    left: Column
    right: Column
    joined: Literal["top", "bottom"]
    join_label: str = ""


_ARRIVES = (
    Box("device receives a frame", ("__netif_receive_skb_core", "ip_rcv"), "not for this host: OTHERHOST"),
    Box("header is checked", ("ip_rcv_core",), "bad header or checksum"),
    Box("netfilter PREROUTING", ("conntrack, DNAT, marks",), "rule says drop"),
)
_LEAVES = (
    Box("netfilter POSTROUTING", ("ip_output", "masquerade, SNAT"), "rule says drop"),
    Box("neighbour (ARP)", ("ip_finish_output2", "neigh_output"), "no answer: NEIGH_FAILED"),
    Box("device sends the frame", ("__dev_queue_xmit", "dev_hard_start_xmit")),
)
_DEMUX = Box("does a socket know the route?", ("tcp_v4_early_demux", "udp_v4_early_demux"), kind="cache")
_INPUT = Box(
    "INPUT LOOKUP: destination",
    ("ip_route_input_slow → fib_lookup", "rules → tables → route"),
    "no route, blackhole, …: ip_error",
    "lookup",
)
_OUTPUT_FUNCTIONS = (
    "ip_route_output_key_hash_rcu → fib_lookup",
    "rules → tables → route, then source address",
)


_SOURCE = Box(
    "SOURCE CHECK: 0 to 2 lookups",
    ("fib_validate_source", "is the sender reached by this device?"),
    "IP_RPFILTER, martian",
    "lookup",
)


SERVER = Life(
    "server",
    "Server: remote to local",
    "A packet comes in for a socket of this host, and the answer goes out",
    Column(
        "the request comes in",
        up=True,
        boxes=(
            *_ARRIVES,
            _DEMUX,
            _INPUT,
            _SOURCE,
            Box("netfilter INPUT", ("ip_local_deliver", "ip_local_deliver_finish"), "rule says drop"),
            Box("socket", ("ip_protocol_deliver_rcu", "tcp_v4_rcv, udp_rcv"), "NO_SOCKET"),
            Box("process", ("accept, recvfrom, read",), kind="end"),
        ),
        bypasses=(Bypass(3, 6, "yes: no lookup"),),
    ),
    Column(
        "the answer goes out",
        up=False,
        boxes=(
            Box(
                "process, or the kernel for it",
                ("sendto, write", "SYN ACK, ACK, RST: no process"),
                kind="end",
            ),
            Box("does the socket keep a route?", ("__sk_dst_check, sk_dst_check",), kind="cache"),
            Box(
                "OUTPUT LOOKUP: destination",
                ("tcp: inet_csk_route_req, _route_child_sock", "udp: udp_sendmsg, every datagram"),
                "error to the process",
                "lookup",
            ),
            Box("netfilter OUTPUT", ("__ip_local_out", "mark changed: ip_route_me_harder"), "rule says drop"),
            *_LEAVES,
        ),
        bypasses=(Bypass(1, 3, "yes: no lookup"),),
    ),
    joined="top",
)

CLIENT = Life(
    "client",
    "Client: local to remote",
    "A process of this host sends, and the answer comes back",
    Column(
        "the request goes out",
        up=False,
        boxes=(
            Box("process", ("connect, sendto, write",), kind="end"),
            Box("does the socket keep a route?", ("__sk_dst_check, sk_dst_check",), kind="cache"),
            Box(
                "OUTPUT LOOKUP: destination",
                _OUTPUT_FUNCTIONS,
                "error to the process: EHOSTUNREACH, …",
                "lookup",
            ),
            Box("IPsec policy?", ("xfrm_lookup_route", "a policy adds a lookup of the outer header")),
            Box("netfilter OUTPUT", ("__ip_local_out", "mark changed: ip_route_me_harder"), "rule says drop"),
            *_LEAVES,
        ),
        bypasses=(Bypass(1, 4, "yes: no lookup"),),
    ),
    Column(
        "the answer comes in",
        up=True,
        boxes=(
            *_ARRIVES,
            _DEMUX,
            _INPUT,
            _SOURCE,
            Box("netfilter INPUT", ("ip_local_deliver", "ip_local_deliver_finish"), "rule says drop"),
            Box("the client's socket", ("tcp_v4_rcv, udp_rcv",), "NO_SOCKET"),
        ),
        bypasses=(Bypass(3, 6, "yes: no lookup"),),
    ),
    joined="bottom",
    join_label="the network",
)

ROUTER = Life(
    "router",
    "Router: remote to remote",
    "A packet comes in by one device and leaves by another; no socket takes part",
    Column(
        "it comes in",
        up=True,
        boxes=(
            *_ARRIVES,
            Box(
                "a list of packets to one address?",
                ("ip_route_use_hint", "only without rules of your own"),
                kind="cache",
            ),
            _INPUT,
            _SOURCE,
            Box("the packet has a route", ("go on with ip_forward; nexthop, device",)),
        ),
        bypasses=(Bypass(3, 6, "yes: no lookup"),),
    ),
    Column(
        "it goes on",
        up=False,
        boxes=(
            Box("forwarding", ("ip_forward: TTL, MTU, IPsec policy",), "TTL 0; too big with DF"),
            Box("netfilter FORWARD", ("ip_forward_finish",), "rule says drop"),
            Box("NO output lookup", ("the input lookup chose device and nexthop",)),
            *_LEAVES,
        ),
    ),
    joined="top",
)

LIVES = (SERVER, CLIENT, ROUTER)
