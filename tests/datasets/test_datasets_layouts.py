"""Every layout: recordings, annotations and the traps that each data set sets."""

from __future__ import annotations

from pathlib import Path

import corpora
import pytest
from corpora import Written

from megc_stream.datasets import LAYOUTS, ActionUnit, Annotation, DataSet, read_dataset
from megc_stream.errors import DataError, UsageError


def events(data: DataSet) -> list[tuple[object, ...]]:
    """Return video, frames, indices, type, emotion and class of each annotation."""
    return [
        (
            a.video,
            (a.onset, a.apex, a.offset),
            (a.onset_index, a.apex_index, a.offset_index),
            a.type,
            a.emotion,
            a.coarse,
        )
        for a in data.annotations
    ]


def units(annotation: Annotation) -> list[tuple[int, str]]:
    return [(unit.number, unit.side) for unit in annotation.action_units]


def found(data: DataSet, level: str, words: str) -> tuple[str, int | None, str | None]:
    """Return file, row and column of the one finding of that level that says ``words``."""
    matching = [f for f in data.findings if f.level == level and words in f.message]
    assert len(matching) == 1, data.findings
    return matching[0].file, matching[0].row, matching[0].column


def recordings(data: DataSet) -> list[tuple[str, str, float, int, int]]:
    """Return subject, video, rate, first number and count of each recording."""
    return [(r.subject, r.video, r.fps, r.numbers[0], len(r.numbers)) for r in data.recordings]


def test_samm_long_videos_take_emotions_from_the_facs_sheet(written: Written) -> None:
    data = written("samm-lv")
    assert recordings(data) == [
        ("006", "006_1", 200, 1, 40),
        ("006", "006_2", 200, 1, 28),
        ("013", "013_1", 200, 1, 60),
    ]
    assert {(r.width_px, r.height_px) for r in data.recordings} == {(32, 24)}
    assert events(data) == [
        ("006_1", (5, 9, 20), (4, 8, 19), "micro", "anger", "negative"),
        ("006_1", (22, None, 30), (21, None, 29), "macro", "", ""),
        ("006_2", (10, 14, 14), (7, 11, 11), "macro", "", ""),
        ("013_1", (40, None, 50), (39, None, 49), "micro", "surprise", "surprise"),
        ("013_1", (52, 55, 58), (51, 54, 57), "micro", "other", "others"),
    ]
    assert units(data.annotations[1]) == [(12, ""), (14, "L"), (4, ""), (7, "")]
    assert data.annotations[3].event == "013_1_8"
    sheet = "SAMM_LongVideos_V2_Release.xlsx"
    assert found(data, "error", "'about 5'") == (sheet, 17, "Onset")
    assert found(data, "note", "onset 0") == (sheet, 14, "Onset")
    assert found(data, "note", "the apex 14 is taken") == (sheet, 13, "Offset")
    assert found(data, "note", "those of 013_1_12") == (sheet, 15, "Filename")
    assert found(data, "note", "not events, in rows 18") == (sheet, 18, None)
    assert found(data, "warning", "the first after 6") == ("SAMM_longvideos/006_2", None, None)


def test_the_newest_samm_sheet_is_read_and_the_facs_sheet_may_be_missing(tmp_path: Path) -> None:
    root = corpora.samm_lv(tmp_path)
    corpora.samm_lv_sheet(
        root / "labels" / "SAMM_LongVideos_V3_Release.xlsx",
        [["006", "006_1_1", 1, 2, 3, 4, 3, "Micro", "4", None], ["006", "006_9_1", 1, 2, 3, 4, 3, "Micro", "4", None]],
    )
    (root / "SAMM_20181215_Micro_FACS_Codes_v2.xlsx").unlink()
    data = read_dataset("samm-lv", root)
    assert [a.event for a in data.annotations] == ["006_1_1", "006_9_1"]
    assert data.annotations[1].onset_index is None
    assert found(data, "note", "V3_Release.xlsx is read instead")[0] == "SAMM_LongVideos_V2_Release.xlsx"
    assert found(data, "warning", "without an emotion")[0] == "SAMM_Micro_FACS_Codes_v2.xlsx"
    assert found(data, "warning", "video 006_9 has 1 annotated events and no frames")[1] == 12


