"""Random configurations, asked of the kernel and of our model of it: no answer may differ."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from tracer.enrich.follower import Follower
from tracer.enrich.netlink import NetlinkError
from tracer.enrich.predict import predict, predict_merged
from tracer.enrich.rules import FlowKey, assign

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
NAME = f"fe-random{os.getpid()}"
SEED = int(os.environ.get("FIBTRACE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
DEVICES = ("e0", "e1", "e2", "e3")
TABLES = (100, 101, 102, 1000, 254)


def ip(*words, check=True):
    return subprocess.run(["ip", "-n", NAME, *words], capture_output=True, text=True, check=check)


@pytest.fixture
def namespace():
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    try:
        ip("link", "set", "lo", "up")
        for number, device in enumerate(DEVICES):
            ip("link", "add", device, "type", "veth", "peer", "name", f"p{device}")
            ip("link", "set", device, "up", "group", str(number))
            ip("addr", "add", f"10.{number}.0.1/24", "dev", device)
            if device != "e3":  # one device stays without carrier
                ip("link", "set", f"p{device}", "up")
        subprocess.run(
            [
                "ip",
                "netns",
                "exec",
                NAME,
                "sysctl",
                "-qw",
                "net.ipv4.ip_forward=1",
                "net.ipv4.conf.e3.ignore_routes_with_linkdown=1",
            ],
            check=True,
        )
        yield NAME
    finally:
        subprocess.run(["ip", "netns", "del", NAME], check=True)


def some(rng, chance, *words):
    return list(words) if rng.random() < chance else []


def prefix(rng):
    length = rng.choice((0, 8, 12, 16, 20, 24, 32))
    base = f"{rng.choice((10, 172, 198))}.{rng.randrange(4)}.{rng.choice((0, 1, 128))}.{rng.randrange(4)}"
    return str(ipaddress.ip_network(f"{base}/{length}", strict=False))


def hop(rng):
    device = rng.randrange(3)
    gateway = some(rng, 0.6, "via", f"10.{device}.0.{rng.randrange(2, 5)}")
    return [*gateway, "dev", DEVICES[device]]


def random_route(rng):
    kind = rng.choices(
        ("unicast", "multi", "down", "nhid", "throw", "blackhole", "unreachable", "prohibit"),
        (12, 2, 1, 2, 2, 1, 1, 1),
    )[0]
    words = [
        prefix(rng),
        "table",
        str(rng.choice(TABLES)),
        *some(rng, 0.5, "metric", str(rng.randrange(1, 4))),
    ]
    words += some(rng, 0.2, "tos", rng.choice(("0x04", "0x10", "0xb8")))
    if kind == "unicast":
        return [*words, *hop(rng)]
    if kind == "down":
        return [*words, "dev", "e3"]
    if kind == "nhid":
        return [*words, "nhid", str(rng.choice((1, 2, 3, 10)))]
    if kind == "multi":
        return [*words, "nexthop", *hop(rng), "weight", "2", "nexthop", *hop(rng)]
    return [kind, *words]


def random_rule(rng):
    words = ["pref", str(rng.randrange(1, 60)), *some(rng, 0.15, "not")]
    words += some(rng, 0.4, "from", rng.choice((prefix(rng), "10.0.0.0/14", "203.0.113.0/25")))
    words += some(rng, 0.3, "to", prefix(rng))
    words += some(rng, 0.2, "fwmark", rng.choice(("1", "0x2/0x3", "0/0x1")))
    words += some(rng, 0.15, "iif", rng.choice(("lo", *DEVICES, "absent")))
    words += some(rng, 0.1, "oif", rng.choice(DEVICES))
    words += some(rng, 0.15, "uidrange", rng.choice(("0-0", "1000-2000", "5-5")))
    words += some(rng, 0.15, "ipproto", rng.choice(("udp", "tcp", "icmp")))
    words += some(rng, 0.1, "sport", rng.choice(("1000-2000", "53")))
    words += some(rng, 0.1, "dport", rng.choice(("80", "443-500")))
    words += some(rng, 0.1, "tos", rng.choice(("0x04", "0x10")))
    action = rng.choices(
        ("lookup", "goto", "nop", "blackhole", "unreachable", "prohibit"), (20, 3, 1, 1, 1, 1)
    )[0]
    if action == "goto":
        return [*words, "goto", str(rng.randrange(60, 64))]
    if action != "lookup":
        return [*words, action]
    suppress = some(rng, 0.15, "suppress_prefixlength", rng.choice(("0", "8", "16")))
    suppress += some(rng, 0.1, "suppress_ifgroup", str(rng.randrange(1, 3)))
    return [*words, "lookup", str(rng.choice((*TABLES, 777))), *suppress]


def configure(rng, *, rules):
    """Fills the namespace anew; what the kernel refuses (a duplicate, a backward goto) is left out."""
    compat = (
        f"net.ipv4.nexthop_compat_mode={rng.randrange(2)}"  # whether a dump repeats what nexthop objects say
    )
    subprocess.run(["ip", "netns", "exec", NAME, "sysctl", "-qw", compat], check=True)
    lines = [f"route flush table {table}" for table in (*TABLES, 253)]
    lines += ["nexthop flush"]
    lines += [f"route add 10.{number}.0.0/24 dev e{number} proto kernel scope link" for number in range(4)]
    lines += [f"nexthop add id {number + 1} via 10.{number}.0.9 dev e{number}" for number in range(2)]
    lines += ["nexthop add id 3 blackhole", "nexthop add id 10 group 1,2/2,7"]
    if rules:
        lines += ["rule flush", "rule add pref 62 nop", "rule add pref 32766 lookup main"]
        lines += ["rule add pref 0 lookup local"] if rng.random() < 0.9 else ["rule add pref 40 lookup local"]
    lines += ["route add " + " ".join(random_route(rng)) for _ in range(25)]
    lines += ["rule add " + " ".join(random_rule(rng)) for _ in range(8 if rules else 0)]
    subprocess.run(
        ["ip", "-n", NAME, "-force", "-batch", "-"],
        input="\n".join(lines),
        text=True,
        capture_output=True,
        check=False,
    )


def random_flow(rng, links):
    destination = (
        f"{rng.choice((10, 10, 172, 198))}.{rng.randrange(4)}.{rng.choice((0, 1, 128))}.{rng.randrange(4)}"
    )
    proto = rng.choice((6, 17))
    flow = FlowKey(
        daddr=int(ipaddress.ip_address(destination)),
        mark=rng.choice((0, 0, 1, 2, 6)),
        proto=proto,
        sport=rng.choice((53, 1500)),
        dport=rng.choice((80, 450, 9)),
        tos=rng.choice((0, 0, 4, 16, 0xB8)),
    )
    if rng.random() < 0.4:
        device, source = links[rng.choice(DEVICES[:3])], f"203.0.113.{rng.randrange(256)}"
        return flow._replace(iif=device, saddr=int(ipaddress.ip_address(source)))
    source = f"10.{rng.randrange(4)}.0.1" if rng.random() < 0.5 else "0.0.0.0"
    oif = links[rng.choice(DEVICES[:3])] if rng.random() < 0.3 else 0
    return flow._replace(saddr=int(ipaddress.ip_address(source)), oif=oif, uid=rng.choice((0, 5, 1500)))


def kernel_answer(follower, inode, flow):
    try:
        route = follower.route_get(inode, flow)
    except NetlinkError as error:
        return -error.code
    return values_of(route)


def our_answer(prediction):
    route = prediction.route
    if route is None:
        return prediction.error
    return values_of(route)


def values_of(route):
    """All but the table: while the trie is merged the kernel calls a local route one of main."""
    hops = tuple((hop.ifindex, hop.gateway, hop.weight) for hop in route.nexthops)
    return (route.prefix, route.type, route.scope, route.metric, route.tos, route.protocol, route.nhid, hops)


def context(flow, prediction):
    """All one needs to understand a difference."""
    routes = ip("route", "show", "table", "all").stdout
    return f"seed {SEED}: {flow}\n{prediction}\n{ip('rule').stdout}{routes}"


def compare(rng, follower, inode, count, *, rules):
    """Asks `count` random flows; returns how many were compared and how many did not end in an error."""
    state = follower.network.latest(inode)
    links = {link.name: link.ifindex for link in state.links.values()}
    compared = found = 0
    for _ in range(count):
        flow = random_flow(rng, links)
        prediction = predict(state, flow) if rules else predict_merged(state, flow)
        ours, kernels = our_answer(prediction), kernel_answer(follower, inode, flow)
        if flow.oif and prediction.error:
            continue  # ip_route_output assumes that the destination is on the link
        assert ours == kernels, context(flow, prediction)
        check_assignment(state, flow, prediction, rules=rules)
        if rules and prediction.route:
            assert follower.fibmatch(inode, flow).table == prediction.route.table
        compared += 1
        found += prediction.error == 0
    return compared, found


def check_assignment(state, flow, prediction, *, rules):
    """The lookups that the walk gives are explained by the rules that made them."""
    answer = assign(state, flow, [lookup.observation for lookup in prediction.lookups])
    if not rules:
        assert not prediction.lookups or answer.consistent
        return
    assert answer.consistent
    for step, lookup in zip(answer.steps, prediction.lookups, strict=True):
        assert (step.rule, step.suppressed) == (lookup.rule, lookup.suppressed), f"seed {SEED}: {flow}"
    assert answer.final_rule == prediction.final_rule


def check_rounds(namespace, rounds, flows, *, rules):
    """Ask about so many flows after each of so many random configurations; returns how many had a route."""
    rng = random.Random(SEED)
    with Follower() as follower:
        inode = Path("/run/netns", namespace).stat().st_ino
        results = []
        for _ in range(rounds):
            configure(rng, rules=rules)
            follower.poll()
            results.append(compare(rng, follower, inode, flows, rules=rules))
    print(f"seed {SEED}: {sum(count for count, _ in results)} compared, 0 differ")
    return sum(found for _, found in results)


def test_the_merged_trie_answers_as_the_kernel(namespace):
    """Before any rule was added the kernel consults none; our one trie gives the same routes."""
    assert check_rounds(namespace, 5, 80, rules=False) > 60


def test_random_rules_and_routes_answer_as_the_kernel(namespace):
    """Rules, tables and routes of every kind: the same route or the same error for every flow."""
    assert check_rounds(namespace, 20, 100, rules=True) > 300


def test_fibmatch_is_what_ip_route_get_says(namespace):
    """Our own question to the kernel gives the prefix and the table that iproute2 gets."""
    rng = random.Random(SEED)
    configure(rng, rules=True)
    with Follower() as follower:
        inode = Path("/run/netns", namespace).stat().st_ino
        for _ in range(30):
            address = f"{rng.choice((10, 172, 198))}.{rng.randrange(4)}.0.{rng.randrange(4)}"
            answer = ip("-j", "route", "get", address, "fibmatch", check=False)
            ours = follower.fibmatch(inode, FlowKey(daddr=int(ipaddress.ip_address(address)), proto=17))
            with contextlib.suppress(json.JSONDecodeError):
                theirs = json.loads(answer.stdout)[0]["dst"]
                mine = "default" if not ours.dst_len else ours.prefix.removesuffix("/32")
                assert mine == theirs
                continue
            assert ours is None
