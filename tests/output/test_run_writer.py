from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from megc_stream.clock import ManualClock
from megc_stream.errors import CaptureError, OutputError
from megc_stream.output.run_folder import RESULT_FILES
from megc_stream.output.writer import RunModel, RunWriter
from megc_stream.records import Answer, Crop, Event, Score, StreamEnd, StreamInfo, Trace
from megc_stream.settings import load_settings

MakeEvent = Callable[..., Event]

_FPS = 100.0
_MODEL = RunModel(name="mean-test", sha256="ab" * 32, classes=("negative", "positive"), k_s=0.1, k_prime_s=0.185)
_RANDOM = np.random.default_rng(0)
_TEXTURE = _RANDOM.integers(0, 255, (128, 160), dtype=np.uint8)


def _writer(folder: Path, **settings: Any) -> RunWriter:
    return RunWriter(
        folder, load_settings(overrides=settings), _MODEL, datetime(2025, 3, 4, 5, 6, 7), clock=ManualClock(100.0)
    )


def _info(**fields: Any) -> StreamInfo:
    values: dict[str, Any] = {
        "source": "clip.mkv", "subject": "006", "video": "006_1", "fps": _FPS, "width": 640, "height": 480,
    }  # fmt: skip
    return StreamInfo(**values | fields)


def _crop(frame: int, **fields: Any) -> Crop:
    # The texture moves by one px every 10 frames.
    left = min(frame // 10, 32)
    values: dict[str, Any] = {
        "source": "clip.mkv",
        "frame": frame,
        "number": frame + 1,
        "t_capture_s": 100 + frame / _FPS,
        "segment": 0,
        "image": np.ascontiguousarray(_TEXTURE[:, left : left + 128]),
        "pts_s": frame / _FPS,
    }
    return Crop(**values | fields)


def _score(frame: int, **fields: Any) -> Score:
    values: dict[str, Any] = {
        "source": "clip.mkv",
        "frame": frame,
        "number": frame + 1,
        "frame_to": frame + 10,
        "t_capture_s": 100 + (frame + 10) / _FPS,
        "t_score_s": 100 + (frame + 10) / _FPS + 0.004,
        "spot": 0.1,
        "recog": (0.25, 0.75),
    }
    return Score(**values | fields)


def _feed(writer: RunWriter, make_event: MakeEvent, frames: int = 400, *, events_at_end: bool = False) -> None:
    """Write a stream with an event at 120..160, the face lost at 300..309, and an event begun and retracted."""
    whole = [
        make_event(1, 0, onset=120, decision_frame=140),
        make_event(1, 1, onset=120, apex=140, kind="apex", decision_frame=165),
        make_event(1, 2, onset=120, apex=140, offset=160, kind="offset", decision_frame=190),
        make_event(2, 0, onset=200, decision_frame=210),
        make_event(2, 1, onset=200, kind="retracted", final=True, decision_frame=220),
    ]
    label = make_event(
        1, 3, onset=120, apex=140, offset=160, kind="label", final=True, decision_frame=190, emotion="positive"
    )
    writer.write(_info(frames=frames))
    for frame in range(frames):
        lost = 300 <= frame < 310
        writer.write(_crop(frame, **({"image": None, "flags": ("lost",)} if lost else {})))
        if frame >= 10:
            unscored = {"spot": None, "recog": (), "reason": "face lost", "flags": ("lost",)}
            writer.write(_score(frame - 10, **(unscored if lost else {})))
        if frame >= 40 and not events_at_end:
            writer.write(Trace(source="clip.mkv", frame=frame - 40, smoothed=0.1, threshold=0.3))
        if not events_at_end:
            for event in whole:
                if event.decision_frame == frame:
                    writer.write(event)
            if frame == label.decision_frame:
                writer.write(label)
        writer.advance("spotter", frame)
        writer.advance("recogniser", frame)
    if events_at_end:
        for event in (*whole, label):
            writer.write(msgspec.structs.replace(event, decision_frame=frames - 1))
    writer.write(StreamEnd(source="clip.mkv", frames=frames, reason="end", dropped={"queue": 2}))


@pytest.mark.parametrize("mode", ["causal", "video"])
@pytest.mark.parametrize("with_images", [False, True])
def test_a_run_writes_five_files(
    mode: str, with_images: bool, tmp_path: Path, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs: list[tuple[int, int]] = []

    def flow(onset: Any, apex: Any) -> Any:
        pairs.append((onset.frame, apex.frame))
        assert np.array_equal(onset.image, _crop(onset.frame).image)
        return np.ones((128, 128, 2), np.float32)

    monkeypatch.setattr("megc_stream.output.writer.onset_apex_flow", flow)
    with _writer(tmp_path, spotting={"mode": mode}, output={"with_images": with_images}) as writer:
        _feed(writer, make_event, events_at_end=mode == "video")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(RESULT_FILES)

    log = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(event["event_number"], event["rev"]) for event in log] == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]
    assert (tmp_path / "intervals.csv").read_text().splitlines()[1:] == ["006,006_1,121,161,positive"]

    scores = pq.read_table(tmp_path / "scores.parquet")
    assert scores.num_rows == 390
    assert scores.column("t_s").to_pylist() == [frame / _FPS for frame in range(390)]
    metadata = {key.decode(): value.decode() for key, value in scores.schema.metadata.items()}
    assert {key: metadata[key] for key in ("model", "k", "k_prime", "fps")} == {
        "model": "mean-test", "k": "10", "k_prime": "19", "fps": "100.0",
    }  # fmt: skip

    run = json.loads((tmp_path / "run.json").read_text())
    assert run["status"] == "complete"
    assert run["counts"] == {
        "frames": 400,
        "frames_with_face": 390,
        "scores": 380,
        "pairs_not_scored": 10,
        "events": 1,
        "events_macro": 0,
        "events_begun": 2,
        "events_retracted": 1,
        "event_revisions": 6,
        "answers_served": 0,
        "answers_embedded": 0,
        "answers_replaced": 0,
        "answers_repaired": 0,
    }
    assert run["flags"] == {"lost": 10}
    assert run["dropped"] == {"queue": 2}
    assert run["timings"]["capture to score"]["p50_ms"] == pytest.approx(4.0, rel=0.02)
    # Of the scores after the first 2 s (frames 200 to 389), ten are missing.
    assert run["timings"]["capture to score"]["count"] == 180
    assert run["fps_out"] == pytest.approx(380 / 3.89)
    assert run["environment"]["packages"]["numpy"] == np.__version__

    assert writer.report is not None
    assert writer.report.lost == ((300, 309),)
    pictures = writer.report.events[0].pictures
    if with_images:
        assert pairs == [(120, 140)]
        assert pictures is not None and pictures.offset is not None
        assert pictures.offset.frame == 160
    else:
        assert pictures is None
        assert "data:image" not in (tmp_path / "report.html").read_text()


