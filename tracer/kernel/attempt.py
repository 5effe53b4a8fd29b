"""Attaches an empty program to tracepoints and functions: whether this kernel lets us is found by trying, without bcc.

The program is `r0 = 0; exit`, loaded through libbpf and detached at once.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT, include/uapi/linux/bpf.h
_TRACING = 26  # BPF_PROG_TYPE_TRACING
_FENTRY = 24  # BPF_TRACE_FENTRY, enum bpf_attach_type
_KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe/type")
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_PERF_ATTRIBUTES = struct.Struct(
    "=IIQ40xQQ"
)  # struct perf_event_attr: type, size, config, ..., config1, config2
_PERF_ATTRIBUTES_SIZE = 72  # PERF_ATTR_SIZE_VER1
_CLOSE_ON_EXEC = 8  # PERF_FLAG_FD_CLOEXEC
_LICENSE = b"GPL"
_PROGRAM = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)


def libbpf() -> ctypes.CDLL:
    """Return libbpf; raises OSError where it is not installed."""
    return ctypes.CDLL("libbpf.so.1", use_errno=True)


def libbpf_version() -> str:
    """Return the version of libbpf, as "1.1"; raises OSError where it is not installed."""
    library = libbpf()
    library.libbpf_version_string.restype = ctypes.c_char_p
    return str(library.libbpf_version_string().decode()).removeprefix("v")


class _LoadOptions(ctypes.Structure):
    """The first members of struct bpf_prog_load_opts (libbpf's bpf.h)."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_uint),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
    )


@contextmanager
def empty_program(kind: int = _RAW_TRACEPOINT, options: _LoadOptions | None = None) -> Iterator[int]:
    """Load the empty program; yields its descriptor, or raises OSError with the kernel's errno."""
    load = libbpf().bpf_prog_load
    load.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
    ]
    instructions = len(_PROGRAM) // 8
    given = ctypes.byref(options) if options else None
    descriptor = load(kind, b"fibtrace_try", _LICENSE, _PROGRAM, instructions, given)
    if descriptor < 0:
        raise _error(descriptor, "loading a program")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def raw_tracepoints(names: list[str]) -> dict[str, int]:
    """Return for each raw tracepoint 0 if a program can be attached, else the errno (ENOENT: none such).

    Raises OSError when not even loading a program is permitted.
    """
    with empty_program() as program:
        return {name: _attach(program, name) for name in names}


def fentry(function: str) -> int:
    """Return 0 if fentry can be attached to this kernel function, else the errno (ENOENT: not in the kernel's BTF).

    Raises OSError when the program cannot even be loaded.
    """
    find = libbpf().libbpf_find_vmlinux_btf_id
    find.argtypes = [ctypes.c_char_p, ctypes.c_uint]
    number = find(function.encode(), _FENTRY)
    if number < 0:
        return errno.ENOENT
    options = _LoadOptions(
        size=ctypes.sizeof(_LoadOptions), expected_attach_type=_FENTRY, attach_btf_id=number
    )
    with empty_program(_TRACING, options) as program:
        return _attach(program, None)


def kprobe(function: str) -> int:
    """Return 0 if a kprobe can be put on the entry of this kernel function, else the errno."""
    try:
        kind = int(_KPROBE_PMU.read_text())
        system_call = _PERF_EVENT_OPEN[os.uname().machine]
    except (OSError, KeyError):
        return errno.EOPNOTSUPP
    name = ctypes.create_string_buffer(function.encode())
    attributes = _PERF_ATTRIBUTES.pack(kind, _PERF_ATTRIBUTES_SIZE, 0, ctypes.addressof(name), 0)
    call = ctypes.CDLL(None, use_errno=True).syscall
    everywhere, first_cpu, no_group = -1, 0, -1
    descriptor = call(system_call, attributes, everywhere, first_cpu, no_group, _CLOSE_ON_EXEC)
    if descriptor < 0:
        return ctypes.get_errno() or errno.EINVAL
    os.close(descriptor)
    return 0


def _attach(program: int, name: str | None) -> int:
    link = libbpf().bpf_raw_tracepoint_open
    link.argtypes = [ctypes.c_char_p, ctypes.c_int]
    descriptor = link(name.encode() if name else None, program)
    if descriptor < 0:
        return _error(descriptor, name or "fentry").errno or errno.EINVAL
    os.close(descriptor)
    return 0


def _error(result: int, what: str) -> OSError:
    number = -result if result < -1 else ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
