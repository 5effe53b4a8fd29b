"""The labs again in IPv6: the same topologies, traffic and paths, by translating what is written for IPv4.

`10.1.0.2/24` becomes `fd00:10:1::2/64`, and so on, wherever it stands: in addresses, routes, rules, programs and paths.
What IPv6 does otherwise is said beside each lab in `twin()`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import fields, is_dataclass, replace
from typing import Any

from tracer.lab.topology import Device, Flow, Hop, Lab, Link, Namespace, Step

_ADDRESS = re.compile(r"(?<![\d.])(\d+)\.(\d+)\.(\d+)\.(\d+)(?:/(\d+))?(:\d+)?(?![\d.])")
_LENGTHS = {"0": 0, "4": 8, "8": 32, "16": 48, "24": 64, "32": 128}
_GROUPS, _LOOPBACK = 239, 127
_OTHERS = {"0.0.0.0": "::", "224.0.0.0": "ff00::"}
_SYSCTLS = {"net.ipv4.fib_multipath_hash_policy": "net.ipv6.fib_multipath_hash_policy"}
"""Settings that both families have; what is not here, such as rp_filter, IPv6 has not."""
_KINDS = {"gre": "ip6gre"}
_MTU_AT_LEAST = 1300
"""Below 1280 a device has no IPv6."""


def address6(text: str) -> str:
    """The IPv6 address that stands for an IPv4 address: `10.1.0.2` is `fd00:10:1::2`."""
    first, second, third, fourth = text.split(".")
    if int(first) == _LOOPBACK:
        return "::1"
    if text in _OTHERS:
        return _OTHERS[text]
    if int(first) == _GROUPS:
        return f"ff05::{second}:{third}:{fourth}"
    return str(ipaddress.IPv6Address(f"fd00:{first}:{second}:{third}::{fourth}"))


def text6(text: str) -> str:
    """A text with every IPv4 address and prefix in it translated, and the names of protocols."""

    def translated(match: re.Match[str]) -> str:
        address, length, port = address6(".".join(match.group(1, 2, 3, 4))), match[5], match[6]
        if port:
            return f"[{address}]{port}"
        return address if length is None else f"{address}/{_LENGTHS[length]}"

    text = _ADDRESS.sub(translated, text)
    text = re.sub(r"\btable ip\b", "table ip6", re.sub(r"\bip (?=daddr|saddr)", "ip6 ", text))
    return re.sub(r"\bipproto icmp\b", "ipproto ipv6-icmp", text)


def twin(lab: Lab, *steps: Step, name: str = "") -> Lab:
    """The lab in IPv6, with these steps if any are given, else its own; named like it with a 6 behind."""
    if steps:
        lab = replace(lab, steps=steps)
    made: Lab = _translated(lab)
    return replace(made, name=name or f"{lab.name}6", summary=f"{made.summary}, in IPv6", family=6)


def _translated(value: Any) -> Any:
    if isinstance(value, str):
        return text6(value)
    if isinstance(value, tuple):
        return tuple(_translated(item) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed = {item.name: _translated(getattr(value, item.name)) for item in fields(value)}
    return _adapted(replace(value, **changed))


def _adapted(made: Any) -> Any:
    """What is not only a matter of addresses."""
    if isinstance(made, Flow) and made.proto == "icmp":
        made = replace(made, proto="ipv6-icmp")
    elif isinstance(made, Device):
        made = replace(made, kind=_KINDS.get(made.kind, made.kind))
    elif isinstance(made, Link) and made.mtu:
        made = replace(made, mtu=max(made.mtu, _MTU_AT_LEAST))
    elif isinstance(made, Namespace):
        kept = tuple((_SYSCTLS[key], text) for key, text in made.sysctls if key in _SYSCTLS)
        made = replace(made, sysctls=kept)
    return made


def ending(step: Step, told: str = "", **changes: Any) -> Step:
    """The step whose packets end otherwise: its last hop changed, and what the sender is told (`icmp ERRNO`)."""
    paths = tuple((*path[:-1], _changed(path[-1], changes)) for path in step.expect.paths)
    reported = re.sub(r"icmp E\w+", told, step.reported or "") if told else step.reported
    return replace(step, expect=replace(step.expect, paths=paths), reported=reported)


def _changed(hop: Hop, changes: dict[str, Any]) -> Hop:
    return replace(hop, **changes) if changes else hop
