"""Each lab is built, its traffic goes where the lab says, and nothing is left of it, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tracer.errors import BadRequest, Exit
from tracer.lab import engine, state
from tracer.lab.catalog import labs
from tracer.lab.netns import inside
from tracer.lab.steps import CLIENT
from tracer.lab.topology import LOCAL, MAIN, Flow, Hop

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="labs need root: they make network namespaces"),
]
NAMES = list(labs())
REPO = Path(__file__).parents[2]
# The answer of `ip route get` where a route or a rule of this kind decides; the label of the step names the
# kind.
REFUSALS = {"blackhole": errno.EINVAL, "unreachable": errno.EHOSTUNREACH, "prohibit": errno.EACCES}
FORWARDED = "Ip.ForwDatagrams"
COUNTERS = {
    "IP_RPFILTER": "TcpExt.IPReversePathFilter",
    "IP_INNOROUTES": "IpExt.InNoRoutes",
    "NO_SOCKET": "Udp.NoPorts",
    "IP_INHDR": "Ip.InHdrErrors",
    "PKT_TOO_BIG": "Ip.FragFails",
}


@pytest.fixture(scope="module", autouse=True)
def one_lab_at_a_time():
    """Labs share the names of their namespaces: whoever tests with them takes this lock."""
    with Path("/run/lock/fibtrace-lab-tests").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        for left in state.existing():
            if left.stale():
                engine.down(left.name)


@pytest.fixture(autouse=True)
def nobody_elses_lab():
    """Somebody at this machine may be running a lab: let that end first, for a minute at most."""
    deadline = time.monotonic() + 60
    while (others := [other.name for other in state.existing() if not other.stale()]) or lab_pids():
        assert time.monotonic() < deadline, f"lab {others} is up\ntry: fibtrace lab down {others}"
        time.sleep(0.05)  # polling what others do; nothing of ours is under way


@pytest.fixture
def before():
    """Namespaces and processes that are there before a test, to be the same after it."""
    return snapshot()


def snapshot():
    """Return the names of all namespaces, and the pids of processes whose program is one of a lab."""
    names = {path.name for path in state.NETNS_DIR.glob("*") if path.name in {"a", "b", "c", "r", "s"}}
    return names, lab_pids()


def lab_pids():
    """Return the pids of all senders and servers of labs on this machine."""
    pids = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"lab/traffic.py" in command:
                pids.add(int(entry.name))
    return pids


def assert_nothing_left(before):
    """Assert that no namespace, process, or record of a lab is there that was not before."""
    assert snapshot() == before
    assert not state.ROOT.exists()


def counters(netns):
    """Return the IP counters of a namespace as `Group.Name` to value, as nstat reads them."""
    found = {}
    text = inside(
        netns,
        lambda: "".join(Path("/proc/thread-self/net", name).read_text() for name in ("snmp", "netstat")),
    )
    lines = text.splitlines()
    for keys, values in zip(lines[::2], lines[1::2], strict=True):
        group, _, names = keys.partition(":")
        numbers = values.partition(":")[2].split()
        found |= {f"{group}.{key}": int(value) for key, value in zip(names.split(), numbers, strict=True)}
    return found


def expected_changes(step, changed):
    """Return how counters must have changed after a step: (namespace, counter) to number."""
    changes = Counter()
    for paths in (step.expect.paths, step.expect.replies):
        everywhere = (
            [hop for hop in paths[0] if all(hop.netns in {h.netns for h in path} for path in paths)]
            if paths
            else []
        )
        for hop in everywhere:
            if hop.verdict == "forward":
                changes[hop.netns, FORWARDED] += step.packets
            elif hop.reason in COUNTERS:
                changes[hop.netns, COUNTERS[hop.reason]] += step.packets
                # Counted as forwarded before it is found too big (6.18); kernels differ in that.
                if hop.reason == "PKT_TOO_BIG" and changed.get((hop.netns, FORWARDED)):
                    changes[hop.netns, FORWARDED] += step.packets
    return changes


@pytest.mark.parametrize("name", NAMES)
def test_traffic_of_each_lab_goes_where_it_says(name, before):
    """Every program reports what the lab says, the kernel's counters agree, and nothing is left."""
    with engine.running(name) as running:
        assert set(running.namespaces) == {ns.name for ns in running.lab.namespaces}
        last = {ns: counters(ns) for ns in running.namespaces}
        seen = 0
        for result in running.traffic():
            assert result.ok, f"{result.step.label}: exit {result.code}, printed {result.output}"
            now = {ns: counters(ns) for ns in running.namespaces}
            if result.step.packets is not None:
                changed = {
                    (ns, key): now[ns][key] - last[ns][key]
                    for ns in now
                    for key in (FORWARDED, *COUNTERS.values())
                    if now[ns][key] != last[ns][key]
                }
                wanted = expected_changes(result.step, changed)
                spread = {
                    key for key in changed if len(result.step.expect.paths) > 1 and key[0] in {"a", "b"}
                }
                assert {k: v for k, v in changed.items() if k not in spread} == {
                    k: v for k, v in wanted.items() if k not in spread
                }, result.step.label
            last = now
            seen += 1
        assert seen == len(running.lab.steps)
    assert_nothing_left(before)


