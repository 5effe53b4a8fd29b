"""The command line of `trace`: what it prints where, how it ends, and that nothing captured is lost on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import tracer
from tests.live.networks import client_router_server
from tests.live.tracing import REPO, fibtrace

SERVER = "10.2.0.2"
TOOL = [sys.executable, "-m", "tracer.cli.main"]


@pytest.fixture(scope="module")
def net():
    """Client, router, server."""
    with client_router_server() as net:
        yield net


def ping(net, count=1):
    """The command line of a ping through the router."""
    return net.inside("c", "ping", "-n", "-q", "-i", "0.01", "-W", "2", "-c", str(count), SERVER)


def seen(done):
    """The figures of the accounting on stderr: packets, lost."""
    return tuple(map(int, re.search(r"^seen (\d+) packets, (\d+) lost", done.stderr, re.MULTILINE).groups()))


@pytest.mark.parametrize(
    ("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM)]
)
def test_the_exit_code_of_the_command_is_ours(command, code):
    """Whatever the command ends with, a signal as shells count it."""
    done = fibtrace("trace", "--", "sh", "-c", command)
    assert done.returncode == code
    assert "seen" in done.stderr


REFUSED = [
    (["--", "no-such-program"], "command not found: no-such-program"),
    (["--iif", "no-such-dev"], "no-such-dev"),
    (["--oif", "no-such-dev"], "no-such-dev"),
    (["--netns", "no-such-ns"], "no-such-ns"),
    (["--netns", "4294967295"], "4294967295"),
    (["--table", "no-such-table"], "no-such-table"),
    (["--src", "10.1.0.0/33"], "10.1.0.0/33"),
    (["--dst", "10.1.0"], "10.1.0"),
    (["--host", "example"], "example"),
    (["--proto", "no-such-proto"], "no-such-proto"),
    (["--port", "65536"], "65536"),
    (["--mark", "0x1/zz"], "0x1/zz"),
    (["--role", "bystander"], "bystander"),
    (["--purpose", "none-such"], "none-such"),
    (["--family", "5"], "5"),
    (["--stacks", "some"], "some"),
    (["--count", "0"], "count"),
    (["--duration", "-1"], "duration"),
    (["--format", "xml"], "xml"),
    (["-o", "capture.txt"], "capture.txt"),
    (["--backend", "no-such-backend"], "no-such-backend"),
    (["--no-such-option"], "no-such-option"),
]


@pytest.mark.parametrize(("words", "named"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_cannot_be_meant_is_a_usage_error(words, named, tmp_path):
    """Exit 2, one message that names what is wrong, no traceback, nothing on stdout."""
    words = words if "--" in words else [*words, "--", "true"]
    done = fibtrace("trace", *words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)})
    assert done.returncode == 2
    assert named in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_filter_by_an_ipv6_prefix_leaves_ipv4_out(net):
    """The families share a filter's words, not its packets."""
    done = fibtrace("trace", "--format", "csv", "--dst", "2001:db8::/32", "--", *ping(net))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_stdout_carries_data_only(net):
    """What the command prints goes elsewhere: stdout is CSV from its first line to its last."""
    done = fibtrace("trace", "--format", "csv", "--", *ping(net))
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {line["event"] for line in lines} >= {
        "receive",
        "lookup",
        "decision",
        "send",
        "forward",
        "deliver",
    }
    assert "packets transmitted" in done.stderr


def paths_on(stdout, wanted):
    """How many paths there are in an output."""
    if wanted == "csv":
        return len({row["packet"] for row in csv.DictReader(io.StringIO(stdout))})
    if wanted == "jsonl":
        return sum(1 for line in stdout.splitlines() if json.loads(line)["hops"])
    return len(re.findall(r"^#\d+ ", stdout, re.MULTILINE))


@pytest.mark.parametrize("wanted", ["tree", "line", "csv", "jsonl"])
def test_each_format_of_stdout_has_every_path(net, tmp_path, wanted):
    """As many paths on stdout as the accounting counts, and the same as a file gets."""
    file = tmp_path / f"out.{wanted}"
    outputs = ["-o", str(file)] if wanted in {"csv", "jsonl"} else []
    script = f"{' '.join(ping(net, 3))} >/dev/null"
    done = fibtrace("trace", "--format", wanted, *outputs, "--", "sh", "-c", script)
    assert done.returncode == 0
    packets, lost = seen(done)
    assert packets >= 6
    assert lost == 0
    assert paths_on(done.stdout, wanted) == packets
    if outputs:
        assert file.read_text() == done.stdout


