"""How much is measured, where files go, what is printed to."""

# ruff: noqa: INP001 - beside the program that uses it

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from figures import Table
from runs import fibtrace


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int
    packets: int
    flood_s: float
    feed_records: int
    flows: int
    variants: bool


QUICK = Scale(rounds=2, packets=60_000, flood_s=1, feed_records=300_000, flows=5_000, variants=False)
FULL = Scale(rounds=5, packets=400_000, flood_s=10, feed_records=3_000_000, flows=20_000, variants=True)


@dataclass(slots=True)
class Bench:
    """One whole run: where it writes, how much it does, what it prints to."""

    work: Path
    scale: Scale
    table: Table

    @property
    def parquet(self) -> Path:
        """Where traces and feeds write."""
        return self.work / "trace.parquet"

    def trace(self, *options: str) -> list[str]:
        """`fibtrace trace` into Parquet with nothing on stdout."""
        return fibtrace("-o", str(self.parquet), "--format", "none", *options)
