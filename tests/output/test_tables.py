from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from megc_stream.errors import OutputError
from megc_stream.output import tables
from megc_stream.output.tables import IntervalTable, ScoreTable
from megc_stream.records import Event, Score, Trace

MakeEvent = Callable[..., Event]


def _score(frame: int, **fields: Any) -> Score:
    values: dict[str, Any] = {
        "source": "clip.mkv",
        "frame": frame,
        "number": frame + 1,
        "frame_to": frame + 10,
        "t_capture_s": 0.0,
        "t_score_s": 0.0,
        "spot": frame / 100,
        "recog": (0.25, 0.75),
    }
    return Score(**values | fields)


def _trace(frame: int) -> Trace:
    return Trace(source="clip.mkv", frame=frame, smoothed=frame / 10, threshold=0.5)


def test_intervals_hold_confirmed_events_in_native_numbers(tmp_path: Path, make_event: MakeEvent) -> None:
    path = tmp_path / "intervals.csv"
    table = IntervalTable(path)
    table.add(make_event(1, 0, onset=20))
    table.add(make_event(1, 1, onset=20, offset=50, kind="offset"))
    table.add(make_event(1, 2, onset=20, apex=35, offset=50, kind="label", final=True, emotion="negative"))
    table.add(make_event(2, 1, onset=80, kind="retracted", final=True))
    table.add(make_event(3, 2, onset=90, offset=99, kind="offset", final=True, video="a,b"))
    # Readable before the table is closed.
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    table.close()
    assert rows == [
        ["subject", "video", "onset", "offset", "emotion"],
        ["006", "006_1", "21", "51", "negative"],
        ["006", "a,b", "91", "100", ""],
    ]


def test_scores_are_joined_with_traces_that_come_later(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    table = ScoreTable(path, ["negative", "positive"], {"model": "mean-test", "fps": "100.0"}, trace_delay_frames=50)
    for frame in range(8):
        table.add(_score(frame), frame / 100)
        if frame >= 3:
            table.add_trace(_trace(frame - 3))
    table.add(_score(8, spot=None, recog=(), reason="face lost", flags=("lost",)), None)
    table.close()
    table.close()
    written = pq.read_table(path)
    assert written.column_names == [
        "frame", "number", "t_s", "spot", "smoothed", "threshold", "reason", "flags",
        "recog_negative", "recog_positive",
    ]  # fmt: skip
    assert written.schema.metadata[b"model"] == b"mean-test"
    rows = written.to_pylist()
    assert [row["smoothed"] for row in rows] == [0.0, 0.1, 0.2, 0.3, 0.4, None, None, None, None]
    assert rows[2] == {
        "frame": 2, "number": 3, "t_s": 0.02, "spot": 0.02, "smoothed": 0.2, "threshold": 0.5, "reason": "",
        "flags": [], "recog_negative": 0.25, "recog_positive": 0.75,
    }  # fmt: skip
    assert rows[8]["spot"] is None
    assert rows[8]["recog_negative"] is None
    assert (rows[8]["reason"], rows[8]["flags"]) == ("face lost", ["lost"])


@pytest.mark.parametrize("delay", [None, 5, 30])
def test_row_groups_are_complete_and_memory_stays_flat(
    delay: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROW_GROUP", 20)
    path = tmp_path / "scores.parquet"
    table = ScoreTable(path, [], {}, trace_delay_frames=delay)
    for frame in range(205):
        table.add(_score(frame, recog=()), None)
        if frame >= 4:
            table.add_trace(_trace(frame - 4))
        assert len(table._rows) < 20
        assert len(table._groups) <= 1
        assert len(table._traces) <= 24
    table.close()
    assert pq.ParquetFile(path).num_row_groups == 11
    rows = pq.read_table(path).to_pylist()
    assert [row["frame"] for row in rows] == list(range(205))
    assert [row["smoothed"] for row in rows] == [frame / 10 for frame in range(201)] + [None] * 4


def test_rows_wait_for_traces_no_longer_than_the_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_ROW_GROUP", 10)
    table = ScoreTable(tmp_path / "scores.parquet", [], {}, trace_delay_frames=25)
    for frame in range(100):
        table.add(_score(frame, recog=()), None)
        assert len(table._groups) <= 3
    # Its row has gone.
    table.add_trace(_trace(0))
    assert table._traces == {}
    table.close()
    assert pq.read_table(tmp_path / "scores.parquet").num_rows == 100


def test_whole_video_mode_waits_for_the_traces_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_ROW_GROUP", 10)
    table = ScoreTable(tmp_path / "scores.parquet", [], {}, trace_delay_frames=None)
    for frame in range(35):
        table.add(_score(frame, recog=()), None)
    for frame in range(35):
        table.add_trace(_trace(frame))
    table.close()
    smoothed = pq.read_table(tmp_path / "scores.parquet").column("smoothed").to_pylist()
    assert smoothed == [frame / 10 for frame in range(35)]


def test_a_table_without_scores_is_readable(tmp_path: Path) -> None:
    table = ScoreTable(tmp_path / "scores.parquet", ["negative"], {}, trace_delay_frames=5)
    table.close()
    assert pq.read_table(tmp_path / "scores.parquet").num_rows == 0


def test_full_disk_is_an_output_error(make_event: MakeEvent) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        IntervalTable(full)
    table = ScoreTable(full, [], {}, trace_delay_frames=5)
    table.add(_score(0, recog=()), None)
    with pytest.raises(OutputError, match="/dev/full: cannot be written"):
        table.close()
    table.close()
