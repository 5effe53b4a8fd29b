"""What a run needs from the cache, made if it is not there."""

from __future__ import annotations

import sys
from pathlib import Path

from vmlab import userland as guests
from vmlab.archive import ALIASES, Suite, suites_for
from vmlab.cache import Cache, remove
from vmlab.kernel import Kernel, build, inputs
from vmlab.steps import Failed, Steps, say

_KEPT_USERLANDS = 3


def kernel(cache: Cache, steps: Steps, name: str, *, fresh: bool = False) -> Kernel:
    """The kernel of that name; with `fresh`, the archive is asked whether there is a newer one."""
    if not fresh and (known := _cached(cache, name)):
        return known
    with cache.lock():
        if not fresh and (known := _cached(cache, name)):
            return known
        release, suite = _find(cache, steps, name)
        found = Kernel(release, cache.kernels)
        if not found.place.exists():
            _build(cache, steps, found, suite)
        if name in ALIASES:
            cache.remember(name, release)
    return found


def _cached(cache: Cache, name: str) -> Kernel | None:
    release = (cache.remembered(name) or "") if name in ALIASES else name
    found = Kernel(release, cache.kernels)
    return found if release and found.place.exists() else None


def _find(cache: Cache, steps: Steps, name: str) -> tuple[str, Suite]:
    """Release and suite of a kernel, as the archive has it today."""
    if name in ALIASES:
        suite = Suite(ALIASES[name], cache.top / "apt" / ALIASES[name])
        suite.update(steps)
        if release := suite.newest():
            return release, suite
        raise Failed(f"{suite.name} has no kernel\n  the whole log: {steps.log}")
    for other in suites_for(name):
        suite = Suite(other, cache.top / "apt" / other)
        suite.update(steps)
        if suite.parts(name):
            return name, suite
    raise Failed(
        f"Debian has no kernel {name} today, and the cache has none\n"
        f"  try: {', '.join(ALIASES)}, or the release behind linux-image- in a package's name"
    )


def _build(cache: Cache, steps: Steps, wanted: Kernel, suite: Suite) -> None:
    debs = cache.top / ".debs"
    remove(debs)
    debs.mkdir()
    try:
        suite.download(steps, suite.parts(wanted.release), debs)
        with cache.building(wanted.place) as place:
            say(f"unpacking {wanted.release}")
            build(steps, wanted.release, sorted(debs.glob("*.deb")), place)
    finally:
        remove(debs)


def userland(cache: Cache, steps: Steps, top: Path) -> Path:
    """The guests' root file system, for the dependencies that the checkout has now."""
    needed = guests.requirements((top / "pyproject.toml").read_text())
    image = cache.top / f"userland-{guests.fingerprint(needed)}.squashfs"
    if image.exists():
        return image
    with cache.lock():
        if not image.exists():
            work = cache.top / ".userland"
            remove(work)
            try:
                with cache.building(image) as new:
                    guests.build(steps, needed, work, new)
            finally:
                remove(work)
            _forget_old(cache)
    return image


def _forget_old(cache: Cache) -> None:
    images = sorted(cache.top.glob("userland-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for image in images[_KEPT_USERLANDS:]:
        image.unlink()


def show(cache: Cache) -> int:
    """Print the names, what each means, and what is in the cache."""
    for name, suite in ALIASES.items():
        release = cache.remembered(name)
        state = f"{release}" if release else "not in the cache"
        sys.stdout.write(f"{name:8} newest of {suite:9} {state}\n")
    for place in sorted(cache.kernels.glob("[!.]*")):
        release, _, made_by = place.name.partition("~")
        note = "" if made_by == inputs() else "  (of another checkout)"
        sys.stdout.write(f"{release:40} {_megabytes(place)}{note}\n")
    for image in sorted(cache.top.glob("userland-*")):
        sys.stdout.write(f"{image.name:40} {_megabytes(image)}\n")
    sys.stdout.write(f"in {cache.top}\n")
    return 0


def _megabytes(path: Path) -> str:
    files = path.rglob("*") if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files if file.is_file()) >> 20:5} MiB"
