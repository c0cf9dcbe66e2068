"""SMIC-E long: HS, VIS and NIR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from megc_stream.datasets.events import Draft, event_rows, interval
from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Place, Tree, walk
from megc_stream.datasets.layouts import Layout, Recordings, open_sheets, open_table
from megc_stream.datasets.sheets import CellError, Row

__all__ = ["SMIC_HS", "SMIC_NIR", "SMIC_VIS"]

_FPS = {"HS": 100.0, "VIS": 25.0, "NIR": 25.0}
_CLIP = re.compile(r"s(\d{1,2})_(ne|po|sur?)_?(\d{1,2})", re.IGNORECASE)
_EMOTIONS = {"ne": "negative", "po": "positive", "su": "surprise"}
_COLUMNS = {
    "video": ("Filename", "File name"),
    "onset": ("OnsetF", "Onset"),
    "offset": ("OffsetF", "Offset"),
}
_OPTIONAL = {"first": ("FirstF", "First")}


def _look(camera: str, root: Path, log: Log) -> Tree:
    base = root.absolute()

    def words(name: str) -> set[str]:
        return set(re.split(r"[\W_]+", name.upper()))

    def is_ours(path: Path) -> bool:
        """Return whether the innermost name with a camera in it, that of the root at last, names ours, or none does."""
        for name in (*reversed(path.relative_to(base).parts), base.name):
            cameras = words(name) & _FPS.keys()
            if cameras:
                return camera in cameras
        return True

    def is_short(path: Path) -> bool:
        return any("MICRO" in words(name) for name in path.relative_to(base).parts[:-1])

    def place(folder: Path) -> Place | None:
        if not _CLIP.fullmatch(folder.name):
            return None
        subject = folder.name.partition("_")[0]
        return Place(subject=subject, video=folder.name, fps=_FPS[camera], path=folder)

    tree = walk(root, place, log)
    # The three cameras have the same names of clips; the short clips lie under "micro" and "non_micro".
    kept = [place for place in tree.places if is_ours(place.path) and not is_short(place.path)]
    return Tree(root=tree.root, places=tuple(kept), sheets=tuple(path for path in tree.sheets if is_ours(path)))


def _events(camera: str, tree: Tree, recordings: Recordings, log: Log) -> Iterator[Draft]:
    sheets = open_sheets(
        tree, log, rf"smic.*{camera}.*\.xls|{camera}.*annot.*\.xls", f"SMIC-{camera}-E_annotation.xlsx"
    )
    table = open_table(sheets, log, _COLUMNS, _OPTIONAL)
    if table is None:
        return
    by_clip = {_clip(video): (subject, video) for subject, video in recordings}
    for row in event_rows(table, log, _is_named):
        try:
            name = row.name("video")
            match = _CLIP.fullmatch(name)
            clip = _clip(name)
            if match is None:
                raise CellError(row.heading("video"), f"holds '{name[:40]}'; expected a clip such as s01_ne_01")
            subject, video = by_clip.get(clip, (f"s{int(match[1]):02d}", name))
            recording = recordings.get((subject, video))
            frames = interval(row, log)
            if frames is None:
                continue
            shift = 0
            first = row.number_or_none("first")
            # The annotated numbers count from FirstF; most copies number their images likewise, some from 1.
            if recording is not None and first is not None:
                shift = recording.numbers[0] - first
            if shift:
                log.note(
                    row.file,
                    f"the images of {video} begin at {recording.numbers[0] if recording else 0}, not at {first}: "
                    f"all frames shifted by {shift}",
                    row.number,
                    row.heading("first"),
                )
            yield Draft(
                subject=subject,
                video=video,
                onset=frames[0] + shift,
                apex=None,
                offset=frames[2] + shift,
                type="micro",
                emotion=_EMOTIONS[match[2][:2].lower()],
                event=name,
                row=row,
            )
        except CellError as error:
            log.cell(row, error)


def _is_named(row: Row) -> bool:
    return bool(_CLIP.fullmatch(row.text("video")))


def _clip(name: str) -> tuple[int, str, int] | None:
    """Return what two spellings of a clip have in common (s1_ne_01, s01_ne_01)."""
    match = _CLIP.fullmatch(name)
    return (int(match[1]), match[2][:2].lower(), int(match[3])) if match else None


def _layout(camera: str) -> Layout:
    return Layout(
        name=f"smic-{camera.lower()}",
        title=f"SMIC-E long, {camera}",
        look=partial(_look, camera),
        events=partial(_events, camera),
    )


SMIC_HS = _layout("HS")
SMIC_VIS = _layout("VIS")
SMIC_NIR = _layout("NIR")
