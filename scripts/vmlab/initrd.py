"""The initial file system: busybox, the few modules that lead to the root file system, and our init."""

from __future__ import annotations

import stat
from pathlib import Path

from vmlab.kernel import Kernel

WANTED = (
    "virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "squashfs", "overlay", "9pnet_virtio", "9p",
    "crc32c_generic", "crc32c_intel",
)  # fmt: skip
_BUSYBOX = Path("/bin/busybox")
_DIRECTORIES = ("bin", "dev", "proc", "sys", "modules", "lower", "upper", "guest")


def build(kernel: Kernel, init: Path) -> bytes:
    """Return the archive. It is not compressed: loading more is faster than unpacking, under emulation."""
    order = load_order((kernel.tree / "modules.dep").read_text(), WANTED)
    order = [path for path in order if (kernel.tree / path).exists()]
    archive = Archive()
    for name in _DIRECTORIES:
        archive.add(name, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, _BUSYBOX.read_bytes())
    names = [Path(path).name for path in order]
    for name, path in zip(names, order, strict=True):
        archive.add(f"modules/{name}", stat.S_IFREG | 0o644, (kernel.tree / path).read_bytes())
    archive.add("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in names).encode())
    archive.add("init", stat.S_IFREG | 0o755, init.read_bytes())
    return archive.finished()


def load_order(dependencies: str, wanted: tuple[str, ...]) -> list[str]:
    """Paths of the wanted modules, each after those it needs; what is not there is built in, or unknown here."""
    lines = [line.partition(":") for line in dependencies.splitlines() if ":" in line]
    needs = {path: rest.split() for path, _, rest in lines}
    paths = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
    order: list[str] = []

    def add(path: str) -> None:
        for other in reversed(needs[path]):  # depmod lists what must be there first last
            if other not in order:
                add(other)
        if path not in order:
            order.append(path)

    for name in wanted:
        if name in paths:
            add(paths[name])
    return order


class Archive:
    """Writes the kernel's format (cpio newc): Documentation/driver-api/early-userspace/buffer-format.rst."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._number = 0

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """Append one file, directory or device."""
        self._number += 1
        word = name.encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(word), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + word
        self._parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def finished(self) -> bytes:
        """Everything, with the entry that ends it."""
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)
