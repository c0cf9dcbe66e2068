"""Small corpora in the exact layouts of the data sets: folders, image names, spreadsheets with their traps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import simplejpeg
import xlwt

from megc_stream.datasets import DataSet

Written = Callable[[str], DataSet]


def jpeg(width: int, height: int) -> bytes:
    """Return a grey JPEG with some texture."""
    image = np.add.outer(np.arange(height), 3 * np.arange(width)).astype(np.uint8)[:, :, np.newaxis]
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), colorspace="GRAY", quality=50)


_JPEG = jpeg(32, 24)

SAMM_LV_HEADER = (
    "Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type", "Action Units", "Notes",
)  # fmt: skip
SAMM_FACS_HEADER = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
)  # fmt: skip
CAS3_HEADER = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Expression type", "Objective class")
CAS3_ME_HEADER = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")
CASME_II_HEADER = (
    "Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units", "Estimated Emotion",
)  # fmt: skip
SMIC_HEADER = ("Subject", "Filename", "OnsetF", "OffsetF", "Emotion", "FirstF")
PLAIN_HEADER = ("subject", "video", "onset", "apex", "offset", "type", "emotion", "aus", "fps")


def images(folder: Path, names: Iterable[str], data: bytes = _JPEG) -> Path:
    """Write one tiny image under each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(data)
    return folder


def xlsx(path: Path, sheets: dict[str, Sequence[Sequence[Any]]], merged: Sequence[str] = ()) -> Path:
    """Write a workbook; ``merged`` ranges belong to the first sheet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for number, row in enumerate(rows, start=1):
            for column, value in enumerate(row, start=1):
                if value is not None:
                    sheet.cell(number, column, value)
    for cells in merged:
        book.worksheets[0].merge_cells(cells)
    book.save(path)
    return path


def xls(path: Path, sheets: dict[str, Sequence[Sequence[Any]]]) -> Path:
    """Write a workbook in the old binary format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = xlwt.Workbook()
    for name, rows in sheets.items():
        sheet = book.add_sheet(name)
        for number, row in enumerate(rows):
            for column, value in enumerate(row):
                if value is not None:
                    sheet.write(number, column, value)
    book.save(str(path))
    return path


