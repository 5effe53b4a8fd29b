"""Whether guests run by KVM or are emulated: found out by trying, once after each boot of the host."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from vmlab.cache import Cache
from vmlab.machine import ACCELERATORS, Guest
from vmlab.session import boot
from vmlab.steps import Failed, say

_TRIAL_S = 20.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def choose(guest: Guest, cache: Cache, initrd: Path) -> str:
    """KVM where a guest gets through its start with it: /dev/kvm may be there, and guests hang."""
    if chosen := os.environ.get("FIBTRACE_VM_ACCEL"):
        if chosen not in ACCELERATORS:
            raise Failed(f"FIBTRACE_VM_ACCEL is {chosen}\n  try: {' or '.join(ACCELERATORS)}")
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    this_boot = _BOOT_ID.read_text().strip()
    if (known := _known(cache, this_boot)) is None:
        with cache.lock():
            if (known := _known(cache, this_boot)) is None:
                say("trying KVM")
                trial = replace(guest, boot=("vm.trial",))
                known = "kvm" if boot(trial, "kvm", initrd, _TRIAL_S).code == 0 else "tcg"
                cache.remember("accelerator", f"{this_boot} {known}")
    return known


def _known(cache: Cache, this_boot: str) -> str | None:
    noted, _, accelerator = (cache.remembered("accelerator") or "").partition(" ")
    return accelerator if noted == this_boot and accelerator in ACCELERATORS else None
