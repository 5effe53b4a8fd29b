"""Loss is data: a ring that is too small for a flood says how much is missing, and what is shown is still right."""

from __future__ import annotations

import json
import re
from collections import Counter

from tests.live.networks import client_router_server, set_sysctls
from tests.live.tracing import fibtrace, paths_of
from tracer import read
from tracer.wire.capture import CaptureReader, Kind

SENT = 10_000
# Our parent is the tool: while it is stopped nobody empties the ring. What is sent to ourselves first makes another
# number of records than the flood, so that the ring gets full at another moment of a packet's way.
FLOOD = f"""
import os, signal, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for _ in range(int(sys.argv[1])):
        sock.sendto(b"x", ("127.0.0.1", 9))
    for number in range({SENT}):
        if number == 100:
            os.kill(os.getppid(), signal.SIGSTOP)
        elif number == {SENT} - 100:
            os.kill(os.getppid(), signal.SIGCONT)
        sock.sendto(b"x", ("10.2.0.2", 9))
"""


def test_a_full_ring_is_told_and_what_is_shown_is_right(tmp_path):
    """With 1 MiB for a flood: exact counts, exit 5 with --strict, no path that mixes packets or claims too much."""
    assert sum(check_flood(tmp_path, shift) for shift in range(3)) > 0


def check_flood(tmp_path, shift):
    """Returns how many paths have a hole that is told."""
    parquet, jsonl, raw = (tmp_path / f"flood.{suffix}" for suffix in ("parquet", "jsonl", "fibtrace"))
    with client_router_server() as net:
        for short in "cs":
            set_sysctls(net[short], "net.ipv4.icmp_ratemask=8", "net.ipv4.icmp_ratelimit=1000000")
        outputs = [word for file in (parquet, jsonl, raw) for word in ("-o", str(file))]
        options = ("--ring-mb", "1", "--strict", "--format", "line")
        done = fibtrace("trace", *options, *outputs, "--", *net.python("c", FLOOD), str(shift))
        c, r, s = net["c"], net["r"], net["s"]
    assert done.returncode == 5
    packets, lost = map(
        int, re.search(r"^seen (\d+) packets, (\d+) lost$", done.stderr, re.MULTILINE).groups()
    )
    assert 0 < packets < SENT / 2
    assert lost > 0
    refused = int(
        re.search(r"^  (\d+) records found the ring full: .*--ring-mb", done.stderr, re.MULTILINE)[1]
    )
    with CaptureReader(raw) as reader:
        (accounting,) = [frame.json() for frame in reader.frames() if frame.kind == Kind.ACCOUNTING]
    assert sum(accounting["refused"]) == refused
    # Each packet makes the same number of records, read or refused: nothing is missing from the sum.
    per_packet = (accounting["records"] + refused) / SENT
    assert abs(per_packet - round(per_packet)) < 0.1
    objects = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert len(objects) == packets
    complete = {item["packet"]: item["complete"] for item in objects}
    paths = [path for path in paths_of(read(parquet), complete) if path.first["dst"] == "10.2.0.2"]
    whole = [path for path in paths if path.complete]
    broken = Counter(path.rows[0]["lost"] > 0 for path in paths if not path.complete)
    assert broken[False] == 0
    assert all(row["lost"] == 0 for path in whole for row in path.rows)
    walks = {
        tuple((d.purpose, tuple(d.walk())) for hop in path.hops for d in hop.decisions) for path in whole
    }
    hit, local = (32766, "main", "hit"), (0, "local", "hit")
    assert walks == {(("output", (hit,)), ("input", (hit,)), ("input", (local,)))}
    assert {tuple(path.names) for path in whole} == {(c, r, s)}
    torn = [path for path in paths if not path.complete]
    assert {tuple(path.names) for path in torn} <= {(c, r, s), (c, r), (r, s), (c,), (r,), (s,)}
    seen = {
        (hop.netns, d.purpose, tuple(d.walk())) for path in torn for hop in path.hops for d in hop.decisions
    }
    assert seen <= {
        (c, "output", (hit,)), (r, "input", (hit,)), (s, "input", (local,)),
        *((netns, purpose, ()) for netns, purpose in ((c, "output"), (r, "input"), (s, "input"))),
    }  # fmt: skip
    assert {hop.verdict for path in torn for hop in path.hops} <= {"send", "forward", "drop", "deliver", None}
    return broken[True]
