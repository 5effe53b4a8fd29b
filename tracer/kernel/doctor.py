"""What this kernel lets us do: tried where trying is cheap, else read; each lack with its remedy."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from itertools import groupby, islice
from pathlib import Path

from tracer.errors import Exit
from tracer.kernel import attempt
from tracer.kernel.backend import AUTO, choose, refusal
from tracer.kernel.capabilities import CAPABILITIES, effective, is_held
from tracer.kernel.probes import TRACEPOINTS, Backend, Probe, functions

YES, NO, UNKNOWN = "yes", "no", "unknown"

_PROGRAMS = {"ip": "iproute2", "nft": "nftables", "ping": "iputils-ping", "setpriv": "util-linux"}
_FIRST_SYMBOLS = 1000
_SUDO = "sudo fibtrace ..."
_REFUSED = {errno.EPERM, errno.EACCES}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's table; where it is `needed` and missing, nothing can be traced."""

    area: str
    name: str
    state: str
    detail: str = ""
    remedy: str = ""
    needed: bool = False
    code: Exit = Exit.NOT_SUPPORTED

    @property
    def bad(self) -> bool:
        """Whether this alone makes tracing impossible."""
        return self.needed and self.state == NO


def checks() -> list[Check]:
    """Look at everything; takes milliseconds, changes nothing, needs no privilege to be asked."""
    parts: tuple[Callable[[], Iterator[Check]], ...] = (
        _permissions, _kernel, _libraries, _tracepoints, _functions, _programs,
    )  # fmt: skip
    return [check for part in parts for check in part()]


def verdict(found: list[Check]) -> Exit:
    """Return the exit code: 0 if tracing is possible, 3 if a permission is missing, else 4."""
    codes = {check.code for check in found if check.bad}
    if not codes:
        return Exit.DONE
    return Exit.NOT_PERMITTED if Exit.NOT_PERMITTED in codes else Exit.NOT_SUPPORTED


def backend(found: list[Check]) -> str | None:
    """Return the backend that `trace` uses here, None if there is none."""
    return None if any(check.bad for check in found) else choose(AUTO).backend.value


def as_json(found: list[Check]) -> str:
    """Return everything as one JSON object."""
    listed = [{key: value for key, value in asdict(check).items() if key != "code"} for check in found]
    return json.dumps({"backend": backend(found), "checks": listed}, indent=1, ensure_ascii=False) + "\n"


def as_table(found: list[Check], *, color: bool = False) -> str:
    """Return the table that a person reads: a line per check, the remedy beneath what is missing."""
    width = max(len(check.name) for check in found)
    lines: list[str] = []
    said = ""
    for area, members in groupby(found, key=lambda check: check.area):
        lines.append(area)
        for check in members:
            lines.append(f"  {_mark(check, color=color)} {check.name:<{width}}  {check.detail}".rstrip())
            if check.state != YES and check.remedy not in {"", said}:
                said = check.remedy
                lines.append(f"      {'':<{width}} try: {check.remedy}")
    chosen = backend(found)
    lacking = ", ".join(check.name for check in found if check.bad)
    lines.append(
        f"tracing is possible, backend: {chosen}" if chosen else f"tracing is not possible: {lacking}"
    )
    return "\n".join(lines) + "\n"


def _mark(check: Check, *, color: bool) -> str:
    green, red, yellow = 32, 31, 33
    text, number = {YES: ("ok", green), NO: ("no", red), UNKNOWN: ("?", yellow)}[check.state]
    if check.state == NO and not check.needed:
        text, number = "--", yellow
    return f"\033[{number}m{text:<2}\033[0m" if color else f"{text:<2}"


def _permissions() -> Iterator[Check]:
    area, root = "permissions", os.geteuid() == 0
    remedy = "outside this container, or with the capability added to it" if root else _SUDO
    detail = "" if root else f"user id {os.geteuid()}"
    yield Check(area, "root", YES if root else NO, detail, remedy, needed=True, code=Exit.NOT_PERMITTED)
    held = effective()
    for name, (bit, use, needed) in CAPABILITIES.items():
        there = bool(held >> bit & 1)
        implied = not there and is_held(name, held)
        detail = "included in CAP_SYS_ADMIN" if implied else "" if there else f"missing for: {use}"
        state = YES if there or implied else NO
        yield Check(area, name, state, detail, remedy, needed, Exit.NOT_PERMITTED)


def _kernel() -> Iterator[Check]:
    yield Check("kernel", "release", YES, os.uname().release)
    btf = Path("/sys/kernel/btf/vmlinux")
    remedy = "a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    yield Check("kernel", "BTF", YES if btf.exists() else NO, str(btf), remedy, needed=True)
    yield _lockdown()
    yield _kallsyms()
    there = Path("/proc/self/ns/net").exists()
    yield Check(
        "kernel", "network namespaces", YES if there else NO, "", "a kernel built with CONFIG_NET_NS=y"
    )


