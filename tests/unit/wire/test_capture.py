"""The raw capture is readable up to its last whole frame, whatever happened to the writer."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tracer
from tracer.errors import BadCapture
from tracer.wire.capture import MAGIC, CaptureReader, CaptureWriter, Frame, Kind

HEADER = {"wire": "struct x { u32 a; };", "release": "6.18.0", "clock_offset_ns": 5, "schema": 1}


def _write(file):
    writer = CaptureWriter(file, HEADER)
    writer.write_records(b"\x01\x02" * 500)
    writer.write_json(Kind.NETWORK, {"links": ["é"]})
    writer.write_records(memoryview(bytearray(b"abc")))
    writer.write_json(Kind.ACCOUNTING, {"lost": 0})
    writer.close()
    return file


def _all(file):
    with CaptureReader(file) as reader:
        return list(reader.frames()), reader.damage


def test_frames_come_back_in_order(tmp_path):
    """Header, records and JSON, byte for byte."""
    with CaptureReader(_write(tmp_path / "x.fibtrace")) as reader:
        frames = list(reader.frames())
        assert reader.header == HEADER
        assert reader.damage is None
    assert [frame.kind for frame in frames] == [Kind.RECORDS, Kind.NETWORK, Kind.RECORDS, Kind.ACCOUNTING]
    assert frames[0].payload == b"\x01\x02" * 500
    assert frames[1].json() == {"links": ["é"]}


@given(cut=st.integers(0, 1400), flip=st.integers(0, 1400))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_or_flipped_byte_leaves_a_true_prefix(tmp_path, cut, flip):
    """No damage gives a wrong frame: reading stops before it and says so."""
    file = _write(tmp_path / "x.fibtrace")
    whole, _ = _all(file)
    data = bytearray(file.read_bytes())
    if flip < len(data) and not 12 <= flip < 16:  # four bytes of the file's head are reserved
        data[flip] ^= 0x10
    data = data[: len(data) - cut] if cut < len(data) else data
    file.write_bytes(data)
    try:
        frames, damage = _all(file)
    except BadCapture as error:
        assert str(file) in str(error)  # noqa: PT017
        return
    assert frames == whole[: len(frames)]
    if not cut:
        assert damage or frames == whole


def test_a_truncated_frame_is_reported_not_raised(tmp_path):
    """What is missing is counted in bytes."""
    file = _write(tmp_path / "x.fibtrace")
    data = file.read_bytes()
    file.write_bytes(data[:-3])
    with CaptureReader(file) as reader:
        assert len(list(reader.frames())) == 3
        assert reader.damage == "cut short or damaged"
        assert reader.dropped_bytes == 12 + len(b'{"lost":0}') - 3


def test_unknown_kinds_are_passed_on(tmp_path):
    """A later version's frame does not stop an older reader."""
    file = _write(tmp_path / "x.fibtrace")
    head = struct.pack("<II", 99, 2)
    with file.open("ab") as opened:
        opened.write(head + struct.pack("<I", zlib.crc32(b"hi", zlib.crc32(head))) + b"hi")
    frames, damage = _all(file)
    assert frames[-1] == Frame(99, b"hi")
    assert damage is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"packet,step\n1,2\n", "no capture of fibtrace"),
        (MAGIC[:5], "ends inside"),
        (MAGIC + struct.pack("<II", 9, 0), "format is 9"),
        (MAGIC + struct.pack("<II", 1, 0), "header is missing"),
        (MAGIC + struct.pack("<II", 1, 0) + b"\x01\0\0\0\xff\0\0\0", "header is cut short"),
    ],
)
def test_foreign_files_are_refused(tmp_path, data, words):
    """What is no capture says so, with the file's name."""
    file = tmp_path / "x.fibtrace"
    file.write_bytes(data)
    with pytest.raises(BadCapture, match=words) as caught:
        CaptureReader(file)
    assert str(file) in str(caught.value)


def test_absent_files_and_folders_are_refused(tmp_path):
    """The system's reason is passed on."""
    with pytest.raises(BadCapture, match="no such file"):
        CaptureReader(tmp_path / "absent.fibtrace")
    with pytest.raises(BadCapture, match="directory"):
        CaptureReader(tmp_path)
    with pytest.raises(BadCapture, match="cannot create"):
        CaptureWriter(tmp_path / "no" / "x.fibtrace", HEADER)
    with pytest.raises(ValueError, match="release"):
        CaptureWriter(tmp_path / "x.fibtrace", {"wire": ""})


def test_a_full_disk_cuts_the_partial_frame_off(tmp_path):
    """After ENOSPC the file ends with a whole frame."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "x", str(place)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode().strip()}")
    try:
        writer = CaptureWriter(place / "x.fibtrace", HEADER)
        written = 0
        with pytest.raises(BadCapture, match="no space left on device"):  # noqa: PT012
            for _ in range(100):
                writer.write_records(bytes(10_007))
                written += 1
        writer.close()
        frames, damage = _all(place / "x.fibtrace")
        assert (len(frames), damage) == (written, None)
        assert written > 20
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_device_is_refused_at_once():
    """The first write already says that there is no room."""
    with pytest.raises(BadCapture, match="cannot write /dev/full: no space left"):
        CaptureWriter("/dev/full", HEADER)


def test_everything_written_survives_kill_9(tmp_path):
    """Frames are in the kernel's hands when `write` returns: nothing waits in the process."""
    file = tmp_path / "x.fibtrace"
    code = (
        "import sys\nfrom tracer.wire.capture import CaptureWriter\n"
        f"w = CaptureWriter({str(file)!r}, {HEADER!r})\n"
        "for i in range(23): w.write_records(b'r' * i)\n"
        "print('ready', flush=True)\nsys.stdin.read()\n"
    )
    root = Path(tracer.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"ready\n"
        os.kill(child.pid, signal.SIGKILL)
    frames, damage = _all(file)
    assert (len(frames), damage) == (22, None)
