"""What the host needs: the packages of QEMU and of the tools that make images."""

from __future__ import annotations

import os
import platform

from vmlab.steps import Failed, Steps, output

PACKAGES = (
    "busybox-static",
    "debian-archive-keyring",
    "kmod",
    "mmdebstrap",
    "python3-venv",
    "qemu-system-x86",
    "squashfs-tools",
    "util-linux",
    "xz-utils",
    "zstd",
)
_APT = ("apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")


def missing(states: str) -> list[str]:
    """Packages that dpkg-query does not list as installed."""
    installed = {line.split()[0] for line in states.splitlines() if line.endswith(" installed")}
    return [package for package in PACKAGES if package not in installed]


def install_missing(steps: Steps) -> None:
    """Install what is missing, as root; a second run does nothing."""
    if platform.machine() != "x86_64":
        raise Failed(f"this machine is {platform.machine()}: the kernels are fetched for x86_64 only")
    os.environ["PATH"] = f"/usr/sbin:/sbin:{os.environ.get('PATH', '/usr/bin:/bin')}"
    os.environ.update(LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive")
    query = "dpkg-query -W -f='${Package} ${db:Status-Status}\\n' \"$@\" 2>/dev/null || true"
    lacking = missing(output("sh", "-c", query, "sh", *PACKAGES))
    if not lacking:
        return
    if os.geteuid() != 0:
        raise Failed(
            f"not root, and these packages are missing: {' '.join(lacking)}\n  try: sudo scripts/vm …"
        )
    steps.run("updating the package lists", *_APT, "update")
    steps.run(f"installing {' '.join(lacking)}", *_APT, "install", "--no-install-recommends", *lacking)
