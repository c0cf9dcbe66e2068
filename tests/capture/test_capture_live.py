from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from stamped_media import HEIGHT, WIDTH, FakeCamera, read_stamp, stamped, write_video

from megc_stream.capture import Source, open_source
from megc_stream.capture import live as live_module
from megc_stream.capture import video as video_module
from megc_stream.capture import webcam as webcam_module
from megc_stream.capture.live import LiveBuffer, LiveSource
from megc_stream.capture.source import Identity, Picture
from megc_stream.capture.v4l2 import Webcam
from megc_stream.capture.video import VideoReader
from megc_stream.clock import ManualClock
from megc_stream.errors import CaptureError
from megc_stream.settings import CaptureSettings

WAIT_S = 20.0  # upper bound for what happens at once


def picture(frame: int, **dropped: int) -> Picture:
    return Picture(frame=frame, number=frame, image=np.zeros((2, 2), np.uint8), t_capture_s=0.0, dropped=dropped)


@pytest.fixture
def open_camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Source]:
    def open_it(camera: FakeCamera, **settings: float) -> Source:
        monkeypatch.setattr(webcam_module, "open_device", lambda index: camera)
        return open_source("0", CaptureSettings(**{"reconnect_s": 0, **settings}), clock=ManualClock())

    return open_it


def test_a_full_buffer_drops_the_oldest_and_says_so() -> None:
    buffer = LiveBuffer(3)
    for frame in range(5):
        buffer.put(picture(frame, damaged=frame == 1))
    first, second = buffer.get(0), buffer.get(0)
    assert first is not None
    assert second is not None
    assert (first.frame, first.dropped) == (2, {"overrun": 2, "damaged": 1})
    assert (second.frame, second.dropped) == (3, {"damaged": 0})
    buffer.put(picture(5))
    third, fourth = buffer.get(0), buffer.get(0)
    assert third is not None
    assert fourth is not None
    assert (third.frame, fourth.frame, fourth.dropped) == (4, 5, {})
    assert buffer.get(0) is None
    assert not buffer.exhausted
    buffer.finish()
    assert buffer.exhausted


def test_at_the_beginning_more_may_wait() -> None:
    buffer = LiveBuffer(2, settling=5)
    for frame in range(5):
        buffer.put(picture(frame))
    first = buffer.get(0)
    assert first is not None
    assert (first.frame, first.dropped) == (0, {})
    buffer.put(picture(5))
    second, third = buffer.get(0), buffer.get(0)
    assert second is not None
    assert third is not None
    assert (second.frame, second.dropped, third.frame) == (3, {"overrun": 2}, 4)


def test_what_waits_after_the_beginning_shrinks_bit_by_bit() -> None:
    buffer = LiveBuffer(4, settling=40)
    for frame in range(40):
        buffer.put(picture(frame))
    frames = []
    for frame in range(40, 100):  # a consumer as fast as the camera
        buffer.put(picture(frame))
        taken = buffer.get(0)
        assert taken is not None
        frames.append(taken.frame)
        assert taken.dropped.get("overrun", 0) <= 2
    assert frames[-1] == 96  # 97, 98 and 99 wait: 4 when the last one came


def test_no_more_waits_at_the_beginning_than_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_SETTLING_BYTES", 3 * 12)
    buffer = LiveBuffer(1, settling=10)
    for frame in range(4):
        buffer.put(Picture(frame=frame, number=frame, image=np.zeros((2, 2, 3), np.uint8)))
    assert buffer.lost == {"overrun": 2}


def test_what_is_lost_after_the_last_picture() -> None:
    buffer = LiveBuffer(2)
    buffer.drop(picture(0, incomplete=1))
    assert buffer.lost == {"incomplete": 1, "overrun": 1}
    buffer.put(picture(1, skipped=3))
    assert buffer.lost == {"incomplete": 1, "overrun": 1, "skipped": 3}
    assert buffer.get(0) is not None
    assert buffer.lost == {}


@pytest.mark.parametrize("stops", [False, True])
def test_drops_after_the_last_frame_are_told_at_the_end(open_camera: Callable[..., Source], stops: bool) -> None:
    first = threading.Event()

    def on_grab(index: int) -> None:
        if index == 1:
            assert first.wait(WAIT_S)
            source.hold("paused")
        if index == 20 and stops:
            source.stop()

    with open_camera(FakeCamera(20, on_grab=on_grab), live_queue_s=5) as source:
        for _ in source.frames():
            first.set()
    end = source.end
    assert (end.frames, end.reason) == (1, "stopped" if stops else "damaged")
    assert end.dropped["paused"] == 19


def test_an_error_comes_out_after_the_pictures_before_it() -> None:
    buffer = LiveBuffer(3)
    buffer.put(picture(0))
    buffer.finish(ZeroDivisionError("broken"))
    assert buffer.get(0) is not None
    with pytest.raises(ZeroDivisionError, match="broken"):
        buffer.get(0)


