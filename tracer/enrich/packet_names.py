"""What a packet is, in the words people use: `SYN ACK`, `echo request` (RFC 9293, RFC 792)."""

from __future__ import annotations

_TCP, _ICMP = 6, 1
_TCP_FLAGS = ((0x02, "SYN"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x10, "ACK"), (0x20, "URG"))
_UNREACHABLE = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
    4: "fragmentation needed", 13: "administratively prohibited",
}  # fmt: skip
_ICMP_TYPES = {0: "echo reply", 4: "source quench", 5: "redirect", 8: "echo request", 12: "parameter problem"}
_ICMP_UNREACHABLE, _ICMP_TIME_EXCEEDED = 3, 11


def packet_info(proto: int, detail: int) -> str | None:
    """TCP flags or ICMP type and code (`record.detail`) in words; None for other protocols."""
    if proto == _TCP:
        return " ".join(name for bit, name in _TCP_FLAGS if detail & bit) or None
    if proto != _ICMP:
        return None
    kind, code = detail >> 8, detail & 0xFF
    if kind == _ICMP_UNREACHABLE:
        return _UNREACHABLE.get(code, f"unreachable, code {code}")
    if kind == _ICMP_TIME_EXCEEDED:
        return "time exceeded" if code == 0 else "reassembly time exceeded"
    return _ICMP_TYPES.get(kind, f"type {kind} code {code}")
