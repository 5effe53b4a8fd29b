"""Files of captures: private when new, as they were when not new, and never through a symbolic link to nowhere."""

from __future__ import annotations

import os
import stat

import pytest

from tracer import private_file


@pytest.fixture(autouse=True)
def _no_sudo(monkeypatch):
    """As if called without sudo, with the most careless umask."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.delenv("SUDO_GID", raising=False)
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_new_file_is_its_owners_alone(tmp_path):
    """Whatever the umask, nobody else can read it."""
    os.close(private_file.create(tmp_path / "a"))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_a_file_that_was_there_keeps_its_mode_and_loses_its_content(tmp_path):
    """Whoever made it wider meant it."""
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    os.close(private_file.create(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() == b""


def test_nothing_is_created_behind_a_link(tmp_path):
    """A link that leads nowhere is refused: another user may have put it there."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        private_file.create(tmp_path / "a")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("user", "group", "found"),
    [
        ("1000", "1001", (1000, 1001)),
        ("", "1001", None),
        ("-1", "0", None),
        ("1000", "x", None),
        ("²", "1", None),
        (str(2**32 - 1), "1", None),
    ],
)
def test_only_numbers_of_users_are_believed(monkeypatch, user, group, found):
    """What sudo says is taken where it is two ids, and ignored otherwise."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", user)
    monkeypatch.setenv("SUDO_GID", group)
    assert private_file.sudo_user() == found
