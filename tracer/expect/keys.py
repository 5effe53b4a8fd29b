"""The keys of patterns: how each value is written, and what it is compared with."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from tracer.correlate.callers import PURPOSE_NAMES
from tracer.enrich.names import system_names
from tracer.expect.terms import Alternative, Term, show
from tracer.model.columns import ROLES, VERDICTS

RESULTS: Final = ("hit", "miss", "throw", "unreachable", "prohibit", "blackhole", "suppressed")
ROUTE_TYPES: Final = (
    "unicast", "local", "broadcast", "anycast", "multicast",
    "blackhole", "unreachable", "prohibit", "throw", "nat",
)  # fmt: skip
_PURPOSES: Final = tuple(name for name in PURPOSE_NAMES.values() if name)
_DEFAULTS: Final = {"0.0.0.0/0", "::/0"}
_DEVICE_LENGTH: Final = 15  # IFNAMSIZ, without the 0 at its end
_COMM_LENGTH: Final = 15  # TASK_COMM_LEN
_PORTS: Final = 0xFFFF
_U32: Final = 0xFFFFFFFF
_PROTOCOLS: Final = 255

Reader: TypeAlias = Callable[[str, Any], tuple[Alternative, ...]]
"""Makes the alternatives of one written value; raises ValueError that says what would do."""


def make_term(key: str, written: Any, readers: Mapping[str, Reader]) -> Term:
    """The term of a key; a list is "any of these". Raises ValueError in words."""
    values = written if isinstance(written, list | tuple) else [written]
    if not values:
        raise ValueError("an empty list: nothing could fulfil it")
    alternatives = tuple(found for value in values for found in readers[key](key, value))
    return Term(key, " or ".join(show(None if value is False else value) for value in values), alternatives)


def _exactly(field: str, value: Any) -> Alternative:
    return Alternative(field, lambda seen: bool(seen == value))


def _text(_: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{show(value)} is not a text in quotes")
    return value


def _whole(value: Any, largest: int, smallest: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{show(value)} is not a whole number")  # noqa: TRY004 - told as a wrong value
    if not smallest <= value <= largest:
        raise ValueError(f"{value} is not between {smallest} and {largest}")
    return value


def one_of(choices: tuple[str, ...]) -> Reader:
    """A word of a closed set."""

    def read(key: str, value: Any) -> tuple[Alternative, ...]:
        if value not in choices:
            raise ValueError(f"{show(value)} is none of {', '.join(choices)}")
        return (_exactly(key, value),)

    return read


def part(key: str, value: Any) -> tuple[Alternative, ...]:
    """A part of a text; capitals make no difference."""
    wanted = _text(key, value).lower()
    return (Alternative(key, lambda seen: wanted in str(seen).lower()),)


def device(key: str, value: Any) -> tuple[Alternative, ...]:
    """The name of a device."""
    name = _text(key, value)
    if len(name.encode()) > _DEVICE_LENGTH or "/" in name:
        raise ValueError(f"{show(name)} cannot be the name of a device: it has 1 to 15 bytes and no /")
    return (_exactly(key, name),)


def process(_: str, value: Any) -> tuple[Alternative, ...]:
    """The name of a process; the kernel keeps its first 15 bytes."""
    return (_exactly("comm", _text("comm", value).encode()[:_COMM_LENGTH].decode(errors="replace")),)


def optional(reader: Reader) -> Reader:
    """Also `false`: there is none."""

    def read(key: str, value: Any) -> tuple[Alternative, ...]:
        return (Alternative(key, None),) if value is False else reader(key, value)

    return read


def number(largest: int, smallest: int = 0) -> Reader:
    """A whole number."""
    return lambda key, value: (_exactly(key, _whole(value, largest, smallest)),)


def boolean(key: str, value: Any) -> tuple[Alternative, ...]:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise ValueError(f"{show(value)} is not true or false")  # noqa: TRY004 - told as a wrong value
    return (_exactly(key, value),)


def namespace(_: str, value: Any) -> tuple[Alternative, ...]:
    """A network namespace by name or by inode number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (_exactly("netns_inode", _whole(value, 2 * _U32)),)
    name = _text("netns", value)
    by_inode = (_exactly("netns_inode", int(name)),) if name.isdecimal() else ()
    return (_exactly("netns", name), *by_inode)


def rule(_: str, value: Any) -> tuple[Alternative, ...]:
    """A rule by its preference, or by its text as `ip rule` prints it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (_exactly("rule", _whole(value, _U32)),)
    words = _text("rule", value).split()
    if len(words) == 1 and words[0].rstrip(":").isdecimal():
        return (_exactly("rule", _whole(int(words[0].rstrip(":")), _U32)),)
    return (Alternative("rule_text", lambda seen: str(seen).split() == words),)


def table(_: str, value: Any) -> tuple[Alternative, ...]:
    """A table by name or number; a name of this machine also finds its number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (_exactly("table_id", _whole(value, _U32, 1)),)
    name = _text("table", value)
    if name.isdecimal():
        return (_exactly("table_id", _whole(int(name), _U32, 1)),)
    return (_exactly("table", name),)


