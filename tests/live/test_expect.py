"""`fibtrace expect` on packets of the labs, the pytest fixture, and `tracer.live()`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import cache

import pytest

import tracer
from tests.live.lab_runs import skip_where_impossible
from tests.live.networks import client_router_server, lab
from tests.live.tracing import LIMIT_S, REPO, fibtrace
from tracer.errors import BadRequest
from tracer.lab.netns import udp_socket

SERVER = "10.2.0.2"
POWERLESS = ("setpriv", "--bounding-set=-sys_admin,-bpf,-perfmon", "--inh-caps=-sys_admin,-bpf,-perfmon")

HOLDS = {
    "router": """
[[expect]]
name = "there"
flow = { src = "10.1.0.2", dst = "10.2.0.2", proto = "udp", dport = 9000 }
via = [{ netns = "c", dev = "c0" }, { netns = "r", rule = 100, table = 100, gateway = "10.2.0.2", dev = "r1" },
       { netns = "s", table = "local", verdict = "deliver" }]
hops = ["c", "r", "s"]
count = 30
[[expect]]
name = "back"
flow = { src = "10.2.0.2", proto = ["udp", "tcp", "icmp"] }
via = [{ netns = "r", rule = "from all lookup main", prefix = "10.1.0.0/24", gateway = false, out_dev = "r0" }]
never = [{ netns = "r", table = 100 }]
verdict = "deliver"
[[expect]]
name = "checked strictly"
flow = { src = "10.1.0.2", dst = "10.2.0.2", proto = "icmp" }
via = [{ netns = "r", purpose = "source-check", table = "main", dev = "r0" }]
count = { min = 3, max = 3 }
""",
    "policy": """
[[expect]]
name = "the default route of main is suppressed, then all by b"
flow = { src = "10.1.0.2", dst = "10.2.0.2", proto = "tcp", dport = 80 }
via = [{ netns = "r", rule = 500, result = "suppressed" },
       { netns = "r", rule = "not from all fwmark 0xca6c lookup 200", table = 200, dev = "r2" }, { netns = "b" }]
never = [{ netns = "a" }]
[[expect]]
name = "by protocol"
flow = { src = "10.1.0.2", dst = "10.2.0.2", proto = "icmp" }
via = [{ netns = "r", rule = 145, out_dev = "r1" }, { netns = "a", table = "main" }]
hops = ["c", "r", "a", "s"]
[[expect]]
name = "a user's own uplink"
flow = { dst = "10.2.0.2", uid = 1000, proto = "udp" }
via = [{ netns = "c", rule = 110, table = 1001, dev = "c1" }]
[[expect]]
name = "marked by the socket"
flow = { dst = "10.2.0.2", mark = 7 }
via = [{ netns = "c", rule = 100, dev = "c1" }]
never = [{ netns = "c", dev = "c0" }]
""",
    "rpfilter": """
[[expect]]
name = "strict"
flow = { src = "10.1.0.2", dst = "10.2.0.11", iif = "r2" }
via = [{ netns = "r", purpose = "input", dev = "r1" }, { netns = "r", purpose = "source-check", dev = "r0" }]
verdict = "drop"
reason = "rp_filter is strict on r2"
[[expect]]
name = "loose"
flow = { src = "10.1.0.2", dst = "10.2.0.12", iif = "r3" }
verdict = "deliver"
[[expect]]
name = "a stranger, loose"
flow = { dst = "10.2.0.14" }
reason = "no route back"
""",
}

FAILS = {
    "another rule": ("via = [{ netns = 'r', rule = 101, dev = 'r1' }]", r"rule +101 +~?100 +differs"),
    "another device": ("via = [{ netns = 'r', dev = 'r2' }]", r"dev +r2 +r1 +differs"),
    "a leak": ("never = [{ netns = 'r', out_dev = 'r1' }]", "never, its step, in r"),
    "another verdict": ("verdict = 'drop'", r"verdict +drop +deliver +differs"),
    "another namespace": ("hops = ['c', 's']", r"2 +s +r +differs"),
    "too few": ("count = 31", "30 packets seen, expected exactly 31"),
    "too fast": ("within_ms = 0.0001", r"within_ms +0.0001 +[0-9.]+ +differs"),
    "nobody": ("verdict = 'deliver'\nflow.sport = 1", "no packet seen"),
}


@cache
def traffic(name):
    """What a lab's traffic comes to: expectations that hold, and for `router` those that do not."""
    skip_where_impossible(name)
    return _judged(name)


