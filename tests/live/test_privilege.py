"""Least privilege: what is needed and is missing is named, what is not needed is given up, who owns what is written."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.tracing import LIMIT_S, REPO, fibtrace

TOOL = (sys.executable, "-m", "tracer.cli.main")
NEEDED = ("CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON")
NUMBERS = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_CHOWN": 0,
    "CAP_SYS_MODULE": 16,
    "CAP_NET_ADMIN": 12,
    "CAP_PERFMON": 38,
}
NOBODY = pwd.getpwnam("nobody")


def readable() -> bool:
    """Whether another user can read the checkout at all."""
    done = subprocess.run(
        ["setpriv", "--reuid", "nobody", "--clear-groups", "--", "test", "-r", REPO / "pyproject.toml"],
        check=False,
    )
    return done.returncode == 0


def with_capabilities(names, *words, user="nobody"):
    """Run the tool as a user who is not root and has these capabilities."""
    listed = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in names)])
    return subprocess.run(
        [
            "setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups",
            "--inh-caps", listed, "--ambient-caps", listed, "--", *TOOL, *words,
        ],
        capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=REPO, env={**os.environ, "HOME": "/"},
    )  # fmt: skip


def held(status: str, which: str = "CapEff") -> int:
    """A set of capabilities in the text of a /proc/PID/status."""
    return int(re.search(rf"^{which}:\s*([0-9a-f]+)$", status, re.MULTILINE)[1], 16)


@pytest.mark.skipif(not readable(), reason="another user cannot read this checkout")
def test_not_root_but_the_needed_capabilities_is_enough():
    """A user with the three needed capabilities and no other traces as root does."""
    done = with_capabilities(NEEDED, "trace", "--format", "none", "--", "true")
    assert done.returncode == 0, done.stderr
    assert "seen" in done.stderr


@pytest.mark.skipif(not readable(), reason="another user cannot read this checkout")
@pytest.mark.parametrize("left_out", ["CAP_SYS_ADMIN", "NONE"])
def test_without_the_needed_capabilities_they_are_named(left_out):
    """Exit 3, and the message names exactly what is missing."""
    names = [name for name in NEEDED if name != left_out] if left_out in NEEDED else []
    done = with_capabilities(names, "trace", "--", "true")
    assert done.returncode == 3
    assert set(re.findall(r"CAP_\w+", done.stderr)) == set(NEEDED) - set(names)


@pytest.mark.skipif(not readable(), reason="another user cannot read this checkout")
@pytest.mark.parametrize("left_out", ["CAP_BPF", "CAP_PERFMON"])
def test_the_two_small_ones_are_in_the_large_one(left_out):
    """CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, so a kernel accepts us without one of them."""
    names = [name for name in NEEDED if name != left_out]
    done = with_capabilities(names, "trace", "--format", "none", "--", "true")
    assert done.returncode == 0, done.stderr


def test_a_recorder_cannot_get_its_capabilities_back(tmp_path):
    """Without COMMAND no thread that follows packets keeps what it does not need, and none can regain it."""
    said = tmp_path / "said"
    with said.open("wb") as stream:
        process = subprocess.Popen(
            [*TOOL, "trace", "--format", "none", "-o", tmp_path / "a.csv"], stderr=stream, cwd=REPO
        )
    try:
        confined = wait_for_confined_threads(process)
    finally:
        process.terminate()
        code = process.wait(LIMIT_S)
    assert code == 0, said.read_text()
    for text in confined:
        for which in ("CapEff", "CapPrm", "CapBnd"):
            kept = held(text, which)
            assert [name for name, bit in NUMBERS.items() if kept >> bit & 1] == [], which


def wait_for_confined_threads(process):
    """What /proc says of the main thread and the ring's reader, once neither can regain anything."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        found = [
            text for text in statuses(process.pid) if re.search(r"^NoNewPrivs:\s*1$", text, re.MULTILINE)
        ]
        if len(found) >= 2:
            return found
    raise AssertionError("two threads that can regain nothing were not seen")


def statuses(pid):
    """The status of every thread that is still there."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            yield task.joinpath("status").read_text()


def test_the_command_of_root_is_root(tmp_path):
    """COMMAND gets what it would have without us, though we give capabilities up."""
    code = "import pathlib; print(pathlib.Path('/proc/self/status').read_text())"
    done = fibtrace("trace", "--format", "none", "--", sys.executable, "-c", code)
    assert held(done.stderr) == held(Path("/proc/self/status").read_text())


def test_the_command_runs_as_the_user():
    """With --user the command has the user's ids, groups and home, no capability, and nothing of sudo's."""
    code = (
        "import os, pathlib; print('ids', os.getresuid(), os.getresgid(), os.getgroups());"
        "print('env', os.environ['HOME'], os.environ['USER'], 'SUDO_UID' in os.environ);"
        "print(pathlib.Path('/proc/self/status').read_text())"
    )
    done = fibtrace(
        "trace", "--format", "none", "--user", "nobody", "--", "/usr/bin/python3", "-c", code,
        env={**os.environ, "SUDO_UID": "1", "SUDO_GID": "1"},
    )  # fmt: skip
    user, group = NOBODY.pw_uid, NOBODY.pw_gid
    assert done.returncode == 0, done.stderr
    assert f"ids {(user,) * 3} {(group,) * 3} [{group}]" in done.stderr
    assert f"env {NOBODY.pw_dir} nobody False" in done.stderr
    assert held(done.stderr) == held(done.stderr, "CapPrm") == 0


def test_the_command_of_a_user_is_ended_with_the_trace():
    """Another user's command is ended when the time is over, as ours would be."""
    started = time.monotonic()
    done = fibtrace("trace", "--format", "none", "--user", "nobody", "--duration", "0.2", "--", "sleep", "50")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 40


@pytest.mark.parametrize(
    ("words", "named"),
    [(["--user", "no-such-user", "--", "true"], "no-such-user"), (["--user", "nobody"], "--user")],
)
def test_a_user_that_cannot_be_meant_is_a_usage_error(words, named):
    """Exit 2, and the message names the user or the option."""
    done = fibtrace("trace", *words)
    assert done.returncode == 2
    assert named in done.stderr


def test_captures_belong_to_the_user_of_sudo_alone(tmp_path):
    """Every file that is written is readable by one user: who called sudo."""
    names = ["a.csv", "a.jsonl", "a.parquet", "a.fibtrace"]
    words = [word for name in names for word in ("-o", str(tmp_path / name))]
    env = {**os.environ, "SUDO_UID": str(NOBODY.pw_uid), "SUDO_GID": str(NOBODY.pw_gid)}
    done = fibtrace("trace", "--format", "none", *words, "--", "true", env=env)
    assert done.returncode == 0, done.stderr
    for name in names:
        info = (tmp_path / name).stat()
        assert stat.S_IMODE(info.st_mode) == 0o600, name
        assert (info.st_uid, info.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid), name
