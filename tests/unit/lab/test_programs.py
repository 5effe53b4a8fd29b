"""Programs of steps become command lines of programs that are there."""

from __future__ import annotations

import shutil
import sys

import pytest

from tracer.errors import NotSupported
from tracer.lab import programs


def test_get_is_curl_where_there_is_curl_and_ours_elsewhere(monkeypatch, tmp_path):
    """Both fetch the same address and port."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert programs.argv(("get", "10.2.0.2", "80"), tmp_path)[::100] == ["/usr/bin/curl"]
    assert programs.argv(("get", "10.2.0.2", "80"), tmp_path)[-1] == "http://10.2.0.2:80/"
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    ours = programs.argv(("get", "10.2.0.2", "80"), tmp_path)
    assert ours[0] == sys.executable
    assert ours[-3:] == ["http-get", "10.2.0.2", "80"]


def test_a_missing_program_names_its_package(monkeypatch, tmp_path):
    """Without ping the message says which package has it."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(NotSupported, match="apt install iputils-ping"):
        programs.argv(("ping", "10.2.0.2"), tmp_path)
