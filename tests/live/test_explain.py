"""`explain` beside `ip route get`: the same question in the same namespace has the same table, route and device."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import subprocess
import sys

import pytest

from tests.live.networks import lab, network, set_sysctls
from tracer.enrich.names import system_names
from tracer.enrich.question import parse
from tracer.explaining import ask

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore:not a bytes object"),
]  # bcc says so of text
SEED = int(os.environ.get("FIBTRACE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
ERRORS = {"unreachable": 113, "prohibit": 13, "blackhole": 22}
FIBTRACE = [sys.executable, "-m", "tracer.cli.main"]


def route_get(netns, words, *more):
    """What `ip route get` answers: the object of its JSON, or the text of its error."""
    command = ["ip", "-n", netns, "-j", "route", "get", *words.split(), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout)[0] if done.returncode == 0 else done.stderr.strip().splitlines()[0]


def table_number(name):
    return {name: number for number, name in system_names().tables.items()}.get(name, name)


def differences(netns, words):
    """The explanations of questions that are not what `ip route get` says, each in words."""
    questions = [parse([*item.split(), "netns", netns], system_names()) for item in words]
    return [said for item in ask(questions) if (said := difference(netns, item))]


def difference(netns, explanation):
    """In what an explanation differs from `ip route get`, empty if in nothing."""
    words = explanation.question.words
    answer = route_get(netns, words)
    if isinstance(answer, str):
        ours = (
            f"RTNETLINK answers: {os.strerror(explanation.answer.error)}"
            if explanation.answer.error
            else "a route"
        )
        return "" if answer == ours else f"{words}: ip says {answer}, we {ours}"
    (hop,) = explanation.path.hops
    deciding = next((made for made in hop.decisions if made.purpose in {"input", "output"}), None)
    if deciding is None or explanation.answer.error:
        return f"{words}: ip says {answer}, we {explanation.refused or explanation.note}"
    matched = route_get(netns, words, "fibmatch")
    if isinstance(matched, str):
        return f"{words}: no fibmatch: {matched}"
    won = deciding.lookups[-1]
    # The prefix, the table that owns the route and its type are fibmatch's; gateway and device those of the packet.
    expected = {
        "prefix": str(ipaddress.ip_network("::/0" if hop.netns and ":" in words else "0.0.0.0/0"))
        if matched["dst"] == "default"
        else str(ipaddress.ip_network(matched["dst"])),
        "table": str(table_number(answer.get("table", won.table_id))),
        "gateway": answer.get("gateway") or answer.get("via", {}).get("host"),
        "dev": answer["dev"] if answer.get("type", "unicast") != "local" else won.dev,
        "type": matched.get("type", "unicast"),
    }
    ours = {
        "prefix": won.prefix, "table": str(won.table_id), "gateway": won.gateway, "dev": won.dev,
        "type": won.route_type,
    }  # fmt: skip
    return "" if ours == expected else f"{words}: ip says {expected}, we {ours}"


POLICY_R = (
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto icmp",
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto udp dport 9000",
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto tcp dport 80",
    "10.2.0.2 from 10.1.0.3 iif r0",
    "10.2.0.2 from 10.1.0.2 iif r0 mark 1",
    "10.2.0.2 from 10.1.0.2 iif r0 mark 0xca6c",
    "10.2.0.2 from 10.1.0.2 iif r0 tos 0x10",
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto udp dport 5005",
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto udp sport 6003 dport 9",
    "10.2.0.2 from 10.1.0.4 iif r0",
    "10.2.0.2 from 10.1.0.5 iif r0",
    "10.2.0.2 from 10.4.0.2 iif r3",
    "10.1.0.1 from 10.1.0.2 iif r0",
    "10.1.0.2 from 10.2.0.2 iif r1",
    "10.1.0.77",
    "10.11.0.1",
    "192.0.2.1",
    "10.2.0.2 from 10.1.0.1 iif r0",
)
POLICY_C = (
    "10.2.0.2",
    "10.2.0.2 mark 7",
    "10.2.0.2 uid 1000",
    "10.2.0.2 from 10.1.0.3",
    "10.2.0.2 from 10.9.9.9",
)
DECIDING = {
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto icmp": 145,
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto udp dport 9000": 510,
    "10.2.0.2 from 10.1.0.3 iif r0": 100,
    "10.2.0.2 from 10.1.0.2 iif r0 mark 1": 110,
    "10.2.0.2 from 10.4.0.2 iif r3": 120,
    "10.2.0.2 from 10.1.0.2 iif r0 tos 0x10": 130,
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto udp dport 5005": 140,
    "10.2.0.2 from 10.1.0.2 iif r0 ipproto udp sport 6003 dport 9": 150,
    "10.2.0.2 from 10.1.0.4 iif r0": 170,
    "10.2.0.2 from 10.1.0.5 iif r0": 400,
    "10.1.0.2 from 10.2.0.2 iif r1": 500,
}


def test_the_policy_lab_case_by_case():
    """Every case of the lab has the route of `ip route get`, and the rule that the lab is made to show."""
    with lab("policy"):
        assert differences("r", POLICY_R) == []
        assert differences("c", POLICY_C) == []
        questions = [parse([*words.split(), "netns", "r"], system_names()) for words in DECIDING]
        decided = [item.path.hops[0].decisions[0] for item in ask(questions)]
    found = {words: made.lookups[-1].rule for words, made in zip(DECIDING, decided, strict=True)}
    assert found == DECIDING
    for made in decided:
        rules = [line for line in made.why if line.kind == "rule"]
        assert [line.lookup for line in rules if line.lookup is not None] == list(range(len(made.lookups)))
        assert all(line.matched is False and line.text for line in rules if line.result == "no")


def batch(netns, family, line):
    """Configure something of an address family."""
    command = ["ip", "-n", netns, family, *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}: {done.stderr}"


def random_net(rng, net):
    """Two devices, tables 100 to 102 with random routes, and random rules that lead there, of both families."""
    net.ip("a", "addr add 10.0.0.1/24 dev a0", "addr add 10.0.1.1/24 dev a1")
    net.ip("a", "addr add 2001:db8::1/64 dev a0 nodad", "addr add 2001:db8:0:1::1/64 dev a1 nodad")
    for family, gateways, prefixes in FAMILIES:
        for table in (100, 101, 102, 254):
            for prefix in rng.sample(prefixes, 3):
                kind = rng.choice(("", "", "", "unreachable ", "prohibit ", "blackhole ", "throw "))
                number = rng.randrange(2)
                way = "" if kind else f" via {gateways[number]} dev a{number}"
                batch(net["a"], family, f"route replace {kind}{prefix}{way} table {table}")
        for preference in rng.sample(range(10, 30000), 8):
            batch(net["a"], family, f"rule add pref {preference} {random_rule(rng, prefixes)}")


FAMILIES = (
    (
        "-4",
        ("10.0.0.2", "10.0.1.2"),
        ("172.16.0.0/12", "172.16.1.0/24", "172.16.1.1/32", "192.0.2.0/24", "0.0.0.0/0"),
    ),
    (
        "-6",
        ("2001:db8::2", "2001:db8:0:1::2"),
        ("fd00::/8", "fd00:1::/32", "fd00:1::1/128", "2001:db8:9::/48", "::/0"),
    ),
)
TARGETS = ("172.16.1.1", "172.16.1.9", "172.20.0.1", "192.0.2.5", "198.51.100.1", "10.0.0.77", "10.0.1.1")
TARGETS6 = ("fd00:1::1", "fd00:1::2", "fd00:2::1", "2001:db8:9::5", "2001:db8::77", "2001:db8:0:1::1")


def random_rule(rng, prefixes):
    selectors = [f"to {rng.choice(prefixes)}", f"fwmark {rng.randrange(1, 4)}", "iif lo", "ipproto udp", "uidrange 7-9",
                 "dport 53", "sport 1000-2000", "not fwmark 2", "iif a0"]  # fmt: skip
    action = rng.choice(
        ("lookup 100", "lookup 101", "lookup 102", "lookup 103", "lookup 101 suppress_prefixlength 12", "nop",
         "unreachable", "prohibit", "blackhole", "goto 32766")
    )  # fmt: skip
    return f"{rng.choice(selectors)} {action}"


def random_questions(rng, count):
    for _ in range(count):
        words = [rng.choice(TARGETS if rng.random() < 0.6 else TARGETS6)]
        if rng.random() < 0.3 and ":" not in words[0]:
            words += ["from", "10.0.0.9", "iif", "a0"]
        words += ["mark", str(rng.randrange(1, 4))] if rng.random() < 0.4 else []
        if rng.random() < 0.5:
            words += ["ipproto", rng.choice(("udp", "tcp")), "dport", rng.choice(("53", "80"))]
            words += ["sport", rng.choice(("1500", "3000"))]
        words += ["uid", "8"] if rng.random() < 0.2 and "iif" not in words else []
        yield " ".join(words)


@pytest.mark.parametrize("number", range(3))
def test_random_rules_and_tables(number):
    """What `explain` shows of random configurations of both families is what `ip route get` answers."""
    rng = random.Random(SEED + number)
    with network("ab", "a:a0 b:b0", "a:a1 b:b1") as net:
        set_sysctls(net["a"], "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.all.forwarding=1")
        random_net(rng, net)
        words = sorted(set(random_questions(rng, 60)))
        found = differences(net["a"], words)
    assert found == [], f"FIBTRACE_SEED={SEED}"
