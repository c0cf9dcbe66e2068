"""What was planted in a clip, as a table beside it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from megc_stream.errors import DataError, OutputError
from megc_stream.synthesis.action_units import format_units
from megc_stream.synthesis.plan import PlannedEvent

__all__ = ["TruthRow", "read_truth", "truth_path", "truth_rows", "write_truth"]

_AUS = re.compile(r"[LR]?\d+(\+[LR]?\d+)*")


class TruthRow(msgspec.Struct, frozen=True, kw_only=True):
    """One planted micro-expression.

    ``onset``, ``apex`` and ``offset`` are 0-based frames, inclusive; ``aus`` is like ``1+2`` or ``R14`` (R, L: the
    person's right, left side); ``amplitude_iod`` is the largest displacement at the apex in inter-ocular distances.
    """

    subject: str
    video: str
    fps: float
    onset: int
    apex: int
    offset: int
    emotion: str
    aus: str
    amplitude_iod: float


def truth_path(clip: Path) -> Path:
    """Return where the truth of a clip lies: ``name.csv`` beside ``name.mkv``, ``name.mp4`` or the folder ``name``."""
    return clip.with_name(f"{_video(clip)}.csv")


def truth_rows(clip: Path, fps: float, events: Sequence[PlannedEvent]) -> list[TruthRow]:
    """Return the rows for a clip; ``video`` is its stem, ``subject`` the part of that before the first ``_``."""
    video = _video(clip)
    return [
        TruthRow(
            subject=video.partition("_")[0] or video,
            video=video,
            fps=round(fps, 6),
            onset=event.onset,
            apex=event.apex,
            offset=event.offset,
            emotion=event.emotion,
            aus=format_units(event.units),
            amplitude_iod=round(event.amplitude_iod, 6),
        )
        for event in events
    ]


def write_truth(path: Path, rows: Sequence[TruthRow]) -> None:
    """Write the rows as CSV with a header; a file that is there is replaced.

    Raises
    ------
    OutputError
        The file cannot be written; a partial one is removed.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TruthRow.__struct_fields__)
    for row in rows:
        writer.writerow(
            f"{value:.10g}" if isinstance(value, float) else value for value in msgspec.structs.astuple(row)
        )
    partial = path.with_name(f".{path.name}.part")
    try:
        try:
            partial.write_text(text.getvalue(), encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"truth {path}: cannot be written ({error.strerror}); expected a writable folder with room"
        ) from error


def read_truth(path: Path) -> list[TruthRow]:
    """Read a table of truth; columns may come in any order, further ones are passed over.

    Raises
    ------
    DataError
        The file cannot be read, a column is missing, or a value is malformed; names file, row (1: the header), column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream))
    except OSError as error:
        raise DataError(f"truth {path}: cannot be read ({error.strerror}); expected the CSV beside a clip") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"truth {path}: is no CSV in UTF-8 ({error})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    fields = TruthRow.__struct_fields__
    if missing := [name for name in fields if name not in header]:
        raise DataError(f"truth {path}, row 1: no column '{missing[0]}'; expected the columns {','.join(fields)}")
    return [_row(path, number, header, line) for number, line in enumerate(lines[1:], start=2) if line]


def _row(path: Path, number: int, header: list[str], line: list[str]) -> TruthRow:
    if len(line) != len(header):
        raise DataError(f"truth {path}, row {number}: {len(line)} values, the header has {len(header)} columns")
    values = {
        name: value.strip() for name, value in zip(header, line, strict=True) if name in TruthRow.__struct_fields__
    }
    try:
        row = msgspec.convert(values, TruthRow, strict=False)
    except msgspec.ValidationError as error:
        found = re.search(r"`\$\.(\w+)`", str(error))
        column = found[1] if found else "?"
        raise DataError(
            f"truth {path}, row {number}, column {column}: '{values.get(column)}' is not valid ({error})"
        ) from error

    def fail(column: str, expected: str) -> DataError:
        return DataError(f"truth {path}, row {number}, column {column}: '{values[column]}', expected {expected}")

    for name in ("subject", "video", "emotion"):
        if not values[name]:
            raise fail(name, "a name")
    if not 0 < row.fps < 1e5:
        raise fail("fps", "frames per second > 0")
    if row.onset < 0:
        raise fail("onset", "a frame >= 0")
    if not row.onset <= row.apex <= row.offset:
        raise fail("apex", f"a frame from onset {row.onset} to offset {row.offset}")
    if not _AUS.fullmatch(row.aus):
        raise fail("aus", "action units like 1+2 or R14")
    if not 0 <= row.amplitude_iod < 10:
        raise fail("amplitude_iod", "a displacement >= 0 in inter-ocular distances")
    return row


def _video(clip: Path) -> str:
    return clip.stem if clip.suffix.lower() in (".mkv", ".mp4") else clip.name