def test_records_of_different_stages_may_overtake_each_other(tmp_path: Path, make_event: MakeEvent) -> None:
    event = make_event(1, 3, onset=5, apex=10, offset=15, kind="label", final=True, decision_frame=20)
    with _writer(tmp_path, output={"with_images": True}) as writer:
        writer.write(_score(0))
        writer.write(_info())
        writer.write(event)
        for frame in range(1, 20):
            writer.write(_score(frame))
        writer.write(Trace(source="clip.mkv", frame=0, smoothed=0.5, threshold=0.3))
        for frame in range(18):
            writer.write(_crop(frame, segment=frame // 8))
        for stage in ("spotter", "recogniser"):
            writer.advance(stage, 21)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert [row["t_s"] for row in rows] == [frame / _FPS for frame in range(18)] + [None, None]
    assert rows[0]["smoothed"] == 0.5
    assert writer.report is not None
    pictures = writer.report.events[0].pictures
    assert pictures is not None and pictures.offset is not None
    # Onset and apex are of different segments.
    assert pictures.flow is None


def test_what_was_found_stays_when_the_source_fails(tmp_path: Path, make_event: MakeEvent) -> None:
    with pytest.raises(CaptureError), _writer(tmp_path) as writer:
        _feed(writer, make_event)
        raise CaptureError("clip.mkv: damaged at frame 400")
    assert len((tmp_path / "intervals.csv").read_text().splitlines()) == 2
    assert pq.read_table(tmp_path / "scores.parquet").num_rows == 390
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["status"], run["error"]) == ("failed", "clip.mkv: damaged at frame 400")


def test_an_event_is_on_disk_as_soon_as_it_is_final(tmp_path: Path, make_event: MakeEvent) -> None:
    writer = _writer(tmp_path)
    writer.write(_info())
    writer.write(make_event(1, 3, offset=60, kind="label", final=True, decision_frame=80))
    writer.advance("spotter", 81)
    assert len((tmp_path / "intervals.csv").read_text().splitlines()) == 1
    writer.advance("recogniser", 81)
    assert len((tmp_path / "intervals.csv").read_text().splitlines()) == 2
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1
    writer.close("stopped")
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"


def test_interrupt_means_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), _writer(tmp_path) as writer:
        writer.write(_info())
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"


