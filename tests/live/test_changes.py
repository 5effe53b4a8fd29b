"""Changes on the timeline, against what `ip monitor` says, and with packets between them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.live.networks import network, script, set_sysctls
from tests.live.tracing import REPO
from tracer.enrich.follower import Follower

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
FIBTRACE = REPO / ".venv" / "bin" / "fibtrace"
STEPS = (
    ("rule add pref 100 from 10.1.0.0/24 lookup 100", "+ rule 100: from 10.1.0.0/24 lookup 100"),
    ("-6 rule add pref 101 to 2001:db8::/32 prohibit", "+ rule 101: from all to 2001:db8::/32 prohibit"),
    ("rule del pref 100", "- rule 100: from 10.1.0.0/24 lookup 100"),
    ("route add 10.9.0.0/16 via 10.1.0.9 table 100", "+ route 10.9.0.0/16 via 10.1.0.9 dev r0 table 100"),
    ("route replace 10.9.0.0/16 dev r0 table 100 proto bird metric 0",
     "+ route 10.9.0.0/16 dev r0 table 100 proto bird scope link (replaces)"),
    ("route del 10.9.0.0/16 table 100", "- route 10.9.0.0/16 dev r0 table 100 proto bird scope link"),
    ("route add blackhole 10.8.0.0/16 metric 5", "+ route blackhole 10.8.0.0/16 metric 5"),
    ("route add 2001:db8::/32 dev r0 proto static",
     "+ route 2001:db8::/32 dev r0 proto static metric 1024 pref medium"),
    ("nexthop add id 5 via 10.1.0.9 dev r0", "+ nexthop id 5 via 10.1.0.9 dev r0"),
    ("nexthop add id 9 group 5,3", "+ nexthop id 9 group 5,3"),
    ("nexthop del id 9", "- nexthop id 9 group 5,3"),
    ("addr add 10.7.0.1/24 dev r0", "+ address 10.7.0.1/24 dev r0"),
    ("addr del 10.7.0.1/24 dev r0", "- address 10.7.0.1/24 dev r0"),
    ("neigh add 10.1.0.7 dev r0 lladdr 02:00:00:00:00:07",
     "+ neighbour 10.1.0.7 dev r0 lladdr 02:00:00:00:00:07 PERMANENT"),
    ("link set r0 mtu 1400", "link r0 mtu 1400"),
    ("link set r0 down", "link r0 down"),
    ("link add x0 type veth peer name x1", "+ link x0 type veth"),
    ("link set x0 name y0", "link x0 name y0"),
    ("link del y0", "- link y0"),
)  # fmt: skip


@pytest.fixture
def net():
    with network("cr", "c:c0 r:r0") as made:
        made.ip("c", "addr add 10.1.0.2/24 dev c0", "route add default via 10.1.0.1")
        set_sysctls(made["r"], "net.ipv6.conf.r0.disable_ipv6=0")
        made.ip("r", "addr add 10.1.0.1/24 dev r0", "addr add 10.9.0.1/32 dev lo")
        yield made


def ip(net, line):
    subprocess.run(["ip", "-n", net["r"], *line.split()], check=True, capture_output=True)


def fibtrace(*words, check=True):
    return subprocess.run([FIBTRACE, *map(str, words)], cwd=REPO, capture_output=True, text=True, check=check)


def changes_of(text, netns=None):
    made = [json.loads(line) for line in text.splitlines()]
    return [one for one in made if "change" in one and netns in {None, one["netns"]}]


def test_every_kind_of_change_is_seen_once_with_its_text(net):
    """Each command gives exactly one change of the expected text, between the moments before and after it."""
    inode = Path("/run/netns", net["r"]).stat().st_ino
    with Follower(neighbours=True) as follower:
        follower.listen()
        follower.poll()
        follower.take_changes()
        seen = []
        for command, _ in STEPS:
            before_ns = time.monotonic_ns()
            ip(net, command)
            follower.poll()
            found = [one for one in follower.take_changes() if one.netns_inode == inode]
            assert all(before_ns <= one.ts_ns <= time.monotonic_ns() for one in found)
            assert all(one.unsure_ns <= one.ts_ns for one in found)
            seen += [one.text for one in found]
    counts = Counter(seen)
    assert {text: counts[text] for _, text in STEPS} == {text: 1 for _, text in STEPS}


def test_routes_and_rules_are_worded_as_ip_monitor_does(net):
    """Every line that `ip monitor` prints of rules and routes is one of ours, in the same order."""
    lines = [command for command, _ in STEPS if {"rule", "route"} & set(command.split()[:2])]
    words = ["ip", "-n", net["r"], "-oneline", "monitor", "rule", "route"]
    with Follower() as follower, subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as monitor:
        follower.poll()
        follower.take_changes()
        # Until the monitor has joined its groups it sees nothing: a rule of ours goes and comes until it does.
        os.set_blocking(monitor.stdout.fileno(), False)
        deadline = time.monotonic() + 10
        while not monitor.stdout.readline():
            net.ip("r", "rule add pref 7 lookup 7", "rule del pref 7")
            assert time.monotonic() < deadline
        for line in ("rule add pref 8 lookup 8", *lines, "rule add pref 9 lookup 9"):
            ip(net, line)
        said = ""
        while "9:\t" not in said:
            said += monitor.stdout.read() or ""
            assert time.monotonic() < deadline
        monitor.terminate()
        follower.poll()
        ours = [
            one.text.replace(" (replaces)", "") for one in follower.take_changes() if one.netns == net["r"]
        ]
    theirs = said[said.index("8:\t") :].replace("\\", " ").splitlines()
    theirs = [" ".join(line.split()) for line in theirs]
    ours = [
        re.sub(r"^([+-]) (rule|route) ", lambda m: "Deleted " if m[1] == "-" else "", text) for text in ours
    ]
    assert ours[ours.index("8: from all lookup 8") :] == theirs


def test_who_made_a_change_is_named_only_rightly(net):
    """A process that stays is always named, by its own pid; `ip`, if at all, by its own."""
    stay = (
        "import socket,struct,sys\n"
        "s=socket.socket(socket.AF_NETLINK,socket.SOCK_RAW,0)\n"
        "body=struct.pack('BBBBBBBBI',2,0,0,0,77,0,0,1,0)+struct.pack('HHI',8,6,int(sys.argv[1]))\n"
        "s.send(struct.pack('IHHII',16+len(body),32,0x605,1,0)+body);s.recv(999)\n"
        "print('made',flush=True);sys.stdin.read()\n"
    )
    words = net.python("r", stay, 77)
    with Follower() as follower:
        follower.listen()
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "made\n"
            follower.poll()
            (change,) = [one for one in follower.take_changes() if one.rule == 77]
            comm = Path(f"/proc/{process.pid}/comm").read_text().strip()
            assert (change.pid, change.comm) == (process.pid, comm)
        named = 0
        for number in range(50):
            made = subprocess.Popen(
                ["ip", "-n", net["r"], "rule", "add", "pref", str(1000 + number), "lookup", "9"]
            )
            made.wait()
            follower.poll()
            (change,) = [one for one in follower.take_changes() if one.rule == 1000 + number]
            assert (change.pid, change.comm) in {(0, ""), (made.pid, "ip")}
            named += bool(change.pid)
    print(f"ip was named {named} times of 50")


def test_a_flapping_route_under_traffic_is_named(net, tmp_path):
    """Each change of the client's route is between the pings, and the path that follows names that very change."""
    ping = net.inside("c", "ping", "-c1", "-W1", "10.9.0.1")
    flap = []
    for gateway in ("10.1.0.1", None) * 3:
        word = ["add", "10.9.0.0/16", "via", gateway] if gateway else ["del", "10.9.0.0/16"]
        # In the same moment either may have been first, and then it is not known which route it was.
        flap += [["sleep", "0.1"], ["ip", "-n", net["c"], "route", *word], ["sleep", "0.1"], ping]
    out, raw = tmp_path / "a.jsonl", tmp_path / "a.fibtrace"
    done = fibtrace(
        "trace",
        "--changes",
        "--proto",
        "icmp",
        "--netns",
        net["c"],
        "-o",
        out,
        "-o",
        raw,
        "--",
        "sh",
        "-c",
        script(ping, *flap),
    )
    text = out.read_text()
    made = [json.loads(line) for line in text.splitlines()]
    paths = [one for one in made if "packet" in one and one["flow"]["dst"] == "10.9.0.1"]
    route = [one["text"] for one in changes_of(text, net["c"]) if one["change"] == "route"]
    assert route == [f"{sign} route 10.9.0.0/16 via 10.1.0.1 dev c0" for sign in "+-+-+-"]
    assert len(paths) == 7
    assert "changed" not in paths[0]
    # Where the notification was read late, which route it was is not known; where it is known, it is right.
    prefixes = [one["hops"][0]["decisions"][0]["lookups"][-1]["prefix"] for one in paths]
    right = ["0.0.0.0/0", "10.9.0.0/16"] * 3 + ["0.0.0.0/0"]
    assert all(said in {None, wanted} for said, wanted in zip(prefixes, right, strict=True))
    changed = [one["changed"] for one in paths if "changed" in one]
    words = {("0.0.0.0/0", "10.9.0.0/16"): "+", ("10.9.0.0/16", "0.0.0.0/0"): "-"}
    for one in changed:
        sign = words[one["was"]["prefix"], one["now"]["prefix"]]
        assert [cause["text"][0] for cause in one["causes"]] == [sign]
        assert one["certain"] is True
    known = [said for said in prefixes if said]
    assert len(changed) == sum(old != new for old, new in pairwise(known))
    assert len(known) > 5
    print(f"{len(known)} of 7 routes were known")
    assert done.stdout.count("path changed in") == len(changed)
    times = [one.get("start_ns", one.get("ts_ns")) for one in made]
    assert times == sorted(times)
    again = tmp_path / "b.jsonl"
    fibtrace("convert", raw, again, "--changes")
    # The capture has no filter on its replay but that of the kernel: it may have more, never less or other changes.
    assert changes_of(again.read_text(), net["c"]) == changes_of(text, net["c"])


def test_a_thousand_changes_a_second_are_all_told_or_said_to_be_lost(net, tmp_path):
    """Of 3,000 rules that come and go each is told once, in order, or losses are told."""
    batch = tmp_path / "rules"
    batch.write_text("".join(f"rule add pref {n} lookup 9\nrule del pref {n}\n" for n in range(1000, 2500)))
    out = tmp_path / "a.jsonl"
    began = time.monotonic()
    fibtrace(
        "trace", "--changes", "--proto", "icmp", "--format", "none", "-o", out, "--",
        "sh", "-c", script(["ip", "-n", net["r"], "-batch", str(batch)], net.inside("c", "ping", "-c1", "10.9.0.1")),
    )  # fmt: skip
    found = changes_of(out.read_text(), net["r"])
    rules = [(one["rule"], one["op"]) for one in found if one["change"] == "rule"]
    lost = sum(one["change"] == "lost" for one in found)
    print(f"{len(rules)} of 3000 rule changes, {lost} losses told, {time.monotonic() - began:.1f} s")
    assert rules == sorted(set(rules))
    assert len(rules) == 3000 or lost
