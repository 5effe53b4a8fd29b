"""Where the C is (checkout or wheel), joined into one text, and what the compiler is told: -I and -D, never edits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import NotSupported
from tracer.kernel.attach import traced_name
from tracer.kernel.probes import ARGUMENT_COUNTS, KERNEL_TYPES, TRACEPOINTS, Attach, Backend

if TYPE_CHECKING:
    from tracer.kernel.btf import KernelTypes

_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
RECORD_BYTES = 248
"""Bytes of one record in the ring, its header included; only sets how often the reader is woken."""
_MULTIARCH = ("x86_64-linux-gnu", "aarch64-linux-gnu")


def bpf_directory() -> Path:
    """The `bpf/` of the checkout, or the copy inside the wheel."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package.parent / "bpf", package / "_bpf"):
        if (candidate / "wire.h").exists():
            return candidate
    raise NotSupported(f"the C sources are missing beside {package}\n  try: install fibtrace again")


def wire_header() -> str:
    """The text of `wire.h`."""
    return (bpf_directory() / "wire.h").read_text()


def counters_header() -> str:
    """The text of `top/wire.h`, what the counters of `fibtrace top` are read by."""
    return (bpf_directory() / "top/wire.h").read_text()


def joined(name: str = "main.c") -> str:
    """The program as one text: bcc only rewrites the main file. `#line` keeps the compiler's messages right."""
    directory = bpf_directory()
    seen: set[str] = set()

    def expand(relative: str) -> str:
        seen.add(relative)
        text = (directory / relative).read_text()
        parts = [f'#line 1 "bpf/{relative}"\n']
        position = 0
        for match in _INCLUDE.finditer(text):
            parts.append(text[position : match.start()])
            if match[1] not in seen:
                parts.append(expand(match[1]))
            parts.append(f'#line {text.count(chr(10), 0, match.end()) + 1} "bpf/{relative}"')
            position = match.end()
        parts.append(text[position:])
        return "".join(parts)

    return expand(name)


def kernel_types(types: KernelTypes) -> str:
    """Text of `kernel_types.h` for the running kernel."""
    text = types.dump(*KERNEL_TYPES)
    return f"#ifndef FIBTRACE_KERNEL_TYPES_H\n#define FIBTRACE_KERNEL_TYPES_H\n{text}\n#endif\n"


@dataclass(frozen=True, slots=True)
class Build:
    """What is compiled: the backend, the ring's bytes, whether anything is filtered, whether bcc is an old one.

    `program` is the main file below bpf/.
    """

    backend: Backend
    ring_bytes: int
    with_filter: bool = True
    old_bcc: bool = False
    program: str = "main.c"


def compiler_flags(types: KernelTypes, headers: Path, build: Build) -> list[str]:
    """What the compiler is told. `headers` holds kernel_types.h; names of fields are asked of BTF."""
    common, ring_bytes = types.dump("struct flowi_common"), build.ring_bytes
    defines: dict[str, int | str] = {
        "FUNCTIONS": build.backend.define,
        "FENTRY_NAME(name)": traced_name(Attach.FENTRY, "##name", old=build.old_bcc),
        "FEXIT_NAME(name)": traced_name(Attach.FEXIT, "##name", old=build.old_bcc),
        "RING_PAGES": ring_bytes // 4096,
        "WAKE_EVERY": max(1, ring_bytes // RECORD_BYTES // 16),
        "WITH_FILTER": int(build.with_filter),
        "FLOW_TOS": "flowic_dscp" if "flowic_dscp" in common else "flowic_tos",
    }
    for name in ARGUMENT_COUNTS:
        defines[f"{name.upper()}_ARGUMENTS"] = types.tracepoint_arguments(name) or 0
    for probe in TRACEPOINTS:
        if probe.define:
            defines[probe.define] = int(types.tracepoint_arguments(probe.point) is not None)
    includes = [
        "-I/usr/include",
        *(f"-I/usr/include/{arch}" for arch in _MULTIARCH if Path("/usr/include", arch).is_dir()),
    ]
    # The types from BTF forward-declare and repeat freely, which is no fault of ours to be told about.
    warnings = [
        "-Wall",
        "-Werror",
        "-Wno-missing-declarations",
        "-Wno-unused-function",
        "-Wno-address-of-packed-member",
    ]
    # Everything is inlined by request: -O1 gives the same programs in less of the time that a trace takes to start.
    return [
        "-O1",
        f"-I{headers}",
        *includes,
        *warnings,
        *(f"-D{key}={value}" for key, value in defines.items()),
    ]
