"""Recordings found by name and opened with their own numbers; the figures of a data set."""

from __future__ import annotations

from pathlib import Path

import av
import corpora
import numpy as np
import pytest
from corpora import Written

from megc_stream.clock import MonotonicClock
from megc_stream.datasets import LAYOUTS, find_recording, list_recordings, open_recording, read_dataset
from megc_stream.datasets.check import damaged_images, summarise
from megc_stream.errors import DataError, UsageError
from megc_stream.records import StreamEnd
from megc_stream.settings import CaptureSettings


def write_video(path: Path, frames: int, fps: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps, width=32, height=24)
        stream.pix_fmt = "gray"
        for index in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((24, 32), index, np.uint8), "gray")))
        container.mux(stream.encode(None))
    return path


def test_frames_keep_the_numbers_of_the_data_set(tmp_path: Path) -> None:
    root = corpora.cas_me_3(tmp_path)
    recording = find_recording("cas-me-3", root, "spNO.1/a")
    with open_recording(recording, CaptureSettings(), clock=MonotonicClock()) as source:
        assert (source.info.subject, source.info.video, source.info.fps) == ("spNO.1", "a", 30)
        frames = list(source.frames())
        end: StreamEnd = source.end
    assert end.reason == "end"
    assert [frame.number for frame in frames] == list(recording.numbers)
    assert [frame.frame for frame in frames] == [number - 1 for number in recording.numbers]
    after_the_gap = next(frame for frame in frames if frame.number == 52)
    assert after_the_gap.dropped == {"missing": 2}
    assert after_the_gap.pts_s == pytest.approx(51 / 30)


def test_a_rate_in_the_settings_goes_before_that_of_the_data_set(tmp_path: Path) -> None:
    recording = find_recording("samm-lv", corpora.samm_lv(tmp_path), "006_1")
    with open_recording(recording, CaptureSettings(fps=50), clock=MonotonicClock()) as source:
        assert source.info.fps == 50
        assert not source.assumed_fps


@pytest.mark.parametrize("name", ["spNO.2/a", "spno.2/A", "spNO.2_a"])
def test_a_recording_is_found_by_subject_and_video(tmp_path: Path, name: str) -> None:
    recording = find_recording("cas-me-3", corpora.cas_me_3(tmp_path), name)
    assert (recording.subject, recording.video, recording.path.name) == ("spNO.2", "a", "color")


def test_names_that_are_ambiguous_or_unknown_are_told_of(tmp_path: Path) -> None:
    root = corpora.cas_me_3(tmp_path)
    with pytest.raises(UsageError, match=r"2 recordings are called 'a'; name the subject too: spNO.1/a, spNO.2/a"):
        find_recording("cas-me-3", root, "a")
    with pytest.raises(DataError, match=r"no recording 'spNO.1/b' among 3; near: .*spNO.1/a"):
        find_recording("cas-me-3", root, "spNO.1/b")
    corpora.images(tmp_path / "part_A" / "spNO.3" / "a" / "color", [])
    with pytest.raises(DataError, match=r"spNO.3/a/color: no images"):
        find_recording("cas-me-3", root, "spNO.3/a")


@pytest.mark.parametrize("layout", corpora.MAKERS)
def test_listing_gives_the_recordings_in_the_order_of_reading(tmp_path: Path, layout: str) -> None:
    root = corpora.MAKERS[layout](tmp_path)
    listed = [(place.subject, place.video) for place in list_recordings(layout, root)]
    data = read_dataset(layout, root)
    assert listed == [(recording.subject, recording.video) for recording in data.recordings]
    for recording in data.recordings:
        assert find_recording(layout, root, f"{recording.subject}/{recording.video}") == recording


