"""Packets through user space: what real servers read and write, linked as it was."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.live.lab_runs import skip_where_impossible
from tests.live.networks import lab
from tests.live.tracing import LIMIT_S, REPO

PINGS = 23
_TRACE = (sys.executable, "-m", "tracer.cli.main", "trace", "--format", "jsonl", "--")


def traced(name, netns, *command):
    """The paths of a command in a namespace of a lab, by number, and the relays of the lab by their namespace."""
    skip_where_impossible(name)
    with lab(name) as running:
        words = [*_TRACE, "ip", "netns", "exec", netns, *command]
        done = subprocess.run(words, cwd=REPO, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stderr
        relays = {relay.netns: relay.pid for relay in running.relays}
        inodes = set(running.namespaces.values())
    paths = [json.loads(line) for line in done.stdout.splitlines()]
    ours = [path for path in paths if {hop["netns_inode"] for hop in path["hops"]} <= inodes]
    return {path["packet"]: path for path in ours}, relays


def linked(path, direction):
    """(packet, pid, certainty) of the only link of a path in that direction."""
    (link,) = [link for link in path.get("relays", ()) if link["direction"] == direction]
    return link["packet"], link["pid"], link["certainty"]


def where(path):
    """Namespaces a path went through."""
    return [hop["netns"] for hop in path["hops"]]


def by_start(paths, proto, *ways):
    """The paths of a protocol through these namespaces, in the order they began."""
    chosen = [
        p for p in paths.values() if p["flow"]["proto"] == proto and where(p) in [list(w) for w in ways]
    ]
    return sorted(chosen, key=lambda path: path["start_ns"])


def test_every_ping_through_openvpn_is_linked_to_the_packet_around_it():
    """Of 23 pings each request and each answer is read and written twice, by the process of either end."""
    paths, relays = traced("openvpn", "c", "ping", "-c", str(PINGS), "-i", "0.05", "10.2.0.2")
    for source, target, ways in (
        ("c", "b", (["c"], ["c", "r", "b"], ["b", "s"])),
        ("b", "c", (["s", "b"], ["b", "r", "c"], ["c"])),
    ):
        own = "10.8.0.2" if source == "c" else "10.2.0.2"
        legs = [
            [p for p in by_start(paths, proto, way) if proto == "udp" or p["flow"]["src"] == own]
            for proto, way in zip(("icmp", "udp", "icmp"), ways, strict=True)
        ]
        assert [len(leg) for leg in legs] == [PINGS] * 3
        # One ping is answered before the next is sent: the n-th of each leg belong together.
        for inside, around, outside in zip(*legs, strict=True):
            first, second, third = (path["packet"] for path in (inside, around, outside))
            assert linked(inside, "to") == (second, relays[source], "certain")
            assert linked(around, "from") == (first, relays[source], "certain")
            assert linked(around, "to") == (third, relays[target], "certain")
            assert linked(outside, "from") == (second, relays[target], "certain")
    assert sum(len(path.get("relays", ())) for path in paths.values()) == PINGS * 2 * 4


@pytest.mark.parametrize("name", ["wireguard-go", "openvpn-tcp"])
def test_no_link_through_other_tunnels_is_wrong(name):
    """Each link leads to the packet of the same ping, and most pings are linked on their whole way."""
    paths, relays = traced(name, "c", "ping", "-c", str(PINGS), "-i", "0.05", "10.2.0.2")
    pids, whole = set(relays.values()), 0
    ends = by_start(paths, "icmp", ["b", "s"])
    assert len(ends) == PINGS
    starts = [path for path in by_start(paths, "icmp", ["c"]) if path["flow"]["dst"] == "10.2.0.2"]
    for start, end in zip(starts, ends, strict=True):
        assert {link["pid"] for link in start.get("relays", ())} <= pids
        around = [paths[link["packet"]] for link in start.get("relays", ()) if link["direction"] == "to"]
        onward = [
            link["packet"] for path in around for link in path.get("relays", ()) if link["direction"] == "to"
        ]
        assert all(where(path) == ["c", "r", "b"] for path in around)
        assert onward in ([], [end["packet"]])
        whole += bool(onward)
    assert whole > PINGS // 2


def test_a_filter_leaves_the_links_out():
    """Where packets are kept out nothing is said of what was made of which."""
    skip_where_impossible("openvpn")
    with lab("openvpn"):
        words = [
            *_TRACE[:-1],
            "--proto",
            "icmp",
            "--",
            "ip",
            "netns",
            "exec",
            "c",
            "ping",
            "-c",
            "3",
            "10.2.0.2",
        ]
        done = subprocess.run(words, cwd=REPO, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert '"flow"' in done.stdout
    assert '"relays"' not in done.stdout
