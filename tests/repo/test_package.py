"""What is shipped: a wheel that contains the programs for the kernel and can be run from anywhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile

import pytest


@pytest.fixture(scope="module")
def wheel(top, tmp_path_factory):
    """A wheel built from the checkout, as pip would."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, check=True, capture_output=True, cwd=top)
    (path,) = place.glob("fibtrace-*.whl")
    return path


def test_wheel_contains_every_program(wheel, top):
    """Each file of bpf/ is in the wheel as tracer/_bpf, byte for byte."""
    with zipfile.ZipFile(wheel) as archive:
        sources = [path for path in (top / "bpf").rglob("*") if path.is_file()]
        assert "wire.h" in {path.name for path in sources}
        for path in sources:
            assert archive.read(f"tracer/_bpf/{path.relative_to(top / 'bpf')}") == path.read_bytes()


def test_wheel_contains_what_a_page_is_made_of(wheel, top):
    """Markup, style and script of `fibtrace report` are in the wheel."""
    assets = top / "tracer" / "outputs" / "report" / "assets"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    found = {f"tracer/outputs/report/assets/{path.name}" for path in assets.iterdir()}
    assert len(found) > 8
    assert found <= names


def test_wheel_contains_only_the_package(wheel):
    """Nothing but the package and its metadata is installed: no tests, no scripts, no caches."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"tracer", "fibtrace-0.1.0.dist-info"}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_wheel_carries_its_licences(wheel):
    """The licence expression and the three texts are in the metadata."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read("fibtrace-0.1.0.dist-info/METADATA").decode()
        names = archive.namelist()
    assert "License-Expression: MIT AND (GPL-2.0-only OR BSD-2-Clause)" in metadata
    for name in ("LICENSE", "LICENSE.GPL-2.0", "LICENSE.BSD-2-Clause"):
        assert f"fibtrace-0.1.0.dist-info/licenses/{name}" in names


def test_installed_package_finds_its_programs(wheel, tmp_path):
    """Unpacked outside the checkout, the package finds wire.h in itself."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "from tracer.kernel.source import bpf_directory as d; print(d(), (d() / 'wire.h').is_file())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.split() == [str(tmp_path / "tracer" / "_bpf"), "True"]


def test_version_is_said_once(top):
    """The changelog's newest version is the package's."""
    version = tomllib.loads((top / "pyproject.toml").read_text())["project"]["version"]
    headings = [line for line in (top / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")]
    assert headings[0].startswith(f"## [{version}]")