def _judged(name, tmp=None):
    import tempfile

    with lab(name), tempfile.TemporaryDirectory(prefix="ft-") as directory:
        rules, junit = f"{directory}/rules.toml", f"{directory}/out.xml"
        text = HOLDS[name]
        if name == "router":
            flow = '"10.1.0.2", dst = "10.2.0.2", proto = "udp", dport = 9000'
            for case, (keys, _) in FAILS.items():
                inner = f"src = {flow}" + (", sport = 1" if "sport" in keys else "")
                text += f'[[expect]]\nname = "{case}"\nflow = {{ {inner} }}\n{keys.partition(chr(10))[0]}\n'
        with open(rules, "w") as file:  # noqa: PTH123 - shorter
            file.write(text)
        command = [sys.executable, "-m", "tracer.lab.run_traffic", name]
        done = fibtrace("expect", rules, "--junit", junit, "--", *command)
        results = {case.get("name"): case for case in ET.parse(junit).iter("testcase")}  # noqa: S314 - our own
        return done, results


@pytest.mark.parametrize("name", HOLDS)
def test_what_a_lab_teaches_can_be_expected(name):
    """Of live packets: rules by number and text, tables, suppressed hits, marks, users, reasons, counts."""
    done, results = traffic(name)
    for expected in re.findall(r'^name = "(.*)"', HOLDS[name], re.MULTILINE):
        assert [child.text for child in results[expected]] == [], done.stderr


@pytest.mark.parametrize("case", FAILS)
def test_what_did_not_happen_is_shown(case):
    """Each kind of failure, of the same traffic: exit 1, the expected beside the seen, the path."""
    done, results = traffic("router")
    assert done.returncode == 1
    (failure,) = results[case]
    assert failure.tag == "failure"
    assert re.search(FAILS[case][1], failure.text), failure.text
    assert failure.text in done.stdout
    assert ("rule ~100" in failure.text or "rule 100" in failure.text) == ("packet #" in failure.text)


def test_all_that_holds_is_told_shortly():
    """Exit 0, a line each."""
    for name in ("policy", "rpfilter"):
        done, results = traffic(name)
        assert done.returncode == 0, done.stdout
        assert len(done.stdout.splitlines()) == len(results) + 1


@pytest.fixture(scope="module")
def net():
    """Client, router, server."""
    with client_router_server() as net:
        yield net


@pytest.fixture
def rules(tmp_path):
    """An expectation that a ping fulfils."""
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[expect]]\nname = "ping"\nflow = { dst = "10.2.0.2", proto = "icmp" }\nverdict = "deliver"\n'
    )
    return file


def test_a_command_that_fails_fails_the_expectations(net, rules, tmp_path):
    """Also where every packet did what it should; which it was is said, in the JUnit file too."""
    script = " ".join(net.inside("c", "ping", "-n", "-q", "-c", "1", SERVER)) + "; exit 7"
    done = fibtrace("expect", str(rules), "--junit", str(tmp_path / "out.xml"), "--", "sh", "-c", script)
    assert done.returncode == 1
    assert "passed  ping: 1 packet" in done.stdout
    assert done.stdout.splitlines()[-1] == "sh failed: it ended with exit code 7"
    cases = list(ET.parse(tmp_path / "out.xml").iter("testcase"))  # noqa: S314 - our own
    assert [(case.get("name"), [child.tag for child in case]) for case in cases] == [
        ("ping", []),
        ("COMMAND", ["error"]),
    ]


