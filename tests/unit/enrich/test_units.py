"""Which unit or container a process belongs to, by its cgroup."""

from __future__ import annotations

import os

import pytest

from tracer.enrich.units import Units, names_in

ID = "4f" * 32


@pytest.mark.parametrize(
    ("cgroup", "names"),
    [
        ("/system.slice/nginx.service", {"nginx", "nginx.service"}),
        ("/system.slice/system-getty.slice/getty@tty1.service", {"getty@tty1", "getty@tty1.service"}),
        (f"/system.slice/docker-{ID}.scope", {f"docker-{ID}.scope", ID, ID[:12]}),
        (f"/docker/{ID}", {ID, ID[:12]}),
        (f"/docker/{ID}/init.scope/inner", {"init", "init.scope"}),
        ("/user.slice/user-0.slice", set()),
        ("/", set()),
    ],
)
def test_the_innermost_unit_or_container_gives_the_names(cgroup, names):
    """A unit with and without its suffix, a container by its long and its short id."""
    assert names_in(cgroup) == names


def process(proc, pid, started, cgroup):
    """A process as /proc has it, with a name that would mislead who splits at spaces."""
    place = proc / str(pid)
    place.mkdir(exist_ok=True)
    (place / "stat").write_text(f"{pid} (a) b) " + " ".join(["S", *["0"] * 18, str(started), "0"]))
    (place / "cgroup").write_text(f"12:pids:/\n0::{cgroup}\n")


def test_the_next_process_with_an_id_is_another(tmp_path):
    """What is known of a process is known of it and its start time."""
    units = Units(tmp_path)
    process(tmp_path, 7, 100, "/a.service")
    assert units.names(7) == {"a", "a.service"}
    process(tmp_path, 7, 100, "/b.service")
    assert units.names(7) == {"a", "a.service"}
    process(tmp_path, 7, 200, "/b.service")
    assert units.names(7) == {"b", "b.service"}


def test_a_process_that_has_ended_has_no_unit(tmp_path):
    """Nothing is raised, and nothing is made up."""
    assert Units(tmp_path).names(7) == frozenset()


def test_the_files_of_this_kernel_are_read():
    """The start time of a living process is found, so its cgroup is asked for."""
    units = Units()
    units.names(os.getpid())
    assert [pid for pid, started in units._known if started.isdigit()] == [os.getpid()]
