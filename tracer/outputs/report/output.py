"""The report as an output of the pipeline: takes rows, writes the page when it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.outputs.report.collect import Budget, Collector
from tracer.outputs.report.page import About, page

if TYPE_CHECKING:
    import pyarrow as pa

    from tracer.outputs.report.collect import Collected


class ReportOutput:
    """Collects what a page holds; `page()` is the page of everything so far."""

    def __init__(self, about: About, budget: Budget | None = None) -> None:
        self.about = about
        self._budget = budget or Budget()
        self._collector = Collector(self._budget)

    @property
    def found(self) -> Collected:
        """What was collected so far."""
        return self._collector.found

    def write(self, rows: pa.Table) -> None:
        """Take a batch."""
        self._collector.add(rows)

    def close(self) -> None:
        """Do nothing: a page is asked for, not ended."""

    def page(self) -> bytes:
        """The page of everything that was taken."""
        return page(self.found, self.about, self._budget.paths)