def route_get(hop: Hop, flow: Flow, *options):
    """Ask the kernel where a packet goes from here; returns (answer, error text)."""
    words = ["ip", "-json", "-netns", hop.netns, "route", "get", *options, flow.dst]
    if hop.in_dev:
        words += ["from", str(flow.src), "iif", hop.in_dev]
    elif flow.src:
        words += ["from", flow.src]
    words += ["uid", str(flow.uid)] if flow.uid else []
    words += ["mark", str(flow.mark)] if flow.mark else []
    words += ["tos", hex(flow.tos)] if flow.tos else []
    words += ["ipproto", flow.proto]
    for key, port in (("sport", flow.sport), ("dport", flow.dport)):
        words += [key, str(port)] if port and flow.proto != "icmp" else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (json.loads(done.stdout)[0] if done.returncode == 0 else None), done.stderr.strip()


def is_decided_by_tables(hop):
    """Tell hops that `ip route get` can be asked about from copies, multicast and limited broadcast."""
    if hop.prefix == "224.0.0.0/4":
        return False  # fibmatch answers EHOSTUNREACH: __mkroute_output forgets the route of a multicast
    return hop.rule is not None or hop.error is not None or hop.reason == "IP_INNOROUTES"


def check_hop(step, hop, flow):
    """Compare one hop with what the kernel answers for the same packet."""
    answer, complaint = route_get(hop, flow, "fibmatch")
    refused = hop.error or (
        hop.verdict == "drop" and hop.reason not in {"IP_INHDR", "PKT_TOO_BIG", "NO_SOCKET"}
    )
    if refused:
        number = errno.ENETUNREACH
        if hop.error:
            number = getattr(errno, hop.error)
        elif hop.reason == "IP_RPFILTER":
            # Since 6.16 the kernel answers EINVAL for every drop with a reason of its own.
            number = errno.EXDEV if os.strerror(errno.EXDEV) in complaint else errno.EINVAL
        elif hop.reason == "NOT_SPECIFIED":
            number = REFUSALS[step.label.split()[0]]
        assert os.strerror(number) in complaint, (step.label, hop, answer)
        return
    assert answer is not None, (step.label, hop, complaint)
    # Before a first rule is made the kernel walks one trie for both and says main.
    local = answer.get("type") in {"local", "broadcast"}
    table = LOCAL if local else {"main": MAIN}.get(answer.get("table", "main")) or int(answer["table"])
    assert table == hop.table, (step.label, hop, answer)
    wanted = hop.prefix.removesuffix("/32").replace("0.0.0.0/0", "default")
    assert answer["dst"] == wanted, (step.label, hop, answer)
    if hop.verdict in {"forward", "send"}:
        ways = answer.get("nexthops", [answer])
        assert (hop.gateway, hop.out_dev) in [(way.get("gateway"), way["dev"]) for way in ways], (
            step.label,
            hop,
        )


def reverse(flow):
    """Return the flow of the answers."""
    return replace(flow, src=flow.dst, dst=flow.src, sport=flow.dport, dport=flow.sport, mark=0, tos=0, uid=0)


