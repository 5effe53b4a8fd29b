"""The command line of `scripts/vm`: what is asked for, and what ends it."""

# ruff: noqa: T201 - it prints, on stderr

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from vmlab import checkout, host, prepare
from vmlab.archive import ALIASES
from vmlab.cache import Cache, remove
from vmlab.machine import Guest
from vmlab.run import run
from vmlab.steps import Failed, Steps, say

TOP = Path(__file__).resolve().parents[2]
NO_VERDICT = 125
_PREFIX = "fibtrace-vm-"
_EPILOG = """\
COMMAND is run by root in a fresh copy of this checkout; its exit code is ours. What it writes below $FIBTRACE_OUT is
in DIR afterwards. Ends with 124 after --timeout, and with 125 when the guest died or could not be made.
"""


def parser() -> argparse.ArgumentParser:
    """What can be said on the command line, but for COMMAND."""
    names = ", ".join(ALIASES)
    parsed = argparse.ArgumentParser(
        prog="scripts/vm",
        description="Runs a command in a virtual machine with a stock Debian kernel.",
        usage="%(prog)s [options] KERNEL -- COMMAND...",
        epilog=_EPILOG,
    )
    parsed.add_argument(
        "kernel", nargs="*", metavar="KERNEL", help=f"{names}, or a release as `uname -r` says"
    )
    parsed.add_argument("--smp", type=int, default=2, metavar="N", help="virtual CPUs (%(default)s)")
    parsed.add_argument("--mem", type=int, default=2048, metavar="MB", help="memory (%(default)s MiB)")
    parsed.add_argument("--timeout", type=float, default=900, metavar="S", help="seconds (%(default)s)")
    parsed.add_argument("--share", type=Path, metavar="DIR", help="is $FIBTRACE_OUT of the command")
    what = parsed.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list the kernels, and what is in the cache")
    what.add_argument("--prepare", action="store_true", help="only build, from what the archive has today")
    return parsed


def parse(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split at the first `--`: our options and kernels before it, COMMAND behind it."""
    at = words.index("--") if "--" in words else len(words)
    command = words[at + 1 :]
    ours = parser()
    options = ours.parse_args(words[:at])
    if options.list:
        return options, []
    if not options.kernel:
        ours.error("which kernel? see --list")
    if not options.prepare and (len(options.kernel) != 1 or not command):
        ours.error("one KERNEL, then -- and a command")
    return options, command


def execute(options: argparse.Namespace, command: list[str]) -> int:
    """Do what was asked; the exit code."""
    cache = Cache.default()
    if options.list:
        return prepare.show(cache)
    if os.geteuid() != 0:
        raise Failed("not root: images belong to root, as their files do\n  try: sudo scripts/vm …")
    steps = Steps(cache.log)
    host.install_missing(steps)
    if options.prepare:
        for name in options.kernel:
            prepare.kernel(cache, steps, name, fresh=True)
        prepare.userland(cache, steps, TOP)
        return 0
    kernel = prepare.kernel(cache, steps, options.kernel[0])
    userland = prepare.userland(cache, steps, TOP)
    remove_left_over(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as name:
        work = Path(name)
        share = options.share or work / "out"
        share.mkdir(parents=True, exist_ok=True)
        disk = checkout.pack(steps, TOP, command, work)
        disks = (userland, kernel.modules, disk)
        guest = Guest(kernel, disks, share.resolve(), options.smp, options.mem)
        return run(guest, cache, work, options.timeout)


def remove_left_over(directory: Path) -> None:
    """Delete what runs that were killed left: their number is in the name."""
    for path in directory.glob(f"{_PREFIX}*-*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            remove(path)


def main() -> int:
    """Parse, do, and turn what went wrong into a message and an exit code."""
    options, command = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.umask(0o022)
    try:
        return execute(options, command)
    except (Failed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_VERDICT
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
