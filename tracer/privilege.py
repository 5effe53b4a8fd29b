"""Least privilege: what a running trace no longer needs is given up, and COMMAND may run as somebody else.

Capabilities belong to threads, and a new thread has those of the one that starts it: so they are given up before the
ring's reader is started.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass

from tracer.errors import BadRequest, NotPermitted
from tracer.kernel import capabilities

_KEPT = ("CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYSLOG")
"""Namespaces that appear, maps of older kernels, whose socket it is, names of kernel functions."""
_FOR_COMMAND = 1 << 5  # CAP_KILL: it may run as another user, and is ended with the trace
_FOR_USER = 1 << 6 | 1 << 7  # CAP_SETGID, CAP_SETUID
_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_LAST_POSSIBLE = 63
_OF_SUDO = ("SUDO_COMMAND", "SUDO_GID", "SUDO_UID", "SUDO_USER", "MAIL", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True)
class Account:
    """The user as whom COMMAND is run."""

    name: str
    user: int
    group: int
    groups: tuple[int, ...]
    home: str
    shell: str


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def account(name: str) -> Account:
    """The account of a name or number; raises BadRequest where there is none, NotPermitted where we cannot be it."""
    try:
        found = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError) as error:
        raise BadRequest(f"--user {name}: there is no such user\n  see: getent passwd") from error
    if found.pw_uid != os.geteuid() and os.geteuid() != 0:
        raise NotPermitted(
            f"--user {name}: only root can run a command as another user\n  try: sudo fibtrace …"
        )
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Account(found.pw_name, found.pw_uid, found.pw_gid, groups, found.pw_dir, found.pw_shell)


def start(command: tuple[str, ...], user: Account | None) -> subprocess.Popen[bytes]:
    """Start COMMAND, its stdout on our stderr because ours is for data; raises BadRequest if it cannot be run."""
    try:
        if user is None or user.user == os.geteuid():
            return subprocess.Popen(command, stdout=sys.stderr)
        return subprocess.Popen(
            command,
            stdout=sys.stderr,
            user=user.user,
            group=user.group,
            extra_groups=user.groups,
            env=_environment(user),
        )
    except OSError as error:
        who = f" as {user.name}" if user else ""
        raise BadRequest(f"cannot run {command[0]}{who}: {error.strerror}") from error


def _environment(user: Account) -> dict[str, str]:
    """Ours, but for what says who one is."""
    ours = {name: value for name, value in os.environ.items() if name not in _OF_SUDO}
    return ours | {"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": user.shell}


def drop(*, command: bool, user: bool) -> None:
    """Give up what this thread and those it will start do not need once the probes are attached.

    With a COMMAND to come, root's exec still gives it what root has; without, no program that we start
    can get anything back.
    """
    keep = sum(1 << capabilities.CAPABILITIES[name][0] for name in _KEPT)
    if command:
        keep |= _FOR_COMMAND | (_FOR_USER if user else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if not command:
        for number in range(_LAST_POSSIBLE + 1):
            if not keep >> number & 1:
                libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # refused for numbers that this kernel lacks
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _set(libc, keep & capabilities.effective())


def _set(libc: ctypes.CDLL, held: int) -> None:
    """Make `held` this thread's effective and permitted capabilities, and none inheritable."""
    low, high = held & 0xFFFFFFFF, held >> 32
    sets = (_Sets * 2)(_Sets(low, low, 0), _Sets(high, high, 0))
    header = _Header(_VERSION_3, 0)
    if libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"giving up capabilities: {os.strerror(code)}")