def prefix(key: str, value: Any) -> tuple[Alternative, ...]:
    """The matched prefix: `10.1.0.0/24`, an address, or `default`."""
    if value == "default":
        return (Alternative(key, lambda seen: seen in _DEFAULTS),)
    try:
        wanted = str(ipaddress.ip_network(_text(key, value)))
    except ValueError as error:
        raise ValueError(f"{show(value)} is not a prefix: {error}") from error
    return (_exactly(key, wanted),)


def address(key: str, value: Any) -> tuple[Alternative, ...]:
    """One address."""
    try:
        wanted = str(ipaddress.ip_address(_text(key, value)))
    except ValueError as error:
        raise ValueError(f"{show(value)} is not an address") from error
    return (_exactly(key, wanted),)


@lru_cache(4096)
def parsed(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as it was seen; the same ones come again and again."""
    return ipaddress.ip_address(str(text).partition("%")[0])


def within(*fields: str) -> Reader:
    """An address or a prefix; what was seen must lie in it."""

    def read(key: str, value: Any) -> tuple[Alternative, ...]:
        try:
            network = ipaddress.ip_network(_text(key, value), strict=False)
        except ValueError as error:
            raise ValueError(f"{show(value)} is not an address or prefix such as 10.1.0.0/24") from error

        def inside(seen: Any) -> bool:
            return parsed(seen) in network

        return tuple(Alternative(field, inside) for field in fields)

    return read


def port(*fields: str) -> Reader:
    """A port, or a range of ports in quotes: "8000-8080"."""

    def read(_: str, value: Any) -> tuple[Alternative, ...]:
        first, dash, last = str(value).partition("-") if isinstance(value, str) else (value, "", value)
        if dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= _PORTS:
            ports = range(int(first), int(last) + 1)
        else:
            ports = range(_whole(value, _PORTS), _whole(value, _PORTS) + 1)
        return tuple(Alternative(field, lambda seen: seen in ports) for field in fields)

    return read


def protocol(_: str, value: Any) -> tuple[Alternative, ...]:
    """An IP protocol by name or number."""
    names = system_names().ip_protocols
    if isinstance(value, int):
        wanted = _whole(value, _PROTOCOLS)
        return (_exactly("proto", names.get(wanted, str(wanted))),)
    name = _text("proto", value).lower()
    if name not in {known.lower() for known in names.values()}:
        raise ValueError(f"{show(value)} is no IP protocol such as tcp, udp, icmp, or a number below 256")
    return (Alternative("proto", lambda seen: str(seen).lower() == name),)


def mark(_: str, value: Any) -> tuple[Alternative, ...]:
    """A mark: a number, "0x1", or with a mask "0x10/0xf0"."""
    text, slash, mask_text = str(value).partition("/")
    try:
        wanted, mask = int(text, 0), int(mask_text, 0) if slash else _U32
        wanted, mask = _whole(wanted, _U32), _whole(mask, _U32)
    except ValueError as error:
        raise ValueError(f'{show(value)} is not a mark such as 1, "0x1" or "0x10/0xf0"') from error
    return (Alternative("mark", lambda seen: seen & mask == wanted & mask),)


def family(key: str, value: Any) -> tuple[Alternative, ...]:
    """4 or 6."""
    if value not in (4, 6):
        raise ValueError(f"{show(value)} is not 4 or 6")
    return (_exactly(key, value),)


PACKET_KEYS: Final[dict[str, Reader]] = {
    "src": within("src"), "dst": within("dst"), "host": within("src", "dst"), "proto": protocol,
    "sport": port("sport"), "dport": port("dport"), "port": port("sport", "dport"), "family": family,
}  # fmt: skip
"""Keys of a flow that must hold together, on one sight of the packet."""

PATH_KEYS: Final[dict[str, Reader]] = {
    "mark": mark, "tos": number(255), "netns": namespace, "iif": device, "oif": device, "role": one_of(ROLES),
    "comm": process, "pid": number(_U32), "uid": number(_U32), "table": table,
}  # fmt: skip
"""Keys of a flow that must each hold somewhere on the path."""

HOP_KEYS: Final[dict[str, Reader]] = {
    "netns": namespace, "role": one_of(ROLES), "in_dev": optional(device), "out_dev": optional(device),
    "verdict": one_of(VERDICTS), "reason": part, "comm": process, "outer": boolean,
}  # fmt: skip
"""Keys of a step that are about the packet's whole stay in a namespace."""

DECISION_KEYS: Final[dict[str, Reader]] = {
    "purpose": one_of(_PURPOSES), "rule": rule, "table": optional(table), "result": one_of(RESULTS),
    "prefix": optional(prefix), "gateway": optional(address), "dev": optional(device),
    "route_type": optional(one_of(ROUTE_TYPES)), "cached": boolean,
}  # fmt: skip
"""Keys of a step that are about one routing decision."""