def chosen_source(step, hop, flow):
    """Return the source address of a packet: the flow's, or what the kernel chooses where it is sent."""
    if flow.src or hop.error:
        return flow.src
    if hop.rule is None:
        return CLIENT
    answer, complaint = route_get(hop, flow)
    assert answer is not None, (step.label, complaint)
    return answer["prefsrc"]


@pytest.mark.parametrize("name", NAMES)
def test_expected_decisions_are_those_of_the_kernel(name):
    """For every hop a lab expects, `ip route get` with the packet as it is there gives the same route."""
    asked = 0
    with engine.running(name) as running:
        for step in running.lab.steps:
            if step.flow is None:
                continue
            flow = replace(step.flow, src=chosen_source(step, step.expect.paths[0][0], step.flow))
            # What answers a broadcast or a multicast has another address: of the replies' own first hop.
            answer = reverse(flow)
            if flow.dst.startswith(("239.", "255.", "10.1.0.255")):
                answer = replace(answer, src="10.1.0.3")
            if step.expect.reply_icmp:
                answer = Flow(flow.src, proto="icmp")
                answer = replace(answer, src=chosen_source(step, step.expect.replies[0][0], answer))
            for paths, packet in ((step.expect.paths, flow), (step.expect.replies, answer)):
                for hop in (hop for path in paths for hop in path if is_decided_by_tables(hop)):
                    # A mark and a user are known where they were given, nowhere else.
                    here = packet if hop is paths[0][0] else replace(packet, mark=0, uid=0)
                    seen = replace(hop.flow, src=hop.flow.src or packet.src) if hop.flow else here
                    check_hop(step, hop, seen)
                    asked += 1
    assert asked >= 10


DRIVER = """
import sys
from tracer.lab import engine
with engine.running(sys.argv[1]) as running:
    print("up", flush=True)
    sys.stdin.read()
"""


def start_run(name, code=DRIVER):
    """Start a process that runs a lab until its stdin ends; returns when the lab is up."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, name], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    return process


def finish(process):
    """Wait for a driver and close its pipes."""
    process.wait(timeout=20)
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(number, before):
    """A lab that is interrupted while it is up is gone when its process is."""
    process = start_run("policy")
    process.send_signal(number)
    finish(process)
    assert_nothing_left(before)


def test_a_signal_while_building_leaves_nothing(before):
    """Interrupted at many moments of building, running and removing, a lab leaves nothing."""
    for step_ms in range(40, 220, 7):
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, "nat"],
            cwd=REPO, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(timeout=step_ms / 1000)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(timeout=20)
        assert_nothing_left(before)


def test_down_removes_what_kill_9_left(before):
    """After kill -9 the namespaces are still there, and `down` removes them and every process."""
    process = start_run("router")
    process.kill()
    finish(process)
    assert state.netns_inode("c") is not None
    assert engine.down("router")
    assert_nothing_left(before)


KILLED_WHILE_BUILDING = """
import os, signal, sys
from tracer.lab import build, engine
original = build._run_batches
def run_and_die(batches, lock):
    original(batches, lock)
    os.kill(os.getpid(), signal.SIGKILL)
