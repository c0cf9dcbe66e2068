"""Webcams as the kernel tells of them, with a driver that is made up."""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from megc_stream.capture import v4l2
from megc_stream.capture import webcam as webcam_module
from megc_stream.capture.v4l2 import Mode, Webcam, webcams
from megc_stream.capture.webcam import find_webcam
from megc_stream.errors import CaptureError, UsageError

if sys.platform != "linux":
    pytest.skip("Video4Linux is Linux's", allow_module_level=True)
import fcntl

MJPG, YUYV = (int.from_bytes(code, "little") for code in (b"MJPG", b"YUYV"))
SIZES = {MJPG: [(1280, 720), (640, 480)], YUYV: [(640, 480)]}
INTERVALS = {(MJPG, 1280): [(1, 30), (1, 60)], (MJPG, 640): [(1, 120)], (YUYV, 640): [(1001, 30000)]}


def driver(request: int, argument: bytes, *, metadata: bool) -> bytes:
    """Answer an ioctl as a camera with the tables above, and refuse what lies behind their ends."""
    match request:
        case 0x80685600:
            return struct.pack(
                "16s32s32sIII12x", b"uvcvideo", b"Cam", b"usb", 0, 0x84A00001, 0x800000 if metadata else 1
            )
        case 0xC0405602:
            index, kind = struct.unpack_from("II", argument)
            if kind != 1 or index >= 2:
                raise OSError(errno.EINVAL, "Invalid argument")
            return struct.pack("III32sII12x", index, kind, 0, b"", (MJPG, YUYV)[index], 0)
        case 0xC02C564A:
            index, code = struct.unpack_from("II", argument)
            if index >= len(SIZES[code]):
                raise OSError(errno.EINVAL, "Invalid argument")
            return struct.pack("IIIII16x8x", index, code, 1, *SIZES[code][index])
        case 0xC034564B:
            index, code, width, _ = struct.unpack_from("IIII", argument)
            intervals = INTERVALS[code, width]
            if index >= len(intervals):
                raise OSError(errno.EINVAL, "Invalid argument")
            return struct.pack("IIIIIII16x8x", index, code, width, 0, 1, *intervals[index])
    raise AssertionError(hex(request))


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    names, devices = tmp_path / "names", tmp_path / "dev"
    names.mkdir()
    devices.mkdir()
    monkeypatch.setattr(v4l2, "_NAMES", names)
    monkeypatch.setattr(v4l2, "_DEVICES", devices)

    def plug(index: int, name: str, *, metadata: bool = False, node: bool = True) -> None:
        (names / f"video{index}").mkdir()
        (names / f"video{index}" / "name").write_text(f"{name}\n")
        if node:
            (devices / f"video{index}").touch()
        kinds[index] = metadata

    kinds: dict[int, bool] = {}

    def answer(descriptor: int, request: int, argument: bytes) -> bytes:
        device = Path(f"/proc/self/fd/{descriptor}").readlink()
        return driver(request, argument, metadata=kinds[int(device.name[5:])])

    monkeypatch.setattr(fcntl, "ioctl", answer)
    return plug


def test_modes_are_asked_of_the_driver(plug_in: Callable[..., None]) -> None:
    plug_in(10, "Integrated")
    plug_in(0, "HD Pro Webcam C920")
    plug_in(1, "HD Pro Webcam C920", metadata=True)
    first, second = webcams()
    assert (first.index, first.name, second.index) == (0, "HD Pro Webcam C920", 10)
    assert first.modes == (
        Mode("MJPG", 1280, 720, (60.0, 30.0)),
        Mode("MJPG", 640, 480, (120.0,)),
        Mode("YUYV", 640, 480, (29.97,)),
    )


def test_a_range_of_sizes_is_told_by_its_largest(plug_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(0, "Scaler")
    ask = fcntl.ioctl

    def stepwise(fd: int, request: int, argument: bytes) -> bytes:
        if request != 0xC02C564A or struct.unpack_from("I", argument)[0] > 0:
            return ask(fd, request, argument)
        return struct.pack("IIIIIIIII8x", 0, MJPG, 3, 32, 640, 8, 32, 480, 8)

    monkeypatch.setattr(fcntl, "ioctl", stepwise)
    assert webcams()[0].modes[0] == Mode("MJPG", 640, 480, (120.0,))


def test_a_webcam_that_cannot_be_asked_says_why(plug_in: Callable[..., None]) -> None:
    plug_in(3, "Gone", node=False)
    (webcam,) = webcams()
    assert webcam.modes == ()
    assert webcam.problem.endswith("video3: No such file or directory")


def test_no_webcams(plug_in: Callable[..., None]) -> None:
    del plug_in
    assert webcams() == []


@pytest.fixture
def three_webcams(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Webcam(0, "HD Pro Webcam C920"), Webcam(2, "HD Pro Webcam C920"), Webcam(4, "Webcam Mini")]
    monkeypatch.setattr(webcam_module, "webcams", lambda: found)


@pytest.mark.parametrize(
    ("name", "index"), [("7", 7), ("HD Pro Webcam C920", 0), ("c920", 0), ("webcam mini", 4), ("Mini", 4)]
)
@pytest.mark.usefixtures("three_webcams")
def test_webcams_are_found_by_name(name: str, index: int) -> None:
    assert find_webcam(name) == index


@pytest.mark.usefixtures("three_webcams")
def test_names_that_fit_none_or_several() -> None:
    with pytest.raises(CaptureError, match=r"webcam:zoom: no webcam of that name; found: 0 \(HD Pro Webcam C920\), 2"):
        find_webcam("zoom")
    with pytest.raises(UsageError, match="webcam:webcam: fits several webcams"):
        find_webcam("webcam")
    with pytest.raises(UsageError, match="names no camera"):
        find_webcam("")
