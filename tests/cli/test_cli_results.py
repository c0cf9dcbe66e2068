"""What is said of a run while it goes on and at its end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from megc_stream.cli.results import SourceResults
from megc_stream.clock import ManualClock
from megc_stream.models import MeanModel, find_mean
from megc_stream.records import Crop, StreamEnd, StreamInfo
from megc_stream.settings import CaptureSettings, Settings

Run = Callable[..., tuple[SourceResults, list[str]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def begin(*, live: bool, **capture: float) -> tuple[SourceResults, list[str]]:
        info = StreamInfo(source="cam", subject="cam", video="cam", fps=100, width=64, height=48, live=live)
        settings = Settings(source="0", capture=CaptureSettings(**capture))
        told: list[str] = []
        folder = tmp_path / "run"
        folder.mkdir()
        model = MeanModel(find_mean(settings.model.name))
        started = datetime(2026, 1, 1, tzinfo=UTC)
        results = SourceResults(
            settings, "", info, (), model, folder, started, ("reader",), clock=ManualClock(), warn=told.append
        )
        feed(results, info)
        return results, told

    return begin


def feed(results: SourceResults, record: StreamInfo | Crop | StreamEnd) -> None:
    for sink in results.sinks:
        sink.write(record)


def crop(frame: int, dropped: dict[str, int] | None = None, fps: float = 100) -> Crop:
    image = np.zeros((128, 128), np.uint8)
    return Crop(
        source="cam", frame=frame, number=frame, t_capture_s=frame / fps, segment=0, image=image, dropped=dropped or {}
    )


def test_an_analysis_that_does_not_keep_up_says_so_once_and_counts_at_the_end(run: Run) -> None:
    results, told = run(live=True)
    frame = 0
    for n in range(60):
        feed(results, crop(frame, {"overrun": 1} if n else None))
        assert bool(told) == (n > 10)  # more than ten lost
        frame += 2
    assert told == [told[0]]
    assert told[0].startswith("cam: the analysis does not keep up, 11 of 22 frames lost so far; choose a lower rate")
    feed(results, StreamEnd(source="cam", frames=60, reason="stopped", dropped={"disconnected": 5}))
    warnings = results.finish(late=0).warnings
    assert warnings[-1].startswith("64 of 124 frames were lost (5 disconnected, 59 overrun); choose a lower rate")


def test_a_few_lost_frames_among_many_are_told_of_at_the_end_only(run: Run) -> None:
    results, told = run(live=True)
    for n in range(2000):
        feed(results, crop(n + n // 200, {"overrun": 1} if n and n % 200 == 0 else None))
    assert told == []
    feed(results, StreamEnd(source="cam", frames=2000, reason="end"))
    assert results.finish(late=0).warnings[-1].startswith("9 of 2009 frames were lost (9 overrun)")


def test_a_stream_without_losses_is_not_talked_about(run: Run) -> None:
    results, told = run(live=True)
    for n in range(500):
        feed(results, crop(n))
    feed(results, StreamEnd(source="cam", frames=500, reason="stopped"))
    assert results.finish(late=3).warnings == ()  # a live source has no deadlines
    assert told == []


@pytest.mark.parametrize(("speed", "words"), [(1.0, "7 of 50 frames were analysed more than 50 ms after"), (0.0, "")])
def test_a_replay_with_a_pace_tells_of_late_frames(run: Run, speed: float, words: str) -> None:
    results, told = run(live=False, speed=speed)
    for n in range(50):
        feed(results, crop(n))
    feed(results, StreamEnd(source="cam", frames=50, reason="stopped"))
    analysis = results.finish(late=7, late_by_reason={"analysis": 5, "decoding": 2})
    assert words in "".join(analysis.warnings)
    assert ("(5 for analysis, 2 for decoding)" in "".join(analysis.warnings)) == bool(words)
    assert analysis.late_by_reason == ({"analysis": 5, "decoding": 2} if words else {})
    assert len(told) == bool(words)


def test_a_camera_of_another_rate_than_its_driver_says_is_told_of(run: Run) -> None:
    results, told = run(live=True)
    for n in range(400):
        feed(results, crop(n, fps=80))
    [text] = told
    assert text.startswith("cam: delivers 80.0 frames per second, its driver says 100;")
    assert "--fps 80" in text
    feed(results, StreamEnd(source="cam", frames=400, reason="stopped"))
    results.finish(late=0)
