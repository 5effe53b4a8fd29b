"""The virtual machine, as QEMU's command line says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmlab.kernel import Kernel

CHANNELS = ("console", "stdout", "stderr", "control")
"""What the guest writes to us: the kernel's console, and three ports."""

_BOOT = (
    "console=ttyS0",
    "quiet",
    "panic=-1",  # ends at once, as QEMU is told not to reboot
    "oops=panic",
    "mitigations=off",
    "nokaslr",
    "random.trust_cpu=on",
    "tsc=reliable",  # emulated CPUs share the host's: the kernel would take hpet, whose every reading leaves the guest
)
# One thread for all emulated CPUs. With a thread for each, a guest died once: a CPU ran into the breakpoint that stands
# in a jump label while another CPU changes it, as attaching to a tracepoint does. And on two cores it was no faster.
ACCELERATORS = {"kvm": ("kvm", "host"), "tcg": ("tcg,thread=single,tb-size=512", "max")}
"""How the guest's code is run, and the CPU it sees."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What is booted. `disks` are laid over each other, the last on top; `share` is /out in the guest."""

    kernel: Kernel
    disks: tuple[Path, ...]
    share: Path
    cpus: int
    memory_mib: int
    boot: tuple[str, ...] = ()


def command(guest: Guest, accelerator: str, initrd: Path, channels: dict[str, int]) -> list[str]:
    """QEMU with our end of each channel as a file descriptor it inherits."""
    accel, cpu = ACCELERATORS[accelerator]
    words = [
        # setpriv: if we are killed, so is the guest.
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        *(
            "-accel",
            accel,
            "-cpu",
            cpu,
            "-machine",
            "q35",
            "-m",
            str(guest.memory_mib),
            "-smp",
            str(guest.cpus),
        ),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *(
            "-kernel",
            str(guest.kernel.image),
            "-initrd",
            str(initrd),
            "-append",
            " ".join((*_BOOT, *guest.boot)),
        ),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
    ]
    for number, disk in enumerate(guest.disks):
        drive = (
            f"if=none,id=disk{number},file={_quoted(disk)},format=raw,readonly=on,cache=unsafe,aio=threads"
        )
        words += ["-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number}"]
    out = f"local,id=out,path={_quoted(guest.share)},security_model=none,multidevs=remap"
    words += ["-fsdev", out, "-device", "virtio-9p-pci,fsdev=out,mount_tag=out"]
    for number, name in enumerate(CHANNELS, 1):
        words += ["-add-fd", f"fd={channels[name]},set={number}"]
        words += ["-chardev", f"file,id={name},path=/dev/fdset/{number},append=on"]
        port = (
            ["-serial", f"chardev:{name}"]
            if name == "console"
            else ["-device", f"virtserialport,chardev={name},name={name}"]
        )
        words += port
    return words


def _quoted(path: Path) -> str:
    """A path inside an option of QEMU, where a comma is written twice."""
    return str(path).replace(",", ",,")