def _lockdown() -> Check:
    path = "/sys/kernel/security/lockdown"
    mode = _read(path).partition("[")[2].partition("]")[0]
    if not mode:
        return Check("kernel", "lockdown allows it", UNKNOWN, f"{path} is not there: usually no lockdown")
    state = NO if mode == "confidentiality" else YES
    remedy = "boot without lockdown=confidentiality: it forbids programs to read kernel memory"
    return Check("kernel", "lockdown allows it", state, f"mode {mode}", remedy, needed=True)


def _kallsyms() -> Check:
    try:
        with Path("/proc/kallsyms").open() as symbols:
            # The first ones are those of variables of each CPU, which may well lie at 0.
            readable = any(int(line.split()[0], 16) for line in islice(symbols, _FIRST_SYMBOLS))
    except (OSError, IndexError, ValueError):
        readable = False
    detail = "" if readable else "addresses are hidden: callers and drop locations stay numbers"
    return Check(
        "kernel", "kallsyms", YES if readable else NO, detail, "sysctl kernel.kptr_restrict=1, and root"
    )


def _libraries() -> Iterator[Check]:
    area = "libraries"
    found = find_spec("bcc")
    remedy = "apt install python3-bpfcc, and a venv made with --system-site-packages on the system's Python"
    foreign = found is not None and not _file(found, "libbcc.py")
    detail = "another package of this name is installed, from PyPI" if foreign else _version(found)
    yield Check(area, "bcc", NO if foreign or not found else YES, detail, remedy, needed=True)
    try:
        yield Check(area, "libbpf", YES, attempt.libbpf_version(), needed=True)
    except OSError as error:
        yield Check(area, "libbpf", NO, str(error), "apt install libbpf1", needed=True)
    headers = Path("/usr/include/linux/bpf.h")
    state = YES if headers.exists() else NO
    yield Check(area, "linux-libc-dev", state, str(headers), "apt install linux-libc-dev", needed=True)


def _file(package: ModuleSpec | None, name: str) -> str:
    """Read a file of a package without importing it: importing bcc costs more than all checks together."""
    places = package.submodule_search_locations if package else None
    return next((text for place in places or [] if (text := _read(f"{place}/{name}"))), "")


def _version(package: ModuleSpec | None) -> str:
    for line in _file(package, "version.py").splitlines():
        if line.startswith("__version__"):
            return line.partition("=")[2].strip(" '\"")
    return ""


def _tracepoints() -> Iterator[Check]:
    """Attach an empty program to each: `yes` means that the kernel took it just now."""
    area = "raw tracepoints"
    try:
        result = attempt.raw_tracepoints([probe.point for probe in TRACEPOINTS])
    except OSError as error:
        refused = error.errno in _REFUSED
        remedy = _SUDO if refused else "a kernel with CONFIG_BPF_SYSCALL=y, and libbpf1"
        code = Exit.NOT_PERMITTED if refused else Exit.NOT_SUPPORTED
        detail = (error.strerror or str(error)).lower()
        yield Check(area, "loading a program", NO, detail, remedy, needed=True, code=code)
        return
    for probe in TRACEPOINTS:
        yield _tracepoint(area, probe, result[probe.point])


def _tracepoint(area: str, probe: Probe, number: int) -> Check:
    if not number:
        return Check(area, probe.point, YES, probe.tells, needed=probe.needed)
    absent, refused = number == errno.ENOENT, number in _REFUSED
    why = "not in this kernel" if absent else os.strerror(number).lower()
    remedy = "a newer kernel" if absent else _SUDO if refused else ""
    code = Exit.NOT_PERMITTED if refused else Exit.NOT_SUPPORTED
    return Check(area, probe.point, NO, f"{why}; not seen: {probe.tells}", remedy, probe.needed, code)


def _functions() -> Iterator[Check]:
    """Try each function by each backend; without any, what it tells is inferred or left out."""
    area = "functions"
    tried = (Backend.FENTRY, Backend.KPROBE)
    told: dict[str, list[str]] = {}
    for probe in (ways[0] for ways in functions(Backend.KPROBE)):
        told.setdefault(probe.point, []).append(probe.tells)
    for point, tells in told.items():
        why = {backend: refusal(backend, point) for backend in tried}
        ways = ", ".join(f"{backend.value} {'no' if why[backend] else 'ok'}" for backend in tried)
        state = NO if all(why.values()) else YES
        what = "" if state == YES else "inferred or not seen: "
        reasons = "; ".join(f"{backend.value}: {why[backend]}" for backend in tried if why[backend])
        remedy = f"a kernel that allows one of them ({reasons})" if state == NO else ""
        yield Check(area, point, state, f"{ways}; {what}{'; '.join(tells)}", remedy)


def _programs() -> Iterator[Check]:
    for program, package in _PROGRAMS.items():
        place = shutil.which(program)
        state = YES if place else NO
        yield Check("programs that labs start", program, state, place or "missing", f"apt install {package}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
