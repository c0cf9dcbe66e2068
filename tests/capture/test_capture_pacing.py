from __future__ import annotations

from pathlib import Path

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


def test_max_seconds_ends_a_replay(tmp_path: Path) -> None:
    write_images(tmp_path / "walk", range(10), "{}.png")
    settings = CaptureSettings(fps=10, max_seconds=0.5)
    with open_source(str(tmp_path / "walk"), settings, clock=ManualClock()) as source:
        assert [frame.frame for frame in source.frames()] == [0, 1, 2, 3, 4]
        assert (source.end.frames, source.end.reason, source.end.dropped) == (5, "end", {})
