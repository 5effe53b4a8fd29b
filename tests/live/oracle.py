"""Every decision asked again: `ip route get` with the same selectors in the same namespace, and compared."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.live.tracing import Decision, Row, Seen
from tracer.lab.netns import inside

_LOCAL, _MAIN, _LOOPBACK, _IPV4 = 255, 254, 1, 4
_COMPARED = ("table_id", "walked_table_id", "prefix", "gateway", "dev", "route_type")
# What `ip route get` answers where no route is found, by what decided.
_ERRORS = {
    "no route": {"Network is unreachable"},
    "blackhole": {"Invalid argument"},
    "unreachable": {"No route to host"},
    "prohibit": {"Permission denied"},
}
# A rule `unreachable` is not a route `unreachable`: fib4_rule_action() and fib_props[] differ.
_RULE_ERRORS = _ERRORS | {"unreachable": {"Network is unreachable"}}


@dataclass(frozen=True)
class Question:
    """One distinct question with what fibtrace says the answer is."""

    netns: str
    family: int
    words: tuple[str, ...]
    said: tuple[tuple[str, Any], ...]


@dataclass
class Comparison:
    """What came out: decisions compared, distinct questions, differences in words, and what was not asked."""

    compared: int = 0
    asked: int = 0
    differ: list[str] = field(default_factory=list)
    not_asked: Counter[str] = field(default_factory=Counter)

    def add(self, other: Comparison) -> None:
        """Sum up."""
        self.compared += other.compared
        self.asked += other.asked
        self.differ += other.differ
        self.not_asked += other.not_asked

    def __str__(self) -> str:
        lines = [f"{self.compared} decisions compared with ip route get, {len(self.differ)} differ"]
        lines += [f"  ({self.asked} distinct questions)"]
        lines += [f"  not asked: {number} {why}" for why, number in sorted(self.not_asked.items())]
        return "\n".join([*lines, *dict.fromkeys(self.differ)])


def compare(paths: Iterable[Seen], namespaces: list[str]) -> Comparison:
    """Ask about every decision that lookups were seen of; the namespaces must be as they were then.

    Their rp_filter is switched off: else the source check of our own question would answer it. Source checks
    are questions of their own here.
    """
    worlds = {
        name: _World(_devices(name), _rules_ask_for_origin(name), _addresses(name)) for name in namespaces
    }
    for name in namespaces:
        inside(name, _no_source_checks)
    result, questions = Comparison(), Counter()
    for path in paths:
        for hop in path.hops:
            for decision in hop.decisions:
                if decision.cached or hop.netns not in worlds:
                    continue
                question = _question(hop.netns, decision, worlds[hop.netns])
                if isinstance(question, str):
                    result.not_asked[question] += 1
                else:
                    questions[question] += 1
    result.compared, result.asked = questions.total(), len(questions)
    for place in dict.fromkeys((question.netns, question.family) for question in questions):
        _ask(*place, {q: n for q, n in questions.items() if (q.netns, q.family) == place}, result)
    return result


def _devices(netns: str) -> dict[int, str]:
    links = json.loads(_ip(netns, "-json", "link", "show").stdout)
    return {link["ifindex"]: link["ifname"] for link in links}


def _addresses(netns: str) -> frozenset[str]:
    links = json.loads(_ip(netns, "-json", "address", "show").stdout)
    return frozenset(address["local"] for link in links for address in link.get("addr_info", ()))


def _no_source_checks() -> None:
    for path in Path("/proc/sys/net/ipv4/conf").glob("*/rp_filter"):
        path.write_text("0")


def _ip(netns: str, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "-n", netns, *words], input=text, capture_output=True, text=True, check=False
    )


def _rules_ask_for_origin(netns: str) -> bool:
    rules = json.loads(_ip(netns, "-json", "rule", "show").stdout)
    return any("iif" in rule or rule["src"] != "all" for rule in rules)


def _is_set(address: str) -> bool:
    return not ipaddress.ip_address(address).is_unspecified


@dataclass(frozen=True)
class _World:
    """Of a namespace: its devices by index, whether its rules ask where a packet came from, and its addresses."""

    devices: dict[int, str]
    origin_matters: bool
    addresses: frozenset[str]


def _question(netns: str, decision: Decision, world: _World) -> Question | str:
    """The words of `ip route get`, or why it cannot be asked."""
    won, last = decision.won, decision.row
    if decision.purpose not in {"input", "output", "source-check"}:
        return f"of purpose {decision.purpose}"
    if last is None:
        return "without a decision row"
    key = decision.lookups[0]
    target = ipaddress.ip_address(key["dst"])
    if target.is_multicast and (target.version == _IPV4 or key["iif"] != _LOOPBACK):
        return "to a multicast group, in IPv6 from a device: the kernel does not say the route"
    if key["dst"] == "255.255.255.255":
        return "to the limited broadcast: decided without the tables"
    # RTM_GETROUTE takes `iif` or `oif`, and no source of another host, for which a transparent socket takes and
    # answers packets: ask without the origin then.
    second_try = key["iif"] != _LOOPBACK and bool(key["oif"])
    foreign = key["iif"] == _LOOPBACK and key["src"] not in world.addresses | {"0.0.0.0"}
    if second_try or foreign:
        if world.origin_matters:
            what = (
                "with iif and oif (second try of a source check)"
                if second_try
                else "from another host's address"
            )
            return f"{what} where rules ask for the origin"
        key = key | {"iif": _LOOPBACK, "src": "0.0.0.0"}
    words = [key["dst"], *_selectors(key, world.devices)]
    said = {
        name: won[name] for name in ("table_id", "walked_table_id", "prefix", "gateway", "dev", "route_type")
    }
    by_rule = won["result"] == last["result"] and won["table_id"] is None
    said |= {"bound": bool(key["oif"]), "result": last["result"], "by_rule": by_rule}
    return Question(netns, key["family"], tuple(words), tuple(said.items()))


def _selectors(key: Row, devices: dict[int, str]) -> list[str]:
    words = ["from", key["src"]] if _is_set(key["src"]) else []
    if key["iif"] != _LOOPBACK:
        words += ["iif", devices[key["iif"]]]
    if key["oif"]:
        words += ["oif", devices[key["oif"]]]
    for name in ("mark", "tos"):
        words += [name, hex(key[name])] if key[name] else []
    words += ["ipproto", key["proto"]] if key["proto"] else []
    if key["proto"] in {"tcp", "udp"}:
        words += [w for name in ("sport", "dport") if key[name] for w in (name, str(key[name]))]
    if key["iif"] == _LOOPBACK:
        words += ["uid", str(key["uid"])]
    return words


def _ask(netns: str, family: int, questions: dict[Question, int], result: Comparison) -> None:
    order = list(questions)
    full = _batch(netns, family, [("fibmatch", *question.words) for question in order])
    plain = _batch(netns, family, [question.words for question in order])
    listed: dict[int, list[Row]] = {}
    for question, route, way in zip(order, full, plain, strict=True):
        said = dict(question.said)
        for wrong in _differences((netns, family), said, (route, way), listed):
            line = f"{netns}: ip route get {' '.join(question.words)}: {wrong}; fibtrace says {said}"
            result.differ += [line] * questions[question]


def _batch(netns: str, family: int, lines: list[tuple[str, ...]]) -> list[Row | str]:
    """The answers to `route get` lines: the route, or the words of the error."""
    text = "\n".join("route get " + " ".join(words) for words in lines) + "\n"
    done = _ip(netns, f"-{family}", "-json", "-force", "-batch", "-", text=text)
    failed: dict[int, str] = {}
    words: list[str] = []
    for line in done.stderr.splitlines():
        if match := re.fullmatch(r"Command failed -:(\d+)", line):
            failed[int(match[1]) - 1] = " ".join(words)
            words = []
        else:
            words.append(line)
    answers = iter(_objects(done.stdout))
    return [failed[i] if i in failed else next(answers)[0] for i in range(len(lines))]


def _objects(text: str) -> list[Any]:
    decoder, at, found = json.JSONDecoder(), 0, []
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        item, at = decoder.raw_decode(text, at)
        if item:
            found.append(item)
    return found


def _differences(
    place: tuple[str, int], said: Row, answers: tuple[Row | str, Row | str], listed: dict[int, list[Row]]
) -> list[str]:
    """In what the kernel's answers differ from what fibtrace says."""
    result, (route, way) = said["result"], answers
    errors = (_RULE_ERRORS if said["by_rule"] else _ERRORS).get(result)
    if result == "no route" and said["bound"]:
        # ip_route_output_key_hash_rcu() then takes the destination to be on that link: fibmatch has no route.
        errors = errors | {"No route to host"}
    if errors is not None:
        agrees = isinstance(route, str) and any(words in route for words in errors)
        return [] if agrees else [f"the kernel: {route}"]
    if isinstance(route, str):
        return [f"the kernel: {route}"]
    found = _route_differences(said, route, way)
    if not _is_listed(place, said, _as_ip(said["prefix"]), listed):
        found.append(f"`ip route show table {said['table_id']}` has no {said['route_type']} {said['prefix']}")
    return found


