"""The probe of ``bench latency``, fed with records on a clock that the test moves."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest

from megc_stream.benchmarking import latency_bench
from megc_stream.benchmarking.latency_bench import LatencyBench, LatencyProbe, histogram_svg
from megc_stream.errors import UsageError
from megc_stream.records import Crop, Score, StreamEnd, StreamInfo

FPS = 100.0
K, K_PRIME = 0.1, 0.19


class Time:
    """Stands for the module ``time``."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.cpu_s = 50.0

    def monotonic(self) -> float:
        return self.now_s

    def process_time(self) -> float:
        return self.cpu_s


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    fake = Time()
    monkeypatch.setattr(latency_bench, "time", fake)
    monkeypatch.setattr(latency_bench, "_age_s", lambda: 0.5)
    yield fake


def info(source: str, fps: float = FPS) -> StreamInfo:
    return StreamInfo(source=source, subject=source, video=source, fps=fps, width=8, height=8, description="drawn")


def crop(source: str, frame: int, t_s: float, dropped: dict[str, int]) -> Crop:
    return Crop(source=source, frame=frame, number=frame, t_capture_s=t_s, segment=0, dropped=dropped)


def score(source: str, frame: int, t_capture_s: float, latency_s: float, spot: float | None = 0.1) -> Score:
    return Score(
        source=source,
        frame=frame - 10,
        number=frame - 10,
        frame_to=frame,
        t_capture_s=t_capture_s,
        t_score_s=t_capture_s + latency_s,
        spot=spot,
    )


def feed(probe: LatencyProbe, time: Time, seconds: float, sources: tuple[str, ...] = ("a",)) -> None:
    """Feed frames at 100 fps, half a core busy: latencies of 99 ms for 1.9 s, then of 1 ms to 5 ms in turn."""
    for source in sources:
        probe.write(info(source))
    for frame in range(round(seconds * FPS)):
        t_s = 1000 + frame / FPS
        time.now_s, time.cpu_s = t_s, 50 + frame / FPS / 2
        for source in sources:
            probe.write(crop(source, frame, t_s, {"overrun": 2} if frame == 150 else {}))
            latency_s = 0.099 if frame < 200 else 0.001 * (1 + frame % 5)
            if frame >= 10:
                probe.write(score(source, frame, t_s, latency_s, None if frame == 300 else 0.1))
            probe.observe("spotter", latency_s / 2)
        probe.tick()
    for source in sources:
        probe.write(StreamEnd(source=source, frames=frame + 1, reason="end", dropped={"damaged": 1}))


def result_of(probe: LatencyProbe) -> LatencyBench:
    return probe.result(late=3, stopped=False, k_s=K, k_prime_s=K_PRIME)


def test_the_figures_of_one_source(time: Time) -> None:
    probe = LatencyProbe()
    feed(probe, time, 5.0)
    result = result_of(probe)
    assert (result.frames, result.scores, result.late) == (500, 489, 3)
    assert (result.dropped, result.dropped_by_reason) == (3, {"damaged": 1, "overrun": 2})
    assert result.fps_in == pytest.approx(FPS)
    assert result.times_real_time == pytest.approx(1)
    assert result.seconds == pytest.approx(4.99)
    assert result.sources == ("a: drawn, 100 fps",)
    # The first score is out at 0.199 s, so everything up to 2.199 s counts for nothing.
    latencies = result.capture_to_score_ms
    assert latencies.count == 500 - 220 - 1
    assert (latencies.p50, latencies.p95, latencies.p99, latencies.max) == pytest.approx((3, 5, 5, 5))
    assert set(result.stages_ms) == {"spotter"}
    assert result.stages_ms["spotter"].p50 == pytest.approx(1.5)
    assert result.first_score_s == pytest.approx(0.5 + 0.199)
    assert result.cpu_cores == pytest.approx(0.5)
    assert result.cpu_ms_per_frame == pytest.approx(5.0)
    assert result.rss_mb > 10
    assert result.calibration_ms > 0
    assert result.calibration_in_run_ms > 0


def test_the_look_ahead_is_that_of_the_events(time: Time) -> None:
    probe = LatencyProbe()
    feed(probe, time, 3.0)
    ahead = result_of(probe).lookahead
    assert ahead is not None
    # k = 10 and k' = 19 frames: 10 + (19 - 1) + 19.
    assert (ahead.pair, ahead.smoothing, ahead.peak, ahead.total) == pytest.approx((0.1, 0.18, 0.19, 0.47))
    assert (result_of(probe).lookahead_s, result_of(probe).lookahead_reason) == (ahead.total, "")


def test_whole_video_mode_has_no_look_ahead(time: Time) -> None:
    probe = LatencyProbe()
    feed(probe, time, 3.0)
    result = probe.result(late=None, stopped=True, k_s=K, k_prime_s=K_PRIME, whole_video=True)
    assert (result.lookahead_s, result.lookahead) == (None, None)
    assert "at the end of the video" in result.lookahead_reason


def test_several_sources_add_up(time: Time) -> None:
    probe = LatencyProbe()
    feed(probe, time, 4.0, ("a", "b", "c"))
    result = result_of(probe)
    assert result.frames == 1200
    assert result.fps_in == pytest.approx(3 * FPS)
    assert result.times_real_time == pytest.approx(1)
    assert result.dropped == 9
    assert result.seconds == pytest.approx(3.99)
    assert len(result.sources) == 3
    assert result.cpu_ms_per_frame == pytest.approx(5.0 / 3)


def test_a_run_too_short_says_so(time: Time) -> None:
    probe = LatencyProbe()
    with pytest.raises(UsageError, match=r"nothing was scored later than 2 s after the first score"):
        result_of(probe)
    feed(probe, time, 2.1)
    with pytest.raises(UsageError, match="at least 5 s") as caught:
        result_of(probe)
    assert "\n" not in str(caught.value)


def test_names_of_threads() -> None:
    names = {"cam0/spotter": "spotter", "megc-decode_1": "megc-decode", "MainThread": "MainThread", "/reader": "reader"}
    assert {name: latency_bench._plain(name) for name in names} == names


def test_the_age_of_the_program_is_positive() -> None:
    assert 0 < latency_bench._age_s() < 1e6


@pytest.mark.parametrize("durations_s", [[0.004], [0.001] * 99 + [1.0], [0.0] * 10])
def test_the_histogram_is_a_picture(durations_s: list[float]) -> None:
    drawn = ET.fromstring(histogram_svg(durations_s, "a < b & c", "machine"))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a < b & c"
    assert any(text is not None and text.startswith("p99 ") for text in texts)
    bars = [float(element.attrib["height"]) for element in drawn.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert len(bars) == 60
    assert max(bars) == 160
