"""What every test may rely on: `live` tests run where packets can be traced, else say why not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # how fast a busy machine is says nothing of the code
settings.load_profile("any machine")
# What was started in the background or by nohup ignores these, and would hand that on to what the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def why_not_live() -> str | None:
    """Return what this machine lacks for live tests, None if nothing."""
    if os.geteuid() != 0:
        return "not root: run `sudo scripts/test`"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "this kernel has no BTF (/sys/kernel/btf/vmlinux)"
    from tracer.errors import Exit
    from tracer.kernel.doctor import checks, verdict

    found = checks()
    if verdict(found) is not Exit.DONE:
        return "this kernel does not let us trace: " + ", ".join(check.name for check in found if check.bad)
    return None


def pytest_report_header() -> str:
    """Say at the start whether the live tests can run here."""
    reason = why_not_live()
    return f"live tests: {'run here' if reason is None else f'SKIPPED here, {reason}'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in tests/live, and skip it with the reason where it cannot run."""
    live = [item for item in items if "live" in item.path.parts or item.get_closest_marker("live")]
    reason = why_not_live() if live else None
    for item in live:
        item.add_marker(pytest.mark.live)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
