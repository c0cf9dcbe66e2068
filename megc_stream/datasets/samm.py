"""SAMM Long Videos and the SAMM part of the challenge's test set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from megc_stream.datasets.events import Draft, action_units, emotion, event_rows, expression_type, interval
from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Place, Tree, walk
from megc_stream.datasets.layouts import Layout, Recordings, find_sheets, open_sheets, open_table
from megc_stream.datasets.sheets import CellError, Row

__all__ = ["SAMM_CHALLENGE", "SAMM_LV"]

_FPS = 200.0
_VIDEO = re.compile(r"(\d{3})_\d{1,2}")
_TEST_SET = re.compile(r"samm_(data|test)", re.IGNORECASE)
_EVENT = re.compile(r"(\d{1,3})_(\d{1,2})_(\d{1,2})")
_LONG_VIDEOS = {
    "event": ("Filename", "File name"),
    "onset": ("Onset", "Onset Frame"),
    "offset": ("Offset", "Offset Frame"),
    "type": ("Type",),
}
_LONG_VIDEOS_OPTIONAL = {"apex": ("Apex", "Apex Frame"), "aus": ("Action Units", "Action Unit", "AUs")}
_FACS = {
    "event": ("Filename", "File name"),
    "onset": ("Onset Frame", "Onset"),
    "offset": ("Offset Frame", "Offset"),
    "emotion": ("Estimated Emotion", "Emotion"),
}
_FACS_OPTIONAL = {"apex": ("Apex Frame", "Apex"), "aus": ("Action Units", "Action Unit", "AUs")}
_CHALLENGE = ("001_2", "001_3", "002_1", "002_4", "003_1", "003_7", "004_3", "004_6", "005_2", "005_7")


class _Facs(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the FACS sheet, frames in the numbers of the long video."""

    event: tuple[int, int, int]
    onset: int
    offset: int
    emotion: str


def _look(root: Path, log: Log) -> Tree:
    return walk(root, _place, log)


def _look_for_long_videos(root: Path, log: Log) -> Tree:
    tree = walk(root, _place, log)
    # The test videos have the same form of name and may lie beside.
    kept = [place for place in tree.places if not _TEST_SET.search(log.name(place.path))]
    return msgspec.structs.replace(tree, places=tuple(kept))


def _place(folder: Path) -> Place | None:
    match = _VIDEO.fullmatch(folder.name)
    return Place(subject=match[1], video=folder.name, fps=_FPS, path=folder) if match else None


def _events(tree: Tree, recordings: Recordings, log: Log) -> Iterator[Draft]:
    sheets = open_sheets(tree, log, r"long.?videos?.*\.xls", "SAMM_LongVideos_V3_Release.xlsx")
    table = open_table(sheets, log, _LONG_VIDEOS, _LONG_VIDEOS_OPTIONAL)
    if table is None:
        return
    emotions = _Emotions(tree, log)
    for row in event_rows(table, log, _is_named):
        try:
            name = row.name("event")
            match = _EVENT.fullmatch(name)
            if match is None:
                raise CellError(row.heading("event"), f"holds '{name[:40]}'; expected a name such as 006_1_2")
            subject = f"{int(match[1]):03d}"
            kind = expression_type(row)
            frames = interval(row, log)
            if frames is None:
                continue
            onset, apex, offset = frames
            key = (int(match[1]), int(match[2]), int(match[3]))
            yield Draft(
                subject=subject,
                video=f"{subject}_{int(match[2])}",
                onset=onset,
                apex=apex,
                offset=offset,
                type=kind,
                emotion=emotions.of(key, onset, offset, row, log) if kind == "micro" else "",
                action_units=action_units(row, log),
                event=name,
                row=row,
            )
        except CellError as error:
            log.cell(row, error)


def _is_named(row: Row) -> bool:
    return bool(_EVENT.fullmatch(row.text("event")))


class _Emotions:
    """The emotions of the FACS sheet, by name where the frames agree, else by the frames.

    Some clips (013_1_8, 013_1_12, 017_3_2, 026_1_1, 026_1_2, 035_7_2) are named or numbered differently in the two
    sheets, so a name alone is not trusted.
    """

    def __init__(self, tree: Tree, log: Log) -> None:
        self._rows: list[_Facs] = []
        self._known = bool(find_sheets(tree, r"facs.*\.xls"))
        if not self._known:
            log.warning("SAMM_Micro_FACS_Codes_v2.xlsx", "is missing: micro-expressions stay without an emotion")
            return
        sheets = open_sheets(tree, log, r"facs.*\.xls", "SAMM_Micro_FACS_Codes_v2.xlsx")
        sheets.sort(key=lambda sheet: "micro" not in sheet.name.lower())
        table = open_table(sheets, log, _FACS, _FACS_OPTIONAL)
        for row in event_rows(table, log, _is_named) if table is not None else ():
            try:
                name = row.name("event")
                match = _EVENT.fullmatch(name)
                if match is None:
                    raise CellError(row.heading("event"), f"holds '{name[:40]}'; expected a name such as 006_1_2")
                frames = interval(row, log)
                if frames is not None:
                    self._rows.append(
                        _Facs(
                            event=(int(match[1]), int(match[2]), int(match[3])),
                            onset=frames[0],
                            offset=frames[2],
                            emotion=emotion(row, log),
                        )
                    )
            except CellError as error:
                log.cell(row, error)

    def of(self, key: tuple[int, int, int], onset: int, offset: int, row: Row, log: Log) -> str:
        """Return the emotion of an event of the long videos; "" where the FACS sheet does not have it."""

        def overlap(facs: _Facs) -> int:
            return min(offset, facs.offset) - max(onset, facs.onset) + 1

        named = next((facs for facs in self._rows if facs.event == key), None)
        if named is not None and overlap(named) > 0:
            return named.emotion
        same_video = [facs for facs in self._rows if facs.event[:2] == key[:2] and overlap(facs) > 0]
        same_frames = max(same_video, key=overlap, default=None)
        if same_frames is not None:
            other = "{:03d}_{}_{}".format(*same_frames.event)
            log.note(
                row.file,
                f"its frames are those of {other} in the FACS sheet, whose emotion is taken",
                row.number,
                row.heading("event"),
            )
            return same_frames.emotion
        if named is not None:
            log.warning(
                row.file,
                f"frames {onset} to {offset} are {named.onset} to {named.offset} in the FACS sheet; "
                "the emotion is taken by name",
                row.number,
                row.heading("event"),
            )
            return named.emotion
        if self._known:
            log.warning(row.file, "is not in the FACS sheet; no emotion", row.number, row.heading("event"))
        return ""


SAMM_LV = Layout(name="samm-lv", title="SAMM Long Videos", look=_look_for_long_videos, events=_events)
SAMM_CHALLENGE = Layout(
    name="samm-challenge",
    title="SAMM Challenge (MEGC test set)",
    look=_look,
    expected=tuple((video[:3], video) for video in _CHALLENGE),
)
