"""The guests' userland: one Debian for all kernels, with what fibtrace and the labs need, and no kernel headers."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from pathlib import Path

from vmlab.archive import mirror, sources
from vmlab.kernel import SQUASH
from vmlab.steps import Steps

SUITE = "bookworm"
PYTHON = "3.11"
"""The suite's Python: wheels are chosen for it, whatever runs here."""

PACKAGES = (
    # what scripts/setup installs
    "python3", "python3-venv", "python3-bpfcc", "libbpf1", "linux-libc-dev", "iproute2", "nftables",
    "iputils-ping", "procps", "netbase", "clang", "git", "mount", "util-linux", "kmod",
    # tunnels and services for labs, and other tools to compare with
    "bpftool", "bpftrace", "charon-systemd", "curl", "ethtool", "iptables", "libcharon-extra-plugins", "openvpn",
    "shadowsocks-libev",
    "strongswan", "strongswan-swanctl", "tcpdump", "wireguard-go",
    "wireguard-tools",
)  # fmt: skip
_UNREAD = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
CHECKOUT = "/src"
VENV = f"{CHECKOUT}/.venv"
SITE_PACKAGES = f"{VENV}/lib/python{PYTHON}/site-packages"
_WHEELS = (
    "--only-binary=:all:",
    "--implementation=cp",
    f"--python-version={PYTHON}",
    "--abi=none",
    "--abi=abi3",
    f"--abi=cp{PYTHON.replace('.', '')}",
    *(f"--platform={name}_x86_64" for name in ("manylinux_2_28", "manylinux2014", "manylinux_2_17")),
)
_FORMAT = 1
"""To be raised when `build` changes in a way that is not seen in its commands."""


def requirements(pyproject: str) -> list[str]:
    """What pip installs: the project's dependencies, and those of its tests."""
    project = tomllib.loads(pyproject)["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"]]


def fingerprint(needed: list[str]) -> str:
    """Names what an image is made from and how: another name, another image."""
    command = [str(word) for word in _bootstrap(Path("tree"), Path("site"))]
    made = json.dumps([_FORMAT, _WHEELS, command, SQUASH, sorted(needed)])
    return hashlib.sha256(made.encode()).hexdigest()[:16]


def build(steps: Steps, needed: list[str], work: Path, image: Path) -> None:
    """Write the image; `work` is a directory for what lies between."""
    work.mkdir(parents=True)
    site = work / "site"
    _install_python_packages(steps, needed, work / "pip", site)
    tree = work / "tree"
    what = f"installing {SUITE} with its packages, for the guests"
    steps.run(what, *_bootstrap(tree, site), *sources(SUITE, mirror()))
    steps.run("packing the userland", "mksquashfs", tree, image, *SQUASH)
    shutil.rmtree(work)


def _install_python_packages(steps: Steps, needed: list[str], venv: Path, site: Path) -> None:
    steps.quietly("making a venv for its pip", "python3", "-m", "venv", venv)
    steps.run(
        "fetching the Python packages", venv / "bin/python", "-m", "pip", "install", "--no-input", "--no-compile",
        "--disable-pip-version-check", "--root-user-action=ignore", *_WHEELS, "--target", site, *needed,
    )  # fmt: skip
    for script in (site / "bin").iterdir():
        first, newline, rest = script.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            script.write_bytes(f"#!{VENV}/bin/python".encode() + newline + rest)


def _bootstrap(tree: Path, site: Path) -> list[str | Path]:
    """The command that makes the tree, but for where from; with a venv in it like the one of scripts/setup."""
    into = f'"$1"{SITE_PACKAGES}'
    hooks = [
        f'chroot "$1" python3 -m venv --system-site-packages --without-pip {VENV}',
        f"cp -a '{site}/.' {into}/ && mv {into}/bin/* \"$1\"{VENV}/bin/ && rmdir {into}/bin",
        # What is not compiled here would be at each start: slow, in a guest that is emulated.
        f'chroot "$1" {VENV}/bin/python -m compileall -q -j 0 {SITE_PACKAGES} || true',
        'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*',
    ]
    settings = {
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",
    }
    return [
        "mmdebstrap",
        "--variant=apt",
        *(f'--aptopt={key} "{value}"' for key, value in settings.items()),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _UNREAD),
        "--dpkgopt=force-unsafe-io",
        f"--include={','.join(PACKAGES)}",
        *(f"--customize-hook={hook}" for hook in hooks),
        SUITE,
        tree,
    ]
