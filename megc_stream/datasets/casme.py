"""CASME II and CAS(ME)2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from megc_stream.datasets.events import Draft, action_units, emotion, event_rows, expression_type, interval
from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Place, Tree, walk
from megc_stream.datasets.layouts import Layout, Recordings, open_sheets, open_table
from megc_stream.datasets.records import Recording
from megc_stream.datasets.sheets import CellError, Row, Sheet, Table

__all__ = ["CASME_II", "CAS_ME_2"]

_SUBJECT_II = re.compile(r"(?:sub)?(\d{1,2})", re.IGNORECASE)
_CLIP_II = re.compile(r"EP\d+_\w+", re.IGNORECASE)
_COLUMNS_II = {
    "subject": ("Subject",),
    "video": ("Filename", "File name"),
    "onset": ("OnsetFrame", "Onset"),
    "offset": ("OffsetFrame", "Offset"),
    "emotion": ("Estimated Emotion", "Emotion"),
}
_OPTIONAL_II = {"apex": ("ApexFrame", "Apex"), "aus": ("Action Units", "AU")}

_FOLDER_2 = re.compile(r"(\d{1,2})_(\d{4})\w*")
_COLUMNS_2 = ("subject", "video", "onset", "apex", "offset", "aus", "emotion", "type", "self-report")


def _look_ii(root: Path, log: Log) -> Tree:
    def place(folder: Path) -> Place | None:
        subject = _SUBJECT_II.fullmatch(folder.parent.name)
        if subject is None or not _CLIP_II.fullmatch(folder.name):
            return None
        return Place(subject=f"sub{int(subject[1]):02d}", video=folder.name, fps=200.0, path=folder)

    return walk(root, place, log)


def _events_ii(tree: Tree, recordings: Recordings, log: Log) -> Iterator[Draft]:
    sheets = open_sheets(tree, log, r"casme.?(2|ii)\b.*\.xls|casme.?(2|ii)[-_ ].*\.xls", "CASME2-coding-20140508.xlsx")
    table = open_table(sheets, log, _COLUMNS_II, _OPTIONAL_II)
    if table is None:
        return
    by_name = {(subject.lower(), video.lower()): (subject, video) for subject, video in recordings}
    for row in event_rows(table, log, lambda row: bool(_CLIP_II.fullmatch(row.text("video")))):
        try:
            match = _SUBJECT_II.fullmatch(row.name("subject"))
            if match is None:
                raise CellError(row.heading("subject"), f"holds '{row.text('subject')[:40]}'; expected a number")
            subject, video = f"sub{int(match[1]):02d}", row.name("video")
            subject, video = by_name.get((subject, video.lower()), (subject, video))
            frames = interval(row, log)
            if frames is not None:
                yield Draft(
                    subject=subject,
                    video=video,
                    onset=frames[0],
                    apex=frames[1],
                    offset=frames[2],
                    type="micro",
                    emotion=emotion(row, log),
                    action_units=action_units(row, log),
                    event=f"{subject}_{video}",
                    row=row,
                )
        except CellError as error:
            log.cell(row, error)


def _look_2(root: Path, log: Log) -> Tree:
    def place(folder: Path) -> Place | None:
        match = _FOLDER_2.fullmatch(folder.name)
        if match is None:
            return None
        parent = folder.parent.name
        subject = parent if re.fullmatch(r"s\d{1,2}", parent) else f"s{int(match[1])}"
        return Place(subject=subject, video=folder.name, fps=30.0, path=folder)

    return walk(root, place, log)


def _events_2(tree: Tree, recordings: Recordings, log: Log) -> Iterator[Draft]:
    sheets = open_sheets(tree, log, r"code.?final.*\.xls", "code_final.xlsx")
    if not sheets:
        return
    if len(sheets) < 3:
        log.error(sheets[0].file, f"has {len(sheets)} sheets; expected three: events, subjects, names of the videos")
        return
    subjects = _subject_folders(sheets[1], log)
    codes = _video_codes(sheets[2], log)
    folders = _Folders(recordings.values())
    for row in event_rows(_headless(sheets[0]), log, lambda row: "_" in row.text("video")):
        try:
            number = row.number_or_none("subject")
            if number is None or number not in subjects:
                message = f"holds '{row.text('subject')[:40]}', no subject of sheet '{sheets[1].name}'"
                raise CellError(row.heading("subject"), message)
            event = row.name("video")
            code = codes.get(event.partition("_")[0].lower())
            if code is None:
                message = f"holds '{event[:40]}', no video of sheet '{sheets[2].name}'"
                raise CellError(row.heading("video"), message)
            subject = subjects[number]
            video = folders.video(subject, code, row, log)
            frames = interval(row, log)
            if frames is not None:
                yield Draft(
                    subject=video[0],
                    video=video[1],
                    onset=frames[0],
                    apex=frames[1],
                    offset=frames[2],
                    type=expression_type(row),
                    emotion=emotion(row, log),
                    action_units=action_units(row, log),
                    event=event,
                    row=row,
                )
        except CellError as error:
            log.cell(row, error)


class _Folders:
    """The folders of the videos by subject and number code, as in ``s15/15_0101disgustingteeth``."""

    def __init__(self, recordings: Iterable[Recording]) -> None:
        self._by_folder: dict[tuple[str, str], Recording] = {}
        self._by_name: dict[tuple[str, str], Recording] = {}
        for recording in recordings:
            match = _FOLDER_2.fullmatch(recording.video)
            if match is not None:
                self._by_folder.setdefault((recording.subject, match[2]), recording)
                self._by_name.setdefault((f"s{int(match[1])}", match[2]), recording)

    def video(self, subject: str, code: str, row: Row, log: Log) -> tuple[str, str]:
        """Return subject and video; one that lies in another subject's folder is noted."""
        recording = self._by_folder.get((subject, code))
        if recording is None and (recording := self._by_name.get((subject, code))) is not None:
            log.warning(
                row.file,
                f"{recording.video} of {subject} lies in {recording.subject}; taken from there",
                row.number,
                row.heading("video"),
            )
        if recording is None:
            return subject, f"{subject[1:]}_{code}"
        return recording.subject, recording.video


