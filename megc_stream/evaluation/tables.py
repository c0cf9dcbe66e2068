"""Tables of intervals (CSV) and of questions with answers (JSON lines): read whole, or refused with file and row."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from megc_stream.errors import DataError
from megc_stream.evaluation.strs import Interval

__all__ = [
    "AnswerRow",
    "IntervalRow",
    "pair_names",
    "read_answers",
    "read_csv",
    "read_interval_rows",
    "read_intervals",
    "read_json_lines",
    "read_text",
    "shown",
    "whole_number",
]

INTERVAL_COLUMNS = ("subject", "video", "onset", "offset", "emotion")
_SHOWN = 60
_MOST_DIGITS = 12


class IntervalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table of intervals, with the columns that only some tables have.

    Parameters
    ----------
    interval
        Subject, video, frames, emotion.
    row
        Row of the file, counted from 1, the header included.
    apex
        Native frame number; None where the column is missing or empty.
    fps
        Frames per second of the video; None where the column is missing or empty.
    type
        "micro", "macro", or "" where the column is missing or empty ("mae", "micro-expression" and so on are known).
    score
        Confidence, any finite number; None where the column (``score`` or ``confidence``) is missing or empty.
    """

    interval: Interval
    row: int
    apex: int | None = None
    fps: float | None = None
    type: str = ""
    score: float | None = None


class AnswerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a file of questions: the fields that matter, and all of them as they were read.

    ``video_id`` falls back to ``id``; ``dataset`` is the field of that name, else what comes before the first "_" of
    ``video_id``; ``video`` is the field ``video`` or ``filename``, else ``video_id``. ``row`` counts the
    lines of ``file`` from 1.
    """

    video_id: str
    question: str
    answer: str
    dataset: str
    video: str
    file: str
    row: int
    fields: dict[str, Any]


def read_csv(path: Path, needed: Sequence[str], what: str = "intervals") -> list[tuple[int, dict[str, str]]]:
    """Read a CSV table in UTF-8 whose header holds at least ``needed``; cells are stripped.

    Returns
    -------
    list of (row, cells)
        ``row`` is the last line of the row in the file, counted from 1. Empty lines are passed over.

    Raises
    ------
    DataError
        The file cannot be read, is not UTF-8 CSV, holds NUL bytes, lacks a column or names one twice, or a row has
        another number of cells than the header; names file and row.
    """
    text = read_text(path, f"a CSV table of {what}")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    columns: list[str] | None = None
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if columns is None:
                columns = cells
                _check_header(path, columns, needed)
            elif len(cells) > len(columns):
                raise DataError(
                    f"{path}, row {reader.line_num}: more cells than columns; quote cells that contain a comma"
                )
            elif cells and cells != [""]:
                if len(cells) < len(columns):
                    raise DataError(
                        f"{path}, row {reader.line_num}, column {columns[len(cells)]}: the row ends before this cell; "
                        f"expected {len(columns)} cells, got {len(cells)}"
                    )
                rows.append((reader.line_num, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise DataError(f"{path}, row {reader.line_num}: not a UTF-8 CSV table ({error})") from error
    if columns is None:
        _check_header(path, [], needed)
    return rows


def read_interval_rows(path: Path) -> list[IntervalRow]:
    """Read a table with the columns subject, video, onset, offset, emotion; apex, fps, type and score where present.

    Texts stay texts ("006" is not 6); emotions are put into lower case and may be empty; further columns are passed
    over. ``apex`` may be empty, "/" or -1 where unknown.

    Raises
    ------
    DataError
        The file cannot be read, a column is missing, or a cell is malformed; names file, row and column.
    """
    return [_interval_row(path, row, cells) for row, cells in read_csv(path, INTERVAL_COLUMNS)]


def read_intervals(path: Path) -> list[Interval]:
    """Read the intervals of a table without its further columns; see :func:`read_interval_rows`."""
    return [row.interval for row in read_interval_rows(path)]


def pair_names(pred: Sequence[IntervalRow], truth: Sequence[IntervalRow]) -> list[IntervalRow]:
    """Return the predictions with subjects and videos spelt as in the truth where only leading zeros differ.

    "17" becomes "017" if the truth has "017", has no "17", and no other name of the same number.
    """
    subjects = _spellings([row.interval.subject for row in truth])
    videos = _spellings([row.interval.video for row in truth])
    paired = []
    for row in pred:
        subject = subjects.get(_numeral(row.interval.subject), row.interval.subject)
        video = videos.get(_numeral(row.interval.video), row.interval.video)
        paired.append(
            msgspec.structs.replace(row, interval=msgspec.structs.replace(row.interval, subject=subject, video=video))
        )
    return paired


def read_json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read a file of one JSON object a line, in UTF-8; empty lines are passed over.

    Returns
    -------
    list of (row, object)
        ``row`` counts lines from 1.

    Raises
    ------
    DataError
        The file cannot be read, or a line is not a JSON object; names file and row.
    """
    text = read_text(path, "JSON lines")
    rows: list[tuple[int, dict[str, Any]]] = []
    # Not splitlines(): U+2028 and the like are ordinary characters of a JSON text.
    for row, line in enumerate(text.split("\n"), start=1):
        line = line.strip(" \t\r")
        if not line:
            continue
        try:
            value = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise DataError(
                f"{path}, row {row}: not JSON ({error}); got {shown(line)}; expected one object a line"
            ) from error
        except RecursionError as error:
            raise DataError(f"{path}, row {row}: nested too deeply; expected an object of plain fields") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}, row {row}: got {shown(line)}; expected a JSON object with named fields")
        rows.append((row, value))
    return rows


