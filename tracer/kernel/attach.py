"""Loads and attaches one program of the compiled text: by the way its row names, without bcc's own automatism."""

from __future__ import annotations

from typing import Any

from tracer.kernel.probes import Attach, Probe

_OLD_NAMES = (0, 27)
"""bcc before this version names no module in the programs of fentry."""


def is_old(version: str) -> bool:
    """Whether this bcc calls the program on a function `kfunc__NAME` and not `kfunc__vmlinux__NAME`."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return len(numbers) == len(_OLD_NAMES) and numbers < _OLD_NAMES


def traced_name(attach: Attach, point: str, *, old: bool) -> str:
    """The name by which libbcc finds out what a program of fentry or fexit traces (bcc_prog_load_xattr)."""
    prefix = {Attach.FENTRY: "kfunc__", Attach.FEXIT: "kretfunc__"}[attach]
    return f"{prefix}{'' if old else 'vmlinux__'}{point}"


def attach(bpf_class: Any, program: Any, probe: Probe, *, old: bool) -> int:
    """Load and attach one probe; returns the descriptor of its program. Raises what bcc raises (Exception)."""
    way, point = probe.attach, probe.point
    if way is Attach.TRACEPOINT:
        function = program.load_func(f"tracepoint_{point}", bpf_class.RAW_TRACEPOINT)
        program.attach_raw_tracepoint(point, f"tracepoint_{point}")
    elif way is Attach.KPROBE:
        function = program.load_func(f"kprobe_{point}", bpf_class.KPROBE)
        program.attach_kprobe(event=point, fn_name=f"kprobe_{point}")
    elif way is Attach.KRETPROBE:
        function = program.load_func(f"kretprobe_{point}", bpf_class.KPROBE)
        program.attach_kretprobe(event=point, fn_name=f"kretprobe_{point}")
    else:
        name = traced_name(way, point, old=old)
        function = program.load_func(name, bpf_class.TRACING)
        (program.attach_kfunc if way is Attach.FENTRY else program.attach_kretfunc)(fn_name=name.encode())
    return int(function.fd)
