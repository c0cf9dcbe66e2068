"""Cells, headers and labels; damaged and malformed tables of any kind are findings, never a traceback."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import corpora
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megc_stream.datasets import read_dataset
from megc_stream.datasets.labels import coarse_emotion, parse_action_units
from megc_stream.datasets.sheets import CellError, Row, find_table, read_sheets
from megc_stream.errors import DataError, MegcError

FUZZ = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def row(value: object) -> Row:
    return Row("f.xlsx", 7, (value,), {"onset": (0, "Onset Frame")})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cell", "number"),
    [(5, 5), ("0012", 12), ("12.0", 12), (3.0, 3), ("-1", -1), (None, None), ("/", None), ("NaN", None), ("-", None)],
)
def test_frame_numbers_are_read_from_numbers_and_text(cell: object, number: int | None) -> None:
    assert row(cell).number_or_none("onset") == number


@pytest.mark.parametrize("cell", ["1 2", "about 5", 1.5, "1,5", "5f", "1e3", 1e12, "True", "2014-05-08 00:00:00"])
def test_what_is_no_frame_number_names_the_heading(cell: object) -> None:
    with pytest.raises(CellError, match="expected a") as caught:
        row(cell).number_or_none("onset")
    assert caught.value.column == "Onset Frame"


def test_headers_are_found_by_their_words_below_any_preamble(tmp_path: Path) -> None:
    rows = [["Onset of data collection"], [], [None, "FILE NAME", "onset_frame", 3], [None, "a", 4.0, True]]
    path = corpora.xlsx(tmp_path / "t.xlsx", {"first": [["x"]], "second": rows})
    table = find_table(read_sheets(path, "t.xlsx"), {"name": ("Filename",), "onset": ("Onset", "Onset Frame")})
    assert table is not None
    assert table.file == "t.xlsx[second]"
    (only,) = table.rows()
    assert (only.number, only.text("name"), only.number_or_none("onset")) == (4, "a", 4)
    assert only.heading("onset") == "onset_frame"
    assert find_table(read_sheets(path, "t.xlsx"), {"name": ("Subject",)}) is None


def test_cells_merged_down_a_column_all_hold_the_value_also_in_old_files(tmp_path: Path) -> None:
    path = corpora.xlsx(tmp_path / "t.xlsx", {"s": [["a", 1], [None, 2], [None, 3]]}, merged=["A1:A2"])
    (sheet,) = read_sheets(path, "t.xlsx")
    assert sheet.rows == (("a", 1), ("a", 2), (None, 3))
    old = corpora.xls(tmp_path / "t.xls", {"s": [["a", 1], ["007", 2.5]]})
    assert read_sheets(old, "t.xls")[0].rows == (("a", 1), ("007", 2.5))


def test_a_stray_cell_far_out_does_not_fill_the_memory(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.cell(1, 1, "x")
    book.active.cell(1_048_576, 16_384, "y")
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match="1048576 rows by 16384 columns"):
        read_sheets(tmp_path / "t.xlsx", "t.xlsx")


@pytest.mark.parametrize("reference", ["A-5", "XFD1048577", "ZZZZ9"])
def test_a_cell_at_an_impossible_place_does_not_end_the_process(tmp_path: Path, reference: str) -> None:
    whole = corpora.xlsx(tmp_path / "whole.xlsx", {"s": [["a", 1], ["b", 2]]})
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "t.xlsx", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'r="A2"', f'r="{reference}"'.encode()))
    try:
        sheets = read_sheets(tmp_path / "t.xlsx", "t.xlsx")
    except DataError as error:
        assert str(error).startswith("t.xlsx: ")
    else:
        assert len(sheets) == 1


@pytest.mark.parametrize(
    ("text", "units", "unread"),
    [
        ("12A+L14B or AU4+7?", [(12, ""), (14, "L"), (4, ""), (7, "")], ""),
        ("R12 + 45(k)", [(12, "R")], ""),
        ("AU45B(k)+T10", [(10, "T")], ""),
        ("AU 4 + L 14", [(4, ""), (14, "L")], ""),
        ("4,7;9/10", [(4, ""), (7, ""), (9, ""), (10, "")], ""),
        ("4+4+L4", [(4, ""), (4, "L")], ""),
        ("B12C", [(12, "B")], ""),
        ("14R", [(14, "R")], ""),
        ("4 (weak)", [(4, "")], ""),
        ("none", [], ""),
        ("0", [], ""),
        ("brow+4", [(4, "")], "brow"),
        ("123", [], "123"),
    ],
)
def test_action_units_with_sides(text: str, units: list[tuple[int, str]], unread: str) -> None:
    found, rest = parse_action_units(text)
    assert [(unit.number, unit.side) for unit in found] == units
    assert rest == unread


def test_emotions_fall_into_the_classes_of_the_challenge() -> None:
    classes = {
        "positive": ["Happiness", "happy", "positive"],
        "negative": ["anger", "Contempt", "disgust", "fear", "sad", "Sadness", "repression", "negative+repression"],
        "surprise": ["Surprise "],
        "others": ["other", "Others", "positive+surprise"],
        "": [""],
    }
    for coarse, emotions in classes.items():
        assert [coarse_emotion(emotion) for emotion in emotions] == [coarse] * len(emotions)
    assert coarse_emotion("bored") is None


@FUZZ
@given(st.text(max_size=30))
def test_no_text_breaks_the_labels(text: str) -> None:
    units, _ = parse_action_units(text)
    assert all(1 <= unit.number <= 99 for unit in units)
    coarse_emotion(text)


CELLS = st.one_of(
    st.none(),
    st.integers(-(10**12), 10**12),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.sampled_from(["/", "-1", "=1/0", "Micro - 1/2", "12.0"]),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12),
)


@pytest.fixture(scope="module")
def samm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpora.samm_lv(tmp_path_factory.mktemp("samm"))


@pytest.fixture(scope="module")
def cas2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpora.cas_me_2(tmp_path_factory.mktemp("cas2"))


def mutate(book: Path, target: Path, sheet: int, changes: list[tuple[int, int, object]]) -> None:
    workbook = openpyxl.load_workbook(book)
    for number, column, value in changes:
        cell = workbook.worksheets[sheet].cell(number, column)
        if type(cell).__name__ != "MergedCell":
            cell.value = str(value) if isinstance(value, float) and value != value else value  # type: ignore[assignment]
    workbook.save(target)


@FUZZ
@given(changes=st.lists(st.tuples(st.integers(8, 19), st.integers(1, 10), CELLS), max_size=8))
def test_any_content_of_the_samm_sheet_gives_findings(samm: Path, changes: list[tuple[int, int, object]]) -> None:
    sheet = samm / "SAMM_LongVideos_V2_Release.xlsx"
    shutil.copy(sheet, samm / "whole.bin")
    try:
        mutate(sheet, sheet, 0, changes)
        data = read_dataset("samm-lv", samm)
    finally:
        shutil.copy(samm / "whole.bin", sheet)
    assert len(data.recordings) == 3
    for annotation in data.annotations:
        assert 1 <= annotation.onset <= annotation.offset
        assert annotation.apex is None or annotation.onset <= annotation.apex <= annotation.offset


@FUZZ
@given(sheet=st.integers(0, 2), changes=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9), CELLS), max_size=8))
def test_any_content_of_the_cas_sheets_gives_findings(
    cas2: Path, sheet: int, changes: list[tuple[int, int, object]]
) -> None:
    book = cas2 / "code_final.xlsx"
    shutil.copy(book, cas2 / "whole.bin")
    try:
        mutate(book, book, sheet, changes)
        data = read_dataset("cas-me-2", cas2)
    finally:
        shutil.copy(cas2 / "whole.bin", book)
    assert len(data.recordings) == 3


@FUZZ
@given(data=st.binary(max_size=400), suffix=st.sampled_from([".xlsx", ".xls", ".ods", ".xlsb", ".csv"]))
def test_random_bytes_are_no_spreadsheet(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(data)
    try:
        read_sheets(path, path.name)
    except DataError as error:
        assert path.name in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", ["xlsx", "xls"])
@FUZZ
@given(cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40)), min_size=1, max_size=6))
def test_damaged_workbooks_are_told_of(tmp_path: Path, suffix: str, cuts: list[tuple[float, bytes]]) -> None:
    whole = tmp_path / f"whole.{suffix}"
    if not whole.exists():
        write = corpora.xlsx if suffix == "xlsx" else corpora.xls
        write(whole, {"a": [["Subject", "Onset"], *([f"s{n}", n] for n in range(40))], "b": [["x"]]})
    data = bytearray(whole.read_bytes())
    for place, piece in cuts:
        start = int(place * len(data))
        data[start : start + len(piece)] = piece
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(data)
    try:
        read_sheets(path, path.name)
    except DataError as error:
        assert path.name in str(error)


@FUZZ
@given(text=st.text(max_size=300))
def test_any_text_as_annotations_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "annotations.csv").write_text(
        "subject,video,onset,offset,type\n" + text, encoding="utf-8", errors="replace"
    )
    corpora.images(tmp_path / "videos" / "a_1", ["1.jpg"])
    try:
        data = read_dataset("plain", tmp_path)
    except MegcError as error:
        pytest.fail(str(error))
    assert [recording.video for recording in data.recordings] == ["a_1"]
