"""The report as an output of the pipeline: takes rows, writes the page when it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tracer.enrich.flowpaths import FlowPaths
from tracer.outputs.report.collect import Budget, Collector
from tracer.outputs.report.page import About, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from tracer.model.change import Change
    from tracer.outputs.report.collect import Collected

MOST_CHANGES: Final = 5_000


class ReportOutput:
    """Collects what a page holds; `page()` is the page of everything so far."""

    def __init__(self, about: About, budget: Budget | None = None) -> None:
        self.about = about
        self._budget = budget or Budget()
        self._collector = Collector(self._budget)
        self.flows = FlowPaths(None)  # what the pipeline offers for comparing paths; a page has its own ways

    @property
    def found(self) -> Collected:
        """What was collected so far."""
        return self._collector.found

    def write(self, rows: pa.Table) -> None:
        """Take a batch."""
        self._collector.add(rows)

    def tell(self, changes: Sequence[Change]) -> None:
        """Take changes of the configuration; the first ones are kept."""
        kept = list(changes[: max(0, MOST_CHANGES - len(self.about.changes))])
        self.about.changes += kept
        self.about.more_changes += len(changes) - len(kept)

    def close(self) -> None:
        """Do nothing: a page is asked for, not ended."""

    def page(self) -> bytes:
        """The page of everything that was taken."""
        return page(self.found, self.about, self._budget.paths)
