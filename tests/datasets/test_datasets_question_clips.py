from __future__ import annotations

from pathlib import Path

import pytest

from megc_stream.datasets.question_clips import ClipIndex, native_fps
from megc_stream.errors import DataError


def _tree(root: Path, *names: str) -> ClipIndex:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return ClipIndex(root)


def test_clips_are_found_wherever_they_lie(tmp_path: Path) -> None:
    index = _tree(tmp_path, "SAMM/SAMM-1/0001.jpg", "CAS/CAS-1/0.png", "long/1_001_2.MP4", "notes.txt", ".x/y/1.jpg")
    assert len(index) == 3
    assert index.find("SAMM-1") == tmp_path / "SAMM" / "SAMM-1"
    assert index.find("1_001_2") == tmp_path / "long" / "1_001_2.MP4"


def test_of_several_the_subject_the_data_set_and_the_whole_picture_decide(tmp_path: Path) -> None:
    index = _tree(
        tmp_path,
        "casme2/sub01/EP02_01f/1.jpg",
        "casme2/sub02/EP02_01f/1.jpg",
        "samm/006/clip/1.jpg",
        "samm/016/clip/1.jpg",
        "smic/s06/clip/1.jpg",
        "samm_crop/007/one/1.jpg",
        "samm/007/one/1.jpg",
    )
    assert index.find("EP02_01f", "sub02").parent.name == "sub02"
    assert index.find("clip", "6", "samm") == tmp_path / "samm" / "006" / "clip"
    assert index.find("clip", "06", "smic_test") == tmp_path / "smic" / "s06" / "clip"
    assert index.find("one", "7", "samm") == tmp_path / "samm" / "007" / "one"
    with pytest.raises(DataError, match=r"clip 'EP02_01f': is both .*sub01.* and .*sub02"):
        index.find("EP02_01f", "sub09")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder of images or video file of that name below .*there are none"):
        ClipIndex(tmp_path).find("SAMM-1")
    index = _tree(tmp_path, "SAMM-2/1.jpg")
    with pytest.raises(DataError, match=r"clip 'SAMM-1': no folder .*; there are SAMM-2"):
        index.find("SAMM-1")
    with pytest.raises(DataError, match="is not a folder"):
        ClipIndex(tmp_path / "absent")


def test_native_rates() -> None:
    assert [native_fps(name) for name in ("samm", "CASME2", "casme3_test", "smic", "mine")] == [200, 200, 30, 100, None]
