"""What a packet is, in the words people use: `SYN ACK`, `echo request` (RFC 9293, RFC 792, RFC 4443)."""

from __future__ import annotations

from tracer.correlate.links import DISCOVERY, ICMPV6, LISTENERS

_TCP, _ICMP = 6, 1
_TCP_FLAGS = ((0x02, "SYN"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x10, "ACK"), (0x20, "URG"))
_UNREACHABLE = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
    4: "fragmentation needed", 13: "administratively prohibited",
}  # fmt: skip
_ICMP_TYPES = {0: "echo reply", 4: "source quench", 5: "redirect", 8: "echo request", 12: "parameter problem"}
_ICMP_UNREACHABLE, _ICMP_TIME_EXCEEDED = 3, 11


_UNREACHABLE6 = {
    0: "no route", 1: "administratively prohibited", 2: "beyond scope of source address", 3: "address unreachable",
    4: "port unreachable", 5: "source address failed policy", 6: "reject route",
}  # fmt: skip
_EXCEEDED6 = {0: "hop limit exceeded", 1: "reassembly time exceeded"}
_TYPES6 = {
    2: "packet too big", 4: "parameter problem", 128: "echo request", 129: "echo reply", **DISCOVERY, **LISTENERS,
}  # fmt: skip
_UNREACHABLE6_TYPE, _EXCEEDED6_TYPE = 1, 3


def packet_info(proto: int, detail: int) -> str | None:
    """TCP flags or ICMP type and code (`record.detail`) in words; None for other protocols."""
    if proto == _TCP:
        return " ".join(name for bit, name in _TCP_FLAGS if detail & bit) or None
    kind, code = detail >> 8, detail & 0xFF
    if proto == ICMPV6:
        return _info6(kind, code)
    if proto != _ICMP:
        return None
    if kind == _ICMP_UNREACHABLE:
        return _UNREACHABLE.get(code, f"unreachable, code {code}")
    if kind == _ICMP_TIME_EXCEEDED:
        return "time exceeded" if code == 0 else "reassembly time exceeded"
    return _ICMP_TYPES.get(kind, f"type {kind} code {code}")


def _info6(kind: int, code: int) -> str | None:
    if kind == 0 and code == 0:  # no ICMPv6 message: the rest of a fragmented one
        return None
    if kind == _UNREACHABLE6_TYPE:
        return _UNREACHABLE6.get(code, f"unreachable, code {code}")
    if kind == _EXCEEDED6_TYPE:
        return _EXCEEDED6.get(code, f"time exceeded, code {code}")
    return _TYPES6.get(kind, f"type {kind} code {code}")