def test_challenge_videos_are_told_apart_by_their_names(tmp_path: Path) -> None:
    root = corpora.cas_me_3_challenge(tmp_path)
    samm = read_dataset("samm-challenge", root)
    assert recordings(samm) == [("001", "001_2", 200, 1, 12), ("005", "005_7", 200, 1, 12)]
    assert sum("whole set" in f.message for f in samm.findings) == 8
    cas = read_dataset("cas-me-3-challenge", root)
    assert recordings(cas) == [("dzw", "dzw_a1", 30, 0, 9), ("wy", "wy_h1", 30, 0, 7)]
    assert sum("whole set" in f.message for f in cas.findings) == 18
    assert not samm.annotations
    assert not cas.annotations


def test_cas_me_3_numbers_are_those_of_the_names(written: Written) -> None:
    data = written("cas-me-3")
    assert recordings(data) == [
        ("spNO.1", "a", 30, 1, 118),
        ("spNO.2", "a", 30, 1, 29),
        ("spNO.10", "b", 30, 5, 55),
    ]
    assert events(data) == [
        ("a", (10, 14, 30), (9, 13, 29), "macro", "", ""),
        ("a", (40, 44, 52), (39, 43, 49), "micro", "happy", "positive"),
        ("a", (3, None, 9), (2, None, 8), "macro", "", ""),
        ("b", (5, 9, 21), (0, 4, 16), "micro", "surprise", "surprise"),
        ("b", (30, 35, 47), (25, 30, 42), "micro", "others", "others"),
    ]
    assert units(data.annotations[1]) == [(12, "T"), (25, "B")]
    assert found(data, "error", "'3O'") == ("cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", 5, "Onset")
    assert found(data, "error", "'expression'") == ("CAS(ME)3_part_A_v2.xls[AU+Emotion]", 5, "Expression type")