def test_a_stream_that_never_began_leaves_a_run_record(tmp_path: Path) -> None:
    with pytest.raises(CaptureError), _writer(tmp_path):
        raise CaptureError("clip.mkv: no video stream")
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["status"], run["source"], run["counts"]["frames"]) == ("failed", None, 0)


def test_passwords_of_streams_are_not_written(tmp_path: Path) -> None:
    url = "rtsp://user:hunter2@camera/live"
    with _writer(tmp_path, source=url) as writer:
        writer.write(_info(source=url))
    for name in RESULT_FILES:
        assert b"hunter2" not in (tmp_path / name).read_bytes(), name
    assert "rtsp://***@camera/live" in (tmp_path / "run.json").read_text()


def test_a_full_disk_is_reported_and_the_other_files_are_completed(
    tmp_path: Path, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _writer(tmp_path)
    _feed(writer, make_event)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    assert writer._scores is not None
    monkeypatch.setattr(writer._scores._writer, "write_table", full)
    with pytest.raises(OutputError, match=r"scores\.parquet: cannot be written \(No space left on device\)"):
        writer.close()
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["status"] == "failed"
    assert "No space left" in run["error"]
    assert len((tmp_path / "intervals.csv").read_text().splitlines()) == 2
    assert (tmp_path / "report.html").exists()
    # Closed for good.
    writer.close()


def test_a_second_failure_is_added_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("run.json: no space")

    monkeypatch.setattr("megc_stream.output.writer.write_run_record", full)
    with pytest.raises(CaptureError) as caught, _writer(tmp_path):
        raise CaptureError("clip.mkv: gone")
    assert caught.value.__notes__ == ["results are incomplete: run.json: no space"]


def test_late_answers_are_logged_at_once_and_shown_while_the_interval_stands(
    tmp_path: Path, make_event: MakeEvent
) -> None:
    question = "What is the coarse expression class?"
    logged: list[tuple[int, int]] = []
    label = make_event(1, 0, 10, 14, 18, kind="label", type="micro", emotion="positive", decision_frame=30)
    answers = (
        Answer(question=question, answer="negative", by="served", evidence={"repaired": "not a JSON object"}),
        Answer(question=question, answer="positive", by="embedded", fallback="no answer within 30 s"),
    )
    late = msgspec.structs.replace(label, rev=1, kind="answer", final=True, answers=answers, run={"late": True})
    with _writer(tmp_path) as writer:
        writer._on_event = lambda event: logged.append((event.event_number, event.rev))
        writer.write(_info())
        writer.write(label)
        for stage in ("spotter", "recogniser"):
            writer.advance(stage, 200)
        assert (tmp_path / "intervals.csv").read_text().splitlines()[1:] == ["006,006_1,11,19,positive"]
        writer.write(late)
        assert logged == [(1, 0), (1, 1)]
    assert len((tmp_path / "intervals.csv").read_text().splitlines()) == 2
    counts = json.loads((tmp_path / "run.json").read_text())["counts"]
    assert {name: counts[name] for name in counts if name.startswith("answers")} == {
        "answers_served": 1,
        "answers_embedded": 1,
        "answers_replaced": 1,
        "answers_repaired": 1,
    }
    assert writer.report is not None
    assert [shown.event.answers for shown in writer.report.events] == [answers]
