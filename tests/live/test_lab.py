"""Each lab is built, its traffic goes where the lab says, as the counters of the kernel and `ip route get` have it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.live.lab_leftovers import assert_nothing_left, before, nobody_elses_lab, one_lab_at_a_time
from tests.live.lab_runs import skip_where_impossible
from tracer.lab import engine
from tracer.lab.catalog import labs
from tracer.lab.netns import inside
from tracer.lab.steps import CLIENT
from tracer.lab.topology import LOCAL, MAIN, Flow, Hop

__all__ = ["before", "nobody_elses_lab", "one_lab_at_a_time"]  # fixtures: they act by being here

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="labs need root: they make network namespaces"),
]
# Counters and answers here are those of IPv4; test_paths_labs.py and test_oracle.py compare the labs in IPv6.
NAMES = [name for name, lab in labs().items() if lab.family == 4]
REPO = Path(__file__).parents[2]
# The answer of `ip route get` where a route or a rule of this kind decides; the label of the step names the
# kind.
REFUSALS = {"blackhole": errno.EINVAL, "unreachable": errno.EHOSTUNREACH, "prohibit": errno.EACCES}
FORWARDED = "Ip.ForwDatagrams"
COUNTERS = {
    "IP_RPFILTER": "TcpExt.IPReversePathFilter",
    "IP_INNOROUTES": "IpExt.InNoRoutes",
    "NO_SOCKET": "Udp.NoPorts",
    "IP_INHDR": "Ip.InHdrErrors",
    "PKT_TOO_BIG": "Ip.FragFails",
}


def counters(netns):
    """Return the IP counters of a namespace as `Group.Name` to value, as nstat reads them."""
    found = {}
    text = inside(
        netns,
        lambda: "".join(Path("/proc/thread-self/net", name).read_text() for name in ("snmp", "netstat")),
    )
    lines = text.splitlines()
    for keys, values in zip(lines[::2], lines[1::2], strict=True):
        group, _, names = keys.partition(":")
        numbers = values.partition(":")[2].split()
        found |= {f"{group}.{key}": int(value) for key, value in zip(names.split(), numbers, strict=True)}
    return found


def expected_changes(step, changed):
    """Return how counters must have changed after a step: (namespace, counter) to number."""
    changes = Counter()
    exact = [(leg.path,) for leg in step.expect.legs if leg.exact]
    for paths in (step.expect.paths, step.expect.replies, *exact):
        everywhere = (
            [hop for hop in paths[0] if all(hop.netns in {h.netns for h in path} for path in paths)]
            if paths
            else []
        )
        for hop in everywhere:
            if hop.verdict == "forward" and hop.rule is not None:  # a bridge does not count
                changes[hop.netns, FORWARDED] += step.packets
            elif hop.reason in COUNTERS:
                changes[hop.netns, COUNTERS[hop.reason]] += step.packets
                # Counted as forwarded before it is found too big (6.18); kernels differ in that.
                if hop.reason == "PKT_TOO_BIG" and changed.get((hop.netns, FORWARDED)):
                    changes[hop.netns, FORWARDED] += step.packets
    return changes


@pytest.mark.parametrize("name", NAMES)
def test_traffic_of_each_lab_goes_where_it_says(name, before):
    """Every program reports what the lab says, the kernel's counters agree, and nothing is left."""
    skip_where_impossible(name)
    with engine.running(name) as running:
        assert set(running.namespaces) == {ns.name for ns in running.lab.namespaces}
        last = {ns: counters(ns) for ns in running.namespaces}
        seen = 0
        for result in running.traffic():
            assert result.ok, f"{result.step.label}: exit {result.code}, printed {result.output}"
            now = {ns: counters(ns) for ns in running.namespaces}
            if result.step.packets is not None:
                changed = {
                    (ns, key): now[ns][key] - last[ns][key]
                    for ns in now
                    for key in (FORWARDED, *COUNTERS.values())
                    if now[ns][key] != last[ns][key]
                }
                wanted = expected_changes(result.step, changed)
                # Which uplink each packet takes is open, and so is what VPNs say to each other besides.
                open_ones = (
                    {"a", "b"} if len(result.step.expect.paths) > 1 else {"r"} if running.lab.own else set()
                )
                spread = {key for key in (*changed, *wanted) if key[0] in open_ones}
                assert {k: v for k, v in changed.items() if k not in spread} == {
                    k: v for k, v in wanted.items() if k not in spread
                }, result.step.label
            last = now
            seen += 1
        assert seen == len(running.lab.steps)
    assert_nothing_left(before)


