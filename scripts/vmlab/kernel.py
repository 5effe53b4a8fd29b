"""A stock kernel made ready to boot: uncompressed, with the modules that a router can use."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from vmlab.steps import Failed, Steps

# Half of the modules are for hardware that the guest does not have.
KEPT = (
    "arch/",
    "crypto/",
    "drivers/block/virtio_blk.",
    "drivers/char/hw_random/",
    "drivers/char/virtio_console.",
    "drivers/net/",
    "drivers/virtio/",
    "fs/9p/",
    "fs/fscache/",
    "fs/fuse/",
    "fs/netfs/",
    "fs/overlayfs/",
    "fs/squashfs/",
    "kernel/",
    "lib/",
    "net/",
)
LEFT_OUT = (
    "drivers/net/ethernet/",
    "drivers/net/phy/",
    "drivers/net/usb/",
    "drivers/net/wireless/",
    "net/bluetooth/",
    "net/mac80211/",
    "net/nfc/",
    "net/wireless/",
)
SQUASH = ("-noI", "-noD", "-noF", "-noX", "-noappend", "-no-progress", "-quiet")
"""Nothing is compressed: unpacking is what emulation is slow at."""

_COMPRESSED = {
    b"\xfd7zXZ": ("xz", "-dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "-dcq"),
    b"\x1f\x8b": ("gzip", "-dc"),
    b"\x02\x21\x4c\x18": ("lz4", "-dc"),
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in the cache."""

    release: str
    top: Path

    @property
    def place(self) -> Path:
        """Its directory. Checkouts that make it in different ways share the cache."""
        return self.top / f"{self.release}~{inputs()}"

    @property
    def image(self) -> Path:
        """The ELF file that QEMU boots by its PVH note."""
        return self.place / "vmlinux"

    @property
    def modules(self) -> Path:
        """File system with /usr/lib/modules, to be laid over the userland."""
        return self.place / "modules.squashfs"

    @property
    def tree(self) -> Path:
        """The modules that the first file system needs, with modules.dep."""
        return self.place / "early"


@cache
def inputs() -> str:
    """Names what a kernel's files are made by: this very file."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]


def build(steps: Steps, release: str, packages: list[Path], into: Path) -> None:
    """Unpack a kernel's packages into `into`."""
    unpacked = into / "unpacked"
    unpacked.mkdir(parents=True)
    for package in packages:
        _unpack(package, release, unpacked)
    modules = unpacked / "usr/lib/modules" / release
    _uncompress_modules(modules)
    (unpacked / "lib").symlink_to("usr/lib")  # depmod of Debian 12 looks here, a newer one in /usr/lib
    steps.quietly("indexing the modules", "depmod", "-b", unpacked, release)
    (unpacked / "lib").unlink()
    images = (unpacked / "boot" / f"vmlinuz-{release}", modules / "vmlinuz")
    image = next((path for path in images if path.exists()), None)
    if image is None:
        raise Failed(f"the packages of {release} contain no kernel image")
    (into / "vmlinux").write_bytes(uncompressed(image.read_bytes()))
    image.unlink()
    if (modules / "config").exists():  # where newer packages have it; a running Debian has it in /boot as well
        (unpacked / "boot").mkdir(exist_ok=True)
        shutil.copy2(modules / "config", unpacked / "boot" / f"config-{release}")
    _keep_early(modules, into / "early")
    steps.quietly("packing the modules", "mksquashfs", unpacked, into / "modules.squashfs", *SQUASH)
    shutil.rmtree(unpacked)


def placed(member: str, release: str) -> PurePosixPath | None:
    """Where a file of a package goes; None for what is not kept. Old packages have modules in /lib, new in /usr/lib."""
    path = PurePosixPath(member.removeprefix("./"))
    if path in {PurePosixPath("boot", f"{name}-{release}") for name in ("vmlinuz", "config")}:
        return path
    for base in (PurePosixPath("lib/modules", release), PurePosixPath("usr/lib/modules", release)):
        if path.is_relative_to(base):
            inner = path.relative_to(base)
            return PurePosixPath("usr/lib/modules", release) / inner if _is_kept(str(inner)) else None
    return None


def _is_kept(inner: str) -> bool:
    if not inner.startswith("kernel/"):
        return inner in {"vmlinuz", "config"} or inner.startswith("modules.")
    name = inner.removeprefix("kernel/")
    return name.startswith(KEPT) and not name.startswith(LEFT_OUT)


def _unpack(package: Path, release: str, into: Path) -> None:
    """Take the image and the modules out of a .deb."""
    reading = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    with reading, tarfile.open(fileobj=reading.stdout, mode="r|") as members:
        for member in members:
            place = placed(member.name, release)
            content = members.extractfile(member) if place and member.isfile() else None
            if place and content:
                target = into / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
    if reading.returncode:
        raise Failed(f"{package.name} cannot be unpacked (dpkg-deb ended with {reading.returncode})")


def _uncompress_modules(modules: Path) -> None:
    packed = [str(path) for path in modules.rglob("*.ko.xz")]
    if packed:
        subprocess.run(["xargs", "-P2", "-n64", "xz", "-d"], input="\n".join(packed), text=True, check=True)


def _keep_early(modules: Path, into: Path) -> None:
    """Copy what the initial file system chooses from; the same paths as in modules.dep."""
    into.mkdir()
    shutil.copy2(modules / "modules.dep", into)
    for part in ("arch", "crypto", "drivers/block", "drivers/char", "drivers/virtio", "fs", "lib", "net/9p"):
        source = modules / "kernel" / part
        if source.exists():
            shutil.copytree(source, into / "kernel" / part)


def uncompressed(image: bytes) -> bytes:
    """Return the ELF file inside a bzImage; Documentation/arch/x86/boot.rst has the offsets."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = (setup_sectors + 1) * 512 + offset
    payload = image[begin : begin + length]
    for magic, command in _COMPRESSED.items():
        if payload.startswith(magic):
            # A word with the size follows the data: the tools complain of it, after having written everything.
            out = subprocess.run(command, input=payload, capture_output=True, check=False).stdout
            if out.startswith(b"\x7fELF"):
                return out
    raise Failed(f"the kernel image is packed in a way that is not known: {payload[:6]!r}")
