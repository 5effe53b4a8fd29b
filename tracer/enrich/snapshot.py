"""The configuration of all namespaces at one moment as a JSON file, and back: for questions without the host."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from tracer.enrich import bulk, netns
from tracer.enrich.names import Namespace, namespaces, system_names
from tracer.enrich.netlink import RouteSocket
from tracer.enrich.watch import Watched
from tracer.errors import MALFORMED, BadCapture, BadRequest
from tracer.model.network import IPV4, IPV6, NetworkState

if TYPE_CHECKING:
    from tracer.model.packed import PackedRoutes

SCHEMA = 1
WHOLE = 1000
"""Tables with more routes than this are written as columns."""


class Snapshot(NamedTuple):
    """What a file holds."""

    kernel: str
    time_ns: int
    states: tuple[NetworkState, ...]


def states(only: str | None = None) -> Iterator[NetworkState]:
    """Every namespace of the host, or the one with this name, inode or pid, read completely.

    Raises:
        BadRequest: there is no such namespace.
        NotPermitted: CAP_SYS_ADMIN is missing.
    """
    found = namespaces()
    for namespace in found.values() if only is None else (_named(only, found),):
        try:
            yield _read(namespace)
        except OSError:
            if only is not None:
                raise
            continue  # it has ended meanwhile


def _named(text: str, found: dict[int, Namespace]) -> Namespace:
    for namespace in found.values():
        if text in {namespace.name, str(namespace.inode)}:
            return namespace
    if text.isdigit() and Path(f"/proc/{text}/ns/net").exists():
        return found[Path(f"/proc/{text}/ns/net").stat().st_ino]
    known = ", ".join(sorted(item.name for item in found.values() if item.name)) or "none"
    raise BadRequest(f"--netns {text}: no such network namespace\n  there is: {known}")


def _read(namespace: Namespace) -> NetworkState:
    watched = Watched(namespace, system_names().tables, 0)
    try:
        watched.load()
        state = watched.read_neighbours()
        sock = netns.run_in(watched.fd, RouteSocket)
        try:
            tables, tables6 = (bulk.read_tables(sock, family) for family in (IPV4, IPV6))
        finally:
            sock.close()
    finally:
        watched.close()
    empty = dict.fromkeys((*state.tables, *state.large), ())
    return replace(
        state,
        tables={**empty, **_small(tables)},
        tables6=_small(tables6),
        large=frozenset(),
        large6=frozenset(),
    )


def _small(tables: dict[int, PackedRoutes]) -> dict[int, Any]:
    return {number: routes if len(routes) > WHOLE else tuple(routes) for number, routes in tables.items()}


def write(stream: IO[str], only: str | None = None) -> None:
    """Write a snapshot, one namespace at a time."""
    head = {"snapshot": SCHEMA, "kernel": os.uname().release, "time_ns": time.time_ns()}
    text = json.dumps(head)[:-1] + ', "namespaces": ['
    for state in states(only):
        stream.write(text + "\n")
        json.dump(state.to_dict(), stream, separators=(",", ":"))
        text = ","
    stream.write(("" if text == "," else text) + "\n]}\n")


def read(path: str) -> Snapshot:
    """The inverse of `write`. Raises BadCapture."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if values["snapshot"] != SCHEMA:
            raise BadCapture(f"{path}: snapshot of schema {values['snapshot']}, this program reads {SCHEMA}")
        found = tuple(NetworkState.from_dict(item) for item in values["namespaces"])
        return Snapshot(values["kernel"], values["time_ns"], found)
    except OSError as error:
        raise BadCapture(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except MALFORMED as error:
        raise BadCapture(f"{path} is no snapshot: {error}\n  try: fibtrace snapshot -o {path}") from error
