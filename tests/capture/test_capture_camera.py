"""What CameraReader makes of any SDK, on a camera and a clock that obey."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from megc_stream.capture.camera import CameraReader, Grab
from megc_stream.capture.live import LiveSource
from megc_stream.capture.source import Identity, Picture
from megc_stream.clock import ManualClock
from megc_stream.errors import CaptureError
from megc_stream.settings import CameraSettings, CaptureSettings

FPS = 100.0
IMAGE = np.zeros((4, 6), np.uint8)
GONE = "gone"


def picture(block_id: int | None, tick: int | None = None) -> Grab:
    return Grab(IMAGE, block_id, tick)


class FakeDevice:
    """Gives what ``script`` says, one item a period: a Grab, None (nothing came), or GONE (removed)."""

    name = "camera fake:1"
    fps: float | None = FPS
    description = "fake"
    warnings: tuple[str, ...] = ("it is fake",)
    tick_s = 1e-3
    tick_bits = 32

    def __init__(
        self, clock: ManualClock, script: Sequence[Grab | str | None], *, width: int = 6, wraps16: bool = False
    ) -> None:
        self.width, self.height = width, 4
        self.wraps16 = wraps16
        self.closed = 0
        self.triggered_s: list[float] = []
        self._clock = clock
        self._script = iter(script)

    def start(self) -> None:
        assert not self.closed

    def trigger(self, timeout_s: float) -> bool:
        self.triggered_s.append(self._clock.now_s())
        return True

    def fetch(self, timeout_s: float) -> Grab | None:
        assert timeout_s <= 0.1
        item = next(self._script, None)
        if item is None:
            self._clock.advance_s(timeout_s)
        elif isinstance(item, str):
            raise CaptureError(f"{self.name}: was removed")
        elif not self.triggered_s:
            self._clock.advance_s(1 / FPS)
        return None if isinstance(item, str) else item

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


def reader_of(clock: ManualClock, *devices: FakeDevice | CaptureError, **settings: object) -> CameraReader:
    """Return a reader that gets these devices one after the other; after them there is none."""
    queue: Iterator[FakeDevice | CaptureError] = iter(devices)

    def open_device() -> FakeDevice:
        device = next(queue, CaptureError("not found"))
        if isinstance(device, CaptureError):
            raise device
        return device

    return CameraReader(open_device, CaptureSettings(**settings), clock=clock)  # type: ignore[arg-type]


def indices(pictures: Sequence[Picture]) -> list[tuple[int, dict[str, int]]]:
    return [(picture.frame, picture.dropped) for picture in pictures]


def test_skipped_and_incomplete_frames_are_told_apart(clock: ManualClock) -> None:
    script = [picture(7), picture(8), picture(11), Grab(None), picture(13), Grab(None), picture(16), picture(17), GONE]
    reader = reader_of(clock, FakeDevice(clock, script), reconnect_s=0)
    pictures = list(reader.pictures())
    assert indices(pictures) == [
        (0, {}),
        (1, {}),
        (4, {"skipped": 2}),
        (6, {"incomplete": 1}),
        (9, {"skipped": 1, "incomplete": 1}),
        (10, {}),
    ]
    assert reader.damage == "camera fake:1: was removed"


def test_16_bit_block_ids_wrap_without_0(clock: ManualClock) -> None:
    script = [picture(65533), picture(65535), picture(1), picture(4), GONE]
    reader = reader_of(clock, FakeDevice(clock, script, wraps16=True), reconnect_s=0)
    assert indices(list(reader.pictures())) == [(0, {}), (2, {"skipped": 1}), (3, {}), (6, {"skipped": 2})]


def test_a_camera_without_block_ids_counts_what_arrived_incomplete(clock: ManualClock) -> None:
    script = [picture(None), Grab(None), Grab(None), picture(None), GONE]
    reader = reader_of(clock, FakeDevice(clock, script), reconnect_s=0)
    assert indices(list(reader.pictures())) == [(0, {}), (3, {"incomplete": 2})]


def test_ticks_become_device_time_and_a_fit(clock: ManualClock) -> None:
    script = [picture(n, 2**32 - 20 + 10 * n) for n in range(2)] + [picture(n, 10 * n - 20) for n in range(2, 50)]
    reader = reader_of(clock, FakeDevice(clock, [*script, GONE]), reconnect_s=0)
    times_s = [picture.t_device_s for picture in reader.pictures()]
    np.testing.assert_allclose(np.diff(np.array(times_s, float)), 0.01, atol=1e-6)
    assert reader.clock_fit is not None
    assert reader.clock_fit.host_s(2**32 * 1e-3) == pytest.approx(100.03)


def test_a_removed_camera_comes_back_with_a_gap(clock: ManualClock) -> None:
    first = FakeDevice(clock, [picture(0, 10), picture(1, 20), GONE])
    second = FakeDevice(clock, [picture(0, 5), picture(1, 15), picture(3, 35), GONE])
    reader = reader_of(clock, first, CaptureError("busy"), second, reconnect_s=60.0)
    told: list[str] = []
    reader.tell = told.append
    pictures = list(reader.pictures())
    # 0.25 s and 0.5 s of waiting, and one period until the first picture.
    assert indices(pictures) == [
        (0, {}),
        (1, {}),
        (2 + 75, {"disconnected": 75}),
        (2 + 76, {}),
        (2 + 78, {"skipped": 1}),
    ]
    assert first.closed == 1
    assert [picture.t_device_s for picture in pictures] == pytest.approx([0.01, 0.02, 0.005, 0.015, 0.035])
    assert reader.clock_fit is not None
    assert reader.clock_fit.resets == 1
    # The second loss is for good.
    expected = "camera fake:1: was removed; not reached again within 60 s (capture.reconnect_s)"
    assert reader.damage.startswith(expected)
    assert reader.lost["disconnected"] >= 6000
    lost = "camera fake:1: was removed; looking for it again for 60 s"
    assert told == [lost, "camera fake:1: is back after 0.8 s, 75 frames missed", lost]


def test_what_was_missed_is_told_at_the_end(clock: ManualClock) -> None:
    first = FakeDevice(clock, [picture(0), GONE])
    second = FakeDevice(clock, [picture(0), picture(1)])
    reader = reader_of(clock, first, second)
    for received in reader.pictures():
        if received.frame > 20 and not received.dropped:
            reader.stop()
    assert reader.damage == "camera fake:1: was disconnected once, about 25 frames were missed"


def test_what_was_missed_before_the_stream_begins_is_forgotten(clock: ManualClock) -> None:
    devices = [FakeDevice(clock, [picture(0), GONE]) for _ in range(3)]
    reader = reader_of(clock, *devices)
    damages = []
    for count, _ in enumerate(reader.pictures()):
        if count == 1:
            reader.forget()
        damages.append(reader.damage)
        if count == 2:
            reader.stop()
    assert damages == ["", "", "camera fake:1: was disconnected once, about 25 frames were missed"]


def test_pauses_between_attempts_grow_and_end(clock: ManualClock) -> None:
    attempts_s: list[float] = []
    device = FakeDevice(clock, [picture(0), GONE])

    def open_device() -> FakeDevice:
        attempts_s.append(clock.now_s())
        if len(attempts_s) > 1:
            raise CaptureError("not found")
        return device

    reader = CameraReader(open_device, CaptureSettings(reconnect_s=30.0), clock=clock)
    list(reader.pictures())
    assert np.diff(attempts_s[1:]).tolist() == pytest.approx([0.5, 1, 2, 4, 5, 5, 5, 5, 2.25])
    assert clock.now_s() - attempts_s[1] == pytest.approx(30 - 0.25)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "gave no picture for 2.1 s"),
        ([Grab(None)] * 1000, r"gave only incomplete pictures \(\d+\) for 2\.\d s"),
        (
            [Grab(None, why="no such file")] * 1000,
            r"gave only incomplete pictures \(\d+\) for 2\.\d s \(no such file\)",
        ),
    ],
)
def test_a_silent_camera_is_tried_again_and_given_up(clock: ManualClock, items: list[Grab], message: str) -> None:
    devices = [FakeDevice(clock, items) for _ in range(20)]
    reader = reader_of(clock, *devices, reconnect_s=5.0)
    told: list[str] = []
    reader.tell = told.append
    assert list(reader.pictures()) == []
    assert re.search(message, reader.damage), reader.damage
    assert "check cable and connection; not reached again within 5 s (capture.reconnect_s)" in reader.damage
    assert len(told) == 1  # each time that it is opened it is silent, but that is one and the same loss
    assert re.search(message + ".*; looking for it again for 5 s$", told[0]), told
    assert 7 < clock.now_s() - 100 < 11
    assert sum(device.closed > 0 for device in devices) >= 2


def test_a_camera_that_waits_for_pulses_may_be_silent(clock: ManualClock) -> None:
    device = FakeDevice(clock, [picture(0), *[None] * 100, picture(1), GONE])
    reader = reader_of(clock, device, reconnect_s=0, camera=CameraSettings(trigger="Line1"))
    assert indices(list(reader.pictures())) == [(0, {}), (1, {})]


def test_another_size_after_coming_back_is_an_error(clock: ManualClock) -> None:
    reader = reader_of(clock, FakeDevice(clock, [picture(0), GONE]), FakeDevice(clock, [], width=8))
    with pytest.raises(CaptureError, match=r"came back with 8x4 px, expected 6x4; keep its size"):
        list(reader.pictures())


def test_a_picture_of_another_size_is_an_error(clock: ManualClock) -> None:
    reader = reader_of(clock, FakeDevice(clock, [Grab(np.zeros((4, 5), np.uint8))]))
    with pytest.raises(CaptureError, match="gave a picture of 5x4 px, expected 6x4"):
        list(reader.pictures())


def test_software_triggers_keep_absolute_deadlines(clock: ManualClock) -> None:
    device = FakeDevice(clock, [picture(n) for n in range(50)])
    reader = reader_of(clock, device, fps=100.0, camera=CameraSettings(trigger="software"))
    pictures = []
    for received in reader.pictures():
        pictures.append(received)
        clock.advance_s(0.0071 if received.frame % 7 else 0.013)  # now and then later than the next deadline
        if len(pictures) == 50:
            reader.stop()
    assert [picture.frame for picture in pictures] == list(range(50))
    np.testing.assert_allclose(device.triggered_s, 100 + np.arange(50) / 100, atol=0.0031)


def test_stop_ends_every_wait(clock: ManualClock) -> None:
    def stop_when(reader: CameraReader, reached: Callable[[float], bool]) -> list[Picture]:
        now_s = clock.now_s

        def watched() -> float:
            if reached(now_s()):
                reader.stop()
            return now_s()

        clock.now_s = watched  # type: ignore[method-assign]
        return list(reader.pictures())

    begin_s = clock.now_s()
    away = reader_of(clock, FakeDevice(clock, [GONE]), reconnect_s=1000.0)
    assert stop_when(away, lambda now_s: now_s > begin_s + 3.3) == []
    assert clock.now_s() - begin_s < 3.6
    assert away.damage == ""
    assert away.lost == {}  # nothing had begun
    silent = reader_of(clock, FakeDevice(clock, []), silence_s=600.0)
    begin_s = clock.now_s()
    assert stop_when(silent, lambda now_s: now_s > begin_s + 3.3) == []
    assert clock.now_s() - begin_s < 3.6


def test_a_source_passes_on_time_fit_and_warnings(clock: ManualClock) -> None:
    device = FakeDevice(clock, [picture(n, 10 * n) for n in range(1, 20)] + [GONE])
    reader = reader_of(clock, device, reconnect_s=0)
    identity = Identity(source="a", subject="a", video="a")
    with LiveSource(reader, identity, CaptureSettings(live_queue_s=5.0), clock) as source:
        assert source.warnings == ("it is fake",)
        assert source.clock_fit is None
        frames = list(source.frames())
        assert [frame.t_device_s for frame in frames] == pytest.approx([n / 100 for n in range(1, 20)])
        assert source.clock_fit is not None
        assert source.clock_fit.frames == 19
        assert source.end.reason == "damaged"
    assert device.closed


def test_what_is_lost_while_it_is_drained_is_none_of_the_stream(clock: ManualClock) -> None:
    away = threading.Event()

    def open_device() -> FakeDevice:
        if away.is_set():
            raise CaptureError("not found")
        return FakeDevice(clock, [picture(0), GONE])

    def tell(text: str) -> None:
        away.set()

    reader = CameraReader(open_device, CaptureSettings(reconnect_s=86400), clock=clock)
    with LiveSource(reader, Identity("cam", "", ""), CaptureSettings(), clock) as source:
        source.tell = tell
        source.drain()
        assert away.wait(20.0)
        source.stop()
        assert list(source.frames()) == []
    assert (source.end.reason, source.end.message, source.end.dropped) == ("stopped", "", {})


def test_an_unknown_rate_is_assumed(clock: ManualClock) -> None:
    device = FakeDevice(clock, [])
    device.fps = None
    reader = reader_of(clock, device)
    assert (reader.fps, reader.assumed_fps) == (30.0, True)


def test_colour_repeats_the_grey(clock: ManualClock) -> None:
    device = FakeDevice(clock, [picture(0), GONE])
    reader = CameraReader(lambda: device, CaptureSettings(reconnect_s=0), clock=clock, colour=True)
    assert [received.image.shape for received in reader.pictures()] == [(4, 6, 3)]