build._run_batches = run_and_die
engine.up(sys.argv[1])
"""


def test_what_was_made_just_before_kill_9_is_known(before):
    """Killed right after the namespaces were made, before more about them was noted, they are found."""
    command = [sys.executable, "-c", KILLED_WHILE_BUILDING, "router"]
    assert subprocess.run(command, cwd=REPO, check=False).returncode == -signal.SIGKILL
    assert state.netns_inode("c") is not None
    assert engine.down("router")
    assert_nothing_left(before)


def test_kill_9_at_any_moment_is_repaired_by_the_next_run(before):
    """Whatever moment of building or traffic kill -9 hits, the next run starts and leaves nothing."""
    code = DRIVER.replace('print("up", flush=True)', "list(running.traffic())")
    for step_ms in range(40, 400, 20):
        process = subprocess.Popen([sys.executable, "-c", code, "nat"], cwd=REPO, stdin=subprocess.DEVNULL)
        try:
            process.wait(timeout=step_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)
        with engine.running("router") as running:
            assert next(running.traffic()).ok
        assert_nothing_left(before)


def test_a_namespace_of_somebody_else_is_refused_and_left_alone(before):
    """A namespace `s` that no lab made is an error that says what to do, and it survives `down`."""
    subprocess.run(["ip", "netns", "add", "s"], check=True)
    try:
        inode = state.netns_inode("s")
        with pytest.raises(BadRequest, match=r"namespace s exists that is not of a lab(.|\n)*ip netns del s"):
            engine.up("router")
        assert not engine.down("router")
        assert state.netns_inode("s") == inode
        assert state.netns_inode("c") is None
    finally:
        subprocess.run(["ip", "netns", "del", "s"], check=True)
    assert_nothing_left(before)


def test_a_namespace_made_anew_by_somebody_else_survives_down(before):
    """`down` deletes the namespace that it made, not another one that has its name by now."""
    engine.up("server")
    subprocess.run(["ip", "netns", "del", "c"], check=True)
    subprocess.run(["ip", "netns", "add", "c"], check=True)
    try:
        other = state.netns_inode("c")
        if other == state.State("server").namespaces()["c"]:
            pytest.skip("the kernel gave the new namespace the inode of the deleted one")
        engine.down("server")
        assert state.netns_inode("c") == other
    finally:
        engine.down("server")
        if state.netns_inode("c") is not None:
            subprocess.run(["ip", "netns", "del", "c"], check=True)
    assert_nothing_left(before)


def test_a_lab_that_is_up_stays_and_excludes_others(before):
    """A lab outlives the process of `up`, a second is refused, its traffic can be run, `down` ends it."""
    code = 'import sys; from tracer.lab import engine; engine.up(sys.argv[1]); print("up", flush=True)'
    finish(start_run("router", code))
    try:
        for other in ("router", "nat"):
            with pytest.raises(BadRequest, match="fibtrace lab down router"):
                engine.up(other)
        command = [sys.executable, "-m", "tracer.lab.run_traffic", "router"]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "c: datagrams, each decided, sends 23 packets: sent 23, answered 23" in done.stderr
        assert done.stdout == ""
    finally:
        assert engine.down("router")
    assert not engine.down("router")
    assert_nothing_left(before)


def test_http_goes_without_curl(before, monkeypatch):
    """Where curl is not installed our own client makes the request, and the step reports the same."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "curl" else which(name))
    with engine.running("router") as running:
        (result,) = [result for result in running.traffic() if result.step.program[0] == "get"]
        assert result.ok
        assert result.output == "200\n"
    assert_nothing_left(before)


def test_traffic_without_a_lab_is_a_usage_error():
    """The traffic of a lab that is not up, or does not exist, is a usage error and says why."""
    for name, message in (("router", "lab router is not up"), ("no-such", "no lab is named 'no-such'")):
        command = [sys.executable, "-m", "tracer.lab.run_traffic", name]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
        assert done.returncode == Exit.USAGE
        assert message in done.stderr


def test_a_command_that_fails_is_named_and_nothing_is_left(before, monkeypatch):
    """When iproute2 refuses a line, the error quotes that line, and what was built before it is removed."""
    router = labs()["router"]
    broken = replace(
        router,
        namespaces=(
            router.namespaces[0],
            replace(router.namespaces[1], routes=("default via 192.0.2.1",)),
            router.namespaces[2],
        ),
    )
    monkeypatch.setattr(engine, "find", lambda _name: broken)
    with pytest.raises(
        engine.TracerError, match=r"`ip route add default via 192\.0\.2\.1` failed in namespace r"
    ):
        engine.up("router")
    assert_nothing_left(before)


def test_building_the_router_is_fast():
    """Namespaces, links, routes and services of the router lab are there in well under a second."""
    with engine.running("router") as running:
        first = min(path.stat().st_mtime_ns for path in (running.state.file.parent / "www").iterdir())
        ready = running.state.file.stat().st_mtime_ns
    assert ready - first < 1_000_000_000
