"""A question in the words of `ip route get`: what is asked of which namespace, and the flow key that it stands for."""

from __future__ import annotations

import ipaddress
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.enrich.names import Names, Namespace, namespaces
from tracer.enrich.selectors import FlowKey
from tracer.errors import BadRequest
from tracer.model.network import IPV4, IPV6, NetworkState, address_text

if TYPE_CHECKING:
    from tracer.model.network import Link

LOOPBACK = 1
_U32_MAX, _PORT_MAX, _BYTE_MAX, _LABEL_MAX = 0xFFFFFFFF, 0xFFFF, 0xFF, 0xFFFFF
WORDS = (
    "to", "from", "iif", "oif", "vrf", "mark", "tos", "dsfield", "ipproto", "sport", "dport", "uid",
    "flowlabel", "netns",
)  # fmt: skip
_MEANT = (
    "DST [from SRC] [iif DEV] [oif DEV] [mark M] [tos T] [ipproto P] [sport N] [dport N] [uid U] [netns NS]"
)


@dataclass(frozen=True, slots=True)
class Question:
    """Where would such a packet go? Addresses are host-order integers, 0 for none; `uid` None is ours."""

    family: int
    dst: int
    src: int = 0
    iif: str = ""
    oif: str = ""
    mark: int = 0
    tos: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    uid: int | None = None
    flowlabel: int = 0
    netns: str = ""

    @property
    def words(self) -> str:
        """The question as it can be asked again, without the namespace."""
        parts = [address_text(self.family, self.dst)]
        parts += ["from", address_text(self.family, self.src)] if self.src else []
        for word in ("iif", "oif"):
            parts += [word, getattr(self, word)] if getattr(self, word) else []
        for word, value in (("mark", f"{self.mark:#x}"), ("tos", f"{self.tos:#04x}")):
            parts += [word, value] if getattr(self, word) else []
        for word, number in (("ipproto", self.proto), ("sport", self.sport), ("dport", self.dport)):
            parts += [word, str(number)] if number else []
        parts += ["uid", str(self.uid)] if self.uid is not None else []
        parts += ["flowlabel", f"{self.flowlabel:#x}"] if self.flowlabel else []
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """What JSON Lines have of it; `words` is how to ask it again."""
        return {"words": self.words, "family": 4 if self.family == IPV4 else 6, "netns": self.netns or None}

    def flow(self, state: NetworkState) -> FlowKey:
        """The selectors by which the kernel looks up. Raises BadRequest for a device that is not there."""
        return FlowKey(
            family=self.family, saddr=self.src, daddr=self.dst,
            iif=_ifindex("iif", self.iif, state) if self.iif else LOOPBACK,
            oif=_ifindex("oif", self.oif, state) if self.oif else 0,
            mark=self.mark, tos=self.tos, proto=self.proto, sport=self.sport, dport=self.dport,
            uid=0 if self.iif else (os.geteuid() if self.uid is None else self.uid),
        )  # fmt: skip


def _ifindex(word: str, name: str, state: NetworkState) -> int:
    link: Link | None = next((link for link in state.links.values() if link.name == name), None)
    if link is None:
        known = ", ".join(sorted(link.name for link in state.links.values()))
        raise BadRequest(
            f"{word} {name}: no such device in {state.name or 'this namespace'}\n  there is: {known}"
        )
    return link.ifindex