def test_a_slow_consumer_loses_the_oldest_frames_and_is_told(open_camera: Callable[..., Source]) -> None:
    go_on, drained = threading.Event(), threading.Event()

    def on_grab(index: int) -> None:
        if index == 1:
            assert go_on.wait(WAIT_S)
        if index == 60:
            drained.set()

    with open_camera(FakeCamera(60, on_grab=on_grab), live_queue_s=0.25) as source:  # 8 frames at 30 fps
        iterator = source.frames()
        first = next(iterator)
        go_on.set()
        assert drained.wait(WAIT_S)
        rest = list(iterator)
    assert (first.frame, first.dropped) == (0, {})
    assert [frame.frame for frame in rest] == list(range(52, 60))
    assert [read_stamp(frame.image) for frame in rest] == list(range(52, 60))
    assert [frame.dropped for frame in rest] == [{"overrun": 51}] + [{}] * 7


def test_what_comes_before_the_first_frame_is_asked_for_is_thrown_away(
    open_camera: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, asked = threading.Event(), threading.Event()
    get = LiveBuffer.get

    def watched(buffer: LiveBuffer, timeout_s: float) -> Picture | None:
        asked.set()
        return get(buffer, timeout_s)

    def on_grab(index: int) -> None:
        if index == 40:
            reached.set()
            assert asked.wait(WAIT_S)

    monkeypatch.setattr(LiveBuffer, "get", watched)
    with open_camera(FakeCamera(60, on_grab=on_grab, unreadable=[38, 39, 50]), live_queue_s=0.9) as source:
        source.drain()
        source.drain()
        assert reached.wait(WAIT_S)
        frames = list(source.frames())
    assert [(frame.frame, frame.number) for frame in frames] == [(n, n) for n in (*range(10), *range(11, 20))]
    assert [read_stamp(frame.image) for frame in frames] == [*range(40, 50), *range(51, 60)]
    assert {n: frame.dropped for n, frame in enumerate(frames) if frame.dropped} == {10: {"incomplete": 1}}
    assert source.end.frames == 19


@pytest.mark.parametrize("more", [False, True])
def test_losses_before_the_first_frame_are_none_of_the_stream(more: bool) -> None:
    reached, go_on = threading.Event(), threading.Event()

    class Reader:
        fps, width, height, frames, assumed_fps = 30.0, 2, 2, None, False
        description, warnings, clock_fit, damage = "a camera", (), None, ""
        lost: ClassVar[dict[str, int]] = {}

        def pictures(self) -> Iterator[Picture]:
            yield picture(0)
            self.damage = "was disconnected once"
            reached.set()
            assert go_on.wait(WAIT_S)
            yield picture(9, disconnected=8)
            if more:
                self.damage = "was disconnected once"
            yield picture(10)

        def forget(self) -> None:
            self.damage = ""

        def stop(self) -> None:
            pass

        def close(self) -> None:
            pass

    with LiveSource(Reader(), Identity("cam", "", ""), CaptureSettings(), ManualClock()) as source:
        source.drain()
        assert reached.wait(WAIT_S)
        frames = source.frames()
        source._wanted = True  # as the first next() does, before it waits
        go_on.set()
        assert [(frame.frame, frame.dropped) for frame in frames] == [(0, {}), (1, {})]
        end = source.end
    assert (end.reason, end.message) == (("damaged", "was disconnected once") if more else ("end", ""))


def test_a_source_that_is_drained_can_be_left(open_camera: Callable[..., Source]) -> None:
    reached = threading.Event()
    camera = FakeCamera(10**9, on_grab=lambda index: reached.set() if index == 50 else None)
    with open_camera(camera) as source:
        source.drain()
        assert reached.wait(WAIT_S)
    assert camera.released >= 1
    assert source.end.reason == "stopped"
    source.drain()


def test_an_error_while_it_is_drained_reaches_the_consumer(open_camera: Callable[..., Source]) -> None:
    def on_grab(index: int) -> None:
        if index == 2:
            raise OSError("the bus is gone")

    with open_camera(FakeCamera(8, on_grab=on_grab)) as source:
        source.drain()
        with pytest.raises(OSError, match="the bus is gone"):
            list(source.frames())


def test_an_unreadable_picture_is_counted(open_camera: Callable[..., Source]) -> None:
    with open_camera(FakeCamera(8, unreadable=[3, 4]), live_queue_s=5) as source:
        frames = list(source.frames())
    assert [(frame.frame, frame.dropped) for frame in frames] == [
        (0, {}),
        (1, {}),
        (2, {}),
        (5, {"incomplete": 2}),
        (6, {}),
        (7, {}),
    ]
    assert source.end.message == "camera 0: gave no more pictures; is it still connected?"


def test_an_error_in_the_grabbing_thread_reaches_the_consumer(open_camera: Callable[..., Source]) -> None:
    def on_grab(index: int) -> None:
        if index == 2:
            raise OSError("the bus is gone")

    camera = FakeCamera(8, on_grab=on_grab)
    source = open_camera(camera, live_queue_s=5)
    iterator = source.frames()
    next(iterator)
    next(iterator)
    with pytest.raises(OSError, match="the bus is gone"):
        next(iterator)
    source.close()
    assert camera.released >= 1
    assert source.end.frames == 2


def test_stop_ends_a_consumer_that_waits_for_a_silent_camera(
    open_camera: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "_JOIN_S", 0.01)
    silent, release = threading.Event(), threading.Event()

    def on_grab(index: int) -> None:
        if index == 1:
            silent.set()
            assert release.wait(WAIT_S)

    source = open_camera(FakeCamera(3, on_grab=on_grab))
    frames: list[int] = []
    consumer = threading.Thread(target=lambda: frames.extend(frame.frame for frame in source.frames()))
    consumer.start()
    assert silent.wait(WAIT_S)
    source.stop()
    consumer.join(WAIT_S)
    assert not consumer.is_alive()
    assert source.end.reason == "stopped"
    release.set()
    source.close()


def test_max_seconds_ends_a_live_stream(open_camera: Callable[..., Source], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    camera = FakeCamera(100, on_grab=lambda index: clock.advance_s(0.1))
    monkeypatch.setattr(webcam_module, "open_device", lambda index: camera)
    with open_source("0", CaptureSettings(max_seconds=0.95, live_queue_s=5), clock=clock) as source:
        assert [frame.frame for frame in source.frames()] == list(range(10))
        assert source.end.reason == "end"
    assert camera.released >= 1


def test_the_camera_is_asked_and_what_it_gives_is_reported(open_camera: Callable[..., Source]) -> None:
    camera = FakeCamera(3, fps=27.5)
    with open_camera(camera, fps=60, webcam_width=1280, webcam_height=720) as source:
        assert camera.asked == {
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
            cv2.CAP_PROP_FRAME_WIDTH: 1280,
            cv2.CAP_PROP_FRAME_HEIGHT: 720,
            cv2.CAP_PROP_FPS: 60,
        }
        assert (source.info.width, source.info.height, source.info.fps) == (WIDTH, HEIGHT, 27.5)
        assert source.info.live


def test_what_differs_from_what_was_asked_for_is_told(open_camera: Callable[..., Source]) -> None:
    camera = FakeCamera(3, fps=15.0)
    camera.automatic_exposure = 3.0
    with open_camera(camera, fps=60, webcam_width=1280, webcam_height=720) as source:
        slow, small, automatic = source.warnings
        assert slow.startswith("camera 0: gives 15 fps, 60 were asked for")
        assert small.startswith(f"camera 0: gives {WIDTH}x{HEIGHT} px, 1280x720 were asked for")
        assert automatic.startswith("camera 0: automatic exposure is on")
        expected = f"camera 0, {WIDTH}x{HEIGHT} at 15 fps (asked for 1280x720 at 60 fps)"
        assert source.info.description == expected
    with open_camera(FakeCamera(3, fps=60.0), fps=60, webcam_width=WIDTH, webcam_height=HEIGHT) as source:
        assert source.warnings == ()


def test_a_camera_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam_module, "webcams", lambda: [Webcam(5, "HD Pro Webcam C920")])
    asked: list[int] = []
    monkeypatch.setattr(webcam_module, "open_device", lambda index: asked.append(index) or FakeCamera(1))
    with open_source("webcam:c920", CaptureSettings(), clock=ManualClock()) as source:
        assert source.info.video == "camera5"
    assert asked == [5]


@pytest.mark.parametrize(("asked", "expected", "assumed"), [(None, 30.0, True), (60.0, 60.0, False)])
def test_a_camera_that_does_not_know_its_rate(
    open_camera: Callable[..., Source], asked: float | None, expected: float, assumed: bool
) -> None:
    with open_camera(FakeCamera(3, fps=0.0), fps=asked) as source:
        assert (source.info.fps, source.assumed_fps) == (expected, assumed)


def test_a_camera_that_opens_but_gives_nothing(open_camera: Callable[..., Source]) -> None:
    camera = FakeCamera(-1)
    with pytest.raises(CaptureError, match="camera 0: opens but gives no picture"):
        open_camera(camera)
    assert camera.released == 1


def test_a_missing_camera_is_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    level = cv2.utils.logging.getLogLevel()
    with pytest.raises(CaptureError, match="camera 97: cannot be opened; video devices found: ") as caught:
        open_source("97", CaptureSettings(), clock=ManualClock())
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level


def test_a_network_stream_is_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mkv", 10, codec="ffv1", pixel_format="gray")
    seen: list[tuple[str, str]] = []

    def reader(location: str, *, name: str, network: bool, **options: object) -> VideoReader:
        seen.append((location, name))
        assert network
        return VideoReader(str(path), name=name)

    monkeypatch.setattr(video_module, "VideoReader", reader)
    clock = ManualClock(7.0)
    address = "rtsp://me:secret@camera.invalid/room1/left.sdp"
    with open_source(address, CaptureSettings(live_queue_s=5), clock=clock) as source:
        frames = list(source.frames())
        assert source.info.live
        assert (source.info.video, source.info.subject, source.info.frames) == ("left", "left", None)
    assert seen == [(address, "rtsp://camera.invalid/room1/left.sdp")]
    for index, frame in enumerate(frames):
        assert (frame.frame, frame.t_capture_s, frame.pts_s) == (index, 7.0, None)
        np.testing.assert_array_equal(frame.image, stamped(index))
