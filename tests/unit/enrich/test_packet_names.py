"""Packets in the words people use."""

from __future__ import annotations

import pytest

from tracer.enrich.packet_names import packet_info


@pytest.mark.parametrize(
    ("proto", "detail", "words"),
    [
        (6, 0x02, "SYN"), (6, 0x12, "SYN ACK"), (6, 0x10, "ACK"), (6, 0x18, "PSH ACK"), (6, 0x11, "FIN ACK"),
        (6, 0x14, "RST ACK"), (6, 0x30, "ACK URG"), (6, 0, None), (6, 0x40, None),
        (1, 8 << 8, "echo request"), (1, 0, "echo reply"), (1, 5 << 8 | 1, "redirect"),
        (1, 3 << 8, "network unreachable"), (1, 3 << 8 | 1, "host unreachable"), (1, 3 << 8 | 3, "port unreachable"),
        (1, 3 << 8 | 4, "fragmentation needed"), (1, 3 << 8 | 13, "administratively prohibited"),
        (1, 3 << 8 | 9, "unreachable, code 9"), (1, 11 << 8, "time exceeded"),
        (1, 11 << 8 | 1, "reassembly time exceeded"),
        (1, 12 << 8, "parameter problem"), (1, 42 << 8 | 7, "type 42 code 7"),
        (17, 0x1234, None), (0, 0, None),
    ],
)  # fmt: skip
def test_a_packet_has_its_name(proto, detail, words):
    """TCP by its flags, ICMP by type and code, others not at all."""
    assert packet_info(proto, detail) == words