def parse(words: Sequence[str], names: Names) -> Question:
    """The question that some words ask. Raises BadRequest for a word or a value that does not exist."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key = {"dsfield": "tos", "vrf": "oif"}.get(word, word)
        if word not in WORDS:
            if "to" in found or word == "fibmatch":
                raise BadRequest(_unknown_word(word))
            key, value = "to", word
        elif not rest:
            raise BadRequest(f"{word}: its value is missing\n  try: fibtrace explain {_MEANT}")
        else:
            value = rest.pop(0)
        if key in found:
            raise BadRequest(f"{word} {value}: {key} is given twice")
        found[key] = value
    if "to" not in found:
        raise BadRequest(f"no destination is given\n  try: fibtrace explain {_MEANT}")
    return _question(found, names)


def _unknown_word(word: str) -> str:
    if word == "fibmatch":
        return "fibmatch: the route that matched is shown anyway\n  leave it out"
    return f"{word}: not a word of a question\n  there is: {', '.join(WORDS)}"


def _question(found: Mapping[str, str], names: Names) -> Question:
    dst = _address("to", found["to"])
    src = _address("from", found["from"]) if "from" in found else None
    if src is not None and src.version != dst.version:
        raise BadRequest(f"from {src}: not of the same family as {dst}")
    if "iif" in found and "oif" in found:
        raise BadRequest("iif and oif: a packet that comes in is not bound to a device\n  give one of them")
    question = Question(IPV4 if dst.version == 4 else IPV6, int(dst), int(src) if src else 0)  # noqa: PLR2004
    for word, (name, read) in _readers(names).items():
        if word in found:
            question = replace(question, **{name: read(word, found[word])})
    if question.flowlabel and question.family == IPV4:
        raise BadRequest("flowlabel: only IPv6 has one")
    return question


def _readers(names: Names) -> dict[str, tuple[str, Callable[[str, str], Any]]]:
    """Per word the field and how its value is read."""
    fields = {word: (word, _text) for word in ("iif", "oif", "netns")}
    return {
        **fields,
        "mark": ("mark", lambda word, text: _number(word, text, _U32_MAX)),
        "tos": ("tos", lambda word, text: _traffic_class(word, text, names)),
        "ipproto": ("proto", lambda word, text: _protocol(word, text, names)),
        "sport": ("sport", lambda word, text: _number(word, text, _PORT_MAX)),
        "dport": ("dport", lambda word, text: _number(word, text, _PORT_MAX)),
        "uid": ("uid", _user),
        "flowlabel": ("flowlabel", lambda word, text: _number(word, text, _LABEL_MAX)),
    }


def _text(_word: str, text: str) -> str:
    return text


def _address(word: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        network = None
    if network is not None and network.num_addresses == 1:
        return network.network_address
    raise BadRequest(
        f"{word} {text}: not an address\n  names and prefixes are not asked about: give one address"
    )


def _number(word: str, text: str, largest: int) -> int:
    try:
        value = int(text, 0)
    except ValueError as error:
        raise BadRequest(f"{word} {text}: not a number") from error
    if not 0 <= value <= largest:
        raise BadRequest(f"{word} {text}: must be between 0 and {largest}")
    return value


def _traffic_class(word: str, text: str, names: Names) -> int:
    """As iproute2 reads it: a name of rt_dsfield, else a hexadecimal number with or without 0x."""
    known = {name: value for value, name in names.dsfields.items()}
    if text in known:
        return known[text]
    try:
        value = int(text, 16)
    except ValueError as error:
        raise BadRequest(f"{word} {text}: neither a name of rt_dsfield nor a hexadecimal number") from error
    if not 0 <= value <= _BYTE_MAX:
        raise BadRequest(f"{word} {text}: must be between 0 and 0xff")
    return value


def _protocol(word: str, text: str, names: Names) -> int:
    known = {name.lower(): number for number, name in names.ip_protocols.items()}
    if text.lower() in known:
        return known[text.lower()]
    if text in map(str, range(_BYTE_MAX + 1)):
        return int(text)
    raise BadRequest(f"{word} {text}: no such IP protocol\n  try: tcp, udp, icmp")


def _user(word: str, text: str) -> int:
    if text.isdecimal():
        return _number(word, text, _U32_MAX)
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError) as error:  # a name with a NUL in it, or that is no UTF-8, is none
        raise BadRequest(f"{word} {text}: no such user") from error


def find_namespace(text: str) -> Namespace:
    """A namespace by name, by the pid of a process in it, or by inode; without text, the one we are in."""
    known = namespaces()
    if not text:
        path = "/proc/self/ns/net"
        inode = Path(path).stat().st_ino
        return known.get(inode, Namespace(inode, "", path))
    for item in known.values():
        if text in {item.name, str(item.inode)}:
            return item
    if text.isdigit():
        try:
            inode = Path(f"/proc/{text}/ns/net").stat().st_ino
        except OSError as error:
            raise BadRequest(f"netns {text}: no namespace has this inode, and no process this pid") from error
        return known.get(inode, Namespace(inode, f"pid {text}", f"/proc/{text}/ns/net"))
    there = ", ".join(sorted(item.name for item in known.values() if item.name)) or "none"
    raise BadRequest(f"netns {text}: no such network namespace\n  there is: {there}")
