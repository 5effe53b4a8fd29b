"""Where images are kept: safe when two build at once, and when one is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmlab.steps import Failed, say


@dataclass(frozen=True, slots=True)
class Cache:
    """A directory of finished images; what is not finished has a name that begins with a dot."""

    top: Path

    @classmethod
    def default(cls) -> Cache:
        """`$FIBTRACE_CACHE/vm`, else `fibtrace/vm` in `$XDG_CACHE_HOME` or /var/cache; made if absent."""
        ours = os.environ.get("FIBTRACE_CACHE")
        base = Path(ours) if ours else Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache", "fibtrace")
        top = (base / "vm").absolute()
        try:
            for name in ("kernels", "names", "apt"):
                (top / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failed(
                f"the cache cannot be made: {error}\n  try: sudo, or FIBTRACE_CACHE=DIR scripts/vm …"
            ) from error
        return cls(top)

    @property
    def log(self) -> Path:
        """What the programs printed that built the images."""
        return self.top / "build.log"

    @property
    def kernels(self) -> Path:
        """One directory per kernel release."""
        return self.top / "kernels"

    def remembered(self, name: str) -> str | None:
        """What was noted under a name."""
        try:
            return (self.top / "names" / name).read_text().strip()
        except FileNotFoundError:
            return None

    def remember(self, name: str, value: str) -> None:
        """Note a value; readers see the old or the new one, nothing between."""
        with self.building(self.top / "names" / name) as new:
            new.write_text(value + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one builds; the second waits, and then finds the work done."""
        with (self.top / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another scripts/vm that builds images")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @staticmethod
    @contextmanager
    def building(path: Path) -> Iterator[Path]:
        """Give the name to build under; only what is complete gets the real one. Needs the lock."""
        new = path.with_name(f".{path.name}.new")
        remove(new)  # of a run that was killed
        try:
            yield new
            new.rename(path)
        finally:
            remove(new)


def remove(path: Path) -> None:
    """Delete a file or a tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
