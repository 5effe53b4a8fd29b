"""The checkout as these tests see it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "scripts"))  # vmlab is no part of what is installed


@pytest.fixture(scope="session")
def top() -> Path:
    """The top of the checkout."""
    return TOP


@pytest.fixture(scope="session")
def tracked(top) -> list[Path]:
    """Every file that belongs to the project: tracked or new, not ignored."""
    git = ["git", "-c", "safe.directory=*", "-C", str(top), "ls-files", "-z", "-co", "--exclude-standard"]
    names = subprocess.run(git, check=True, capture_output=True, text=True).stdout.split("\0")
    return [path for name in names if name and (path := top / name).is_file()]