def route_get(hop: Hop, flow: Flow, *options):
    """Ask the kernel where a packet goes from here; returns (answer, error text)."""
    words = ["ip", "-json", "-netns", hop.netns, "route", "get", *options, flow.dst]
    if hop.in_dev:
        words += ["from", str(flow.src), "iif", hop.inner_in_dev]
    elif flow.src:
        words += ["from", flow.src]
    words += ["uid", str(flow.uid)] if flow.uid else []
    words += ["mark", str(flow.mark)] if flow.mark else []
    words += ["tos", hex(flow.tos)] if flow.tos else []
    words += (
        ["ipproto", flow.proto] if flow.proto in {"udp", "tcp", "icmp"} else []
    )  # no others can be asked for
    for key, port in (("sport", flow.sport), ("dport", flow.dport)):
        words += [key, str(port)] if port and flow.proto != "icmp" else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (json.loads(done.stdout)[0] if done.returncode == 0 else None), done.stderr.strip()


def is_decided_by_tables(hop):
    """Tell hops that `ip route get` can be asked about from copies, multicast and limited broadcast."""
    if hop.prefix == "224.0.0.0/4":
        return False  # fibmatch answers EHOSTUNREACH: __mkroute_output forgets the route of a multicast
    return hop.rule is not None or hop.error is not None or hop.reason == "IP_INNOROUTES"


def check_hop(step, hop, flow):
    """Compare one hop with what the kernel answers for the same packet."""
    answer, complaint = route_get(hop, flow, "fibmatch")
    refused = hop.error or (
        hop.verdict == "drop" and hop.reason not in {"IP_INHDR", "PKT_TOO_BIG", "NO_SOCKET"}
    )
    if refused:
        number = errno.ENETUNREACH
        if hop.error:
            number = getattr(errno, hop.error)
        elif hop.reason == "IP_RPFILTER":
            # Since 6.16 the kernel answers EINVAL for every drop with a reason of its own.
            number = errno.EXDEV if os.strerror(errno.EXDEV) in complaint else errno.EINVAL
        elif hop.reason == "NOT_SPECIFIED":
            number = REFUSALS[step.label.split()[0]]
        assert os.strerror(number) in complaint, (step.label, hop, answer)
        return
    assert answer is not None, (step.label, hop, complaint)
    # Before a first rule is made the kernel walks one trie for both and says main.
    local = answer.get("type") in {"local", "broadcast"}
    named = answer.get("table", "main")
    built_in = {"local": LOCAL, "main": LOCAL if local else MAIN}
    table = built_in.get(named) or int(named)
    assert table == hop.table, (step.label, hop, answer)
    wanted = hop.prefix.removesuffix("/32").replace("0.0.0.0/0", "default")
    assert answer["dst"] == wanted, (step.label, hop, answer)
    if hop.verdict in {"forward", "send"}:
        ways = answer.get("nexthops", [answer])
        assert (hop.gateway, hop.inner_out_dev) in [(way.get("gateway"), way["dev"]) for way in ways], (
            step.label,
            hop,
        )


def reverse(flow):
    """Return the flow of the answers."""
    return replace(flow, src=flow.dst, dst=flow.src, sport=flow.dport, dport=flow.sport, mark=0, tos=0, uid=0)


def chosen_source(step, hop, flow):
    """Return the source address of a packet: the flow's, or what the kernel chooses where it is sent."""
    if flow.src or hop.error:
        return flow.src
    if hop.rule is None:
        return CLIENT
    answer, complaint = route_get(hop, flow)
    assert answer is not None, (step.label, complaint)
    return answer["prefsrc"]


def ask_about(step, paths, packet):
    """Compare every hop of these paths with what the kernel answers; returns how many."""
    hops = [hop for path in paths for hop in path if is_decided_by_tables(hop)]
    for hop in hops:
        # A mark and a user are known where they were given, nowhere else.
        here = packet if hop is paths[0][0] else replace(packet, mark=0, uid=0)
        seen = replace(hop.flow, src=hop.flow.src or packet.src) if hop.flow else here
        check_hop(step, hop, seen)
    return len(hops)


@pytest.mark.parametrize("name", NAMES)
def test_expected_decisions_are_those_of_the_kernel(name):
    """For every hop a lab expects, `ip route get` with the packet as it is there gives the same route."""
    skip_where_impossible(name)
    asked = 0
    with engine.running(name) as running:
        for step in running.lab.steps:
            if step.flow is None:
                continue
            for leg in step.expect.legs:
                asked += ask_about(step, (leg.path,), leg.flow)
            if step.expect.legs:
                continue
            flow = replace(step.flow, src=chosen_source(step, step.expect.paths[0][0], step.flow))
            # What answers a broadcast or a multicast has another address: of the replies' own first hop.
            answer = reverse(flow)
            if flow.dst.startswith(("239.", "255.", "10.1.0.255")):
                answer = replace(answer, src="10.1.0.3")
            if step.expect.reply_icmp:
                answer = Flow(flow.src, proto="icmp")
                answer = replace(answer, src=chosen_source(step, step.expect.replies[0][0], answer))
            for paths, packet in ((step.expect.paths, flow), (step.expect.replies, answer)):
                asked += ask_about(step, paths, packet)
    assert asked >= 10
