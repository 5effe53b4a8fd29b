"""How a run of `trace` starts: what was asked for, the probes and the namespaces at the same time, the outputs."""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.console import Tidy, TidyTold
from tracer.outputs.registry import RAW_SUFFIX, Output, Told, open_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.enrich.follower import Follower
    from tracer.enrich.resolve import FilterWords
    from tracer.kernel.loader import Loaded


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What `fibtrace trace` was asked for."""

    filter: FilterWords
    outputs: tuple[Path, ...] = ()
    stdout_format: str | None = "tree"
    command: tuple[str, ...] = ()
    user: str | None = None
    alone: bool = False
    """This process does nothing else afterwards: it may give its capabilities up."""
    count: int | None = None
    duration_s: float | None = None
    stacks: str = "first"
    ring_mb: int = 32
    strict: bool = False
    backend: str = "auto"
    namespaces: frozenset[int] = frozenset()
    changes: str = "none"
    why: bool = False
    collectors: tuple[Output, ...] = ()


def start_both(options: TraceOptions) -> tuple[Loaded, Follower]:
    """Compile the probes and read the namespaces at the same time: both wait for the kernel most of the while."""
    from tracer.kernel.loader import check_ring_size, load

    ring_bytes = check_ring_size(options.ring_mb)
    results: list[Follower | BaseException] = []

    def read_namespaces() -> None:
        try:
            from tracer.enrich.follower import Follower

            importlib.import_module("tracer.model.arrow").forget_pandas()
            importlib.import_module("tracer.pipeline")  # takes as long as the compiler: at the same time
            if options.stdout_format is not None:
                importlib.import_module(f"tracer.outputs.{options.stdout_format}")
            follower = Follower(neighbours=options.changes != "none")
            follower.start()
            follower.listen()
            results.append(follower)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            results.append(error)

    reader = threading.Thread(target=read_namespaces)
    reader.start()
    try:
        loaded = load(ring_bytes, options.backend, with_filter=options.filter.given)
    finally:
        reader.join()
    if isinstance(results[0], BaseException):
        loaded.close()
        raise results[0]
    return loaded, results[0]


def open_outputs(options: TraceOptions, clear: Callable[[], None]) -> list[Output]:
    """Files and stdout; `clear` takes the line of progress away before something is printed."""
    outputs = [open_output(path) for path in options.outputs if path.suffix != RAW_SUFFIX]
    outputs += options.collectors
    if options.stdout_format is not None:
        output = open_output("-", options.stdout_format, why=options.why)
        outputs.append(TidyTold(output, clear) if isinstance(output, Told) else Tidy(output, clear))
    return outputs
