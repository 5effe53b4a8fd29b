"""The running kernel's build configuration, where it can be read."""

from __future__ import annotations

import gzip
import os
from pathlib import Path


def kernel_config() -> dict[str, str]:
    """Return the options by name ("CONFIG_BPF": "y"), empty where they cannot be read."""
    release = os.uname().release
    for path in (
        Path("/proc/config.gz"),
        Path(f"/boot/config-{release}"),
        Path(f"/lib/modules/{release}/config"),
    ):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        return parse(gzip.decompress(data).decode() if path.suffix == ".gz" else data.decode())
    return {}


def parse(text: str) -> dict[str, str]:
    """Read `NAME=value` lines; options that are not set are comments there, and absent here."""
    pairs = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name: value.strip('"') for name, _, value in pairs}
