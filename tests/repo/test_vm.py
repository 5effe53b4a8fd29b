"""What scripts/vm works out before it builds or boots anything."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from vmlab import archive, checkout, initrd, kernel, machine, userland
from vmlab.__main__ import parse, remove_left_over
from vmlab.cache import Cache
from vmlab.kernel import Kernel
from vmlab.session import Session
from vmlab.steps import Failed

RELEASE = "6.12.118+deb13-amd64"
DEPENDS = f"""\
linux-image-{RELEASE}
  Depends: linux-base-{RELEASE}
  Depends: linux-binary-{RELEASE}
 |Depends: kmod
  Depends: linux-modules-{RELEASE}
  Depends: <initramfs-tools>
  Depends: linux-base
"""


def test_command_is_everything_behind_the_first_separator():
    """Options before it are ours, and those of the command are not touched."""
    options, command = parse(["--smp", "1", "6.1", "--", "ls", "--", "--smp", "9"])
    assert (options.smp, options.kernel) == (1, ["6.1"])
    assert command == ["ls", "--", "--smp", "9"]


@pytest.mark.parametrize(
    "words", [[], ["6.1"], ["6.1", "--"], ["6.1", "6.12", "--", "ls"], ["--prepare"], ["--list", "--prepare"]]
)
def test_what_cannot_be_meant_is_refused(words, capsys):
    """With exit code 2, as any usage error, and the usage."""
    with pytest.raises(SystemExit) as end:
        parse(words)
    assert end.value.code == 2
    assert "usage: scripts/vm" in capsys.readouterr().err


def test_one_word_is_for_the_shell_and_several_are_a_program():
    """`scripts/vm 6.1 -- 'a && b'` and `scripts/vm 6.1 -- printf '%s' 'a b'` both do what they look like."""
    assert checkout.script(["echo a && echo b"]).endswith("\necho a && echo b\n")
    assert checkout.script(["printf", "%s", "a b"]).endswith("\nexec printf %s 'a b'\n")


def test_names_lead_to_suites_and_releases_to_the_likely_one_first():
    """6.1 is not taken for the beginning of 6.12; what is not known is looked for everywhere."""
    assert archive.suites_for("6.1.0-56-amd64")[0] == "bookworm"
    assert archive.suites_for(RELEASE)[0] == "trixie"
    assert sorted(archive.suites_for("7.2.13+deb14-amd64")) == sorted(archive.ALIASES.values())


def test_newest_kernel_is_what_the_meta_package_depends_on():
    """The image's name says the release; other dependencies do not."""
    listing = f"linux-image-amd64\n  Depends: linux-base\n  Depends: linux-image-{RELEASE}\n"
    assert archive.newest_release(listing) == RELEASE
    assert archive.newest_release("linux-image-amd64\n  Depends: <linux-image>\n") is None


def test_a_kernel_is_its_image_and_what_was_split_from_it():
    """Only packages of the very release; none where the suite does not have it."""
    parts = [f"linux-{part}-{RELEASE}" for part in ("image", "base", "binary", "modules")]
    assert archive.kernel_packages(RELEASE, DEPENDS) == parts
    assert archive.kernel_packages(RELEASE, "") == []


@pytest.mark.parametrize(
    "text",
    [
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n",
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ bookworm main\n",
        "# deb http://old.example/debian x main\ndeb http://mirror.example/debian bookworm main\n",
    ],
)
def test_mirror_is_read_from_both_formats_of_sources(text):
    """The archive, not its security updates, and nothing that is commented out."""
    security = "deb http://mirror.example/debian-security bookworm-security main\n"
    assert archive.find_uri(security + text) == "http://mirror.example/debian"
    assert archive.find_uri(security) is None


def test_image_is_named_by_what_is_in_it():
    """Another dependency, another name; their order and the project's version do not matter."""
    project = '[project]\nversion = "{}"\ndependencies = [{}]\n[project.optional-dependencies]\ndev = ["c"]\n'
    first = userland.requirements(project.format("1", '"a", "b"'))
    assert first == ["a", "b", "c"]
    second = userland.requirements(project.format("2", '"b", "a"'))
    more = userland.requirements(project.format("1", '"a", "b>=2"'))
    assert userland.fingerprint(first) == userland.fingerprint(second) != userland.fingerprint(more)


def test_image_of_a_kernel_is_named_by_what_is_kept(monkeypatch, tmp_path):
    """A checkout that keeps other modules makes an image of its own."""
    before = Kernel(RELEASE, tmp_path).place
    monkeypatch.setattr(kernel, "KEPT", (*kernel.KEPT, "sound/"))
    assert before.name.startswith(f"{RELEASE}~")
    assert Kernel(RELEASE, tmp_path).place != before


