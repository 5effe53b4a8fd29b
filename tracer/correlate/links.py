"""What IPv6 hosts tell their neighbours on a link by themselves: neighbour discovery and multicast listeners.

ARP and IGMP do that for IPv4. These are ICMPv6 packets, routed as such where they come in; where they are sent,
the kernel makes their route itself (`icmp6_dst_alloc`), and no table is asked.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tracer.correlate.columns import Array, Rows

ICMPV6 = 58
DISCOVERY = {
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    137: "redirect",
}
LISTENERS = {
    130: "multicast listener query",
    131: "multicast listener report",
    132: "multicast listener done",
    143: "multicast listener report",
}
_TYPES = np.array(sorted(DISCOVERY | LISTENERS), np.int64)


def of_the_link(records: Rows) -> Array:
    """Which rows are about a packet of neighbour discovery or of multicast listener discovery."""
    icmpv6 = (records["family"] == socket.AF_INET6) & (records["proto"] == ICMPV6)
    result: Array = icmpv6 & (records["skb"] != 0) & np.isin(records["detail"] >> 8, _TYPES)
    return result
