"""The backend is found by trying; a named one that does not work is an error with a remedy."""

from __future__ import annotations

import pytest

from tracer.errors import BadRequest, NotSupported
from tracer.kernel import backend as module
from tracer.kernel.attach import is_old, traced_name
from tracer.kernel.backend import AUTO, choose
from tracer.kernel.probes import TRACEPOINTS, Attach, Backend, functions


def refuse(monkeypatch, *refused):
    """Let these backends be refused by the kernel."""
    monkeypatch.setattr(module, "refusal", lambda backend, _name: "not here" if backend in refused else "")


@pytest.mark.parametrize(
    ("refused", "chosen"),
    [
        ((), Backend.FENTRY),
        ((Backend.FENTRY,), Backend.KPROBE),
        ((Backend.FENTRY, Backend.KPROBE), Backend.TRACEPOINT),
    ],
)
def test_auto_takes_the_best_that_works(monkeypatch, refused, chosen):
    """And says of each better one why not."""
    refuse(monkeypatch, *refused)
    choice = choose(AUTO)
    assert choice.backend is chosen
    assert choice.refused == dict.fromkeys(refused, "not here")
    assert ("inferred" in choice.words) is (chosen is Backend.TRACEPOINT)


def test_a_named_backend_is_used_or_refused_with_the_reason(monkeypatch):
    """No silent change to another one."""
    refuse(monkeypatch, Backend.FENTRY)
    assert choose("kprobe").backend is Backend.KPROBE
    assert choose("tracepoint").backend is Backend.TRACEPOINT
    with pytest.raises(NotSupported, match="--backend fentry: not here"):
        choose("fentry")
    with pytest.raises(BadRequest, match="possible: auto, tracepoint, fentry, kprobe"):
        choose("ftrace")


@pytest.mark.parametrize(
    ("version", "old"),
    [("0.18.0", True), ("0.26.0", True), ("0.27.0", False), ("0.31.0", False), ("1.0", False)],
)
def test_older_bcc_names_no_module(version, old):
    """libbcc finds what to trace in the program's name."""
    assert is_old(version) is old
    name = traced_name(Attach.FENTRY, "ip_forward", old=is_old(version))
    assert name == ("kfunc__ip_forward" if old else "kfunc__vmlinux__ip_forward")


def test_each_function_probe_has_a_way_in_each_backend():
    """fentry falls back on a kprobe where a function has more arguments than older kernels take."""
    assert functions(Backend.TRACEPOINT) == ()
    both = list(zip(functions(Backend.FENTRY), functions(Backend.KPROBE), strict=True))
    assert [ways[-1].point for ways, _ in both] == [ways[-1].point for _, ways in both]
    many = {ways[0].point for ways, _ in both if len(ways) > 1}
    assert many == {"fib_validate_source"}
    names = [probe.name for probe in TRACEPOINTS] + [ways[0].name for ways in functions(Backend.FENTRY)]
    assert len(set(names)) == len(names)
