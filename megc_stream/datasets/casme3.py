"""CAS(ME)3 part A (long videos) and the CAS(ME)3 part of the challenge's test set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from megc_stream.datasets.events import Draft, action_units, emotion, event_rows, expression_type, interval
from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Place, Tree, walk
from megc_stream.datasets.layouts import Columns, Layout, Recordings, find_sheets, open_sheets, open_table
from megc_stream.datasets.sheets import CellError, Table

__all__ = ["CAS_ME_3", "CAS_ME_3_CHALLENGE"]

_FPS = 30.0
_SUBJECT = re.compile(r"spNO\.?\s*(\d{1,3})", re.IGNORECASE)
_VIDEO = re.compile(r"[a-z]\d?", re.IGNORECASE)
_COLUMNS = {
    "subject": ("Subject",),
    "video": ("Filename", "File name"),
    "onset": ("Onset",),
    "offset": ("Offset",),
}
_APEX_AND_AUS = {"apex": ("Apex",), "aus": ("AU", "AUs", "Action Units")}
_ALL_FILE = "CAS(ME)3_part_A_v2.xls"
_ME_FILE = "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"

_TEST_VIDEO = re.compile(r"([a-z]{2,3})_([a-z]\d)", re.IGNORECASE)
_TEST_VIDEOS = {
    "dzw": ("a1", "d1", "f3", "h3", "s3"),
    "gcf": ("a1", "d1", "f2", "h3", "s4"),
    "smy": ("a1", "d1", "f2", "h3", "s3"),
    "wy": ("a2", "f1", "f4", "h1", "s1"),
}


def _look(root: Path, log: Log) -> Tree:
    def place(folder: Path) -> Place | None:
        subject = _SUBJECT.fullmatch(folder.parent.name)
        if subject is None or not _VIDEO.fullmatch(folder.name):
            return None
        color = folder / "color"
        return Place(
            subject=f"spNO.{int(subject[1])}", video=folder.name, fps=_FPS, path=color if color.is_dir() else folder
        )

    return walk(root, place, log)


def _events(tree: Tree, recordings: Recordings, log: Log) -> Iterator[Draft]:
    micro = _table(tree, log, r"part.?a.*label.*\.xls", _ME_FILE, {**_COLUMNS, "emotion": ("emotion",)})
    everything = _table(
        tree, log, r"part.?a(?!.*label).*\.xls", _ALL_FILE, {**_COLUMNS, "type": ("Expression type", "Type")}
    )
    # The micro-expressions of version 1 are wrong; its macro-expressions are not.
    if micro is not None and micro[1] < 2:
        log.error(micro[0].file, f"is version 1, whose micro-expression labels are wrong; get {_ME_FILE}")
        micro = None
    if micro is not None:
        yield from _drafts(micro[0], recordings, log, of_type="micro")
    if everything is None:
        return
    table, version = everything
    if version < 2:
        log.error(
            table.file,
            f"is version 1, whose micro-expression labels are wrong; only macro-expressions are read, get {_ALL_FILE}",
        )
    elif micro is None:
        log.warning(table.file, f"micro-expressions are taken from here, without emotions: {_ME_FILE} is not usable")
        yield from _drafts(table, recordings, log, of_type="micro")
    yield from _drafts(table, recordings, log, of_type="macro")


def _table(tree: Tree, log: Log, pattern: str, example: str, columns: Columns) -> tuple[Table, int] | None:
    """Return the table of the newest such file, and the version of it."""
    paths = find_sheets(tree, pattern)
    table = open_table(open_sheets(tree, log, pattern, example), log, columns, _APEX_AND_AUS)
    if table is None:
        return None
    versions = re.findall(r"v(\d+)", paths[0].stem, re.IGNORECASE)
    return table, int(versions[-1]) if versions else 1


def _drafts(table: Table, recordings: Recordings, log: Log, *, of_type: Literal["micro", "macro"]) -> Iterator[Draft]:
    """Yield the events of one type; a table without types holds micro-expressions only."""
    by_name = {(subject, video.lower()): video for subject, video in recordings}
    for row in event_rows(table, log, lambda row: bool(_SUBJECT.fullmatch(row.text("subject")))):
        try:
            if "type" in row and expression_type(row) != of_type:
                continue
            match = _SUBJECT.fullmatch(row.name("subject"))
            if match is None:
                raise CellError(row.heading("subject"), f"holds '{row.text('subject')[:40]}'; expected e.g. spNO.1")
            subject, video = f"spNO.{int(match[1])}", row.name("video")
            video = by_name.get((subject, video.lower()), video)
            frames = interval(row, log)
            if frames is not None:
                yield Draft(
                    subject=subject,
                    video=video,
                    onset=frames[0],
                    apex=frames[1],
                    offset=frames[2],
                    type=of_type,
                    emotion=emotion(row, log),
                    action_units=action_units(row, log),
                    row=row,
                )
        except CellError as error:
            # A row without a legible type turns up for both: it is told of once.
            if of_type == "macro" or "type" not in row or error.column != row.heading("type"):
                log.cell(row, error)


def _look_for_test_set(root: Path, log: Log) -> Tree:
    def place(folder: Path) -> Place | None:
        match = _TEST_VIDEO.fullmatch(folder.name)
        if match is not None:
            return Place(subject=match[1], video=folder.name, fps=_FPS, path=folder)
        subject = folder.parent.name.lower()
        # Some copies are sorted as <subject>/<video>.
        if subject in _TEST_VIDEOS and re.fullmatch(r"[a-z]\d", folder.name):
            return Place(subject=subject, video=f"{subject}_{folder.name}", fps=_FPS, path=folder)
        return None

    return walk(root, place, log)


CAS_ME_3 = Layout(name="cas-me-3", title="CAS(ME)3 part A", look=_look, events=_events)
CAS_ME_3_CHALLENGE = Layout(
    name="cas-me-3-challenge",
    title="CAS(ME)3 clips of the MEGC test set",
    look=_look_for_test_set,
    expected=tuple((subject, f"{subject}_{video}") for subject, videos in _TEST_VIDEOS.items() for video in videos),
)
