"""``datasets check``, recordings of data sets as SOURCE, and ``batch``."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import corpora
import cv2
import pytest
from outcome import Command

FIRST = 101  # number of the first frame: native numbers are not indices


@pytest.fixture(scope="session")
def long_videos(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAMM-LV folder with two short videos of a face, numbered from 101, one of them with a gap."""
    root = tmp_path_factory.mktemp("samm_faces")
    capture = cv2.VideoCapture(str(clip))
    pictures = []
    while len(pictures) < 160:
        read, picture = capture.read()
        assert read
        pictures.append(cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), (320, 240), interpolation=cv2.INTER_AREA))
    for video, left_out in (("006_1", ()), ("007_3", (FIRST + 20,))):
        folder = root / "SAMM_longvideos" / video
        folder.mkdir(parents=True)
        for number, picture in enumerate(pictures, start=FIRST):
            if number not in left_out:
                cv2.imwrite(str(folder / f"{video}_{number:04d}.jpg"), picture)
    corpora.samm_lv_sheet(
        root / "SAMM_LongVideos_V3_Release.xlsx",
        [["006", "006_1_1", 1, 140, 150, 170, 31, "Micro - 1/2", "4", None]],
    )
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_check_counts_and_names_what_is_damaged(command: Command, tmp_path: Path) -> None:
    root = corpora.samm_lv(tmp_path / "data")
    done = command("datasets", "check", root, "--layout", "samm-lv", "--json", "r.json")
    assert done.code == 0, done.err
    assert "videos         3, 3 of them with events" in done.out
    assert "error: SAMM_LongVideos_V2_Release.xlsx, row 17, column Onset: holds 'about 5'" in done.out
    report = json.loads(Path("r.json").read_text())
    assert (report["subjects"], report["videos"], report["events"]) == (2, 3, 5)
    assert report["types"] == {"micro": 3, "macro": 2}
    error = next(finding for finding in report["findings"] if finding["level"] == "error")
    assert (error["file"], error["row"], error["column"]) == ("SAMM_LongVideos_V2_Release.xlsx", 17, "Onset")
    (root / "SAMM_longvideos" / "006_1" / "006_1_0007.jpg").write_bytes(b"\xff\xd8 cut")
    done = command("datasets", "check", root, "--layout", "samm-lv", "--images")
    assert "error: SAMM_longvideos/006_1/006_1_0007.jpg: is damaged" in done.out


def test_check_says_why_a_data_set_is_unusable(command: Command, tmp_path: Path) -> None:
    root = corpora.samm_lv(tmp_path / "data")
    (root / "SAMM_LongVideos_V2_Release.xlsx").write_bytes(b"PK\x03\x04 cut off")
    done = command("datasets", "check", root, "--layout", "samm-lv", "--json", "-")
    assert done.code == 1
    assert json.loads(done.out)["problem"]
    assert done.err.startswith(f"error: {root}: unusable as SAMM Long Videos: it has no legible annotation")
    assert command("datasets", "check", tmp_path / "absent", "--layout", "samm-lv").code == 1
    unknown = command("datasets", "check", root, "--layout", "samm")
    assert unknown.code == 2
    assert "expected one of samm-lv" in unknown.err


def test_run_takes_a_recording_of_a_data_set(command: Command, long_videos: Path, tmp_path: Path) -> None:
    source = f"samm-lv:{long_videos}/007_3"
    done = command("run", source, "--out", "r", "--spotting", "video")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["source"]["fps"] == 200
    assert (record["source"]["subject"], record["source"]["video"]) == ("007", "007_3")
    assert record["dropped"] == {"missing": 1}
    assert record["settings"]["source"] == source
    found = rows(tmp_path / "r" / "intervals.csv")
    assert found
    for row in found:
        assert (row["subject"], row["video"]) == ("007", "007_3")
        assert int(row["onset"]) >= FIRST
        assert int(row["offset"]) <= FIRST + 159


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("samm-lv:{root}/009_1", 1, "no recording '009_1' among 3"),
        ("samm-lv:{root}/absent/006_1", 1, "absent: is not a folder"),
        ("samm-lv:", 2, "names no recording"),
        ("samm:{root}/006_1", 2, "such as samm-lv:ROOT/006_1"),
        ("cas-me-3:{root}/006_1", 1, "holds no recording of CAS(ME)3"),
    ],
)
def test_a_recording_that_is_not_there_is_told_of(
    command: Command, tmp_path: Path, source: str, code: int, words: str
) -> None:
    root = corpora.samm_lv(tmp_path / "data")
    done = command("run", source.format(root=root), "--out", "r")
    assert done.code == code
    assert words in done.err
    assert done.err.count("\n") == 1


def test_batch_goes_on_where_it_stopped_and_past_failures(command: Command, long_videos: Path, tmp_path: Path) -> None:
    shutil.copytree(long_videos, tmp_path / "data")
    corpora.images(tmp_path / "data" / "SAMM_longvideos" / "008_1", ["008_1_0001.jpg"], b"no image")
    arguments = ("batch", "data", "--layout", "samm-lv", "--out", "b", "--spotting", "video")
    first = command(*arguments, "--only", "006_1")
    assert first.code == 0, first.err
    alone = (tmp_path / "b" / "006_1" / "run.json").read_bytes()
    second = command(*arguments, "--json", "r.json")
    assert second.code == 1
    assert "1 of 3 recordings are complete already" in second.err
    assert "failed: 008_1: " in second.err
    assert second.err.endswith("error: 1 of 3 recordings failed: 008_1\n")
    assert (tmp_path / "b" / "006_1" / "run.json").read_bytes() == alone, "a complete recording is not done again"
    pooled = rows(tmp_path / "b" / "intervals.csv")
    assert pooled == rows(tmp_path / "b" / "006_1" / "intervals.csv") + rows(tmp_path / "b" / "007_3" / "intervals.csv")
    assert {row["video"] for row in pooled} == {"006_1", "007_3"}
    report = json.loads(Path("r.json").read_text())
    assert (report["recordings"], report["skipped"], report["complete"]) == (3, 1, 2)
    assert report["events"] == len(pooled)
    assert [run["video"] for run in report["runs"] if run["error"]] == ["008_1"]

    shutil.rmtree(tmp_path / "data" / "SAMM_longvideos" / "008_1")
    assert command(*arguments).code == 0
    apart = command("batch", "data", "--layout", "samm-lv", "--out", "c", "--spotting", "video", "--jobs", "2")
    assert apart.code == 0, apart.err
    assert apart.out.strip() == "c/intervals.csv"
    assert rows(tmp_path / "c" / "intervals.csv") == pooled, "several processes find the same"
    other = command("batch", "data", "--layout", "samm-lv", "--out", "b")
    assert other.code == 2
    assert "holds complete results of other settings" in other.err
    assert command(*arguments, "--only", "009_1").code == 2
    assert command(*arguments, "--only", "006_1").code == 0
    assert rows(tmp_path / "b" / "intervals.csv") == pooled, "what was complete before stays in the table"
