"""The running kernel's types, from its BTF by libbpf's own dumper (libbpf.so.1 comes with bcc).

A program compiled against them fits any kernel that has BTF, without kernel headers. Whether a field or an
argument exists is asked here too, never guessed from a version.
"""

from __future__ import annotations

import ctypes
import itertools
import re
from functools import cached_property

from tracer.errors import NotSupported

_KINDS = {"struct": 4, "union": 5, "enum": 6, "typedef": 8}
_PRINTER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_LINE_BYTES = 65536
_PADDING = re.compile(r"^(\t+)long: 64;$", re.MULTILINE)


class KernelTypes:
    """Types of the running kernel as C text; raises NotSupported where there is no BTF or no libbpf."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.vsnprintf.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]
        try:
            self._lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
        except OSError as error:
            raise NotSupported(f"libbpf is missing: {error}\n  try: apt install libbpf1") from error
        for name in ("btf__load_vmlinux_btf", "btf_dump__new"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self._lib.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
        self._lib.btf_dump__new.argtypes = [ctypes.c_void_p, _PRINTER, ctypes.c_void_p, ctypes.c_void_p]
        self._lib.btf_dump__dump_type.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        self._lib.btf_dump__free.argtypes = [ctypes.c_void_p]
        self._arguments: dict[str, int | None] = {}
        self._btf = self._lib.btf__load_vmlinux_btf()
        if not self._btf or ctypes.c_long(self._btf).value < 0:
            raise NotSupported(
                "this kernel has no BTF (/sys/kernel/btf/vmlinux)\n  try: a kernel built with CONFIG_DEBUG_INFO_BTF=y"
            )

    def _find(self, kind: str, name: str) -> int:
        return int(self._lib.btf__find_by_name_kind(self._btf, name.encode(), _KINDS[kind]))

    def dump(self, *wanted: str) -> str:
        """C definitions of the wanted types ("struct sock", ...) and all they embed; the missing are left out."""
        chunks: list[bytes] = []
        buffer = ctypes.create_string_buffer(_LINE_BYTES)

        def collect(_context: object, template: bytes, arguments: object) -> None:
            self._libc.vsnprintf(buffer, _LINE_BYTES, template, arguments)
            chunks.append(buffer.value)  # up to the NUL; buffer.raw would copy all of it

        printer = _PRINTER(collect)
        dumper = self._lib.btf_dump__new(self._btf, printer, None, None)
        for spelled in wanted:
            kind, name = spelled.split()
            number = self._find(kind, name)
            if number > 0 and self._lib.btf_dump__dump_type(dumper, number) != 0:
                raise NotSupported(f"this kernel's BTF cannot be written as C at {spelled}")
        self._lib.btf_dump__free(dumper)
        return with_named_padding(b"".join(chunks).decode())

    def tracepoint_arguments(self, name: str) -> int | None:
        """How many arguments the raw tracepoint passes, None when this kernel has no such tracepoint."""
        if name not in self._arguments:
            known = self._find("typedef", f"btf_trace_{name}") > 0
            text = self.dump(f"typedef btf_trace_{name}") if known else ""
            prototype = re.search(rf"\(\*btf_trace_{name}\)\((.*?)\);", text, re.DOTALL)
            self._arguments[name] = prototype[1].count(",") if prototype else None
        return self._arguments[name]

    def enum(self, name: str) -> dict[int, str]:
        """Members of a kernel enum by value; empty when the kernel has no such enum."""
        members: dict[int, str] = {}
        body = re.search(rf"enum {name} \{{(.*?)\}};", self.dump(f"enum {name}"), re.DOTALL)
        for member, value in re.findall(r"(\w+) = (-?\d+)", body[1] if body else ""):
            members.setdefault(int(value), member)
        return members

    @cached_property
    def drop_reasons(self) -> dict[int, str]:
        """`enum skb_drop_reason`: its numbers differ between kernels, so it is always asked here."""
        return self.enum("skb_drop_reason")


def with_named_padding(text: str) -> str:
    """Make members of the unnamed bitfields that the dumper writes as padding.

    bcc has clang lay out structures for this machine, and LLVM compile them for BPF. A run of unnamed bitfields becomes
    one wide integer, which the two align differently: everything behind it would be read from the wrong place, while
    `offsetof` is right. On Linux 7.2 that was the number of a network namespace.
    """
    number = itertools.count()
    return _PADDING.sub(lambda match: f"{match[1]}long fibtrace_padding_{next(number)};", text)
