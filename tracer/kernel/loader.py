"""Compiles, loads and attaches the probes. The only importer of bcc."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.errors import BadRequest, NotPermitted, NotSupported
from tracer.kernel import capabilities, memory, source
from tracer.kernel.attach import attach, is_old
from tracer.kernel.backend import AUTO, Choice, choose
from tracer.kernel.btf import KernelTypes
from tracer.kernel.probes import COUNTERS, TRACEPOINTS, Attach, Backend, Probe, functions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

STACK_FRAMES = 24
_LARGEST_RING_MB = 1024
_CALL_COUNTS = (
    "calls of probed functions whose return was not seen",
    "returns of probed functions whose entry was not seen",
    "calls of probed functions nested too deep",
)
"""What the members of `enum call_count` (bpf/calls.h) count."""
_OLD_TRAMPOLINE = b"kretprobe_trampoline"
"""Where kretprobes return to in kernels whose unwinder stops there; `__kretprobe_trampoline` or a rethook since."""
_MISSED = re.compile(rb"^recursion_misses:\s*(\d+)", re.MULTILINE)
_FDINFO_BYTES = 4096
SKIPPED = -1
"""Stands where a CPU's number does, for what the kernel skipped on any of them."""


@dataclass(slots=True)
class Loaded:
    """The program in the kernel: its maps, what was attached, and what could not be and why."""

    program: Any
    types: KernelTypes
    attached: list[Probe] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, int] = field(default_factory=dict)
    choice: Choice = field(default_factory=lambda: Choice(Backend.TRACEPOINT))

    @property
    def words(self) -> str:
        """One line for the user: the backend, why not a better one, and what this means."""
        refused = "; ".join(f"{backend.value}: {why}" for backend, why in self.choice.refused.items())
        return f"backend {self.choice.backend.value}{f' ({refused})' if refused else ''}: {self.choice.words}"

    @property
    def ring_descriptor(self) -> int:
        """File descriptor of the ring."""
        return int(self.program["events"].map_fd)

    def set_filter(self, settings: np.ndarray[Any, Any]) -> None:
        """Write the one `struct filter`; takes effect with the next packet."""
        table = self.program["settings"]
        table[ctypes.c_int(0)] = table.Leaf.from_buffer_copy(settings.tobytes())

    def watch_ports(self, ports: set[tuple[int, int]]) -> None:
        """With a filter by process: what comes to these (protocol, port) may be for it."""
        table = self.program["ports"]
        for proto, number in ports:
            table[table.Key(number, proto, 0)] = table.Leaf(1)

    def refused(self) -> list[int]:
        """Reservations the full ring refused, by record kind."""
        table = self.program["refused"]
        return [sum(table[ctypes.c_int(kind)]) for kind in range(len(table))]

    def sequences(self) -> dict[int, int]:
        """Number of the last record of each CPU, sent or refused."""
        return {cpu: int(state.seq) for cpu, state in enumerate(self.program["cpu_states"][ctypes.c_int(0)])}

    def numbers(self) -> dict[int, int]:
        """What only grows, to be read often: `sequences`, and under SKIPPED the events that the kernel skipped."""
        return {**self.sequences(), SKIPPED: sum(self.missed().values())}

    def missed(self) -> dict[str, int]:
        """Runs the kernel skipped because the probe was already running on that CPU, by attach point."""
        counts: dict[str, int] = {}
        for point, file in self.accounts.items():
            match = _MISSED.search(os.pread(file, _FDINFO_BYTES, 0))
            if match and int(match[1]):
                counts[point] = int(match[1])
        return counts

    def calls_missed(self) -> dict[str, int]:
        """Calls of probed functions of which the entry or the return was missed: their lookups are inferred."""
        if self.choice.backend is Backend.TRACEPOINT:
            return {}
        counts = [sum(self.program["call_counts"][ctypes.c_int(which)]) for which in range(len(_CALL_COUNTS))]
        return {what: number for what, number in zip(_CALL_COUNTS, counts, strict=True) if number}

    def stack(self, number: int) -> tuple[str, ...]:
        """Symbols of a stack by its id, innermost first; empty when it is gone."""
        try:
            frames = self.program["stacks"][ctypes.c_int(number)].ip
        except KeyError:
            return ()
        return tuple(self.symbol(address) for address in frames[:STACK_FRAMES] if address)

    def symbol(self, address: int) -> str:
        """The kernel function that holds an address."""
        return str(self.program.ksym(address).decode(errors="replace"))

    def map_descriptor(self, name: str) -> int:
        """File descriptor of a map."""
        import bcc

        return int(bcc.lib.bpf_table_fd(self.program.module, name.encode()))

    def close(self) -> None:
        """Detach and unload."""
        for file in self.accounts.values():
            os.close(file)
        self.accounts.clear()
        self.program.cleanup()


