"""GenICam cameras through harvesters and the GenTL simulator that comes with the genicam package."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import camera_sdks as sdks
import numpy as np
import pytest

from megc_stream.capture import open_source
from megc_stream.capture.genicam import GenicamDevice, find_genicam, genicam_devices, producers
from megc_stream.clock import MonotonicClock
from megc_stream.errors import CaptureError, MissingExtraError, UsageError
from megc_stream.settings import CameraSettings, CaptureSettings


@pytest.fixture(scope="module")
def cti() -> Path:
    return sdks.producer()


def settings_for(*, camera: dict[str, Any] | None = None, **more: Any) -> CaptureSettings:
    wanted = CameraSettings(**{"width": 160, "height": 120, **(camera or {})})
    return CaptureSettings(**{"fps": 200.0, "live_queue_s": 2.0, **more, "camera": wanted})


def test_frames_come_in_order_and_every_gap_is_told(cti: Path) -> None:
    with open_source(f"genicam:{cti}?serial=1", settings_for(fps=100.0), clock=MonotonicClock()) as source:
        assert source.info.source == "genicam-1"
        assert source.info.description == "Machine Vision Games Ltd. Viky, Mono8 160x120"
        assert (source.info.fps, source.info.width, source.info.height) == (100.0, 160, 120)
        frames = []
        for frame in source.frames():
            frames.append(frame)
            if len(frames) == 60:
                source.stop()
        assert source.clock_fit is None  # the simulator stamps nothing
    assert frames[0].frame == 0
    # The simulator skips frames when a busy machine leaves it without buffers.
    for before, after in pairwise(frames):
        assert after.frame - before.frame - 1 == after.dropped.get("skipped", 0) == sum(after.dropped.values())
    assert all(frame.t_device_s is None for frame in frames)
    # A ball bounces: the pictures differ, and each has memory of its own after the camera is closed.
    assert len({frame.image.tobytes() for frame in frames}) > 10
    assert all(np.isin(frame.image[0], frames[0].image).all() for frame in frames)


def test_two_cameras_of_one_producer_at_once(cti: Path) -> None:
    devices = [GenicamDevice(cti, serial, settings_for()) for serial in ("0", "2")]
    for device in devices:
        device.start()
    for device in devices:
        grab = device.fetch(5.0)
        assert grab is not None
        assert grab.block_id == 1
    devices[0].close()
    grab = devices[1].fetch(5.0)
    assert grab is not None
    assert grab.block_id == 2
    devices[1].close()
    devices[1].close()
    assert len(genicam_devices(cti)) == 3


def test_incomplete_buffers_are_told(cti: Path) -> None:
    device = GenicamDevice(cti, "1", settings_for())
    device._count_incomplete()  # what harvesters' callback does
    grab = device.fetch(0.01)  # not started: nothing else comes
    assert grab is not None
    assert grab.image is None
    assert device.fetch(0.01) is None
    device.close()


def test_how_a_camera_is_named(cti: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    by_setting = settings_for(camera={"cti": cti})
    assert find_genicam("2", by_setting) == (cti, "2")
    assert find_genicam(f"{cti}?serial=1", CaptureSettings()) == (cti, "1")
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f"{tmp_path}:{cti.parent}")
    assert producers(None) == [cti]
    assert find_genicam("0", CaptureSettings()) == (cti, "0")
    with pytest.raises(UsageError, match="several cameras found: 0, 1, 2; name one"):
        find_genicam("", by_setting)
    with pytest.raises(CaptureError, match="no camera with serial number 9; found: 0, 1, 2"):
        find_genicam("9", by_setting)
    with pytest.raises(UsageError, match=r"expected genicam:.*viky\.cti\?serial=NUMBER"):
        find_genicam(f"{cti}?number=1", CaptureSettings())
    monkeypatch.delenv("GENICAM_GENTL64_PATH")
    with pytest.raises(CaptureError, match=r"no GenTL producer known; name the maker's \.cti file"):
        find_genicam("1", CaptureSettings())


def test_producers_that_are_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sdks.producer()
    with pytest.raises(CaptureError, match=r"gone\.cti: no such GenTL producer"):
        find_genicam(str(tmp_path / "gone.cti"), CaptureSettings())
    (tmp_path / "bad.cti").write_text("no library")
    with pytest.raises(CaptureError, match=r"GenTL producer: .*bad\.cti: file too short; expected a \.cti file") as bad:
        find_genicam(str(tmp_path / "bad.cti"), CaptureSettings())
    assert "\n" not in str(bad.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 300.0}, r"capture\.fps = 300, expected 1 to 200 with these settings"),
        ({"camera": {"width": 900}}, r"capture\.camera\.width = 900, expected 100 to 800 px"),
        ({"camera": {"exposure_s": 0.001}}, r"has no ExposureTimeAbs or ExposureTime; leave capture\.camera\.exposure"),
        ({"camera": {"trigger": "software"}}, r"has no trigger; set capture\.camera\.trigger to off"),
        ({"camera": {"offset_x": 10}}, r"has no OffsetX; leave capture\.camera\.offset_x out"),
        ({"camera": {"features": {"Nonsense": 1}}}, "has no feature 'Nonsense'"),
        ({"camera": {"features": {"PixelFormat": "Mono99"}}}, r"PixelFormat = Mono99 .*, expected one of .*Mono8"),
        ({"camera": {"features": {"Width": 200.5}}}, r"Width = 200\.5: is float, which this feature cannot be"),
    ],
)
def test_settings_that_the_camera_cannot_follow(cti: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptureError, match=f"camera genicam:1: {message}"):
        GenicamDevice(cti, "1", settings_for(**settings))
    GenicamDevice(cti, "1", settings_for()).close()


def test_stamps_in_other_units_become_nanoseconds(cti: Path) -> None:
    device = GenicamDevice(cti, "1", settings_for())

    class InNanoseconds:
        timestamp_ns = 1234

    class InTicks:
        timestamp = 250_000_000

    assert device._tick(InNanoseconds()) == 1234
    assert device._tick(InTicks()) is None  # of unknown unit
    device._tick_hz = 125_000_000
    assert device._tick(InTicks()) == 2_000_000_000
    device.close()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "harvesters", None)
    settings = settings_for(camera={"cti": Path("x.cti")})
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    for one in (settings, CaptureSettings()):
        with pytest.raises(MissingExtraError, match=r"needs the package 'harvesters'; install the extra 'genicam'"):
            open_source("genicam:1", one, clock=MonotonicClock())
