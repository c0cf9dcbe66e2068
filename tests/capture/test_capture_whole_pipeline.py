"""Pictures that carry their index, from a real source through a real runner, while another program wants the CPU."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import camera_sdks as sdks
import numpy as np
import pytest
from stamped_media import BLOCK, HEIGHT, ROW, WIDTH, read_stamp, write_images, write_video

from megc_stream.capture import Source, open_source
from megc_stream.clock import MonotonicClock
from megc_stream.pipeline import Sink, run_embedded
from megc_stream.records import Crop, Frame, Record, Score, StreamEnd
from megc_stream.settings import CameraSettings, CaptureSettings, PipelineSettings

FPS = 200
COUNT = 400  # 2 s


@pytest.fixture(autouse=True)
def outside_load() -> Iterator[None]:
    """Two programs that never pause, for as long as the test runs."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for program in busy:
        program.kill()
        program.wait(10)


class Carrier:
    """Stands for the face analysis: a crop that carries the stamp of its frame."""

    region = None

    def __init__(self, *, slow: bool) -> None:
        self._slow = slow

    def process(self, frame: Frame) -> Crop:
        if self._slow:  # far more than the 5 ms that it has
            hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)
        image = np.zeros((128, 128), np.uint8)
        image[: 2 * BLOCK, : ROW * BLOCK] = frame.image[: 2 * BLOCK, : ROW * BLOCK]
        return Crop(
            source=frame.source,
            frame=frame.frame,
            number=frame.number,
            t_capture_s=frame.t_capture_s,
            segment=0,
            image=image,
            pts_s=frame.pts_s,
            dropped=frame.dropped,
        )


class Reading:
    """A stage that reads the stamp of every crop, tells it as the score's number, and passes the crop on."""

    def process(self, record: Record) -> Iterable[Record]:
        if not isinstance(record, Crop):
            return []
        assert record.image is not None
        score = Score(
            source=record.source,
            frame=record.frame,
            number=read_stamp(record.image),
            frame_to=record.frame,
            t_capture_s=record.t_capture_s,
            t_score_s=record.t_capture_s,
            spot=0.0,
        )
        return [record, score]

    def flush(self) -> Iterable[Record]:
        return []

    def snapshot(self) -> bytes:
        return b""

    def restore(self, data: bytes) -> None:
        pass


class Collecting(Sink):
    def __init__(self) -> None:
        self.crops: list[Crop] = []
        self.scores: list[Score] = []
        self.ends: list[StreamEnd] = []

    def write(self, record: Record) -> None:
        if isinstance(record, Crop):
            self.crops.append(record)
        elif isinstance(record, Score):
            self.scores.append(record)
        elif isinstance(record, StreamEnd):
            self.ends.append(record)


def run(source: Source, *, slow: bool = False, queue: int = 64) -> Collecting:
    """Run a source to its end through two stages that read the stamps; check that nothing changed on the way."""
    sink = Collecting()
    stages = [("spotter", Reading()), ("recogniser", Reading())]
    with source:
        end = run_embedded(source, Carrier(slow=slow), stages, [sink], PipelineSettings(queue_records=queue))  # type: ignore[arg-type]
    assert sink.ends == [end]
    assert end.frames == len(sink.crops)
    frames = [crop.frame for crop in sink.crops]
    assert frames == sorted(set(frames))
    # The first stage tells a score for each crop; the second hands it the same crop again, and tells its own.
    by_frame: dict[int, list[int]] = {}
    for score in sink.scores:
        by_frame.setdefault(score.frame, []).append(score.number)
    assert list(by_frame) == frames
    for crop in sink.crops:
        assert crop.image is not None
        assert by_frame[crop.frame] == [read_stamp(crop.image)] * 2
    return sink


def stamps(sink: Collecting) -> list[int]:
    return [read_stamp(crop.image) for crop in sink.crops if crop.image is not None]


@pytest.mark.parametrize("medium", ["folder", "mp4", "avi"])
def test_a_replay_loses_nothing_even_when_it_is_late(tmp_path: Path, medium: str) -> None:
    if medium == "folder":
        path = write_images(tmp_path / "walk", range(COUNT), "img{:05d}.jpg")
    elif medium == "mp4":
        path = write_video(tmp_path / "walk.mp4", COUNT, fps=FPS)
    else:
        path = write_video(tmp_path / "walk.avi", COUNT, codec="mjpeg", pixel_format="yuvj420p", fps=FPS)
    source = open_source(str(path), CaptureSettings(fps=FPS, speed=1.0), clock=MonotonicClock())
    sink = run(source)
    assert stamps(sink) == list(range(COUNT))
    assert all(crop.dropped == {} for crop in sink.crops)
    # Deadlines keep their distance, whenever a frame is released.
    steps_s = [after.t_capture_s - before.t_capture_s for before, after in pairwise(sink.crops)]
    np.testing.assert_allclose(steps_s, 1 / FPS, atol=1e-9)
    assert 0 <= source.late < COUNT
    assert sink.ends[0].reason == "end"


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_a_camera_drops_nothing_uncounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    sdks.cameras_plugged_in(monkeypatch, 1)
    folder = write_images(tmp_path / "walk", range(COUNT), "{:05d}.bmp")
    camera = CameraSettings(width=WIDTH, height=HEIGHT, exposure_s=0.0001)
    settings = CaptureSettings(fps=FPS, max_seconds=1.5, live_queue_s=0.05, silence_s=60, camera=camera)
    source = open_source("pylon:", sdks.showing(settings, folder), clock=MonotonicClock())
    sink = run(source, slow=slow, queue=4)
    assert stamps(sink) == [crop.frame % COUNT for crop in sink.crops]
    expected = 0
    for crop in sink.crops:
        assert crop.frame == expected + sum(crop.dropped.values())
        expected = crop.frame + 1
    lost = sum(sum(crop.dropped.values()) for crop in sink.crops)
    assert lost + len(sink.crops) == sink.crops[-1].frame + 1
    assert {reason for crop in sink.crops for reason in crop.dropped} <= {"overrun"}
    if slow:
        assert lost > 0
