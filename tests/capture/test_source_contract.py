"""What every source promises, whatever its medium."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import camera_sdks as sdks
import numpy as np
import pytest
from stamped_media import HEIGHT, WIDTH, FakeCamera, read_stamp, write_images, write_video

from megc_stream.capture import Source, open_source
from megc_stream.capture import webcam as webcam_module
from megc_stream.clock import ManualClock
from megc_stream.errors import UsageError
from megc_stream.settings import CaptureSettings

COUNT = 12


@dataclass(frozen=True)
class Medium:
    """How to make a medium, and what has to come out of it."""

    make: Callable[[Path], str]
    fps: float = 25.0
    frames: tuple[int, ...] = tuple(range(COUNT))
    first_number: int = 0
    live: bool = False
    name: str = "s01_clip"
    times_s: tuple[float, ...] | None = None
    counted: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (WIDTH, HEIGHT)
    stamps: bool = True
    ends: str = "end"
    device_time: bool = False


def video(suffix: str, **options: object) -> Callable[[Path], str]:
    return lambda folder: str(write_video(folder / f"s01_clip{suffix}", COUNT, **options))  # type: ignore[arg-type]


def images(pattern: str, numbers: range | tuple[int, ...]) -> Callable[[Path], str]:
    return lambda folder: str(write_images(folder / "s01_clip", list(numbers), pattern))


def emulated(folder: Path) -> str:
    write_images(folder / "images", range(COUNT), "{:04d}.bmp")
    return "pylon:0815-0000"


def simulated(folder: Path) -> str:
    return f"genicam:{sdks.producer()}?serial=1"


def camera_settings(fps: float, width: int, height: int, **camera: float) -> dict[str, Any]:
    return {"fps": fps, "camera": {"width": width, "height": height, **camera}}


VFR_MS = (0, 40, 73, 120, 160, 200, 233, 300, 340, 373, 420, 500)
GAPS = (3, 4, 5, 8, 9, 12)

MEDIA = {
    "h264": Medium(video(".mp4")),
    "h264-full-range": Medium(video(".mp4", full_range=True)),
    "h264-10bit": Medium(video(".mp4", pixel_format="yuv420p10le")),
    "h264-444": Medium(video(".mkv", pixel_format="yuv444p")),
    "h264-b-frames": Medium(video(".mp4", options={"bf": "3", "g": "6"})),
    "h264-200fps": Medium(video(".mp4", fps=200), fps=200.0),
    "hevc": Medium(video(".mp4", codec="libx265")),
    "ffv1-gray": Medium(video(".mkv", codec="ffv1", pixel_format="gray")),
    "ffv1-yuv": Medium(video(".mkv", codec="ffv1")),
    "ffv1-bgr0": Medium(video(".mkv", codec="ffv1", pixel_format="bgr0")),
    "mpeg1": Medium(video(".mpg", codec="mpeg1video"), counted=False),
    "mjpeg": Medium(video(".avi", codec="mjpeg", pixel_format="yuvj420p")),
    "turned-90": Medium(video(".mp4", turned_counterclockwise=90)),
    "turned-180": Medium(video(".mp4", turned_counterclockwise=180)),
    "turned-270": Medium(video(".mp4", turned_counterclockwise=-90)),
    "vfr": Medium(
        video(".mp4", times_ms=VFR_MS), times_s=tuple(ms / 1000 for ms in VFR_MS), fps=pytest.approx(23, 0.1)
    ),
    "fps-override": Medium(
        video(".mp4"), fps=200.0, settings={"fps": 200.0}, times_s=tuple(i / 200 for i in range(COUNT))
    ),
    "jpg-1-padded": Medium(images("img_{:04d}.jpg", range(1, COUNT + 1)), fps=30.0, first_number=1),
    "jpg-0-plain": Medium(images("006_1_{}.jpeg", range(COUNT)), fps=30.0),
    "png-0-padded": Medium(images("{:05d}.png", range(COUNT)), fps=30.0),
    "png-1-plain": Medium(images("f{}a.png", range(1, COUNT + 1)), fps=30.0, first_number=1),
    "bmp": Medium(images("f{}.BMP", range(COUNT)), fps=200.0, settings={"fps": 200.0}),
    "tif": Medium(images("f{}.tif", range(COUNT)), fps=30.0),
    "png-gaps": Medium(images("f{}.png", GAPS), fps=30.0, first_number=3, frames=tuple(n - 3 for n in GAPS)),
    "webcam": Medium(
        lambda folder: "0",
        fps=30.0,
        live=True,
        name="camera0",
        counted=False,
        ends="damaged",
        settings={"reconnect_s": 0},
    ),
    "pylon-emulated": Medium(
        emulated,
        fps=200.0,
        live=True,
        name="pylon-0815-0000",
        counted=False,
        settings={"max_seconds": (COUNT - 0.5) / 200, **camera_settings(200.0, WIDTH, HEIGHT, exposure_s=0.0001)},
        device_time=True,
    ),
    "genicam-simulated": Medium(
        simulated,
        fps=100.0,
        live=True,
        name="genicam-1",
        counted=False,
        settings={"max_seconds": (COUNT - 0.5) / 100, **camera_settings(100.0, 320, 240)},
        size=(320, 240),
        stamps=False,
    ),
}


@pytest.fixture(params=list(MEDIA))
def medium(request: pytest.FixtureRequest) -> Medium:
    return MEDIA[request.param]


@pytest.fixture
def opened(medium: Medium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Source]:
    clock = ManualClock(100.0)

    def camera(index: int) -> FakeCamera:
        return FakeCamera(COUNT, on_grab=lambda picture: clock.advance_s(1 / 30))

    monkeypatch.setattr(webcam_module, "open_device", camera)
    if medium.name.startswith("pylon"):
        sdks.cameras_plugged_in(monkeypatch, 1)
    sdks.one_picture_a_period(monkeypatch, clock, medium.fps)
    spec = medium.make(tmp_path)
    settings = CaptureSettings(live_queue_s=5.0, **medium.settings)
    if medium.name.startswith("pylon"):
        settings = sdks.showing(settings, tmp_path / "images")

    def open_it(*, colour: bool = False) -> Source:
        return open_source(spec, settings, clock=clock, colour=colour)

    return open_it


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_every_frame_comes_once_in_order_and_in_memory_of_its_own(
    medium: Medium, opened: Callable[..., Source], colour: bool
) -> None:
    with opened(colour=colour) as source:
        frames = list(source.frames())
    assert [frame.frame for frame in frames] == list(medium.frames)
    if medium.stamps:
        assert [read_stamp(frame.image) for frame in frames] == list(medium.frames)
    assert [frame.number - frame.frame for frame in frames] == [medium.first_number] * len(frames)
    for frame in frames:
        assert frame.source == source.info.source
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == ((*medium.size[::-1], 3) if colour else medium.size[::-1])
        assert frame.image.flags.c_contiguous
        assert (frame.t_device_s is not None) == medium.device_time
    for before, after in pairwise(frames):
        assert not np.shares_memory(before.image, after.image)
        assert sum(after.dropped.values()) == after.frame - before.frame - 1
        assert after.t_capture_s >= before.t_capture_s


def test_times_are_those_of_the_medium(medium: Medium, opened: Callable[..., Source]) -> None:
    with opened() as source:
        frames = list(source.frames())
    if medium.live:
        assert [frame.pts_s for frame in frames] == [None] * COUNT
        steps = np.diff([frame.t_capture_s for frame in frames])
        np.testing.assert_allclose(steps, 1 / medium.fps, atol=1e-9)
    else:
        expected = medium.times_s or tuple(frame / source.info.fps for frame in medium.frames)
        np.testing.assert_allclose([frame.pts_s for frame in frames], expected, atol=1e-6)
        assert frames[0].pts_s == 0.0


def test_full_range_grey(medium: Medium, opened: Callable[..., Source]) -> None:
    if not medium.stamps:
        pytest.skip("the simulated camera shows pictures of its own")
    with opened() as source:
        image = next(iter(source.frames())).image
    # JPEG and H.264 blur a little; without the expansion of limited range 16 and 235 would be found.
    assert image[72:88, 8:32].min() >= 250
    assert image[72:88, 48:72].max() <= 5


def test_info_is_filled_before_the_first_frame(medium: Medium, opened: Callable[..., Source]) -> None:
    with opened() as source:
        info = source.info
        assert (info.source, info.subject, info.video) == (medium.name, medium.name.partition("_")[0], medium.name)
        assert info.fps == medium.fps
        assert (info.width, info.height) == medium.size
        assert info.frames == (len(medium.frames) if medium.counted else None)
        assert info.live is medium.live
        assert info.description
        assert source.assumed_fps == ("rate assumed" in info.description)
        assert source.late == 0


def test_the_end_is_told_once_it_is_reached(medium: Medium, opened: Callable[..., Source]) -> None:
    with opened() as source:
        iterator = source.frames()
        next(iterator)
        with pytest.raises(UsageError, match="before its last frame"):
            _ = source.end
        rest = list(iterator)
        end = source.end
    assert end.frames == 1 + len(rest) == len(medium.frames)
    # A camera has no end but being unplugged, or the time being over.
    assert end.reason == medium.ends
    assert bool(end.message) == (medium.ends == "damaged")
    assert end.source == medium.name


def test_stop_ends_soon(opened: Callable[..., Source]) -> None:
    with opened() as source:
        iterator = source.frames()
        next(iterator)
        next(iterator)
        source.stop()
        assert list(iterator) == []
        assert (source.end.frames, source.end.reason) == (2, "stopped")


def test_stop_before_the_first_frame(opened: Callable[..., Source]) -> None:
    with opened() as source:
        source.stop()
        assert list(source.frames()) == []
        assert (source.end.frames, source.end.reason) == (0, "stopped")


def test_stop_from_a_signal_handler_and_from_a_thread(opened: Callable[..., Source]) -> None:
    source = opened()
    previous = signal.signal(signal.SIGTERM, lambda number, stack: source.stop())
    try:
        for _ in source.frames():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert source.end.frames == 1
    source.close()

    source = opened()
    for _ in source.frames():
        thread = threading.Thread(target=source.stop)
        thread.start()
        thread.join()
    assert source.end.frames == 1
    source.close()


def test_breaking_off_counts_as_stopped(opened: Callable[..., Source]) -> None:
    with opened() as source:
        for _ in source.frames():
            break
    assert (source.end.frames, source.end.reason) == (1, "stopped")


def test_close_is_idempotent_and_final(medium: Medium, opened: Callable[..., Source]) -> None:
    source = opened()
    source.close()
    source.close()
    assert source.end.reason == "stopped"
    with pytest.raises(UsageError, match="closed"):
        source.frames()

    source = opened()
    iterator = source.frames()
    image = next(iterator).image
    source.close()
    source.close()
    assert list(iterator) == []
    if medium.stamps:
        assert read_stamp(image) == 0


def test_a_source_that_is_drained_and_never_read_is_closed_as_usual(opened: Callable[..., Source]) -> None:
    with opened() as source:
        source.drain()
    assert source.end.reason == "stopped"
    assert source.end.frames == 0


def test_draining_a_file_takes_nothing(medium: Medium, opened: Callable[..., Source]) -> None:
    if medium.live:
        pytest.skip("a live source begins when it is read; what came before is gone")
    with opened() as source:
        source.drain()
        assert [frame.frame for frame in source.frames()] == list(medium.frames)


def test_frames_are_read_once(opened: Callable[..., Source]) -> None:
    with opened() as source:
        source.frames()
        with pytest.raises(UsageError, match="read once"):
            source.frames()
