"""Attaches an empty program to raw tracepoints: whether this kernel lets us is found by trying, without bcc.

The program is `r0 = 0; exit`, loaded through libbpf as BPF_PROG_TYPE_RAW_TRACEPOINT and detached at once.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT, include/uapi/linux/bpf.h
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


@contextmanager
def empty_program() -> Iterator[int]:
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
    descriptor = load(_RAW_TRACEPOINT, b"fibtrace_try", _LICENSE, _PROGRAM, instructions, None)
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


def _attach(program: int, name: str) -> int:
    link = libbpf().bpf_raw_tracepoint_open
    link.argtypes = [ctypes.c_char_p, ctypes.c_int]
    descriptor = link(name.encode(), program)
    if descriptor < 0:
        return _error(descriptor, name).errno or errno.EINVAL
    os.close(descriptor)
    return 0


def _error(result: int, what: str) -> OSError:
    number = -result if result < -1 else ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