def test_each_file_has_the_same_rows(net, tmp_path):
    """csv, jsonl and parquet of one run are read back as the same frame."""
    files = [tmp_path / f"out.{suffix}" for suffix in ("csv", "jsonl", "parquet")]
    fibtrace("trace", *(word for file in files for word in ("-o", str(file))), "--", *ping(net, 2))
    frames = [tracer.read(file).astype(object) for file in files]
    assert len(frames[0]) > 20
    for frame in frames[1:]:
        assert frame.columns.equals(frames[0].columns)
        assert frame.where(frame.notna(), None).equals(frames[0].where(frames[0].notna(), None))


def test_a_raw_capture_converts_to_what_was_shown_live(net, tmp_path):
    """The .fibtrace of a run, converted later, is the CSV and the JSON Lines of that run to the letter."""
    names = {suffix: tmp_path / f"live.{suffix}" for suffix in ("csv", "jsonl", "fibtrace")}
    outputs = [word for file in names.values() for word in ("-o", str(file))]
    commands = [ping(net, 3), net.udp("c", SERVER, 9, "--icmp"), net.udp("c", "203.0.113.1", 9)]
    script = " && ".join(" ".join(command) for command in commands)
    assert fibtrace("trace", *outputs, "--", "sh", "-c", script).returncode == 0
    for suffix in ("csv", "jsonl"):
        again = tmp_path / f"again.{suffix}"
        assert fibtrace("convert", str(names["fibtrace"]), str(again)).returncode == 0
        assert again.read_text() == names[suffix].read_text()


def test_count_ends_after_so_many_packets(net, tmp_path):
    """`--count 5` of a ping that would go on: exactly five paths, the command is ended, exit 0."""
    file = tmp_path / "five.csv"
    started = time.monotonic()
    done = fibtrace("trace", "--count", "5", "--dst", SERVER, "-o", str(file), "--", *ping(net, 2000))
    assert time.monotonic() - started < 15
    assert tracer.read(file)["packet"].nunique() == 5
    assert seen(done) == (5, 0)
    assert done.returncode == 0


def test_duration_ends_by_itself():
    """Without a command the trace ends after the time that was asked for."""
    started = time.monotonic()
    done = fibtrace("trace", "--duration", "0.5")
    assert done.returncode == 0
    assert 0.5 <= time.monotonic() - started < 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_trace_and_keeps_the_data(net, tmp_path, number):
    """Interrupted while packets flow: exit 0, what was seen is complete in the file, and accounted for."""
    file = tmp_path / "kept.parquet"
    command = [*TOOL, "trace", "--dst", SERVER, "--format", "line", "-o", str(file)]
    pinging = subprocess.Popen(ping(net, 2000), stdout=subprocess.DEVNULL)
    tracing = subprocess.Popen(
        command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        lines = [tracing.stdout.readline() for _ in range(3)]
        tracing.send_signal(number)
        rest, told = tracing.stdout.read(), tracing.stderr.read()
        tracing.wait(timeout=20)
    finally:
        for process in (pinging, tracing):
            process.kill()
            process.wait()
        tracing.stdout.close()
        tracing.stderr.close()
    assert tracing.returncode == 0, told
    shown = [line for line in [*lines, *rest.splitlines()] if line.startswith("#")]
    packets = int(re.search(r"^seen (\d+) packets, 0 lost", told, re.MULTILINE)[1])
    assert len(shown) == packets == tracer.read(file)["packet"].nunique()
    assert packets >= 3


def test_the_command_is_ended_when_we_are(net):
    """Interrupted with a command under way: the command ends too, and is waited for."""
    command = [*TOOL, "trace", "--format", "line", "--dst", SERVER, "--", *ping(net, 5000)]
    tracing = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not tracing.stdout.readline().startswith("#"):
            assert tracing.poll() is None
        children = children_of(tracing.pid)
        tracing.send_signal(signal.SIGINT)
        _, told = tracing.communicate(timeout=20)
    finally:
        tracing.kill()
        tracing.wait()
    assert len(children) == 1
    assert not os.path.exists(f"/proc/{children[0]}")  # noqa: PTH110 - a number, not a path of ours
    assert tracing.returncode in {0, 128 + signal.SIGTERM, 128 + signal.SIGINT}
    assert "Traceback" not in told


def children_of(pid):
    """The processes that a process has started."""
    words = ["pgrep", "-P", str(pid)]
    return [int(w) for w in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()]


def test_a_reader_that_leaves_early_is_no_error(net):
    """`fibtrace trace | head -1`: exit 0, no message, and the trace does not go on for nobody."""
    command = " ".join([*TOOL, "trace", "--format", "line", "--dst", SERVER, "--", *ping(net, 300)])
    read_end, write_end = os.pipe()
    script = f"{{ {command} >&3; echo $? >&{write_end}; }} 3>&1 | grep -m1 '^#' "
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=REPO,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=(write_end,),
            timeout=60,
        )
    finally:
        os.close(write_end)
    with os.fdopen(read_end) as codes:
        assert codes.read().strip() == "0"
    assert done.stdout.startswith("#")
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr


