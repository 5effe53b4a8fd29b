"""Names for numbers as iproute2 knows them, and names for the network namespaces of this host."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Later ones win, as in iproute2: the vendor's files first, the administrator's last.
CONFIG_FOLDERS = ("/usr/lib/iproute2", "/usr/share/iproute2", "/etc/iproute2")
NAMED_NAMESPACES = Path("/run/netns")
TABLES = {253: "default", 254: "main", 255: "local"}
PROTOCOLS = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt",
    11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp",
    18: "keepalived", 42: "babel", 186: "bgp",
    187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
IP_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "ipv6-icmp", 132: "sctp"}
_CONTAINER = re.compile(r"(docker|libpod|cri-containerd|crio|containerd|lxc)[-/.:]([0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Names:
    """What iproute2 calls tables, protocols, scopes, device groups, DS fields and IP protocols."""

    tables: Mapping[int, str]
    protocols: Mapping[int, str]
    scopes: Mapping[int, str]
    groups: Mapping[int, str]
    dsfields: Mapping[int, str]
    ip_protocols: Mapping[int, str]

    def ip_protocol(self, number: int) -> str:
        """As iproute2 prints it: `tcp`, or `ipproto-200` for one without a name."""
        return self.ip_protocols.get(number, f"ipproto-{number}")


class Namespace(NamedTuple):
    """A network namespace that can be entered through `path`; `name` is "" if nothing names it."""

    inode: int
    name: str
    path: str


@cache
def system_names() -> Names:
    """The names of this machine, read once."""
    return Names(
        tables=read_names("rt_tables", TABLES),
        protocols=read_names("rt_protos", PROTOCOLS),
        scopes=read_names("rt_scopes", SCOPES),
        groups=read_names("group", {0: "default"}),
        dsfields=read_names("rt_dsfield", {}),
        ip_protocols={**IP_PROTOCOLS, **_read_protocols(Path("/etc/protocols"))},
    )


def read_names(
    stem: str, built_in: Mapping[int, str], folders: tuple[str, ...] = CONFIG_FOLDERS
) -> dict[int, str]:
    """Reads `stem` and `stem.d/*.conf` of iproute2's folders over the built-in names."""
    names = dict(built_in)
    for folder in folders:
        drop_ins = sorted(Path(folder, f"{stem}.d").glob("*.conf"))
        for path in (Path(folder, stem), *drop_ins):
            names.update(_read_pairs(path))
    return names


def _read_pairs(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of `NUMBER NAME`, the number decimal or 0x hex; comments start with #."""
    for words in _words(path):
        try:
            yield int(words[0], 16 if words[0].lower().startswith("0x") else 10), words[1]
        except (ValueError, IndexError):
            continue  # iproute2 skips a line that it cannot read, too


def _read_protocols(path: Path) -> dict[int, str]:
    """`/etc/protocols`: NAME NUMBER; the first name of a number is the one getprotobynumber(3) gives."""
    found: dict[int, str] = {}
    for words in _words(path):
        if len(words) > 1 and words[1].isdecimal():
            found.setdefault(int(words[1]), words[0])
    return found


def _words(path: Path) -> Iterator[list[str]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words:
            yield words


def named_namespaces(folder: Path = NAMED_NAMESPACES) -> dict[int, Namespace]:
    """Namespaces of `ip netns`, by inode; two names of one namespace give the first in alphabetical order."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return {}
    found: dict[int, Namespace] = {}
    ours = folder.stat().st_dev
    for entry in entries:
        try:
            status = entry.stat()
        except OSError:
            continue
        # An entry whose mount is gone, or not yet there, is an empty file of the folder's own file system.
        if status.st_dev != ours:
            found.setdefault(status.st_ino, Namespace(status.st_ino, entry.name, entry.path))
    return found


def pids() -> list[int]:
    """The processes there are, lowest pid first."""
    return sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def process_namespaces() -> dict[int, Namespace]:
    """Namespaces in which a process lives, by inode, named after the container or the lowest pid."""
    found: dict[int, Namespace] = {}
    for pid in pids():
        path = f"/proc/{pid}/ns/net"
        try:
            inode = Path(path).stat().st_ino
            if inode not in found:
                found[inode] = Namespace(inode, "host" if inode == host_inode() else _pid_name(pid), path)
        except OSError:
            continue  # ended meanwhile, or not ours to read
    return found


def namespaces() -> dict[int, Namespace]:
    """Every namespace that can be entered: the host's own, those of `ip netns`, those of processes."""
    found = process_namespaces()
    for inode, namespace in named_namespaces().items():
        # A name beats the name of a process, but the host stays the host: people name it, too.
        if found.get(inode, namespace).name != "host":
            found[inode] = namespace
    return found


def host_inode() -> int:
    """The inode of the namespace of pid 1; of our own one if that is not readable."""
    for pid in ("1", "self"):
        try:
            return Path(f"/proc/{pid}/ns/net").stat().st_ino
        except OSError:
            continue
    return 0


def _pid_name(pid: int) -> str:
    container = _CONTAINER.search(_read(f"/proc/{pid}/cgroup"))
    if container:
        engine = "podman" if container[1] == "libpod" else container[1]
        return f"{engine}/{container[2]}"
    return f"{_read(f'/proc/{pid}/comm').strip()}[{pid}]"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
