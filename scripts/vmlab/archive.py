"""Debian's archive, by apt with a state of its own per suite: signatures are checked, nothing is installed."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from vmlab.steps import Failed, Steps, output

ALIASES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "newest": "sid"}
"""Names of kernels, and the suite whose newest kernel each means."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_META = "linux-image-amd64"
_WITH_SECURITY = {"bullseye", "bookworm", "trixie"}
_LISTS_ARE_OLD_S = 24 * 3600
_URI = re.compile(r"^(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s*)?)(\S+/debian)/?(?:\s|$)", re.MULTILINE)


def mirror() -> str:
    """Where this machine's own apt gets Debian from; `$FIBTRACE_DEBIAN_MIRROR` on a machine that is not Debian."""
    if chosen := os.environ.get("FIBTRACE_DEBIAN_MIRROR"):
        return chosen.rstrip("/")
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.[sl]*"))]
    for place in places:
        if (
            place.suffix in {".list", ".sources"}
            and place.exists()
            and (found := find_uri(place.read_text()))
        ):
            return found
    raise Failed(
        "this machine's apt knows no Debian archive\n  try: sudo FIBTRACE_DEBIAN_MIRROR=http://HOST/debian …"
    )


def find_uri(sources: str) -> str | None:
    """Debian's address in a file of apt's sources, of the one or the other format."""
    match = _URI.search(sources)
    return match[1] if match else None


def sources(suite: str, uri: str) -> list[str]:
    """The lines of sources.list for one suite."""
    lines = [f"deb [signed-by={KEYRING}] {uri} {suite} main"]
    if suite in _WITH_SECURITY:
        lines.append(f"deb [signed-by={KEYRING}] {uri}-security {suite}-security main")
    return lines


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite of the archive, with apt's state below `place`."""

    name: str
    place: Path

    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::SourceList": self.place / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State": self.place / "state",
            "Dir::State::status": self.place / "status",
            "Dir::Cache": self.place / "cache",
            "Acquire::Check-Valid-Until": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def update(self, steps: Steps) -> None:
        """Fetch the lists, unless they are from today."""
        stamp = self.place / "updated"
        lines = "\n".join(sources(self.name, mirror())) + "\n"
        listed = self.place / "sources.list"
        same = listed.exists() and listed.read_text() == lines
        if same and stamp.exists() and time.time() - stamp.stat().st_mtime < _LISTS_ARE_OLD_S:
            return
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        (self.place / "status").touch()
        listed.write_text(lines)
        steps.run(f"updating the package lists of {self.name}", "apt-get", "-q", *self._options(), "update")
        stamp.touch()

    def depends(self, package: str) -> str:
        """What apt-cache says about a package's dependencies; empty if there is no such package."""
        return output("apt-cache", *self._options(), "depends", package)

    def download(self, steps: Steps, packages: list[str], into: Path) -> None:
        """Fetch packages into a directory."""
        what = f"fetching {' '.join(packages)} from {self.name}"
        steps.run(what, "apt-get", "-q", *self._options(), "download", *packages, cwd=into)

    def newest(self) -> str | None:
        """Release of the suite's newest stock kernel."""
        return newest_release(self.depends(_META))

    def parts(self, release: str) -> list[str]:
        """Packages that make up a kernel; none if the suite does not have it."""
        return kernel_packages(release, self.depends(f"linux-image-{release}"))


def newest_release(depends: str) -> str | None:
    """Release of the image that the meta package depends on."""
    match = re.search(r"^\s*\|?Depends: linux-image-(\d\S*)", depends, re.MULTILINE)
    return match[1] if match else None


def kernel_packages(release: str, depends: str) -> list[str]:
    """The image, and the packages that newer suites have put its files in."""
    if not depends:
        return []
    split = rf"^\s*\|?Depends: (linux-(?:binary|modules|base)-{re.escape(release)})$"
    return [f"linux-image-{release}", *re.findall(split, depends, re.MULTILINE)]


def suites_for(release: str) -> list[str]:
    """Suites to look for a release in: the likely one first."""
    likely = [suite for name, suite in ALIASES.items() if release.startswith(f"{name}.")]
    return [*likely, *(suite for suite in ALIASES.values() if suite not in likely)]