def read_answers(path: Path) -> list[AnswerRow]:
    """Read questions and answers: ``video_id`` (or ``id``), ``question``, ``answer``, and whatever else the rows hold.

    A missing ``answer`` is "".

    Raises
    ------
    DataError
        The file cannot be read, holds no row, a line is not a JSON object, a field is missing or not a text; names
        file, row and field.
    """
    rows = [_answer_row(path, row, fields) for row, fields in read_json_lines(path)]
    if not rows:
        raise DataError(f"{path}: holds no row; expected JSON lines with video_id, question and answer")
    return rows


def read_text(path: Path, expected: str) -> str:
    """Return the text of a UTF-8 file, without a byte-order mark; ``expected`` is what it should hold.

    Raises
    ------
    DataError
        The file cannot be read, is not UTF-8, or holds NUL bytes; names file and row.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, row {row}: not a UTF-8 CSV table or JSON lines ({error.reason} at byte {error.start}); "
            f"expected {expected} in UTF-8"
        ) from error
    nul = text.find("\0")
    if nul >= 0:
        raise DataError(
            f"{path}, row {text.count(chr(10), 0, nul) + 1}: holds a NUL byte; expected {expected} in UTF-8"
        )
    return text


def whole_number(text: str) -> int | None:
    """Return a whole number, 0 or more, in at most 12 plain digits; None for any other text."""
    # int() would take "1_000" and other scripts' digits as well.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def shown(text: str) -> str:
    """Return a text fit for a one-line message: short, control characters escaped."""
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return short if short.isprintable() else ascii(short)[1:-1]


def _check_header(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    for column in needed:
        if column not in columns:
            got = ", ".join(map(shown, columns[:20])) if any(columns) else "an empty file"
            raise DataError(f"{path}: column '{column}' is missing; got {got}; expected at least {','.join(needed)}")
    twice = {column for column in columns if column and columns.count(column) > 1}
    if twice:
        raise DataError(f"{path}, row 1: column '{shown(min(twice))}' is there twice; expected each name once")


def _interval_row(path: Path, row: int, cells: dict[str, str]) -> IntervalRow:
    for column in ("subject", "video"):
        if not cells[column]:
            raise DataError(f"{path}, row {row}, column {column}: got an empty cell; expected a name")
        if not cells[column].isprintable():
            raise DataError(
                f"{path}, row {row}, column {column}: got control characters, {cells[column][:_SHOWN]!r}; "
                "expected a name"
            )
    onset, offset = (_frame_number(path, row, column, cells[column]) for column in ("onset", "offset"))
    if offset < onset:
        raise DataError(f"{path}, row {row}, column offset: got {offset}; expected at least the onset, {onset}")
    apex = cells.get("apex", "")
    score_column = "score" if "score" in cells else "confidence"
    return IntervalRow(
        interval=Interval(cells["subject"], cells["video"], onset, offset, cells["emotion"].lower()),
        row=row,
        apex=None if apex in ("", "/", "-1") else _frame_number(path, row, "apex", apex),
        fps=_number(path, row, "fps", cells.get("fps", ""), positive=True),
        type=_type(path, row, cells.get("type", "")),
        score=_number(path, row, score_column, cells.get(score_column, ""), positive=False),
    )


def _frame_number(path: Path, row: int, column: str, text: str) -> int:
    number = whole_number(text)
    if number is None:
        raise DataError(
            f"{path}, row {row}, column {column}: got '{shown(text)}'; expected a whole frame number, 0 or more"
        )
    return number


def _number(path: Path, row: int, column: str, text: str, *, positive: bool) -> float | None:
    if not text:
        return None
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (positive and not 1e-3 <= value <= 1e6):
        expected = "a number from 0.001 to 1e6" if positive else "a finite number"
        raise DataError(f"{path}, row {row}, column {column}: got '{shown(text)}'; expected {expected}")
    return value


def _type(path: Path, row: int, text: str) -> str:
    known = text.lower()
    if known.startswith(("macro", "mae")):
        return "macro"
    if known.startswith(("micro", "me")):
        return "micro"
    if known:
        raise DataError(f"{path}, row {row}, column type: got '{shown(text)}'; expected micro or macro")
    return ""


def _answer_row(path: Path, row: int, fields: dict[str, Any]) -> AnswerRow:
    def text(name: str) -> str:
        value = fields.get(name, "")
        if not isinstance(value, str):
            raise DataError(f"{path}, row {row}, field {name}: got {shown(str(value))}; expected a text")
        return value.strip()

    video_id = text("video_id") or text("id")
    if not video_id:
        raise DataError(f"{path}, row {row}, field video_id: missing; expected the name of a video or clip")
    question = text("question")
    if not question:
        raise DataError(f"{path}, row {row}, field question: missing; expected a question")
    return AnswerRow(
        video_id=video_id,
        question=question,
        answer=text("answer"),
        dataset=text("dataset") or video_id.split("_", 1)[0],
        video=text("video") or text("filename") or video_id,
        file=str(path),
        row=row,
        fields=fields,
    )


def _numeral(name: str) -> str:
    return name.lstrip("0") or "0" if re.fullmatch("[0-9]+", name) else ""


def _spellings(names: Sequence[str]) -> dict[str, str]:
    """Return the one spelling of each number among names that are numbers; numbers spelt in two ways are left out."""
    by_number: dict[str, set[str]] = {}
    for name in names:
        if _numeral(name):
            by_number.setdefault(_numeral(name), set()).add(name)
    return {number: min(spelt) for number, spelt in by_number.items() if len(spelt) == 1}
