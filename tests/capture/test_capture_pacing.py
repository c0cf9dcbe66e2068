from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from stamped_media import write_images

from megc_stream.capture import open_source
from megc_stream.capture.pacing import Pacer
from megc_stream.clock import ManualClock
from megc_stream.settings import CaptureSettings


class SluggishClock(ManualClock):
    """Wakes up 0.4 ms after each deadline, as a busy host does."""

    def wait_until_s(self, deadline_s: float) -> None:
        super().wait_until_s(deadline_s)
        self.advance_s(0.0004)


def never() -> bool:
    return False


@pytest.mark.parametrize("clock_type", [ManualClock, SluggishClock])
@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_ten_minutes_do_not_drift(clock_type: type[ManualClock], speed: float) -> None:
    clock = clock_type(1000.0)
    pacer = Pacer(clock, speed)
    fps = 100.0
    worst_s = 0.0
    for frame in range(int(600 * fps * speed)):
        t_capture_s = pacer.release(frame / fps, never)
        assert t_capture_s == 1000.0 + frame / fps / speed
        worst_s = max(worst_s, abs(clock.now_s() - t_capture_s))
        clock.advance_s(0.003)  # what the consumer takes
    assert worst_s <= 0.001
    assert clock.now_s() == pytest.approx(1600.0, abs=0.02)
    assert pacer.late == 0


class JitteringClock(ManualClock):
    """Wakes up 0 to 0.9 ms after each deadline, as the scheduler pleases, and sometimes in two steps."""

    def __init__(self, start_s: float) -> None:
        super().__init__(start_s)
        self._random = random.Random(0)

    def wait_until_s(self, deadline_s: float) -> None:
        if self._random.random() < 0.1:
            deadline_s -= (deadline_s - self.now_s()) / 2  # woken up too early
        super().wait_until_s(deadline_s)
        self.advance_s(self._random.uniform(0, 0.0009))


def test_ten_minutes_at_200_fps_drift_by_less_than_a_millisecond_whatever_the_waits_do() -> None:
    clock = JitteringClock(1000.0)
    pacer = Pacer(clock, 1.0)
    fps, stalls = 200, {30_000: 0.0601, 60_000: 0.3, 119_000: 1.0}
    lateness_s = []
    for frame in range(600 * fps):
        deadline_s = pacer.release(frame / fps, never)
        assert abs(deadline_s - 1000 - frame / fps) < 1e-9
        lateness_s.append(clock.now_s() - deadline_s)
        clock.advance_s(stalls.get(frame, 0.002))  # what the consumer takes
    steady = np.array([late_s for late_s in lateness_s if late_s < 0.0011])
    assert min(lateness_s) >= 0
    assert steady.max() <= 0.001
    assert abs(steady[-1000:].mean() - steady[:1000].mean()) < 1e-4
    assert pacer.late == sum(late_s > 0.05 for late_s in lateness_s)
    # A stall of t makes late what is due in its first t - 50 ms, and what the catching up, 2 ms a frame, prolongs.
    assert pacer.late == pytest.approx(sum((t - 0.05) / (1 / fps - 0.002) for t in stalls.values()), abs=5)
    assert len(steady) > 600 * fps - 1000


def test_a_stall_is_caught_up_and_counted() -> None:
    clock = ManualClock()
    pacer = Pacer(clock, 1.0)
    released_s = []
    for frame in range(100):
        pacer.release(frame / 100, never)
        released_s.append(clock.now_s())
        if frame == 20:
            clock.advance_s(0.2)
    # Frames 21..34 were due more than 50 ms before 0.40 s, frame 35 exactly 50 ms before.
    assert released_s[21:41] == pytest.approx([0.4] * 20)
    assert pacer.late in (14, 15)
    assert released_s[-1] == pytest.approx(0.99)


def test_late_frames_are_told_apart_by_who_was_late() -> None:
    clock = ManualClock()
    pacer = Pacer(clock, 1.0)
    for frame in range(40):
        if frame == 10:
            clock.advance_s(0.0701)  # the consumer was busy
        pacer.ask()
        if frame == 30:
            clock.advance_s(0.0801)  # the picture took so long
        pacer.release(frame / 100, never)
    # Frames 10 and 11, and, while that is caught up, 31 and 32; frame 30 itself was waited for.
    assert pacer.late_by_reason == {"analysis": 4, "decoding": 1}
    assert pacer.late == 5


def test_without_a_speed_time_is_when_the_frame_was_read() -> None:
    clock = ManualClock(5.0)
    pacer = Pacer(clock, None)
    assert pacer.release(0.0, never) == 5.0
    clock.advance_s(3.0)
    assert pacer.release(0.01, never) == 8.0
    assert pacer.late == 0


def test_stop_interrupts_a_long_wait() -> None:
    clock = ManualClock()
    pacer = Pacer(clock, 1.0)
    pacer.release(0.0, never)
    pacer.release(3600.0, lambda: clock.now_s() > 1.0)
    assert 1.0 < clock.now_s() < 1.2


def test_a_folder_is_replayed_at_twice_its_rate_and_late_frames_are_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "walk", range(10), "{}.png")
    clock = ManualClock(50.0)
    with open_source(str(tmp_path / "walk"), CaptureSettings(fps=25, speed=2), clock=clock) as source:
        times_s = []
        for frame in source.frames():
            times_s.append(frame.t_capture_s)
            if frame.frame == 4:
                clock.advance_s(0.0801)
        assert times_s == pytest.approx([50.0 + i / 50 for i in range(10)])
        assert source.late == 1
        assert source.late_by_reason == {"analysis": 1}


def test_max_seconds_ends_a_replay(tmp_path: Path) -> None:
    write_images(tmp_path / "walk", range(10), "{}.png")
    settings = CaptureSettings(fps=10, max_seconds=0.5)
    with open_source(str(tmp_path / "walk"), settings, clock=ManualClock()) as source:
        assert [frame.frame for frame in source.frames()] == [0, 1, 2, 3, 4]
        assert (source.end.frames, source.end.reason, source.end.dropped) == (5, "end", {})
