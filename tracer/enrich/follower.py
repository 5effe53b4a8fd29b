"""All network namespaces of the host, kept up to date while packets are traced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from tracer.enrich.names import (
    NAMED_NAMESPACES,
    Namespace,
    host_inode,
    named_namespaces,
    namespaces,
    process_namespaces,
    system_names,
)
from tracer.enrich.netlink import NetlinkError
from tracer.enrich.notifications import Listener
from tracer.enrich.watch import Watched
from tracer.errors import TracerError
from tracer.model.network import Network, NetworkState, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracer.enrich.selectors import FlowKey
    from tracer.model.change import Change

ROUTES_PER_NAMESPACE = 20_000


class Follower:
    """Reads every namespace at `start`, then turns their notifications into versions of `network`.

    A socket keeps its namespace alive, so a namespace is let go as soon as neither a name under /run/netns
    nor a process refers to it; `poll` looks for that. Not for use by several threads at once.
    """

    def __init__(self, routes_per_namespace: int = ROUTES_PER_NAMESPACE, *, neighbours: bool = False) -> None:
        self.network = Network()
        self._neighbours = neighbours
        self._listener: Listener | None = None
        self._limit = routes_per_namespace
        self._watched: dict[int, Watched] = {}
        self._unknown: set[int] = set()
        self._changes: list[Change] = []
        self._table_names: Mapping[int, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Reads every namespace there is. Raises NotPermitted without CAP_SYS_ADMIN."""
        self._table_names = system_names().tables
        self._add(namespaces())

    def listen(self) -> None:
        """Reads notifications from now on in a thread of its own, so that they have the time of their arrival."""
        self._listener = Listener()
        for watched in self._watched.values():
            self._listener.add(watched.events)

    def pending(self) -> bool:
        """Whether notifications have arrived that `poll` has not seen: what is asked of every socket."""
        return bool(sum(watched.events.pending() for watched in self._watched.values()))

    def take_changes(self) -> list[Change]:
        """What `poll` has seen change since the last call, in order of time."""
        found, self._changes = self._changes, []
        for watched in self._watched.values():
            found += watched.changes
            watched.changes = []
        return sorted(found, key=lambda change: change.ts_ns)

    def close(self) -> None:
        """Lets go of every namespace; `network` stays."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for watched in self._watched.values():
            watched.close()
        self._watched.clear()

    def filenos(self) -> tuple[int, ...]:
        """Files that become readable when there is something to poll."""
        return tuple(watched.events.fileno() for watched in self._watched.values())

    def name(self, inode: int) -> str:
        """The namespace's name, "" if it has none or is unknown."""
        state = self.network.latest(inode)
        return state.name if state else ""

    def ensure(self, inode: int) -> NetworkState | None:
        """The newest state of a namespace, looked for on the host if it is not known yet; None if it is gone.

        An inode that could not be found is not looked for again until the next `poll`.
        """
        if inode not in self._watched and inode not in self._unknown:
            found = namespaces().get(inode)
            if found:
                self._add({inode: found})
            if inode not in self._watched:
                self._unknown.add(inode)
        return self.network.latest(inode)

    def poll(self) -> list[NetworkState]:
        """The states that are new since the last call, in no particular order; never waits."""
        self._unknown.clear()
        named = named_namespaces()
        self._forget(named)
        new = self._add({inode: item for inode, item in named.items() if inode not in self._watched})
        for watched in self._watched.values():
            state = watched.poll()
            for passed in watched.passed:
                self.network.add(passed)
            watched.passed = []
            if state:
                self._learn_peers(watched)
                new.append(watched.state)
                self.network.add(watched.state)
        return new

    def fibmatch(self, inode: int, flow: FlowKey) -> Route | None:
        """The route that this kernel finds now for such a flow; None for none or no answer."""
        if inode not in self._watched:
            return None
        try:
            return self.route_get(inode, flow)
        except (NetlinkError, ValueError):
            return None

    def route_get(self, inode: int, flow: FlowKey) -> Route:
        """As `fibmatch`, but raises the kernel's NetlinkError (`code` is the errno) if there is none."""
        return self._watched[inode].route_get(flow)

    def _add(self, found: Mapping[int, Namespace]) -> list[NetworkState]:
        """Starts to watch namespaces; the states that are new because of that."""
        before = list(self._watched.values())
        opened = (self._open(item) for item in found.values() if item.inode not in self._watched)
        added = [watched for watched in opened if watched]
        for watched in added:
            self._learn_peers(watched)
        # A device of theirs may have its peer in one that has just become known.
        peers = [watched for watched in before if added and self._learn_peers(watched)]
        states = [watched.state for watched in (*added, *peers)]
        for state in states:
            self.network.add(state)
        return states

    def _open(self, namespace: Namespace) -> Watched | None:
        """Starts to watch a namespace; None if it has disappeared meanwhile."""
        try:
            watched = Watched(namespace, self._table_names, self._limit, neighbours=self._neighbours)
        except TracerError:
            raise
        except OSError:
            return None
        self._watched[namespace.inode] = watched
        watched.start()
        if self._listener is not None:
            self._listener.add(watched.events)
        return watched

    def _learn_peers(self, watched: Watched) -> bool:
        """Finds out in which namespaces the peers of veth devices are; True if that changed the state."""
        links = watched.state.links.values()
        missing = {link.peer_nsid for link in links if link.peer_netns == 0 and link.peer_nsid >= 0}
        if not missing:
            return False
        host = host_inode()
        for other in sorted(self._watched.values(), key=lambda item: item.namespace.inode != host):
            nsid = watched.nsid_of(other.fd)
            if nsid >= 0:
                watched.nsids[nsid] = other.namespace.inode
                missing.discard(nsid)
            if not missing:
                break
        return watched.refresh_links() is not None

    def _forget(self, named: Mapping[int, Namespace]) -> None:
        """Lets go of namespaces that nobody refers to any more, so that their devices can go, too."""
        lost = [inode for inode, watched in self._watched.items() if not _is_alive(watched.namespace, named)]
        others = process_namespaces() if lost else {}
        for inode in lost:
            if inode in others:
                self._watched[inode].namespace = others[inode]
            else:
                self._drop(self._watched.pop(inode))

    def _drop(self, watched: Watched) -> None:
        if self._listener is not None:
            self._listener.remove(watched.events)
        self._changes += watched.changes
        watched.close()


def _is_alive(namespace: Namespace, named: Mapping[int, Namespace]) -> bool:
    if namespace.path.startswith(f"{NAMED_NAMESPACES}/"):
        return namespace.inode in named
    try:
        return Path(namespace.path).stat().st_ino == namespace.inode
    except OSError:
        return False
