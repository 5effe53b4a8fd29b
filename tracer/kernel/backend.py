"""Which backend is used: found by attaching an empty program each way, never by the kernel's version."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from tracer.errors import BadRequest, NotSupported
from tracer.kernel import attempt
from tracer.kernel.probes import Backend

AUTO = "auto"
_TRIED_ON = "ip_route_input_noref"
_REMEDIES = {
    Backend.FENTRY: "a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, not locked down",
    Backend.KPROBE: "a kernel with CONFIG_KPROBES",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend, and for each better one why it is not that."""

    backend: Backend
    refused: dict[Backend, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """One line: what was chosen, and what it loses."""
        if self.backend is Backend.TRACEPOINT:
            return "rules, prefixes and whose lookup it is are inferred"
        return "rules, prefixes and whose lookup it is are observed"


def choose(wanted: str) -> Choice:
    """The backend that --backend names, or of `auto` the best that works here.

    Raises BadRequest for no such backend, NotSupported when the named one does not work.
    """
    names = {backend.value: backend for backend in Backend}
    if wanted != AUTO and wanted not in names:
        raise BadRequest(f"--backend {wanted}: no such backend\n  possible: {', '.join((AUTO, *names))}")
    refused: dict[Backend, str] = {}
    for backend in (Backend.FENTRY, Backend.KPROBE) if wanted == AUTO else (names[wanted],):
        why = refusal(backend, _TRIED_ON)
        if not why:
            return Choice(backend, refused)
        refused[backend] = why
        if wanted != AUTO:
            raise NotSupported(f"--backend {wanted}: {why}\n  try: --backend auto, or {_REMEDIES[backend]}")
    return Choice(Backend.TRACEPOINT, refused)


def refusal(backend: Backend, function: str) -> str:
    """Why the entry of this kernel function cannot be probed by this backend; empty when it can."""
    if backend is Backend.TRACEPOINT:
        return ""
    try:
        number = attempt.fentry(function) if backend is Backend.FENTRY else attempt.kprobe(function)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return os.strerror(number).lower() if number else ""
