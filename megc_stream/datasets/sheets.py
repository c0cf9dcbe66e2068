"""Annotation tables out of spreadsheets and CSV files: cells as text or numbers, headers found by what they say.

Read with calamine itself instead of through pandas, which hides the merged cells and turns "NA" and "007" into other
things. Rows are counted from 1 as a spreadsheet does.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import python_calamine

from megc_stream.datasets import workbook
from megc_stream.datasets.workbook import MOST_CELLS, TooLargeError, parse
from megc_stream.errors import DataError

__all__ = ["SHEET_SUFFIXES", "Cell", "CellError", "Row", "Sheet", "Table", "find_table", "read_sheets"]

Cell = str | int | float | None
"""Content of a cell: stripped text, a number, or None where it is empty."""

SHEET_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods", ".csv")

_HEADER_ROWS = 60
_MOST_BYTES = 200_000_000
_PARSER_TIMEOUT_S = 60.0
_ZIPPED = (".xlsx", ".xlsm")
_REFERENCE = re.compile(rb'\br\s*=(?:"([A-Z]{0,3})([1-9]\d{0,6})")?')
_UNKNOWN = frozenset({"/", "\\", "-", "--", "?", "nan", "none", "null", "n/a", "na", "#n/a"})
_WHOLE = re.compile(r"[+-]?\d{1,9}(?:\.0*)?")
_LARGEST = 10**9


class CellError(DataError):
    """A cell does not hold what its column asks for; ``column`` is its heading."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


class Sheet(msgspec.Struct, frozen=True):
    """One sheet: ``rows[0]`` is row 1; the cells of a merge down a column all hold its value."""

    file: str
    name: str
    rows: tuple[tuple[Cell, ...], ...]


class Row:
    """One row of a table, its cells by field.

    Parameters
    ----------
    file
        What findings call the file, with the sheet's name where there are several.
    number
        Row in the sheet, from 1.
    cells
        All cells of the row.
    columns
        Position and heading by field.
    """

    __slots__ = ("_cells", "_columns", "file", "number")

    def __init__(self, file: str, number: int, cells: tuple[Cell, ...], columns: Mapping[str, tuple[int, str]]) -> None:
        self.file = file
        self.number = number
        self._cells = cells
        self._columns = columns

    def __contains__(self, field: str) -> bool:
        return field in self._columns

    def heading(self, field: str) -> str:
        """Return the heading of the column as it is written in the sheet; the field itself where it has no column."""
        return self._columns[field][1] if field in self._columns else field

    def cell(self, field: str) -> Cell:
        """Return the content; None where it is empty or the table has no such column."""
        if field not in self._columns:
            return None
        position = self._columns[field][0]
        return self._cells[position] if position < len(self._cells) else None

    def text(self, field: str) -> str:
        """Return the content as text, whole numbers without a decimal point; "" where it is empty."""
        cell = self.cell(field)
        if cell is None:
            return ""
        return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)

    def name(self, field: str) -> str:
        """Return the content as text.

        Raises
        ------
        CellError
            It is empty.
        """
        text = self.text(field)
        if not text:
            raise CellError(self.heading(field), "is empty; expected a name")
        return text

    def number_or_none(self, field: str) -> int | None:
        """Return a whole number, also from text such as "0012" or "12.0"; None for an empty cell, "/", "-" or "nan".

        Raises
        ------
        CellError
            It is anything else.
        """
        cell = self.cell(field)
        if cell is None:
            return None
        if isinstance(cell, str):
            if cell.lower() in _UNKNOWN:
                return None
            if not _WHOLE.fullmatch(cell):
                raise CellError(self.heading(field), f"holds '{_short(cell)}'; expected a frame number")
            return int(cell.partition(".")[0])
        if isinstance(cell, float) and not cell.is_integer():
            raise CellError(self.heading(field), f"holds {cell:g}; expected a whole frame number")
        if abs(cell) >= _LARGEST:
            raise CellError(self.heading(field), f"holds {cell:g}; expected a frame number below {_LARGEST}")
        return int(cell)


class Table(msgspec.Struct, frozen=True):
    """The rows below a header; ``columns`` gives position and heading by field."""

    file: str
    columns: dict[str, tuple[int, str]]
    header_row: int
    cells: tuple[tuple[Cell, ...], ...]

    def rows(self) -> Iterator[Row]:
        """Yield the rows that are not empty."""
        for number, cells in enumerate(self.cells, start=self.header_row + 1):
            if any(cell is not None for cell in cells):
                yield Row(self.file, number, cells, self.columns)


def read_sheets(path: Path, shown: str) -> list[Sheet]:
    """Read all sheets of a workbook, or the one table of a CSV file.

    Parameters
    ----------
    path
        .xlsx, .xlsm, .xls, .xlsb, .ods or .csv (UTF-8, comma, semicolon or tab).
    shown
        What messages call the file.

    Raises
    ------
    DataError
        The file cannot be read or is not what its suffix says.
    """
    if path.suffix.lower() == ".csv":
        return [Sheet(shown, "", _csv_rows(path, shown))]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown}: cannot be read ({error.strerror}); check its rights") from error
    try:
        return [_sheet(shown, content) for content in _workbook(data, path)]
    except TooLargeError as error:
        raise DataError(f"{shown}: {error}; expected an annotation table: remove stray cells far out") from error
    except (
        python_calamine.CalamineError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,  # of zipfile: the content is encrypted
        EOFError,
        OSError,
        ValueError,
    ) as error:
        raise DataError(f"{shown}: is damaged or no spreadsheet ({_short(str(error), 120)}); fetch it anew") from error
    except BaseException as error:
        # A defect of the parser on damaged data arrives as a panic, which is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{shown}: is damaged, the spreadsheet parser gave up; fetch it anew") from error


