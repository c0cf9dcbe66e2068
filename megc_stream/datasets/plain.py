"""The plain layout for own recordings: ``videos/`` and ``annotations.csv``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from megc_stream.datasets.events import Draft, action_units, emotion, event_rows, expression_type, interval
from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Place, Tree, natural
from megc_stream.datasets.layouts import Layout, Recordings
from megc_stream.datasets.sheets import CellError, Row, Table, find_table, read_sheets
from megc_stream.errors import DataError

__all__ = ["PLAIN", "VIDEO_SUFFIXES"]

VIDEO_SUFFIXES = (".mkv", ".mp4", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""Suffixes, in lower case, of video files in ``videos/``."""

_ANNOTATIONS = "annotations.csv"
_COLUMNS = {name: (name,) for name in ("subject", "video", "onset", "offset", "type")}
_OPTIONAL = {name: (name,) for name in ("apex", "emotion", "aus", "fps")}


def _look(root: Path, log: Log) -> Tree:
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; expected the root of a data set")
    root = root.absolute()
    sheet = root / _ANNOTATIONS
    rates: dict[str, float] = {}
    subjects: dict[str, str] = {}
    if sheet.is_file():
        # Errors of the table are noted where its events are read.
        table = _table(root, Log(root))
        for row in table.rows() if table is not None else ():
            video = row.text("video")
            subjects.setdefault(video, row.text("subject"))
            if (fps := _fps(row)) is not None:
                rates.setdefault(video, fps)
    folder = root / "videos"
    try:
        with os.scandir(folder) as entries:
            listed = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        log.error("videos", f"cannot be read ({error.strerror}); expected a folder of videos and folders of images")
        listed = []
    places = []
    for name, is_folder in sorted(listed, key=lambda item: natural(item[0])):
        if not is_folder and not name.lower().endswith(VIDEO_SUFFIXES):
            continue
        path = folder / name
        video = name if is_folder else path.stem
        subject = subjects.get(video) or video.partition("_")[0] or video
        places.append(Place(subject=subject, video=video, fps=rates.get(video), path=path))
    return Tree(root=root, places=tuple(places), sheets=(sheet,) if sheet.is_file() else ())


def _fps(row: Row) -> float | None:
    """Return the rate in the row; None where it is empty or not a rate."""
    text = row.text("fps")
    if re.fullmatch(r"\d{1,5}(\.\d+)?", text) and 0 < float(text) <= 2000:
        return float(text)
    return None


def _table(root: Path, log: Log) -> Table | None:
    path = root / _ANNOTATIONS
    if not path.is_file():
        log.error(_ANNOTATIONS, f"is missing; expected the columns {','.join([*_COLUMNS, *_OPTIONAL])}")
        return None
    try:
        table = find_table(read_sheets(path, _ANNOTATIONS), _COLUMNS, _OPTIONAL)
    except DataError as error:
        log.error(_ANNOTATIONS, str(error).removeprefix(f"{_ANNOTATIONS}: "))
        return None
    if table is None:
        log.error(_ANNOTATIONS, f"no header with the columns {','.join(_COLUMNS)}", 1)
    return table


def _events(tree: Tree, recordings: Recordings, log: Log) -> Iterator[Draft]:
    table = _table(tree.root, log)
    rates: dict[str, str] = {}
    for row in event_rows(table, log, lambda row: bool(row.text("video"))) if table is not None else ():
        try:
            subject, video = row.name("subject"), row.name("video")
            if row.text("fps"):
                if _fps(row) is None:
                    raise CellError(row.heading("fps"), f"holds '{row.text('fps')[:40]}'; expected frames per second")
                first = rates.setdefault(video, row.text("fps"))
                if first != row.text("fps"):
                    log.warning(
                        row.file,
                        f"{row.text('fps')} frames a second here and {first} above for video {video}; {first} is used",
                        row.number,
                        row.heading("fps"),
                    )
            frames = interval(row, log, first=0)
            if frames is None:
                continue
            yield Draft(
                subject=subject,
                video=video,
                onset=frames[0],
                apex=frames[1],
                offset=frames[2],
                type=expression_type(row),
                emotion=emotion(row, log),
                action_units=action_units(row, log),
                row=row,
            )
        except CellError as error:
            log.cell(row, error)


PLAIN = Layout(name="plain", title="plain layout (videos/, annotations.csv)", look=_look, events=_events)