FULL = """
set -e
mount -t tmpfs -o size=$SIZE none "$DIR"
set +e
"$PYTHON" -m tracer.cli.main trace --format line -o "$DIR/full.$SUFFIX" -- $COMMAND >/dev/null 2>"$TOLD"
echo "exit $?"
"$PYTHON" -m tracer.cli.main convert "$DIR/full.$SUFFIX" "$READ" 2>>"$TOLD"
echo "exit $?"
"""


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "fibtrace"])
def test_a_full_disk_is_one_error_and_the_rest_is_readable(net, tmp_path, suffix):
    """On a small disk: exit 1, one message that names the file, and what was written can be read."""
    told = tmp_path / "told"
    (tmp_path / "disk").mkdir()
    # Parquet is written in groups of many rows: of a file that has no room for one, none can be read.
    size = {"parquet": "48k", "fibtrace": "128k"}.get(suffix, "1m")
    read = tmp_path / "read.jsonl"
    flood = " ".join(ping(net, 1500)).replace("0.01", "0.001")
    names = {"DIR": str(tmp_path / "disk"), "SIZE": size, "SUFFIX": suffix, "COMMAND": flood}
    names |= {"TOLD": str(told), "READ": str(read), "PYTHON": sys.executable}
    command = ["unshare", "--mount", "sh", "-c", FULL]
    done = subprocess.run(
        command, cwd=REPO, env={**os.environ, **names}, capture_output=True, text=True, check=True, timeout=60
    )
    code, converted = done.stdout.splitlines()
    errors = [line for line in told.read_text().splitlines() if line.startswith("error:")]
    assert code == "exit 1", told.read_text()
    assert len(errors) == 1
    assert f"full.{suffix}" in errors[0]
    assert "no space left" in told.read_text().lower()
    assert "Traceback" not in told.read_text()
    assert converted == "exit 0"
    assert suffix == "parquet" or len(read.read_text().splitlines()) > 10


def unprivileged(*how):
    """Run `trace` with less than root has."""
    command = ["setpriv", *how, *TOOL, "trace", "--", "true"]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=60)


def test_without_root_it_says_so():
    """Another user gets exit 3, the capabilities that are missing and the way out, before anything is loaded."""
    probe = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", "import tracer"]
    if subprocess.run(probe, cwd=REPO, capture_output=True, check=False).returncode:
        pytest.skip("this checkout cannot be read by other users")
    done = unprivileged("--reuid", "65534", "--clear-groups")
    assert done.returncode == 3
    assert "CAP_SYS_ADMIN" in done.stderr
    assert "sudo" in done.stderr
    assert done.stdout == ""


def test_without_a_capability_it_says_which():
    """Root without the right to load programs gets exit 3 and the names of the capabilities."""
    rights = "-sys_admin,-bpf,-perfmon"
    done = unprivileged("--bounding-set", rights, "--inh-caps", rights)
    assert done.returncode == 3
    assert re.search(r"CAP_(BPF|SYS_ADMIN|PERFMON)", done.stderr)
    assert "Traceback" not in done.stderr


def test_stacks_none_is_refused():
    """Without stacks the tracepoint backend takes one purpose for another: it says so, and shows nothing."""
    done = fibtrace("trace", "--stacks", "none", "--", "true")
    assert done.returncode == 4
    assert "try: --stacks first" in done.stderr
    assert done.stdout == ""