def samm_lv_sheet(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """Write the sheet of SAMM Long Videos: a merged title and nine rows of preamble, the header on row 10."""
    preamble: list[list[Any]] = [["SAMM Long Videos"], [], ["Micro- and macro-expressions"]]
    preamble += [["Frame rate", 200], *([None] for _ in range(5))]
    return xlsx(path, {"Sheet1": [*preamble, SAMM_LV_HEADER, *rows]}, merged=["A1:J1"])


def samm_facs_sheet(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """Write the FACS sheet: sheet MICRO_ONLY, the header on row 14."""
    preamble: list[list[Any]] = [["SAMM FACS codes"], *([f"note {n}"] for n in range(12))]
    return xlsx(path, {"Info": [["Read me"]], "MICRO_ONLY": [*preamble, SAMM_FACS_HEADER, *rows]})


def samm_lv(root: Path) -> Path:
    """Write three videos (one with a gap), 7 rows of which 5 are events, and their FACS sheet."""
    images(root / "SAMM_longvideos" / "006_1", (f"006_1_{n:04d}.jpg" for n in range(1, 41)))
    images(root / "SAMM_longvideos" / "006_2", (f"006_2_{n:04d}.jpg" for n in range(1, 31) if n not in (7, 8)))
    images(root / "SAMM_longvideos" / "013_1", (f"013_1_{n:04d}.jpg" for n in range(1, 61)))
    samm_lv_sheet(
        root / "SAMM_LongVideos_V2_Release.xlsx",
        [
            ["006", "006_1_2", 1, 5, 9, 20, 16, "Micro - 1/2", "AU4+AU7", None],
            [6, "006_1_3", 1, "22", "-1", "30", 9, "Macro", "12A+L14B or AU4+7?", "string numbers"],
            [6, "006_2_1", 2, 10, 14, 0, 5, "Macro", "R12", "no offset"],
            [6, "006_2_2", 2, 0, 0, 0, 0, "Macro", "12", "not coded"],
            [13, "013_1_8", 3, 40, "/", 50, 11, "Micro - 1/2", "1+2", None],
            [13, "013_1_9", 3, 52, 55, 58, 7, "Micro - 1/2", "none", None],
            [13, "013_1_10", 3, "about 5", 8, 9, 5, "Macro", "4", "broken"],
            [None, "coded by two persons"],
        ],
    )
    samm_facs_sheet(
        root / "SAMM_20181215_Micro_FACS_Codes_v2.xlsx",
        [
            ["006", "006_1_2", 1, 5, 9, 20, 16, "Micro - 1/2", "AU4", "Anger", 1, None],
            ["013", "013_1_12", 3, 41, 45, 50, 10, "Micro - 1/2", "1+2", "Surprise", 2, "named otherwise"],
            ["013", "013_1_9", 3, 52, 55, 58, 7, "Micro - 1/2", "4", "Other", 7, None],
        ],
    )
    return root


def plain(root: Path) -> Path:
    """Write two folders of images and their ``annotations.csv``."""
    images(root / "videos" / "ada_1", (f"{n}.jpg" for n in range(30)))
    images(root / "videos" / "bob_1", (f"img{n:03d}.jpg" for n in range(100, 130) if n != 110))
    (root / "annotations.csv").write_text(
        ",".join(PLAIN_HEADER) + "\n"
        "ada,ada_1,0,4,9,micro,Happiness,12+R14,50\n"
        "ada,ada_1,12,,20,macro,,,50\n"
        "bob,bob_1,105,108,112,micro,disgust,4,25\n"
    )
    return root


def samm_challenge(root: Path) -> Path:
    """Write two of the ten videos, 1-based and not padded."""
    images(root / "SAMM_data" / "001_2", (f"{n}.jpg" for n in range(1, 13)))
    images(root / "SAMM_data" / "005_7", (f"005_7_{n:04d}.jpg" for n in range(1, 13)))
    images(root / "CAS_data" / "dzw_a1", (f"{n:04d}.jpg" for n in range(9)))
    return root


def cas_me_3_challenge(root: Path) -> Path:
    """Write two of the twenty videos, 0-based and padded, one in a folder of its subject."""
    samm_challenge(root)
    images(root / "CAS_Test_cropped" / "wy" / "h1", (f"{n:04d}.jpg" for n in range(7)))
    return root


def cas_me_3(root: Path) -> Path:
    """Write three videos (names not padded, gaps, one that begins at 5) and both spreadsheets of version 2."""
    images(root / "part_A" / "spNO.1" / "a" / "color", (f"{n}.jpg" for n in range(1, 121) if n not in (50, 51)))
    images(root / "part_A" / "spNO.1" / "a" / "depth", (f"{n}.png" for n in range(1, 4)))
    images(root / "part_A" / "spNO.10" / "b" / "color", (f"{n}.jpg" for n in range(5, 60)))
    images(root / "part_A" / "spNO.2" / "a" / "color", (f"{n}.jpg" for n in range(1, 30)))
    xls(
        root / "CAS(ME)3_part_A_v2.xls",
        {
            "AU+Emotion": [
                CAS3_HEADER,
                ["spNO.1", "a", 10, 14, 30, "L4+R4", "Macro-expression", "IV"],
                ["spNO.1", "a", 40, 44, 52, "T12+B25", "micro-expression", "I"],
                ["spNO.2", "a", 3, 0, 9, "0", "Macro-expression", "VII"],
                ["spNO.2", "a", 3, 5, 9, "12", "expression", "VII"],
            ],
            "eye blink": [["Subject", "Filename", "Onset", "Offset"], ["spNO.1", "a", 60, 66], ["spNO.2", "a", 2, 7]],
        },
    )
    xlsx(
        root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx",
        {
            "label": [
                CAS3_ME_HEADER,
                ["spNO.1", "a", "40", "44", "52", "T12+B25", "I", "happy"],
                ["spNO.10", "b", "5", "9", "21", "1+2", "III", "Surprise"],
                ["spNO.10", "b", "30", "35", "47", "4", "IV", "Others"],
                ["spNO.10", "b", "3O", "35", "47", "4", "IV", "fear"],
            ]
        },
    )
    return root


def cas_me_2(root: Path, file: str = "code_final.xlsx") -> Path:
    """Write three videos, one of them in another subject's folder, and the workbook of three sheets."""
    images(root / "rawpic" / "s15" / "15_0101disgustingteeth", (f"img_{n}.jpg" for n in range(1, 80)))
    images(root / "rawpic" / "s15" / "15_0401girlcrashing", (f"img_{n}.jpg" for n in range(1, 50)))
    images(root / "rawpic" / "s19" / "23_0502funnyerrors", (f"img{n:03d}.jpg" for n in range(1, 50)))
    xlsx(
        root / file,
        {
            "CASFEcode_final": [
                [1, "disgust1_1", 10, 15, 31, "4+7", "negative", "macro-expression", "disgust"],
                [1, "anger1_1", 20, 25, 0, "4", "negative", "micro-expression", "anger"],
                [None, "anger1_2", 30, 33, 36, "L12", "others", "micro-expression", "helpless"],
                [7, "happy1_1", 5, 8, 14, "6+12", "positive", "macro-expression", "happiness"],
                [99, "happy1_1", 5, 8, 14, "6+12", "positive", "macro-expression", "happiness"],
                [1, "sad9_1", 5, 8, 14, "1", "negative", "macro-expression", "sadness"],
            ],
            "naming rule2": [[1, "s15", 1], [5, "s19", 4], [9, "s23", 7]],
            "naming rule1": [["0101", "disgust1"], [401, "anger1"], ["0502", "happy1"]],
        },
        merged=["A2:A3"],
    )
    return root


def casme_ii(root: Path) -> Path:
    """Write two clips, one of them also cropped, and the coding with its blank columns."""
    images(root / "CASME2-RAW" / "sub01" / "EP02_01f", (f"img{n}.jpg" for n in range(46, 90)))
    images(root / "CASME2-RAW" / "sub17" / "EP01_06", (f"img{n}.jpg" for n in range(1, 40)))
    images(root / "Cropped" / "sub01" / "EP02_01f", (f"reg_img{n}.jpg" for n in range(46, 90)))
    xlsx(
        root / "CASME2-coding-20140508.xlsx",
        {
            "Sheet1": [
                CASME_II_HEADER,
                [1, "EP02_01f", None, 46, 59, 86, None, "12", "happiness"],
                ["17", "EP01_06", None, 3, "/", 30, None, "4 or L7?", "repression"],
                ["17", "EP01_07", None, 3, 7, 30, None, "4", "others"],
            ]
        },
    )
    return root


def smic(root: Path) -> Path:
    """Write a clip of HS numbered from FirstF, one numbered from 1, and a clip of VIS; free text after the table."""
    hs = root / "SMIC-E_raw image" / "HS_long" / "SMIC-HS-E"
    images(hs / "HS" / "s01" / "s01_ne_01", (f"image{n:06d}.jpg" for n in range(1000, 1060)))
    images(hs / "HS" / "s02" / "s02_sur_03", (f"{n}.jpg" for n in range(1, 40)))
    xlsx(
        hs / "SMIC-HS-E_annotation.xlsx",
        {
            "Sheet1": [
                SMIC_HEADER,
                [1, "s1_ne_01", 1010, 1040, "negative", 1000],
                [2, "s2_sur_03", "2005", "2020", "surprise", "2000"],
                [],
                ["OnsetF: number of the first frame of the expression"],
                [None, "FirstF: number of the first frame of the clip"],
            ]
        },
    )
    vis = root / "SMIC-E_raw image" / "VIS_long" / "SMIC-VIS-E"
    images(vis / "VIS" / "s01" / "s01_po_01", (f"image{n:06d}.jpg" for n in range(200, 230)))
    xlsx(
        vis / "SMIC-VIS-E_annotation.xlsx",
        {"Sheet1": [SMIC_HEADER, [1, "s1_po_01", 205, 212, "positive", 200]]},
    )
    return root


def fourdme(root: Path) -> Path:
    """Write two clips and the workbook with a sheet of micro- and one of macro-expressions."""
    long_videos = root / "long_gray_video" / "long gray video"
    images(long_videos / "001" / "001_1", (f"Frame_{n:09d}.jpg" for n in range(1826, 1900)))
    images(long_videos / "002" / "002_4", (f"Frame_{n:09d}.jpg" for n in range(10, 60)))
    images(root / "micro_gray_clips" / "001" / "001_1", (f"Frame_{n:09d}.jpg" for n in range(1840, 1850)))
    header = ["sub_ID", "fold_name", "Emotion", "Onset", "Apex", "Offset", "AUs", "AU1", "AU4", "AU45"]
    header += ["Positive", "Negative", "Surprise", "Repression", "Others"]
    xlsx(
        root / "Micro and Macro-expression labels.xlsx",
        {
            "Micro-expression": [
                header,
                [1, "001_1", "Negative", 1840, 1845, 1850, "AU4+AU45(k)", 0, 1, 1, 0, 1, 0, 0, 0],
                [2, "002_4", None, 12, 15, 20, None, 1, 1, 0, 1, 0, 1, 0, 0],
            ],
            "Macro-expression": [header[:7], [1, "1_1", "Positive", 1860, 1870, 1890, "6+12"]],
        },
    )
    return root


def megc_vqa(root: Path) -> Path:
    """Write a clip of each origin, one level deeper than some copies have them."""
    images(root / "ME_VQA_MEGC_2025_Test_Cropped" / "SAMM" / "SAMM-1", (f"{n:05d}.jpg" for n in range(5, 20)))
    images(root / "ME_VQA_MEGC_2025_Test_Cropped" / "CAS" / "CAS-17", (f"{n}.jpg" for n in range(1, 12)))
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "samm-lv": samm_lv,
    "samm-challenge": samm_challenge,
    "cas-me-3": cas_me_3,
    "cas-me-3-challenge": cas_me_3_challenge,
    "cas-me-2": cas_me_2,
    "casme-ii": casme_ii,
    "smic-hs": smic,
    "smic-vis": smic,
    "4dme": fourdme,
    "megc-vqa": megc_vqa,
    "plain": plain,
}
"""What writes the corpus of each layout; that of SMIC has no NIR."""
