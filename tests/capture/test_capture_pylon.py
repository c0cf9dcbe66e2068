"""Basler cameras through the real SDK and its camera emulation."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import camera_sdks as sdks
import cv2
import numpy as np
import pytest
from stamped_media import HEIGHT, WIDTH, read_stamp, write_images

from megc_stream.capture import Source, open_source
from megc_stream.capture import pylon as pylon_module
from megc_stream.capture.camera import CameraReader
from megc_stream.capture.pylon import PylonDevice, find_pylon
from megc_stream.clock import MonotonicClock
from megc_stream.errors import CaptureError, MegcError, MissingExtraError, UsageError
from megc_stream.records import Frame
from megc_stream.settings import CameraSettings, CaptureSettings

SERIAL = "0815-0000"
WAIT_S = 20.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("stamps"), range(300), "{:05d}.bmp")


@pytest.fixture(autouse=True)
def one_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    sdks.cameras_plugged_in(monkeypatch, 1)


def settings_for(images: Path | None = None, *, camera: dict[str, Any] | None = None, **more: Any) -> CaptureSettings:
    wanted = CameraSettings(**{"width": WIDTH, "height": HEIGHT, "exposure_s": 0.0001, **(camera or {})})
    settings = CaptureSettings(**{"fps": 200.0, "live_queue_s": 2.0, **more, "camera": wanted})
    return settings if images is None else sdks.showing(settings, images)


def opened(settings: CaptureSettings, spec: str = "pylon:") -> Source:
    return open_source(spec, settings, clock=MonotonicClock())


def device_of(source: Source) -> PylonDevice:
    reader = source._reader  # type: ignore[attr-defined]
    assert isinstance(reader, CameraReader)
    device = reader._device
    assert isinstance(device, PylonDevice)
    return device


def take(source: Source, count: int) -> list[Frame]:
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == count:
            source.stop()
    return frames


@pytest.mark.parametrize("trigger", ["off", "software"])
def test_no_frame_is_lost_repeated_or_out_of_order_at_200_fps(images: Path, trigger: str) -> None:
    with opened(settings_for(images, camera={"trigger": trigger})) as source:
        frames = take(source, 290)
        fit = source.clock_fit
    assert [frame.frame for frame in frames] == list(range(290))
    assert [read_stamp(frame.image) for frame in frames] == list(range(290))
    assert all(frame.dropped == {} for frame in frames)
    # The emulation's clock is the host's, and its exposure events come before the pictures do.
    device_s = np.array([frame.t_device_s for frame in frames], float)
    arrival_s = np.array([frame.t_capture_s for frame in frames])
    assert (np.diff(device_s) > 0).all()
    assert (arrival_s > device_s).all()
    assert fit is not None
    assert fit.frames >= 290  # one more may be on its way
    assert fit.resets == 0
    assert 0 < fit.offset_s < 0.05
    assert 0 <= fit.residual_s < 0.1


def test_what_the_source_says_of_itself(images: Path) -> None:
    with opened(settings_for(images)) as source:
        assert source.info.source == source.info.video == f"pylon-{SERIAL}"
        assert (source.info.fps, source.info.width, source.info.height) == (200.0, WIDTH, HEIGHT)
        assert source.info.description == f"Basler Emulation, Mono8 {WIDTH}x{HEIGHT}"
        assert source.info.live
        assert source.warnings == ()
        assert not source.assumed_fps


def test_frames_are_the_drivers_buffers_and_outlive_the_camera(images: Path) -> None:
    with opened(settings_for(images)) as source:
        lent = device_of(source)._lent
        frames = take(source, 40)
        assert lent.count >= 40
    gc.collect()
    assert [read_stamp(frame.image) for frame in frames] == list(range(40))
    assert lent.count >= 40
    del frames, source
    gc.collect()
    assert lent.count == 0


def test_a_consumer_that_keeps_all_frames_does_not_starve_the_camera(images: Path) -> None:
    settings = settings_for(images, live_queue_s=0.05)  # 10 frames and 16 more are lent
    device = PylonDevice(SERIAL, settings)
    device.start()
    kept = [device.fetch(2.0) for _ in range(100)]
    assert device._lent.count == device._lent.most == 26
    device.close()
    stamps = [read_stamp(grab.image) for grab in kept if grab is not None and grab.image is not None]
    assert stamps == list(range(100))
    assert [grab.block_id for grab in kept if grab is not None] == list(range(100))


def test_failed_grabs_are_counted(images: Path) -> None:
    with opened(settings_for(images)) as source:
        iterator = source.frames()
        frames = [next(iterator) for _ in range(5)]
        camera = device_of(source)._camera
        camera.ForceFailedBufferCount.SetValue(3)
        camera.ForceFailedBuffer.Execute()
        for frame in iterator:
            frames.append(frame)
            if frame.dropped:
                source.stop()
    assert frames[-1].dropped == {"incomplete": 3}
    assert frames[-1].frame == frames[-2].frame + 4
    assert read_stamp(frames[-1].image) == frames[-1].frame


def test_a_removed_camera_is_reached_again(images: Path) -> None:
    frames: list[Frame] = []
    with opened(settings_for(images)) as source:
        for frame in source.frames():
            frames.append(frame)
            if len(frames) == 20:
                device_of(source)._camera.DestroyDevice()
            if len(frames) > 20 and not frame.dropped:
                source.stop()
    gap = next(frame for frame in frames if frame.dropped)
    assert gap.dropped["disconnected"] >= 45  # a quarter of a second at least
    assert gap.frame == 1 + frames[frames.index(gap) - 1].frame + gap.dropped["disconnected"]
    assert read_stamp(gap.image) == 0
    assert source.end.message.startswith(f"camera pylon:{SERIAL}: was disconnected once, about ")


def test_a_camera_gone_for_good_ends_the_stream(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(settings_for(images, reconnect_s=0.6)) as source:
        iterator = source.frames()
        next(iterator)
        sdks.cameras_plugged_in(monkeypatch, 0)
        device_of(source)._camera.DestroyDevice()
        list(iterator)
        end = source.end
    assert end.reason == "damaged"
    expected = f"camera pylon:{SERIAL}: was removed; not reached again within 0.6 s (capture.reconnect_s)"
    assert end.message.startswith(expected)
    assert end.dropped["disconnected"] >= 100


def test_stop_from_another_thread_ends_a_silent_camera() -> None:
    # A camera that waits for pulses nobody gives.
    with opened(settings_for(camera={"trigger": "Line1"}, reconnect_s=0)) as source:
        consumer = threading.Thread(target=lambda: list(source.frames()))
        consumer.start()
        source.stop()
        consumer.join(WAIT_S)
        assert not consumer.is_alive()
    assert source.end.reason == "stopped"


def test_names_of_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    sdks.cameras_plugged_in(monkeypatch, 2)
    assert find_pylon("0") == find_pylon(SERIAL) == SERIAL
    assert find_pylon("1") == "0815-0001"
    with pytest.raises(UsageError, match=r"several cameras found: 0815-0000, 0815-0001; name one, e\.g\. pylon:0815"):
        find_pylon("")
    with pytest.raises(CaptureError, match="pylon:4711: no such camera; found: 0815-0000, 0815-0001"):
        open_source("pylon:4711", CaptureSettings(), clock=MonotonicClock())
    sdks.cameras_plugged_in(monkeypatch, 0)
    with pytest.raises(CaptureError, match="pylon:4711: no Basler camera found; check power and cable"):
        open_source("pylon:4711", CaptureSettings(), clock=MonotonicClock())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"camera": {"exposure_s": 0.01}}, r"an exposure of 10 ms is longer than a frame at 200 fps \(5 ms\)"),
        ({"camera": {"exposure_s": 0.00001}}, r"capture\.camera\.exposure_s = 1e-05, expected 0\.0001 to 3"),
        ({"camera": {"width": 5000}}, r"capture\.camera\.width = 5000, expected 1 to 4096 px"),
        ({"camera": {"offset_y": 4090}}, r"capture\.camera\.offset_y = 4090, expected 0 to 3972 px at this size"),
        ({"camera": {"gain": 60}}, r"capture\.camera\.gain = 60, expected 0 to 48"),
        (
            {"camera": {"trigger": "Line9"}},
            r"capture\.camera\.trigger = Line9 is no trigger source of this camera; .* one of: Line1, (?!.*Software,)",
        ),
        (
            {"camera": {"features": {"TestImageSelector": "Blah"}}},
            r"TestImageSelector = Blah \(capture\.camera\.features\), expected one of Off, Testimage1, Testimage2$",
        ),
        ({"camera": {"features": {"ExposureAuto": True}}}, "ExposureAuto = True .*, expected one of Off, "),
        ({"camera": {"features": {"Nonsense": 1}}}, "has no feature 'Nonsense'"),
        ({"camera": {"features": {"ReverseX": "perhaps"}}}, "ReverseX = perhaps: is str, which this feature cannot be"),
        ({"camera": {"features": {"Width": 99999}}}, "Width = 99999: "),
        ({"camera": {"features": {"TriggerSoftware": 1}}}, "TriggerSoftware = 1: is int, which this feature cannot be"),
    ],
)
def test_settings_that_the_camera_cannot_follow(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message) as caught:
        PylonDevice(SERIAL, settings_for(**settings))
    assert str(caught.value).startswith(f"camera pylon:{SERIAL}: ")
    assert "\n" not in str(caught.value)
    PylonDevice(SERIAL, settings_for()).close()  # it was given back


def test_settings_reach_the_camera() -> None:
    camera = {"width": 320, "height": 200, "gain": 12, "exposure_s": 0.002, "features": {"ReverseX": True}}
    device = PylonDevice(SERIAL, settings_for(fps=150.0, camera=camera))
    features = pylon_module.PylonFeatures("camera", device._camera.GetNodeMap())
    names = ["Width", "Height", "OffsetX", "OffsetY", "ExposureTimeAbs", "ReverseX", "PixelFormat", "TriggerMode"]
    assert [features.get(name) for name in names] == [320, 200, 1888, 1948, 2000.0, True, "Mono8", "Off"]
    assert features.get("Gain") == pytest.approx(12, abs=0.1)
    assert device.fps == 150.0
    device.close()


def test_automatic_exposure_is_warned_about_and_turned_off_by_a_value() -> None:
    automatic = {"ExposureAuto": "Continuous", "ExposureTimeAbs": 1000.0}
    device = PylonDevice(SERIAL, settings_for(camera={"exposure_s": None, "features": automatic}))
    assert device.warnings == (
        f"camera pylon:{SERIAL}: ExposureAuto is on: brightness and, in the dark, rate change by themselves; "
        "set capture.camera.exposure_s",
    )
    device.close()
    device = PylonDevice(SERIAL, settings_for(camera={"features": automatic}))
    assert device.warnings == ()
    assert device._camera.ExposureAuto.GetValue() == "Off"
    device.close()


def test_a_rate_that_the_link_cannot_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    get = pylon_module.PylonFeatures.get

    def slower(self: pylon_module.PylonFeatures, name: str) -> Any:
        return 112.4 if name == "ResultingFrameRateAbs" else get(self, name)

    monkeypatch.setattr(pylon_module.PylonFeatures, "get", slower)
    with pytest.raises(CaptureError, match=r"can do 112\.4 of the 200 fps asked for at 162x124; ask for less"):
        PylonDevice(SERIAL, settings_for())
    assert PylonDevice(SERIAL, settings_for(fps=None)).fps == 112.4


def test_without_exposure_the_cameras_own_may_be_too_long() -> None:
    # Its exposure of 10 ms caps at 100 fps, whatever the emulation says its rate is.
    with pytest.raises(CaptureError, match=r"an exposure of 10 ms is longer .*set capture\.camera\.exposure_s below"):
        PylonDevice(SERIAL, settings_for(camera={"exposure_s": None}))


def test_colour_is_grey_three_times(images: Path) -> None:
    with open_source("pylon:", settings_for(images), clock=MonotonicClock(), colour=True) as source:
        (frame,) = take(source, 1)
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    assert read_stamp(frame.image) == 0


def test_pictures_with_padded_lines_are_copied_without_it(images: Path) -> None:
    padded = np.arange(4 * 8, dtype=np.uint8).reshape(4, 8)

    class Result:
        def GetHeight(self) -> int:
            return 4

        def GetWidth(self) -> int:
            return 6

        def GetPaddingX(self) -> int:
            return 2

        def GetImageMemoryView(self) -> memoryview:
            return memoryview(padded).cast("B")

    device = PylonDevice(SERIAL, settings_for())
    np.testing.assert_array_equal(device._image(Result()), padded[:, :6])
    device.close()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypylon", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'pypylon'; install the extra 'pylon'") as caught:
        open_source("pylon:1", CaptureSettings(), clock=MonotonicClock())
    assert isinstance(caught.value, MegcError)


def test_pictures_larger_than_the_region_are_cut(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "0.bmp"), np.full((300, 300), 77, np.uint8))
    with opened(settings_for(tmp_path)) as source:
        (frame,) = take(source, 1)
    assert frame.image.shape == (HEIGHT, WIDTH)
    assert (frame.image == 77).all()