def test_an_interrupted_run_does_not_pass(net, rules):
    """What was seen is judged and shown, and the exit code is that of Ctrl-C."""
    script = " ".join(net.inside("c", "ping", "-n", "-q", "-c", "1", SERVER)) + "; echo sent; exec cat"
    tool = [sys.executable, "-m", "tracer.cli.main", "expect", str(rules), "--", "sh", "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(tool, text=True, cwd=REPO, **pipes) as process:
        while "sent" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "interrupted before sh had ended" in printed


def test_who_may_not_trace_is_told_so(rules):
    """Exit 3, and nothing is said to have passed."""
    tool = [sys.executable, "-m", "tracer.cli.main", "expect", str(rules), "--", "true"]
    done = subprocess.run([*POWERLESS, *tool], capture_output=True, text=True, check=False, cwd=REPO)
    assert (done.returncode, done.stdout) == (3, ""), done.stderr


PLUGIN = """
import os
import pytest
from tracer.lab.netns import udp_socket

NET = os.environ["FT_NETNS"]
FLOW = {"dst": "10.2.0.2", "proto": "udp", "dport": 4242}


def send(count=2):
    with udp_socket(NET) as sock:
        for _ in range(count):
            sock.sendto(b"x", ("10.2.0.2", 4242))


def test_holds(fibtrace):
    with fibtrace.expect(flow=FLOW, via=[{"dev": "c0"}, {"in_dev": "s0"}], reason="no socket", count=2):
        send()


def test_differs(fibtrace):
    with fibtrace.expect(flow=FLOW, never=[{"dev": "r1"}]):
        send()


def test_nothing_sent(fibtrace):
    with fibtrace.expect(name="nobody sends", flow=FLOW, verdict="deliver"):
        pass


def test_own_error(fibtrace):
    with fibtrace.expect(flow=FLOW, verdict="deliver"):
        raise KeyError("mine")


def test_wrong_words(fibtrace):
    with fibtrace.expect(flow={"dprot": 1}, verdict="deliver"):
        send()
"""


def plugin(directory, netns, *before):
    """Run the tests above, which use the installed plugin; returns outcome and message by name."""
    (directory / "test_it.py").write_text(PLUGIN)
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--junit-xml",
        "out.xml",
        "test_it.py",
    ]
    done = subprocess.run(
        [*before, *words], cwd=directory, capture_output=True, text=True, check=False, timeout=4 * LIMIT_S,
        env={**os.environ, "FT_NETNS": netns, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert (directory / "out.xml").exists(), done.stdout + done.stderr
    cases = ET.parse(directory / "out.xml").iter("testcase")  # noqa: S314 - pytest's own
    return {case.get("name"): [(child.tag, child.get("message")) for child in case] for case in cases}


def test_the_fixture_asserts_what_the_block_caused(net, tmp_path):
    """Packets of pytest's own process; nothing of what an earlier block sent; the block's own error comes first."""
    found = plugin(tmp_path, net["c"])
    assert found["test_holds"] == []
    ((kind, message),) = found["test_differs"]
    assert kind == "failure"
    assert "FAILED  test_differs: 2 of 2 packets differ" in message
    assert "└─ " in message
    ((_, message),) = found["test_nothing_sent"]
    assert "FAILED  nobody sends: no packet seen" in message
    ((_, message),) = found["test_own_error"]
    assert "KeyError: 'mine'" in message
    ((_, message),) = found["test_wrong_words"]
    assert "flow.dprot: unknown key 'dprot'" in message


def test_the_fixture_skips_where_it_may_not_trace(net, tmp_path):
    """With the tracer's own reason."""
    found = plugin(tmp_path, net["c"], *POWERLESS)
    ((kind, message),) = found["test_nothing_sent"]
    assert kind == "skipped"
    assert message.startswith("fibtrace cannot trace here: ")


def test_live_gives_the_paths_of_a_block(net):
    """Filtered, attached before the block begins and read to its end; the options are those of `trace`."""
    with udp_socket(net["c"]) as sock, tracer.live("--dst", SERVER, "--dport", "4243") as trace:
        assert trace.lost is None
        for port in (4242, 4243, 4243):
            sock.sendto(b"x", (SERVER, port))
    assert [(path.flow.dport, [hop.out_dev for hop in path.hops]) for path in trace.paths()] == [
        (4243, ["c0", "r1", None])
    ] * 2
    assert trace.lost is False
    assert all(path.complete for path in trace.paths())


def test_live_says_what_is_wrong_with_its_options():
    """As an error of the kind that the command line would end with, before the block runs."""
    with pytest.raises(BadRequest, match="no such device"), tracer.live("--iif", "no-such-dev"):
        pytest.fail("the block ran")