@pytest.mark.parametrize(
    ("member", "place"),
    [
        (f"./boot/vmlinuz-{RELEASE}", f"boot/vmlinuz-{RELEASE}"),
        (f"./lib/modules/{RELEASE}/kernel/net/8021q/8021q.ko", "net/8021q/8021q.ko"),
        (f"./usr/lib/modules/{RELEASE}/kernel/drivers/net/veth.ko.xz", "drivers/net/veth.ko.xz"),
        (f"./usr/lib/modules/{RELEASE}/kernel/drivers/net/wireless/x.ko", None),
        (f"./usr/lib/modules/{RELEASE}/kernel/sound/x.ko", None),
        ("./lib/modules/6.1.0-56-amd64/kernel/net/x.ko", None),
        ("./usr/share/doc/linux-image/copyright", None),
    ],
)
def test_modules_of_networks_are_kept_where_all_releases_have_them(member, place):
    """Below /usr/lib/modules, wherever the package has them; hardware's are left out."""
    found = kernel.placed(member, RELEASE)
    if place and not place.startswith("boot"):
        place = f"usr/lib/modules/{RELEASE}/kernel/{place}"
    assert (str(found) if found else None) == place


def test_kernel_image_is_unpacked_from_where_its_header_says():
    """A bzImage made here of known bytes; one with nothing known in it is refused."""
    elf = b"\x7fELF" + bytes(range(256)) * 40
    payload = subprocess.run(["gzip", "-c"], input=elf, capture_output=True, check=True).stdout
    head = bytearray(3 * 512)
    head[0x1F1] = 2
    struct.pack_into("<II", head, 0x248, 100, len(payload))
    assert kernel.uncompressed(bytes(head) + bytes(100) + payload + b"size") == elf
    with pytest.raises(Failed, match="not known"):
        kernel.uncompressed(bytes(head) + bytes(100 + len(payload)))


def test_modules_are_loaded_after_those_they_need():
    """Each once; what is built in is not there to be loaded."""
    listing = "k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\nk/virtio-x.ko.xz: k/c.ko\n"
    assert initrd.load_order(listing, ("a", "virtio_x", "gone")) == [
        "k/c.ko", "k/b.ko", "k/a.ko", "k/virtio-x.ko.xz",
    ]  # fmt: skip


def test_archive_is_what_cpio_reads():
    """Its format is checked by a program that is not ours."""
    if not shutil.which("busybox"):
        pytest.skip("no busybox on this machine: scripts/vm installs it")
    archive_file = initrd.Archive()
    archive_file.add("modules", 0o40755)
    archive_file.add("modules/order", 0o100644, b"a.ko\n")
    listed = subprocess.run(
        ["busybox", "cpio", "-t"], input=archive_file.finished(), capture_output=True, check=False
    )
    assert listed.stdout.decode().split() == ["modules", "modules/order"], listed.stderr


def test_machine_has_the_disks_in_order_and_every_channel(tmp_path):
    """The guest's init relies on it; commas in paths do not end an option."""
    disks = tuple(tmp_path / name for name in ("user,land", "modules", "checkout"))
    guest = machine.Guest(Kernel(RELEASE, tmp_path), disks, tmp_path, 3, 512)
    channels = {name: number for number, name in enumerate(machine.CHANNELS, 10)}
    words = machine.command(guest, "tcg", tmp_path / "initrd", channels)
    drives = [word for word in words if word.startswith("if=none")]
    assert [drive.partition("file=")[2].partition(",format")[0] for drive in drives] == [
        f"{tmp_path}/user,,land", f"{tmp_path}/modules", f"{tmp_path}/checkout",
    ]  # fmt: skip
    assert words[words.index("-smp") + 1] == "3"
    for name, number in channels.items():
        assert any(word.startswith(f"fd={number},") for word in words), name


def test_guest_says_when_it_started_and_how_it_ended():
    """In pieces, as they come; a number that is not whole yet is not taken."""
    session = Session()
    for data in (b"star", b"ted\nex", b"it 1"):
        session.take("control", data)
    assert session.started_s is not None
    assert session.code is None
    session.take("control", b"7\n")
    assert session.code == 17


def make(cache: Cache, target: Path, source: Path) -> None:
    """An image that is made of another file, after something was written."""
    with cache.lock(), cache.building(target) as new:
        assert not new.exists()
        new.write_text("half")
        new.write_text(source.read_text())


def test_unfinished_images_never_have_a_real_name(tmp_path, monkeypatch):
    """What fails leaves nothing behind; what was left by a killed run does not disturb the next."""
    monkeypatch.setenv("FIBTRACE_CACHE", str(tmp_path))
    cache = Cache.default()
    target = cache.top / "image"
    target.with_name(".image.new").write_text("half")
    with pytest.raises(FileNotFoundError):
        make(cache, target, tmp_path / "absent")
    assert list(cache.top.glob("*image*")) == []
    (tmp_path / "there").write_text("whole")
    make(cache, target, tmp_path / "there")
    assert target.read_text() == "whole"
    cache.remember("6.1", RELEASE)
    assert (cache.remembered("6.1"), cache.remembered("6.12")) == (RELEASE, None)


def test_only_directories_of_the_dead_are_removed(tmp_path):
    """Those of running processes stay, whoever they belong to."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    for owner in (dead.pid, os.getpid()):
        (tmp_path / f"fibtrace-vm-{owner}-x").mkdir()
    (tmp_path / "fibtrace-vm-other").mkdir()
    remove_left_over(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"fibtrace-vm-{os.getpid()}-x", "fibtrace-vm-other",
    }  # fmt: skip
