"""Medians, ratios and the printed table."""

# ruff: noqa: INP001, T201 - beside the program that uses it; a table is printed

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTHS = (44, 13, 13, 13, 11, 11)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of several rounds, with the smallest and largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


class Table:
    """One line per figure: untraced, perf, fibtrace, fibtrace's ratio to both; then the goals, met or missed."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def head(self, title: str) -> None:
        """Begin a part of the table."""
        print(f"\n{title}")
        self._line("", "untraced", "perf record", "fibtrace", "/untraced", "/perf")

    def row(
        self,
        name: str,
        values: tuple[float | None, float | None, float | None],
        form: str = ",.0f",
        note: str = "",
    ) -> None:
        """Print a figure of the three; None is not measured or not there."""
        untraced, perf, fibtrace = values
        cells = [_text(value, form) for value in values]
        self._line(name, *cells, _ratio(fibtrace, untraced), _ratio(fibtrace, perf), note)

    def goal(self, name: str, figure: str, *, met: bool) -> None:
        """Print what was aimed at and whether this run met it."""
        print(f"  {'met   ' if met else 'MISSED'}  {name}: {figure}")
        if not met:
            self.missed.append(name)

    @staticmethod
    def _line(*cells: str) -> None:
        text = "".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=False))
        )
        print(f"{text}  {cells[6] if len(cells) > len(_WIDTHS) else ''}".rstrip(), flush=True)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _ratio(value: float | None, base: float | None) -> str:
    return "" if value is None or not base else f"{value / base:.2f} x"
