"""The capabilities that tracing needs, and which of them this process has (capabilities(7))."""

from __future__ import annotations

from pathlib import Path

CAPABILITIES = {
    # name: (bit in include/uapi/linux/capability.h, what lacks without it, needed to trace)
    "CAP_SYS_ADMIN": (21, "entering network namespaces to read their rules and routes", True),
    "CAP_BPF": (39, "loading programs", True),
    "CAP_PERFMON": (38, "attaching programs and reading kernel memory", True),
    "CAP_NET_ADMIN": (12, "labs", False),
    "CAP_SYS_PTRACE": (19, "network namespaces and sockets of other users' processes", False),
    "CAP_DAC_READ_SEARCH": (2, "sockets of other users' processes", False),
    "CAP_SYS_RESOURCE": (24, "raising the memlock limit, which kernels before 5.11 need", False),
    "CAP_SYSLOG": (34, "names of kernel functions when kptr_restrict is set", False),
}
_INCLUDED_IN_SYS_ADMIN = {"CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"}


def effective() -> int:
    """The effective set as a bit mask."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def is_held(name: str, held: int) -> bool:
    """Whether a capability is in the mask, by itself or through CAP_SYS_ADMIN."""
    implied = name in _INCLUDED_IN_SYS_ADMIN and held >> CAPABILITIES["CAP_SYS_ADMIN"][0] & 1
    return bool(held >> CAPABILITIES[name][0] & 1 or implied)


def missing() -> list[str]:
    """The needed capabilities that this process lacks."""
    held = effective()
    return [name for name, (_, _, needed) in CAPABILITIES.items() if needed and not is_held(name, held)]
