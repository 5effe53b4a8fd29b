"""Work inside another network namespace, in a short-lived thread, so that ours never changes."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tracer.errors import NotPermitted
from tracer.model.network import DeviceSettings, DeviceSettings6

if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")
_LIBC = ctypes.CDLL(None, use_errno=True)
_S = TypeVar("_S", DeviceSettings, DeviceSettings6)
SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.fib_multipath_hash_policy",
    "net.ipv4.fib_multipath_hash_fields",
    "net.ipv4.fib_multipath_use_neigh",
    "net.ipv4.fwmark_reflect",
    "net.ipv4.ip_nonlocal_bind",
    "net.ipv4.nexthop_compat_mode",
    "net.ipv6.fib_multipath_hash_policy",
    "net.ipv6.fib_multipath_hash_fields",
    "net.ipv6.fwmark_reflect",
    "net.ipv6.ip_nonlocal_bind",
)


def run_in(namespace_fd: int, work: Callable[[], _T]) -> _T:
    """Runs `work` with the namespace as the current one and returns its result.

    Raises:
        NotPermitted: CAP_SYS_ADMIN is missing.
        OSError: the kernel refused for another reason, or `work` raised it.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            _enter(namespace_fd)
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(namespace_fd: int) -> None:
    if _LIBC.setns(namespace_fd, CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    if code == 1:
        raise NotPermitted("cannot enter a network namespace: CAP_SYS_ADMIN is missing\n  try: sudo")
    raise OSError(code, f"setns: {os.strerror(code)}")


def read_all_settings() -> tuple[dict[str, DeviceSettings], dict[str, DeviceSettings6], dict[str, int]]:
    """What routing reads of `net.ipv4` and `net.ipv6` in the current namespace: by device, and the rest by name."""
    others = {name: _number(f"/proc/sys/{name.replace('.', '/')}") for name in SYSCTLS}
    return read_settings(), _by_device("ipv6", DeviceSettings6), others


def read_settings() -> dict[str, DeviceSettings]:
    """`net.ipv4.conf` of every device of the current namespace, `all` included."""
    return _by_device("ipv4", DeviceSettings)


def _by_device(family: str, kind: type[_S]) -> dict[str, _S]:
    names = tuple(item.name for item in fields(kind))
    try:
        devices = list(Path(f"/proc/sys/net/{family}/conf").iterdir())
    except OSError:
        return {}  # a kernel without that family
    return {device.name: kind(**{name: _number(f"{device}/{name}") for name in names}) for device in devices}


def read_table_sizes() -> dict[int, int]:
    """The number of prefixes of every IPv4 table of the current namespace; an empty table is there, too.

    From `/proc/net/fib_triestat`. /proc/net itself follows the process, not the thread.
    """
    sizes: dict[int, int] = {}
    table = None
    for line in _lines("/proc/thread-self/net/fib_triestat"):
        word, _, rest = line.partition(":")
        if word in {"Main", "Local"}:
            table = 254 if word == "Main" else 255
        elif word.startswith("Id "):
            table = int(word.split()[1])
        elif table is not None and word.strip() == "Prefixes":
            sizes[table] = int(rest)
    return sizes


def read_ipv6_routes() -> int:
    """The number of IPv6 routes of the current namespace (`rt6_stats`: fourth number, hexadecimal)."""
    lines = _lines("/proc/thread-self/net/rt6_stats")
    return int(lines[0].split()[3], 16) if lines else 0


def _number(path: str) -> int:
    lines = _lines(path)
    return int(lines[0]) if lines else 0


def _lines(path: str) -> list[str]:
    """The file's lines; none if it is not there: the device is gone, or the kernel has no such thing."""
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