def test_cas_me_3_insists_on_version_2_for_micro_expressions(tmp_path: Path) -> None:
    root = corpora.cas_me_3(tmp_path)
    for old in (root / "CAS(ME)3_part_A_v2.xls", root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"):
        old.rename(old.with_name(old.name.replace("_v2", "_v1")))
    data = read_dataset("cas-me-3", root)
    assert {a.type for a in data.annotations} == {"macro"}
    assert found(data, "error", "get cas(me)3_part_A_ME_label_JpgIndex_v2")[0].endswith("JpgIndex_v1.xlsx")
    assert "_v1.xls" in found(data, "error", "only macro-expressions are read")[0]


def test_cas_me_3_without_the_me_file_has_micro_expressions_without_emotions(tmp_path: Path) -> None:
    root = corpora.cas_me_3(tmp_path)
    (root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx").write_bytes(b"no zip")
    data = read_dataset("cas-me-3", root)
    assert [a.emotion for a in data.annotations if a.type == "micro"] == [""]
    assert found(data, "warning", "without emotions")[0].startswith("CAS(ME)3_part_A_v2.xls")
    assert found(data, "error", "no spreadsheet")[0] == "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"


@pytest.mark.parametrize("file", ["code_final.xlsx", "CAS(ME)^2code_final(Updated).xlsx"])
def test_cas_me_2_maps_subjects_and_codes_to_folders(tmp_path: Path, file: str) -> None:
    data = read_dataset("cas-me-2", corpora.cas_me_2(tmp_path, file))
    assert events(data) == [
        ("15_0101disgustingteeth", (10, 15, 31), (9, 14, 30), "macro", "negative", "negative"),
        ("15_0401girlcrashing", (20, 25, 25), (19, 24, 24), "micro", "negative", "negative"),
        ("15_0401girlcrashing", (30, 33, 36), (29, 32, 35), "micro", "others", "others"),
        ("23_0502funnyerrors", (5, 8, 14), (4, 7, 13), "macro", "positive", "positive"),
    ]
    assert {r.subject for r in data.recordings} == {"s15", "s19"}
    sheet = f"{file}[CASFEcode_final]"
    assert found(data, "error", "'99'") == (sheet, 5, "A (subject)")
    assert found(data, "error", "'sad9_1'") == (sheet, 6, "B (video)")
    assert found(data, "warning", "of s23 lies in s19") == (sheet, 4, "B (video)")


def test_casme_ii_prefers_raw_frames_and_knows_no_apex_for_a_slash(written: Written) -> None:
    data = written("casme-ii")
    assert recordings(data) == [("sub01", "EP02_01f", 200, 46, 44), ("sub17", "EP01_06", 200, 1, 39)]
    assert events(data) == [
        ("EP02_01f", (46, 59, 86), (0, 13, 40), "micro", "happiness", "positive"),
        ("EP01_06", (3, None, 30), (2, None, 29), "micro", "repression", "negative"),
        ("EP01_07", (3, 7, 30), (None, None, None), "micro", "others", "others"),
    ]
    assert units(data.annotations[1]) == [(4, ""), (7, "L")]
    assert found(data, "note", "holds 1 recordings")[0] == "Cropped/sub01"
    assert found(data, "warning", "EP01_07")[1] == 4


def test_smic_frames_count_from_first_f(tmp_path: Path) -> None:
    root = corpora.smic(tmp_path)
    hs = read_dataset("smic-hs", root)
    assert recordings(hs) == [("s01", "s01_ne_01", 100, 1000, 60), ("s02", "s02_sur_03", 100, 1, 39)]
    assert events(hs) == [
        ("s01_ne_01", (1010, None, 1040), (10, None, 40), "micro", "negative", "negative"),
        ("s02_sur_03", (6, None, 21), (5, None, 20), "micro", "surprise", "surprise"),
    ]
    assert found(hs, "note", "shifted by -1999")[1:] == (3, "FirstF")
    assert found(hs, "note", "in rows 5, 6")[1] == 5
    vis = read_dataset("smic-vis", root)
    assert recordings(vis) == [("s01", "s01_po_01", 25, 200, 30)]
    assert events(vis) == [("s01_po_01", (205, None, 212), (5, None, 12), "micro", "positive", "positive")]
    with pytest.raises(DataError, match="no recording of SMIC-E long, NIR"):
        read_dataset("smic-nir", root)


@pytest.mark.parametrize("name", ["smic-hs", "SMIC_VIS", "micro NIR", "smic"])
def test_smic_cameras_are_told_apart_whatever_the_root_is_called(tmp_path: Path, name: str) -> None:
    root = corpora.smic(tmp_path / name)
    corpora.images(
        root / "SMIC-E_raw image" / "VIS_long" / "SMIC-VIS-E" / "VIS" / "s01" / "s01_ne_01", ["image000200.jpg"]
    )
    hs, vis = read_dataset("smic-hs", root), read_dataset("smic-vis", root)
    assert recordings(hs) == [("s01", "s01_ne_01", 100, 1000, 60), ("s02", "s02_sur_03", 100, 1, 39)]
    assert recordings(vis) == [("s01", "s01_ne_01", 25, 200, 1), ("s01", "s01_po_01", 25, 200, 30)]


def test_4dme_leaves_blinks_out_and_reads_columns_of_ones(written: Written) -> None:
    data = written("4dme")
    assert recordings(data) == [("001", "001_1", 60, 1826, 74), ("002", "002_4", 60, 10, 50)]
    assert events(data) == [
        ("001_1", (1840, 1845, 1850), (14, 19, 24), "micro", "negative", "negative"),
        ("001_1", (1860, 1870, 1890), (34, 44, 64), "macro", "positive", "positive"),
        ("002_4", (12, 15, 20), (2, 5, 10), "micro", "positive+surprise", "others"),
    ]
    assert [units(a) for a in data.annotations] == [[(4, "")], [(6, ""), (12, "")], [(1, ""), (4, "")]]


def test_vqa_clips_have_the_rate_of_their_origin(written: Written) -> None:
    data = written("megc-vqa")
    assert recordings(data) == [("CAS-17", "CAS-17", 30, 1, 11), ("SAMM-1", "SAMM-1", 200, 5, 15)]
    assert sum("whole set" in f.message for f in data.findings) == 22


def test_plain_counts_from_zero_and_keeps_gaps(written: Written) -> None:
    data = written("plain")
    assert recordings(data) == [("ada", "ada_1", 50, 0, 30), ("bob", "bob_1", 25, 100, 29)]
    assert events(data) == [
        ("ada_1", (0, 4, 9), (0, 4, 9), "micro", "happiness", "positive"),
        ("ada_1", (12, None, 20), (12, None, 20), "macro", "", ""),
        ("bob_1", (105, 108, 112), (5, 8, 11), "micro", "disgust", "negative"),
    ]
    assert data.annotations[0].action_units == (ActionUnit(12), ActionUnit(14, "R"))


def test_plain_names_the_cell_that_is_wrong(tmp_path: Path) -> None:
    root = corpora.plain(tmp_path)
    (root / "annotations.csv").write_text(
        "\ufeffVideo;Subject;Onset;Offset;Type;FPS;Emotion\n"
        "ada_1;ada;5;3;micro;50;\n"
        "ada_1;ada;5;8;mikro;50;\n"
        'ada_1;ada;"5\n";8;micro;fast;\n'
        "ada_1;ada;5;80;micro;60;bored\n"
        ";ada;5;80;micro;50;\n",
        encoding="utf-8",
    )
    data = read_dataset("plain", root)
    file = "annotations.csv"
    assert found(data, "error", "before the onset") == (file, 2, "Offset")
    assert found(data, "error", "'mikro'") == (file, 3, "Type")
    assert found(data, "error", "'fast'") == (file, 5, "FPS")
    assert found(data, "warning", "offset 80 is no frame") == (file, 6, "Offset")
    assert found(data, "warning", "'bored'") == (file, 6, "Emotion")
    assert found(data, "warning", "60 frames a second here and 50 above") == (file, 6, "FPS")
    assert found(data, "error", "is empty; expected a name") == (file, 7, "Video")
    assert found(data, "warning", "no frame rate is known") == ("videos/bob_1", None, None)
    assert [(a.coarse, a.offset_index) for a in data.annotations] == [("others", None)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_folder_and_a_file_are_refused_in_one_line(tmp_path: Path, layout: str) -> None:
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "absent"):
        with pytest.raises(DataError, match="is not a folder"):
            read_dataset(layout, root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no recording of"):
        read_dataset(layout, tmp_path / "empty")


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="samm-lv, samm-challenge"):
        read_dataset("samm", tmp_path)


def test_damaged_recordings_are_findings_and_the_others_stay(tmp_path: Path) -> None:
    root = corpora.samm_lv(tmp_path)
    corpora.images(root / "SAMM_longvideos" / "007_1", [])
    corpora.images(root / "SAMM_longvideos" / "007_2", ["a1.jpg", "b1.jpg"])
    corpora.images(root / "SAMM_longvideos" / "007_3", ["007_3_0001.jpg"], b"no image")
    data = read_dataset("samm-lv", root)
    assert [r.video for r in data.recordings] == ["006_1", "006_2", "007_3", "013_1"]
    assert data.recordings[2].width_px is None
    assert found(data, "error", "no images")[0] == "SAMM_longvideos/007_1"
    assert found(data, "error", "have the same number 1")[0] == "SAMM_longvideos/007_2"
    assert found(data, "warning", "first image is damaged")[0] == "SAMM_longvideos/007_3/007_3_0001.jpg"


def test_an_event_annotated_twice_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "annotations.csv").write_text(
        "subject,video,onset,apex,offset,type,emotion,aus\n"
        "a,a_1,10,12,15,micro,happiness,12\n"
        "a,a_1,20,22,25,micro,happiness,12\n"
        "a,a_1,10,12,15,micro,happiness,12\n"
    )
    found = [finding for finding in read_dataset("plain", tmp_path).findings if "too; both count" in finding.message]
    assert [(finding.level, finding.row) for finding in found] == [("warning", 4)]
    assert "10 to 15 of a_1 is in row 2" in found[0].message