def test_plain_takes_video_files_at_their_own_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "eve_1.mkv", 12, 25)
    write_video(tmp_path / "videos" / "eve_2.mkv", 12, 25)
    (tmp_path / "videos" / "eve_3.mkv").write_bytes(b"no video")
    (tmp_path / "videos" / "notes.txt").write_text("x")
    (tmp_path / "annotations.csv").write_text(
        "subject,video,onset,apex,offset,type,emotion,aus,fps\neve,eve_2,3,5,7,micro,anger,4,50\n"
    )
    data = read_dataset("plain", tmp_path)
    assert [(r.video, r.fps, r.numbers, r.width_px) for r in data.recordings] == [
        ("eve_1", 25, (), 32),
        ("eve_2", 50, (), 32),
    ]
    assert [f.file for f in data.findings if f.level == "error"] == ["videos/eve_3.mkv"]
    assert (data.annotations[0].onset_index, data.annotations[0].offset_index) == (3, 7)
    for recording in data.recordings:
        with open_recording(recording, CaptureSettings(), clock=MonotonicClock()) as source:
            assert source.info.fps == recording.fps
            assert [frame.number for frame in source.frames()] == list(range(12))


def test_the_summary_counts_what_is_there(written: Written) -> None:
    summary = summarise(written("cas-me-3"))
    assert (summary.subjects, summary.videos, summary.annotated_videos) == (3, 3, 3)
    assert summary.frames == 118 + 29 + 55
    assert summary.seconds == pytest.approx((120 + 29 + 55) / 30, abs=1e-3)
    assert summary.types == {"micro": 3, "macro": 2}
    assert summary.classes == {"none given": 2, "positive": 1, "surprise": 1, "others": 1}
    assert summary.emotions["micro happy"] == 1
    assert summary.action_units["4"] == 2
    assert summary.durations["macro"].greatest_s == pytest.approx(0.7)
    assert summary.finding_counts["error"] == 2
    assert summary.sizes == {"32x24": 3}
    assert not summary.problem


def test_what_makes_a_data_set_unusable(tmp_path: Path) -> None:
    root = corpora.samm_lv(tmp_path)
    (root / "SAMM_LongVideos_V2_Release.xlsx").rename(root / "renamed.xlsx")
    assert "can still be analysed" in summarise(read_dataset("samm-lv", root)).problem
    (root / "renamed.xlsx").rename(root / "SAMM_LongVideos_V2_Release.xlsx")
    assert not summarise(read_dataset("samm-lv", root)).problem
    for video in ("006_1", "006_2", "013_1"):
        (root / "SAMM_longvideos" / video).rename(root / "SAMM_longvideos" / video.replace("0", "9"))
    assert "lies in a recording" in summarise(read_dataset("samm-lv", root)).problem
    for video in ("996_1", "996_2", "913_1"):
        (root / "SAMM_longvideos" / video).rename(root / f"video{video}")
    assert "no recording" in summarise(read_dataset("samm-lv", root)).problem


def test_damaged_images_are_found_by_decoding(tmp_path: Path) -> None:
    root = corpora.samm_lv(tmp_path)
    folder = root / "SAMM_longvideos" / "006_1"
    whole = (folder / "006_1_0005.jpg").read_bytes()
    (folder / "006_1_0005.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "006_1_0006.jpg").write_bytes(corpora.jpeg(16, 16))
    seen: list[tuple[int, int]] = []
    found = list(damaged_images(read_dataset("samm-lv", root), lambda done, total: seen.append((done, total))))
    assert [(f.file, f.message) for f in found] == [
        ("SAMM_longvideos/006_1/006_1_0005.jpg", "is damaged and cannot be decoded"),
        ("SAMM_longvideos/006_1/006_1_0006.jpg", "is 16x16 px, the first image is 32x24"),
    ]
    assert seen[-1] == (128, 128)


def test_the_layouts_are_those_that_the_commands_name() -> None:
    from megc_stream.cli.datasets import LayoutOption

    text = LayoutOption.__metadata__[0].help.replace("or ", "").rstrip(".")
    assert text.split(", ") == list(LAYOUTS)