def load(ring_bytes: int, backend: str = AUTO, *, with_filter: bool = True) -> Loaded:
    """Compile for the running kernel, load, attach; the ring has `ring_bytes` (a power of two).

    Without a filter the tests are left out, and `set_filter` must be given none.

    Raises NotPermitted without the rights, NotSupported when a probe that every path needs is refused.
    """
    _check_rights()
    choice = choose(backend)
    build = source.Build(choice.backend, ring_bytes, with_filter)
    return _open(choice, build, (*((probe,) for probe in TRACEPOINTS), *functions(choice.backend)))


def load_counters() -> Loaded:
    """Compile, load and attach what counts for `fibtrace top`; nothing is counted before it has settings.

    Raises as `load` does.
    """
    _check_rights()
    choice = Choice(Backend.TRACEPOINT)
    build = source.Build(Backend.TRACEPOINT, 0, program="top/main.c")
    return _open(choice, build, tuple((probe,) for probe in COUNTERS))


def _check_rights() -> None:
    lacking = capabilities.missing()
    if lacking:
        root = os.geteuid() == 0
        remedy = "run outside this container, or add them to it" if root else "try: sudo fibtrace …"
        raise NotPermitted(f"loading probes needs {' and '.join(lacking)}\n  {remedy}")


def _open(choice: Choice, build: source.Build, probes: tuple[tuple[Probe, ...], ...]) -> Loaded:
    types = KernelTypes()
    try:
        os.environ["BCC_KERNEL_SOURCE"] = str(source.bpf_directory() / "kernel")
        import bcc
    except ImportError as error:
        raise NotSupported(
            f"bcc's Python module is missing: {error}\n  try: apt install python3-bpfcc"
        ) from error
    build = replace(build, old_bcc=is_old(bcc.__version__))
    loaded = Loaded(_compile(bcc.BPF, types, build), types, choice=choice)
    for ways in probes:
        _attach(bcc.BPF, loaded, ways, build)
    loaded.program.free_bcc_memory()
    memory.give_back(("libLLVM", "libclang"))
    return loaded


def _compile(bpf_class: Any, types: KernelTypes, build: source.Build) -> Any:
    class Program(bpf_class):  # type: ignore[misc]
        def _trace_autoload(self) -> None:
            """bcc attaches by itself what has certain names, and gives up whole if one is refused."""

    with tempfile.TemporaryDirectory(prefix="fibtrace-") as directory:
        headers = Path(directory)
        (headers / "kernel_types.h").write_text(source.kernel_types(types))
        flags = source.compiler_flags(types, headers, build)
        with _captured_stderr() as messages:
            try:
                return Program(text=source.joined(build.program), cflags=flags)
            except Exception as error:  # noqa: BLE001 - bcc raises nothing narrower
                failure = str(error)
        text = messages[-1].strip() if messages else ""
    raise NotSupported(f"the probes do not compile for kernel {os.uname().release}: {failure}\n{text}")


def _attach(bpf_class: Any, loaded: Loaded, ways: tuple[Probe, ...], build: source.Build) -> None:
    """Attach a probe by the first of its ways that the kernel takes; else it is missing, and why."""
    refused: list[str] = []
    for probe in ways:
        if probe.attach is Attach.TRACEPOINT and loaded.types.tracepoint_arguments(probe.point) is None:
            refused.append("this kernel has no such tracepoint")
            continue
        if probe.hides_caller and bpf_class.ksymname(_OLD_TRAMPOLINE) != -1:
            refused.append("on this kernel a kretprobe hides the caller")
            continue
        with _captured_stderr() as messages:
            try:
                descriptor = attach(bpf_class, loaded.program, probe, old=build.old_bcc)
            except Exception as error:  # noqa: BLE001 - bcc raises nothing narrower
                failure = str(error)
            else:
                loaded.attached.append(probe)
                loaded.accounts[probe.name] = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY)
                return
        text = messages[-1].strip() if messages else ""
        refused.append(f"{failure} {text[-2000:]}".strip())
    _missing(loaded, ways[0], refused[0])


def _missing(loaded: Loaded, probe: Probe, why: str) -> None:
    loaded.missing[probe.name] = why
    there = probe.needed_if_there and loaded.types.tracepoint_arguments(probe.point) is not None
    if probe.needed or there:
        loaded.close()
        if "Operation not permitted" in why:
            raise NotPermitted(
                f"the kernel refused {probe.point}: {why}\n  CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) are needed"
            )
        raise NotSupported(f"the probe on {probe.point} cannot be used: {why}\n  see: fibtrace doctor")


@contextlib.contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """bcc's compiler and loader write to file descriptor 2: what they said belongs into the error."""
    messages: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            sink.seek(0)
            messages.append(sink.read().decode(errors="replace"))


def check_ring_size(megabytes: int) -> int:
    """Bytes of a ring of `megabytes`, which must be a power of two; raises BadRequest otherwise."""
    if megabytes < 1 or megabytes & (megabytes - 1) or megabytes > _LARGEST_RING_MB:
        raise BadRequest(
            f"a ring of {megabytes} MiB is not possible: the kernel wants a power of two\n  try: --ring-mb 32"
        )
    return megabytes << 20
