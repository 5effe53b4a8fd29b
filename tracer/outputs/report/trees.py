"""The tree of a path as a text that other paths share: what differs between them is left open.

Process ids and the numbers of other packets (`decided by #17`) become private characters that the page fills in with
the values of the path it shows. A process id keeps its width, since the columns of a tree depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tracer.model.path import Flow, Hop, Path, Process
from tracer.outputs import words
from tracer.outputs.report.coding import split_reference
from tracer.outputs.tree import has_inferred, tree
from tracer.outputs.tree_lines import Look

if TYPE_CHECKING:
    from tracer.model.path import Value

MOST_OPEN: Final = 255
_PID, _REF, _LOOK = 0xE000, 0xE100, 0xE200
_MARKED: Final = Look(
    bold=chr(_LOOK), good=chr(_LOOK + 1), bad=chr(_LOOK + 2), dim=chr(_LOOK + 3), off=chr(_LOOK + 4)
)
_SHORT: Final = Flow(4, "a", "b", "c", None, None, 0, 0)


@dataclass(frozen=True, slots=True)
class Body:
    """A tree without its header line.

    `duration_at` is the column in which the header's duration begins. `ended` says whether the end of every hop was
    seen, `open_hops` names the others. `pids` and `refs` say how many of each were left open.
    """

    text: str
    duration_at: int
    ended: bool
    open_hops: str
    inferred: bool
    pids: int
    refs: int


class _Opener:
    """Replaces the values of one path by their placeholders, in the order of its rows."""

    def __init__(self) -> None:
        self.pids = self.refs = 0
        self._last_ref = -1

    def hop(self, hop: Hop) -> Hop:
        """The hop with its values left open."""
        decisions = tuple(replace(made, reason=self._reason(made.reason)) for made in hop.decisions)
        reason = self._reason(hop.reason)
        process = hop.process
        if process is not None and process.pid is not None and self.pids < MOST_OPEN:
            process = Process(chr(_PID + self.pids) * len(str(process.pid)), process.comm)
            self.pids += 1
        return replace(hop, decisions=decisions, reason=reason, process=process)

    def _reason(self, reason: Value) -> Value:
        if reason is None:
            return None
        head, ref, tail = split_reference(str(reason))
        if ref < 0:
            return reason
        if ref != self._last_ref:
            self._last_ref = ref
            self.refs += 1
        return head + chr(_REF + min(self.refs - 1, MOST_OPEN - 1)) + tail


def body(path: Path) -> Body:
    """The tree of a path with its values left open."""
    opener = _Opener()
    opened = replace(path, hops=tuple(opener.hop(hop) for hop in path.hops))
    plain = replace(opened, packet=1, flow=_SHORT, info=None, lost=0, complete=True)
    header, _, rest = tree(plain, _MARKED).partition("\n")
    duration = f"{words.duration_ms(path):.3f} ms"
    return Body(
        text=rest.rstrip("\n"),
        duration_at=len(header) - len(duration) - len(_MARKED.bold + _MARKED.off),
        ended=all(hop.ended_ns is not None for hop in path.hops),
        open_hops=", ".join(words.netns_name(hop) for hop in path.hops if hop.ended_ns is None),
        inferred=has_inferred(path),
        pids=opener.pids,
        refs=opener.refs if opener.refs <= MOST_OPEN else -1,
    )