def find_table(
    sheets: Sequence[Sheet],
    columns: Mapping[str, Sequence[str]],
    optional: Mapping[str, Sequence[str]] | None = None,
) -> Table | None:
    """Return the table below the first row that names all ``columns``, in the first sheet that has one.

    Parameters
    ----------
    sheets
        In the order of preference.
    columns
        Headings that mean a field, compared without case, blanks and punctuation.
    optional
        The same for fields that may be missing.
    """
    for sheet in sheets:
        for index, cells in enumerate(sheet.rows[:_HEADER_ROWS]):
            headings: dict[str, int] = {}
            for position, cell in enumerate(cells):
                if isinstance(cell, str):
                    headings.setdefault(_key(cell), position)
            found = {field: _position(headings, names) for field, names in columns.items()}
            if None in found.values():
                continue
            found.update({field: _position(headings, names) for field, names in (optional or {}).items()})
            return Table(
                file=f"{sheet.file}[{sheet.name}]" if len(sheets) > 1 else sheet.file,
                columns={
                    field: (position, str(cells[position])) for field, position in found.items() if position is not None
                },
                header_row=index + 1,
                cells=sheet.rows[index + 1 :],
            )
    return None


def _position(headings: Mapping[str, int], names: Sequence[str]) -> int | None:
    return next((headings[key] for name in names if (key := _key(name)) in headings), None)


def _key(heading: str) -> str:
    return re.sub(r"[\W_]+", "", heading).lower()


def _workbook(data: bytes, path: Path) -> list[dict[str, Any]]:
    # Not by the suffix alone: an old binary file is often called .xlsx.
    zipped = path.suffix.lower() in _ZIPPED and data.startswith(b"PK")
    return parse(data) if zipped and _is_harmless(data) else _parse_apart(data)


def _is_harmless(data: bytes) -> bool:
    """Return whether all cells of an .xlsx are where an annotation table has them.

    Calamine fills the memory with the empty cells before a stray one, and aborts the process where there is not enough.

    Raises
    ------
    TooLargeError
        A cell is far out.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [member for member in archive.infolist() if member.filename.lower().endswith(".xml")]
        if sum(member.file_size for member in members) > _MOST_BYTES:
            raise TooLargeError(f"it unpacks to more than {_MOST_BYTES} bytes")
        for member in members:
            if "sheet" not in member.filename.lower():
                continue
            letters, digits = set(), set()
            for column, row in _REFERENCE.findall(archive.read(member)):
                letters.add(column)
                digits.add(row)
            if b"" in digits:
                return False
            bottom = max(map(int, digits), default=0)
            right = max(map(_column, letters), default=0)
            if bottom * right > MOST_CELLS:
                raise TooLargeError(f"{member.filename} has {bottom} rows by {right} columns")
    return True


def _column(letters: bytes) -> int:
    """Return the number of a column from 1 ("A"); 0 for none."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - ord("A") + 1
    return number


def _parse_apart(data: bytes) -> list[dict[str, Any]]:
    """Parse in a process of its own: of a damaged binary workbook the parser may abort its whole process."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", workbook.__file__],
            input=data,
            capture_output=True,
            timeout=_PARSER_TIMEOUT_S,
            env={**os.environ, "RUST_BACKTRACE": "0"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the parser did not end within {_PARSER_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise ValueError("the parser gave up")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    sheets: list[dict[str, Any]] = answer["sheets"]
    return sheets


def _sheet(shown: str, content: Mapping[str, Any]) -> Sheet:
    rows = [[_cell(value) for value in row] for row in content["rows"]]
    for (top, left), (bottom, _) in content["merged"]:
        for row in rows[top + 1 : bottom + 1]:
            if left < len(row):
                row[left] = rows[top][left]
    return Sheet(shown, content["name"], tuple(tuple(row) for row in rows))


def _csv_rows(path: Path, shown: str) -> tuple[tuple[Cell, ...], ...]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{shown}: is larger than {_MOST_BYTES} bytes; expected an annotation table")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{shown}: cannot be read ({error.strerror}); check its rights") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{shown}: is not in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    rows: list[tuple[Cell, ...]] = []
    try:
        for values in reader:
            # A quoted cell may span lines: empty rows keep the count that an editor shows.
            rows.extend(() for _ in range(reader.line_num - len(rows) - 1))
            rows.append(tuple(_cell(value) for value in values))
    except csv.Error as error:
        raise DataError(f"{shown}, row {reader.line_num}: is no CSV ({error})") from error
    return tuple(rows)


def _cell(value: object) -> Cell:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _LARGEST else value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return str(value).replace("\u200b", "").strip() or None


def _short(text: str, most: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}..."
