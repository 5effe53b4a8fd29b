"""Random configurations in a throw-away namespace: what the kernel answers against what our model says."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import platform
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.live import rtnl
from tests.live.mutations import report
from tests.live.random_configs import Config, configs
from tests.live.random_networks import DEVICES, FIRST, OBJECTS
from tracer.enrich import decode, netns
from tracer.enrich.decide import Decision, decide
from tracer.enrich.names import Namespace
from tracer.enrich.netlink import parse
from tracer.enrich.selectors import FlowKey
from tracer.enrich.sources import hops_of_source
from tracer.enrich.watch import Watched
from tracer.model.network import IPV4, NetworkState, Route

QUESTIONS = 60
# The kernel has one code for both refusals of the source check since 6.14.
REFUSALS = frozenset({18, 22})
# Ports that no rule names. A nexthop of a tenth of the weight is missed by all of them once in 10^20 times.
FIRST_PORT, PORTS, CHUNK = 20000, 448, 32
PREFERS_SOURCE = tuple(int(part) for part in platform.release().split(".")[:2]) >= (6, 16)
CREATE = rtnl.ACK | rtnl.CREATE | rtnl.EXCL


def _setup() -> str:
    lines = ["link set lo up", "addr add 192.0.2.1/32 dev lo", "addr add 2001:db8:f::1/128 dev lo nodad"]
    for number, device in enumerate(DEVICES):
        lines += [
            f"link add {device} index {FIRST + number} type veth peer name p{device}",
            f"link set {device} addrgenmode none",
            f"link set p{device} addrgenmode none",
            f"link set {device} up group {number}",
            f"addr add 10.{number}.0.1/24 dev {device}",
            f"addr add 2001:db8:{number}::1/64 dev {device} nodad",
            f"addr add fe80::{number + 1}/64 dev {device} nodad",
        ]
        if device != "e3":  # one device stays without carrier
            lines += [f"link set p{device} up"]
            for host in (3, 4, 5, 9):
                state = "failed" if host == 4 else "permanent lladdr 02:00:00:00:00:01"
                lines += [f"neigh add 2001:db8:{number}::{host} dev {device} nud {state}"]
    # The gateway of a network that is not the device's first: its own address there is the source.
    lines += [f"addr add 10.{number}.128.1/24 dev e{number}" for number in range(3)]
    lines += ["addr add 10.1.0.7/24 dev e1", "addr add 172.16.2.1 peer 172.16.2.2/32 dev e2"]
    lines += ["addr add 169.254.9.1/16 dev e0 scope link", "addr add 10.12.0.77/24 dev e2 scope host"]
    # Main stays in reach, or the kernel would refuse routes by gateways that it cannot look up.
    lines += ["rule flush", "rule add pref 32766 lookup main"]
    return "\n".join(lines) + "\n"


class World:
    """The namespace, and what of the last configuration is to be undone."""

    def __init__(self, name: str) -> None:
        path = f"/run/netns/{name}"
        self._name, self._values = name, dict[str, int]()
        self._fd = os.open(path, os.O_RDONLY)
        netns.run_in(self._fd, _quiet)
        self._ip("-batch", "-", text=_setup())
        self._ip("-6", "-batch", "-", text="rule flush\nrule add pref 32766 lookup main\n")
        self.rtnl = netns.run_in(self._fd, rtnl.Rtnl)
        bodies = [(rtnl.NEW_NEXTHOP, CREATE, rtnl.nexthop_body(item)) for item in OBJECTS]
        rtnl.expect_done(self.rtnl.send(bodies))
        self.watched = Watched(Namespace(os.fstat(self._fd).st_ino, name, path), {}, 1 << 20)

    def _ip(self, *words: str, text: str = "") -> None:
        command = ["ip", "-n", self._name, *words]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """Let go of the namespace."""
        self.rtnl.close()
        self.watched.close()
        os.close(self._fd)

    @contextlib.contextmanager
    def configured(self, config: Config) -> Iterator[NetworkState]:
        """The namespace with the configuration; what the kernel refuses of it is left out."""
        self._write(config)
        routes = [rtnl.route_body(route) for route in config.routes]
        rules = [rtnl.rule_body(rule) for rule in config.rules]
        made = self._make(rtnl.NEW_ROUTE, routes, rtnl.ACK | rtnl.CREATE | rtnl.APPEND)
        undo = [(rtnl.DEL_ROUTE, rtnl.ACK, routes[index]) for index in reversed(made)]
        gone = [rtnl.any_rule_body(config.rules[index]) for index in self._make(rtnl.NEW_RULE, rules, CREATE)]
        try:
            self.watched.load()
            yield self.watched.read_neighbours()
        finally:
            rtnl.expect_done(self.rtnl.send((rtnl.DEL_RULE, rtnl.ACK, body) for body in gone))
            if not all(rtnl.expect_done(self.rtnl.send(undo), errno.ESRCH)):
                # Of paths that were appended to one route the kernel may have taken others away.
                for family in ("-4", "-6"):
                    self._ip(family, "route", "flush", "table", "all", "proto", "static")

    def _make(self, kind: int, bodies: list[bytes], flags: int) -> list[int]:
        replies = self.rtnl.send((kind, flags, body) for body in bodies)
        return [index for index, reply in enumerate(replies) if not reply.error]

    def _write(self, config: Config) -> None:
        new = {name: value for name, value in config.sysctls if self._values.get(name) != value}
        if new:
            netns.run_in(
                self._fd, lambda: [Path("/proc/sys/net", n).write_text(str(v)) for n, v in new.items()]
            )
        self._values.update(new)

    def ask(self, flows: tuple[FlowKey, ...]) -> Iterator[tuple[FlowKey, Answer, Answer]]:
        """Each flow with the route that the kernel matches, and with what it does."""
        bodies = [rtnl.question_body(flow, fibmatch=match) for flow in flows for match in (True, False)]
        replies = self.rtnl.send((rtnl.GET_ROUTE, 0, body) for body in bodies)
        for flow, matched, done in zip(flows, replies[::2], replies[1::2], strict=True):
            yield flow, _answer(matched), _answer(done)


Answer = int | Route
"""A route, or the errno."""


def _quiet() -> None:
    for name, value in (
        ("ipv6/conf/all/accept_dad", 0), ("ipv6/conf/default/accept_dad", 0),
        ("ipv4/conf/all/rp_filter", 0), ("ipv4/conf/default/rp_filter", 0), ("ipv4/ip_forward", 1),
        ("ipv4/conf/all/send_redirects", 0), ("ipv4/conf/default/send_redirects", 0),
        ("ipv4/conf/all/accept_local", 0), ("ipv4/conf/all/src_valid_mark", 0),
        ("ipv6/conf/all/disable_ipv6", 0), ("ipv6/conf/default/disable_ipv6", 0),
        ("ipv4/fib_multipath_hash_policy", 1), ("ipv6/fib_multipath_hash_policy", 1),
        ("ipv6/conf/default/accept_ra", 0), ("ipv6/conf/default/router_probe_interval", 86400),
    ):  # fmt: skip
        Path("/proc/sys/net", name).write_text(str(value))


def _answer(reply: rtnl.Reply) -> Answer:
    if reply.error:
        return reply.error
    return decode.route(next(parse(reply.message)))


def differences(decided: Decision, flow: FlowKey, matched: Answer, done: Answer) -> list[str]:
    """In what the kernel's two answers differ from the model's one."""
    if decided.error or not isinstance(done, Route):
        return _wrong_error(decided, matched, done)
    found = _wrong_nexthop(decided, flow, done)
    route = decided.route
    if route is None:
        return found if matched == 113 else [*found, f"fibmatch {matched}, no route here"]
    if isinstance(matched, Route) and matched.family != IPV4 and route.nhid and matched.nhid:
        # IPv6 caches the result in the nexthop, not in the route: the kernel may name another route by the same.
        return found
    if not isinstance(matched, Route) or _values(matched) != _values(route):
        found.append(f"fibmatch {matched}, here {route}")
    return found


def _wrong_error(decided: Decision, matched: Answer, done: Answer) -> list[str]:
    error = -(decided.error or 0)
    refused = any(check.error for check in decided.checks)
    right = {error} | (REFUSALS if refused else set())
    return [
        f"{name} {answer}" for name, answer in (("fibmatch", matched), ("get", done)) if answer not in right
    ]


def _wrong_nexthop(decided: Decision, flow: FlowKey, done: Route) -> list[str]:
    found = []
    kind = done.type
    if kind != decided.type:
        found.append(f"type {kind}, here {decided.type}")
    used = [(hop.ifindex, hop.gateway) for hop in done.nexthops]
    if decided.verdict in {"send", "forward"} or (flow.family != IPV4 and flow.iif == 1):
        possible = {(hop.ifindex, hop.gateway) for hop in decided.nexthops}
        found += [] if set(used) <= possible and used else [f"nexthop {used}, here {possible}"]
    asked_source = flow.family == IPV4 and flow.iif == 1 and not flow.saddr and decided.source is not None
    if asked_source and (done.prefsrc or 0) != decided.source:
        found.append(f"source {done.prefsrc}, here {decided.source}")
    return found


def _values(route: Route) -> tuple[object, ...]:
    ways = sorted((hop.ifindex, hop.gateway, hop.weight) for hop in route.nexthops)
    own = (route.table, route.prefix, route.src, route.src_len, route.type, route.scope, route.metric)
    return (*own, route.tos, route.protocol, route.nhid, route.pref, ways)


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A namespace of our own."""
    name = f"fd-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        made = World(name)
        try:
            yield made
        finally:
            made.close()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def run(
    decisions: int, number: int, *, shrink: bool = True, counts: Counter[str] | None = None
) -> Counter[str]:
    """Compare so many decisions; what was found, by family and outcome. Fails with the smallest configuration."""
    counts = Counter() if counts is None else counts
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    with world() as place:
        while asked_of(counts) < decisions:
            rounds = -(-(decisions - asked_of(counts)) // QUESTIONS)
            options = settings(
                max_examples=rounds,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=phases,
                print_blob=False,
            )

            def compare(config: Config) -> None:
                _compare(place, config, counts)

            seed(number)(options(given(configs(QUESTIONS))(compare)))()
            number += 1
    return counts


def asked_of(counts: Counter[str]) -> int:
    """How many questions were asked."""
    return counts["compared"] + counts["IPv4 unknown"] + counts["IPv6 unknown"]


def _compare(place: World, config: Config, counts: Counter[str]) -> None:
    spread: dict[int, tuple[FlowKey, Decision]] = {}
    with place.configured(config) as state:
        for flow, matched, done in place.ask(config.flows):
            decided = decide(state, flow)
            family = "IPv4" if flow.family == IPV4 else "IPv6"
            if decided.error is None:
                counts[f"{family} unknown"] += 1
                continue
            counts["compared"] += 1
            wrong = differences(decided, flow, matched, done)
            assert not wrong, f"{flow}\n{wrong}\n{explained(decided)}"
            way = "input" if flow.iif != 1 else "output"
            counts[f"{family} {way} {decided.verdict}"] += 1
            if len(decided.nexthops) > 1 and isinstance(done, Route):
                spread[flow.family] = flow, decided
        for flow, decided in spread.values():
            wrong = never_used(place, state, flow, decided)
            assert not wrong, f"{flow}\n{wrong}\n{explained(decided)}"
            counts["nexthops of several, all seen"] += 1


def never_used(place: World, state: NetworkState, flow: FlowKey, decided: Decision) -> list[str]:
    """Which of several nexthops the kernel never chooses, though the flow's ports, which it hashes, vary."""
    possible = decided.nexthops
    if decided.route and flow.iif == 1 and PREFERS_SOURCE:
        possible = hops_of_source(state, decided.route, possible, flow.saddr)
    hops = {(hop.ifindex, hop.gateway) for hop in possible}
    seen: set[tuple[int, int]] = set()
    for start in range(FIRST_PORT, FIRST_PORT + PORTS, CHUNK):
        flows = tuple(flow._replace(sport=port) for port in range(start, start + CHUNK))
        same = tuple(one for one in flows if _outcome(decide(state, one)) == _outcome(decided))
        if not same:
            return []  # another rule is for these ports
        answers = [done for _, _, done in place.ask(same) if isinstance(done, Route)]
        seen.update((hop.ifindex, hop.gateway) for answer in answers for hop in answer.nexthops)
        if seen == hops:
            return []
    return [f"used {seen}, here {hops}"]


def _outcome(decided: Decision) -> tuple[object, ...]:
    return decided.verdict, decided.error, decided.nexthops


def explained(decided: Decision) -> str:
    """The model's walk, for who looks for the difference."""
    lines = [f"{decided.verdict} {decided.error} {decided.reason} {decided.nexthops}"]
    for walk in [decided.walk, *(check.walk for check in decided.checks)]:
        lines += [
            f"  {visit.rule.priority} {visit.outcome} {visit.lookup and visit.lookup.route}"
            for visit in (walk.visits if walk else ())
        ]
    return "\n".join(lines)


def main() -> int:
    """`scripts/differential`: prints the figures, exits with 1 at the first difference."""
    parser = argparse.ArgumentParser(prog="scripts/differential")
    parser.add_argument("--decisions", type=int, default=None)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 31))
    parser.add_argument("--mutations", action="store_true", help="make mistakes in the model: each is found")
    asked = parser.parse_args()
    if os.geteuid():
        print("error: not root: a namespace needs it\n  try: sudo scripts/differential", file=sys.stderr)
        return 3
    asked.decisions = asked.decisions or (5000 if asked.mutations else 100_000)
    started = time.monotonic()
    print(f"seed {asked.seed}, Linux {platform.release()}", flush=True)
    if asked.mutations:
        return report(asked)
    counts = run(asked.decisions, asked.seed)
    for name, count in sorted(counts.items()):
        print(f"  {name:24} {count:9,}")
    print(f"{counts['compared']:,} decisions compared, 0 differ, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
