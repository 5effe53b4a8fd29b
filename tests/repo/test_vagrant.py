"""The machines for Vagrant, as far as this can be checked without starting them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tracer.lab.basic import ROUTER

MACHINES = {"c": "client", "r": "router", "s": "server"}


def run(*command, **environment):
    """A program's exit code and output, without the variables that choose a box."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("FIBTRACE_", "VAGRANT_"))
    }
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env | environment)


def quoted(text: str) -> set[str]:
    """Addresses of IPv4 in a text."""
    return set(re.findall(r'"(\d+\.\d+\.\d+\.\d+)"', text))


def test_vagrantfile_is_ruby(top):
    """The Vagrantfile parses."""
    if not (ruby := shutil.which("ruby")):
        pytest.skip("ruby is not installed here")
    done = run(ruby, "-c", str(top / "Vagrantfile"))
    assert (done.returncode, done.stdout) == (0, "Syntax OK\n"), done.stderr


def test_vagrant_accepts_the_file(top, tmp_path, monkeypatch):
    """`vagrant validate` finds nothing wrong with it, for the providers that are installed."""
    if not (vagrant := shutil.which("vagrant")):
        pytest.skip("vagrant is not installed here")
    monkeypatch.chdir(top)
    homes = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "state")}
    done = run(vagrant, "validate", "--ignore-provider", **homes)
    assert done.returncode == 0, done.stdout + done.stderr


def test_machines_have_the_addresses_of_the_lab(top):
    """Client, router and server are those of the lab `router`."""
    lines = (top / "Vagrantfile").read_text().splitlines()
    for namespace in ROUTER.namespaces:
        (line,) = [line for line in lines if f'"{MACHINES[namespace.name]}" => ' in line]
        assert quoted(line) == {address.partition("/")[0] for _, address in namespace.addresses}


def test_the_router_has_the_rule_of_the_lab(top):
    """The router's rule and table 100 are the lab's; only the names of its devices are found out."""
    script = (top / "scripts" / "vagrant-guest").read_text()
    router = next(namespace for namespace in ROUTER.namespaces if namespace.name == "r")
    assert router.forwarding
    assert router.rules
    for rule in router.rules:
        assert f"ip rule add {rule}" in script
    for route in router.routes:
        named = route.replace("dev r0", 'dev "$left"').replace("dev r1", 'dev "$right"')
        assert f"ip route replace {named}" in script


@pytest.mark.parametrize("script", ["vagrant-box", "vagrant-guest"])
def test_wrong_words_are_refused_with_a_remedy(top, script):
    """An argument that is not known ends with 2, one error and what to do, before anything is done."""
    done = run(str(top / "scripts" / script), "nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*nonsense\n  try: .*\n", done.stderr)


def test_box_help_says_where_the_box_lands(top):
    """The help is the head of the script, and names the cache and the mirror's variable."""
    done = run(str(top / "scripts" / "vagrant-box"), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "FIBTRACE_CACHE" in done.stdout
    assert "FIBTRACE_DEBIAN_MIRROR" in done.stdout
    assert "set -" not in done.stdout


def test_box_is_refused_without_root(top, tmp_path):
    """Who is not root is told so, and nothing is written."""
    if os.geteuid() == 0:
        command = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            str(top / "scripts" / "vagrant-box"),
        ]
    else:
        command = [str(top / "scripts" / "vagrant-box")]
    done = run(*command, FIBTRACE_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: not root")
    assert "try: sudo" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_setup_names_what_the_box_needs(top):
    """`scripts/setup packages` prints names of packages, one per line, and does nothing else."""
    done = run(str(top / "scripts" / "setup"), "packages")
    assert done.returncode == 0
    assert "python3-bpfcc" in done.stdout.split()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", line) for line in done.stdout.splitlines())


def test_documented_commands_in_machines_exist(top):
    """Each fibtrace command that the document runs in a machine is there."""
    text = (top / "docs" / "vagrant.md").read_text()
    inner = re.findall(r"^vagrant ssh \w+ -c '(?:sudo )?fibtrace ([^']*)'", text, re.MULTILINE)
    assert inner
    for line in inner:
        words = shlex.split(line)
        command = words[: 2 if words[0] == "lab" else 1]
        done = run(sys.executable, "-m", "tracer.cli.main", *command, "--help")
        assert done.returncode == 0, (line, done.stderr)
        for option in (word for word in words if word.startswith("--")):
            assert option in done.stdout, line