def _headless(sheet: Sheet) -> Table:
    """Return the table of events, which has no header; a copy with one is taken from its second row."""
    columns = {field: (n, f"{chr(ord('A') + n)} ({field})") for n, field in enumerate(_COLUMNS_2)}
    first = sheet.rows[0] if sheet.rows else ()
    has_header = any(isinstance(cell, str) and cell.lower().startswith("onset") for cell in first)
    skipped = 1 if has_header else 0
    return Table(file=f"{sheet.file}[{sheet.name}]", columns=columns, header_row=skipped, cells=sheet.rows[skipped:])


def _subject_folders(sheet: Sheet, log: Log) -> dict[int, str]:
    """Return the folder of each subject number out of rows such as (..., "s15", 1)."""
    folders: dict[int, str] = {}
    for cells in sheet.rows:
        folder = next((n for n, cell in enumerate(cells) if re.fullmatch(r"s\d{1,2}", str(cell))), None)
        if folder is None:
            continue
        numbers = [cell for cell in (*cells[folder + 1 :], *cells[:folder]) if re.fullmatch(r"\d{1,2}", str(cell))]
        if numbers:
            folders[int(str(numbers[0]))] = str(cells[folder])
    if not folders:
        log.error(f"{sheet.file}[{sheet.name}]", "names no subject folders; expected rows such as 's15' and 1")
    return folders


def _video_codes(sheet: Sheet, log: Log) -> dict[str, str]:
    """Return the number code of each video name out of rows such as ("0401", "anger1")."""
    codes: dict[str, str] = {}
    for cells in sheet.rows:
        numbers = [str(cell) for cell in cells if re.fullmatch(r"\d{3,4}", str(cell))]
        names = [cell for cell in cells if isinstance(cell, str) and re.fullmatch(r"[A-Za-z]+\d*", cell)]
        if numbers and names:
            codes.update({name.lower(): numbers[0].zfill(4) for name in names})
    if not codes:
        log.error(f"{sheet.file}[{sheet.name}]", "names no video codes; expected rows such as '0401' and 'anger1'")
    return codes


CASME_II = Layout(name="casme-ii", title="CASME II", look=_look_ii, events=_events_ii)
CAS_ME_2 = Layout(name="cas-me-2", title="CAS(ME)2", look=_look_2, events=_events_2)
