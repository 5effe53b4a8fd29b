"""The words of a filter → numbers: every name is resolved before anything is traced, or refused with what would do."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.correlate.callers import PURPOSE_NAMES, Purpose
from tracer.correlate.links import ICMPV6
from tracer.correlate.verdicts import Role
from tracer.enrich.filters import COMM_BYTES, FAMILIES, Prefix, Selection
from tracer.errors import BadRequest

if TYPE_CHECKING:
    from tracer.enrich.names import Names
    from tracer.model.network import Network

_PORT_MAX, _U32_MAX, _U32_DIGITS = 0xFFFF, 0xFFFFFFFF, 10
_PROTOCOLS = 256
_ICMPV6_NAMES = ("icmpv6", "icmp6", "ipv6-icmp")


@dataclass(frozen=True, slots=True)
class FilterWords:
    """The filter as typed; None is no filter."""

    src: str | None = None
    dst: str | None = None
    host: str | None = None
    proto: str | None = None
    port: int | None = None
    sport: int | None = None
    dport: int | None = None
    iif: str | None = None
    oif: str | None = None
    netns: str | None = None
    pid: int | None = None
    comm: str | None = None
    unit: str | None = None
    uid: int | None = None
    mark: str | None = None
    table: str | None = None
    role: str | None = None
    drops: bool = False
    family: int | None = None
    purpose: str | None = None

    @property
    def given(self) -> bool:
        """Whether anything is filtered at all."""
        return any(getattr(self, item.name) not in {None, False} for item in fields(self))


def resolve(words: FilterWords, network: Network, names: Names) -> Selection:
    """Resolve every name; raises BadRequest that says what does not exist and what would."""
    namespace = None if words.netns is None else _namespace(words.netns, network)
    inside = None if namespace is None else {namespace}
    selection = Selection(
        src=_prefix("--src", words.src),
        dst=_prefix("--dst", words.dst),
        host=_prefix("--host", words.host),
        proto=None if words.proto is None else _protocol(words.proto, names),
        port=_number("--port", words.port, _PORT_MAX),
        sport=_number("--sport", words.sport, _PORT_MAX),
        dport=_number("--dport", words.dport, _PORT_MAX),
        iif=None if words.iif is None else _devices("--iif", words.iif, network, inside),
        oif=None if words.oif is None else _devices("--oif", words.oif, network, inside),
        netns=namespace,
        pid=_number("--pid", words.pid, _U32_MAX),
        comm=None if words.comm is None else _comm(words.comm),
        unit=words.unit,
        uid=_number("--uid", words.uid, _U32_MAX),
        mark=None if words.mark is None else _mark(words.mark),
        table=None if words.table is None else _table(words.table, names),
        role=None
        if words.role is None
        else _choice("--role", words.role, {r.name.lower(): r for r in Role if r}),
        drops=words.drops,
        family=words.family,
        purpose=None if words.purpose is None else _purpose(words.purpose),
    )
    if words.family not in {None, *FAMILIES}:
        raise BadRequest(f"--family {words.family}: there is 4 and 6")
    versions = {
        prefix.version for prefix in (selection.src, selection.dst, selection.host) if prefix is not None
    }
    if len(versions | ({selection.family} if selection.family else set())) > 1:
        raise BadRequest("the prefixes of the filter are of both address families: no packet can match")
    return selection


def _prefix(option: str, text: str | None) -> Prefix | None:
    if text is None:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise BadRequest(
            f"{option} {text}: not an address or prefix\n  try: 10.1.0.0/24 or 10.1.0.2"
        ) from error


def _number(option: str, value: int | None, largest: int) -> int | None:
    if value is not None and not 0 <= value <= largest:
        raise BadRequest(f"{option} {value}: must be between 0 and {largest}")
    return value


def _protocol(text: str, names: Names) -> int:
    if text in map(str, range(_PROTOCOLS)):
        return int(text)
    known = {name.lower(): number for number, name in names.ip_protocols.items()}
    known |= dict.fromkeys(_ICMPV6_NAMES, ICMPV6)
    if text.lower() not in known:
        raise BadRequest(f"--proto {text}: no such IP protocol\n  try: tcp, udp, icmp, or a number below 256")
    return known[text.lower()]


def _mark(text: str) -> tuple[int, int]:
    value, slash, mask = text.partition("/")
    try:
        pair = int(value, 0), int(mask, 0) if slash else _U32_MAX
    except ValueError as error:
        raise BadRequest(f"--mark {text}: not a mark\n  try: 0x1 or 0x10/0xf0") from error
    if not all(0 <= number <= _U32_MAX for number in pair):
        raise BadRequest(f"--mark {text}: a mark has 32 bits")
    return pair


def _comm(text: str) -> str:
    """A process name as the kernel keeps it (TASK_COMM_LEN): its first 15 bytes."""
    return text.encode()[:COMM_BYTES].decode(errors="replace")


def _table(text: str, names: Names) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _U32_DIGITS and 0 < int(text) <= _U32_MAX:
        return int(text)
    known = {name: number for number, name in names.tables.items()}
    if text not in known:
        raise BadRequest(
            f"--table {text}: no such table\n  known by name: {', '.join(sorted(known))}; any number works"
        )
    return known[text]


def _choice(option: str, text: str, choices: dict[str, Any]) -> Any:
    if text not in choices:
        raise BadRequest(f"{option} {text}: there is {', '.join(choices)}")
    return choices[text]


def _purpose(text: str) -> Purpose:
    chosen: Purpose = _choice(
        "--purpose", text, {name: purpose for purpose, name in PURPOSE_NAMES.items() if name}
    )
    return chosen


def _namespace(text: str, network: Network) -> int:
    """A namespace by name, by the pid of a process in it, or by inode."""
    states = [state for state in (network.latest(inode) for inode in network.inodes()) if state]
    for state in states:
        if state.name == text or str(state.inode) == text:
            return state.inode
    if text.isdigit():
        try:
            return Path(f"/proc/{text}/ns/net").stat().st_ino
        except OSError as error:
            raise BadRequest(
                f"--netns {text}: no namespace has this inode, and no process this pid"
            ) from error
    known = ", ".join(sorted(state.name for state in states if state.name)) or "none"
    raise BadRequest(f"--netns {text}: no such network namespace\n  there is: {known}")


def _devices(option: str, text: str, network: Network, inside: set[int] | None) -> frozenset[tuple[int, int]]:
    """(namespace inode, ifindex) of every device of that name."""
    found, names = set(), set()
    for inode in network.inodes():
        state = network.latest(inode)
        if state is None or (inside is not None and inode not in inside):
            continue
        names |= {link.name for link in state.links.values()}
        found |= {(inode, link.ifindex) for link in state.links.values() if link.name == text}
    if not found:
        raise BadRequest(f"{option} {text}: no such device\n  there is: {', '.join(sorted(names))}")
    return frozenset(found)
