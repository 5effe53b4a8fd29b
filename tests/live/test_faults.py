"""Faults while tracing: kills, deleted namespaces, places that cannot be written, terminals that nobody reads."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.networks import client_router_server, network
from tests.live.tracing import LIMIT_S, REPO, fibtrace
from tracer import read
from tracer.outputs.read import read_rows
from tracer.wire.capture import CaptureReader

TOOL = [sys.executable, "-m", "tracer.cli.main"]


@pytest.fixture(scope="module")
def net():
    """Client, router, server."""
    with client_router_server() as made:
        yield made


def pings(net, count, gap="0.005"):
    return net.inside("c", "ping", "-q", "-c", str(count), "-i", gap, "10.2.0.2")


def wait_for(there, what):
    """Poll until something is there, and return it."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := there()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def in_kernel(pid, kind="prog_id"):
    """Numbers of what a process holds of BPF: programs, links or maps."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            found |= set(map(int, re.findall(rf"^{kind}:\s*(\d+)", entry.read_text(), re.MULTILINE)))
    return found


def programs():
    """Numbers of the programs that anyone on the machine has open."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found |= in_kernel(entry.name)
    return found


@pytest.mark.parametrize("packets", [0, 5, 60, 200])
def test_kill_9_leaves_readable_files_and_nothing_else(net, tmp_path, packets):
    """At any moment: every file is read up to its last whole batch, no program stays loaded, no file is left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    raw, jsonl, csv = (tmp_path / f"x.{suffix}" for suffix in ("fibtrace", "jsonl", "csv"))
    words = [word for path in (raw, jsonl, csv) for word in ("-o", str(path))]
    command = [*TOOL, "trace", "--format", "line", *words, "--", *pings(net, 100_000)]
    names = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command, cwd=REPO, env=names, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as tool:
        if packets:
            # Both: outputs are written one after the other, and the kill may come in between.
            wait_for(lambda: all(lines_of(path) > packets for path in (jsonl, csv)), "packets")
        else:
            wait_for(lambda: in_kernel(tool.pid), "programs")
        children = Path(f"/proc/{tool.pid}/task/{tool.pid}/children").read_text().split()
        held = in_kernel(tool.pid)
        tool.kill()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)
    assert held
    wait_for(lambda: not held & programs(), "the programs to go")
    assert list(temporary.iterdir()) == []
    if not packets:
        return
    with CaptureReader(raw) as reader:
        assert sum(1 for _ in reader.frames()) >= 2
    back = tmp_path / "back.jsonl"
    assert fibtrace("convert", str(raw), str(back)).returncode == 0
    whole = [json.loads(line) for line in back.read_text().splitlines()]
    seen = read_rows(jsonl)
    assert seen.dropped_lines <= 1
    assert len(set(seen.rows.column("packet").to_pylist())) >= packets
    assert len(whole) >= packets
    assert len(read_rows(csv).rows) > packets


def test_a_namespace_that_is_deleted_meanwhile(tmp_path):
    """The trace goes on and ends well, and the namespace is let go."""
    file = tmp_path / "x.jsonl"
    with network("xy", "x:x0 y:y0") as net:
        net.ip("x", "addr add 10.3.0.1/24 dev x0")
        net.ip("y", "addr add 10.3.0.2/24 dev y0")
        ping = " ".join(net.inside("x", "ping", "-q", "-c", "20", "-i", "0.01", "-W", "1", "10.3.0.2"))
        steps = f"{ping}; ip netns del {net['y']}; ip -n {net['x']} link add x0 type veth; {ping}; true"
        done = fibtrace(
            "trace", "--netns", net["x"], "--format", "line", "-o", str(file), "--", "sh", "-c", steps
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert not Path("/run/netns", net["y"]).exists()


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    """Read-only or absent: exit 1, one message with the file's name, no file of another output is half there."""
    script = 'mount -t tmpfs -o ro none "$1" && exec "$2" -m tracer.cli.main trace -o "$1/x.csv" -- true'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert errors == [f"error: cannot create {tmp_path}/x.csv: {os.strerror(errno.EROFS)}"]
    assert "Traceback" not in done.stderr


def test_a_terminal_that_nobody_reads_loses_nothing(net, tmp_path):
    """While output is stuck the ring is emptied all the same: afterwards every packet is there, none lost."""
    master, slave = pty.openpty()
    file = tmp_path / "told"
    sent = tmp_path / "sent"
    steps = f"{' '.join(pings(net, 400, '0.001'))}; touch {sent}"
    command = [*TOOL, "trace", "--dst", "10.2.0.2", "--ring-mb", "1", "--", "sh", "-c", steps]
    with (
        file.open("w") as told,
        subprocess.Popen(command, cwd=REPO, stdin=slave, stdout=slave, stderr=told) as tool,
    ):
        os.close(slave)
        wait_for(sent.exists, "all packets to be sent")
        shown = drained(master, tool)
    os.close(master)
    assert tool.returncode == 0
    assert re.search(r"^seen 400 packets, 0 lost$", file.read_text(), re.MULTILINE), file.read_text()
    assert len(re.findall(rb"#\d+  10\.1\.0\.2", shown)) == 400


def drained(master, tool):
    """All that a program writes to its terminal until it ends."""
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the last one that had the terminal open has ended
            return shown
        if not data:
            return shown
        shown += data


def test_a_trace_that_was_suspended_goes_on(net, tmp_path):
    """Stopped and continued (as by ^Z and fg) it has every packet of the time between, and nothing is lost."""
    file = tmp_path / "x.parquet"
    stop = f"kill -STOP $PPID; {' '.join(pings(net, 200))}; kill -CONT $PPID"
    done = fibtrace("trace", "--dst", "10.2.0.2", "--format", "line", "-o", str(file), "--", "sh", "-c", stop)
    assert done.returncode == 0, done.stderr
    assert "seen 200 packets, 0 lost" in done.stderr
    frame = read(file)
    assert frame["packet"].nunique() == 200
    assert (frame["lost"] == 0).all()


def test_two_traces_at_once_see_the_same(net, tmp_path):
    """Neither takes records from the other, nor traces the other's questions: the same walks of the same packets."""
    files = [tmp_path / f"{number}.parquet" for number in range(2)]
    words = ["--dst", "10.2.0.2", "--format", "line"]
    inner = [*TOOL, "trace", *words, "-o", str(files[1]), "--", *pings(net, 100)]
    done = fibtrace("trace", *words, "-o", str(files[0]), "--", *inner)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("seen 100 packets, 0 lost") == 2, done.stderr
    columns = ["step", "event", "netns", "purpose", "rule", "table", "result", "dev", "verdict", "src", "dst"]
    one, other = (read(file)[columns].astype(str).to_numpy().tolist() for file in files)
    assert one == other