def _route_differences(said: Row, route: Row, way: Row | str) -> list[str]:
    kind = route.get("type", "unicast")
    wanted = {
        "type": (said["route_type"], kind),
        "result": (said["result"], kind),
        "table": (said["walked_table_id"], _table_number(route, merged=said["walked_table_id"] == _MAIN)),
        "prefix": (_as_ip(said["prefix"]), route["dst"]),
    }
    found = [f"{name} {theirs}" for name, (ours, theirs) in wanted.items() if ours != theirs]
    ways = [_nexthop(item) for item in route.get("nexthops", [route])]
    if (said["gateway"], said["dev"]) not in ways:
        found.append(f"nexthops {ways}")
    if isinstance(way, str):
        found.append(f"without fibmatch: {way}")
    elif kind == "unicast" and len(ways) == 1 and _nexthop(way) != ways[0]:
        found.append(f"without fibmatch {_nexthop(way)}")
    return found


def _nexthop(route: Row) -> tuple[str | None, str | None]:
    return route.get("gateway") or route.get("via", {}).get("host"), route.get("dev")


def _as_ip(prefix: str | None) -> str | None:
    if not prefix:
        return None
    net = ipaddress.ip_network(prefix)
    return "default" if not net.prefixlen else prefix.removesuffix(f"/{net.max_prefixlen}")


def _table_number(route: Row, *, merged: bool) -> int:
    """The table of an answer: `ip route get` names neither main, nor local for local and broadcast routes."""
    name = route.get("table")
    if name is None:
        return _LOCAL if route.get("type") in {"local", "broadcast"} and not merged else _MAIN
    return {"local": _LOCAL, "main": _MAIN, "default": 253}.get(name) or int(name)


def _is_listed(place: tuple[str, int], said: Row, prefix: str | None, listed: dict[int, list[Row]]) -> bool:
    """Whether the owning table holds such a route: `ip route get` cannot say while local and main are merged."""
    table, (netns, family) = said["table_id"], place
    if table not in listed:
        words = (f"-{family}", "-json", "route", "show", "table", str(table))
        listed[table] = json.loads(_ip(netns, *words).stdout or "[]")
    kind = said["route_type"]
    return any(r["dst"] == prefix and r.get("type", "unicast") == kind for r in listed[table])


def write_summary(comparison: Comparison) -> None:
    """Leave the outcome where FIBTRACE_ORACLE says, for who sums up a whole run."""
    target = os.environ.get("FIBTRACE_ORACLE")
    if target:
        Path(target).write_text(f"{comparison}\n")
