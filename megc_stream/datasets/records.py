"""What every reader of a data set returns: recordings, annotated expressions, and what is wrong with either."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["ActionUnit", "Annotation", "DataSet", "Finding", "Recording"]


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One video of one subject, as it lies on the disk.

    Parameters
    ----------
    subject, video
        Names in the data set's own spelling, as its submission files want them ("006", "006_1").
    fps
        Native frames per second of the data set.
    path
        The folder of images, or the video file.
    numbers
        Native number of each frame, increasing; gaps are possible. The 0-based index of a frame is its position here.
        Empty for a video file whose frames have not been counted.
    files
        Name of each frame's image within ``path``; empty for a video file.
    width_px, height_px
        Size of the first frame; None where it was not read.
    """

    subject: str
    video: str
    fps: float
    path: Path
    numbers: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    width_px: int | None = None
    height_px: int | None = None


class ActionUnit(msgspec.Struct, frozen=True, order=True):
    """A facial action unit; ``side`` is L or R (the person's), T or B (top, bottom of the region), "" for all of it."""

    number: int
    side: Literal["", "L", "R", "T", "B"] = ""


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """One annotated expression of a recording.

    Parameters
    ----------
    subject, video
        Of the recording.
    onset, apex, offset
        Native frame numbers, inclusive; ``apex`` None where the data set gives none.
    onset_index, apex_index, offset_index
        The same as 0-based positions in the recording; None where the recording is absent or has no such frame.
    type
        "micro" or "macro", as annotated.
    emotion
        As annotated, lower case; "" where the data set gives none.
    coarse
        "negative", "positive", "surprise" or "others" by the challenge's mapping; "" where ``emotion`` is "".
    action_units
        As annotated, in the order of the sheet; empty where none is given.
    event
        The data set's own name of the event ("006_1_2"); "" where it has none.
    row
        Row of the sheet, counted from 1 as a spreadsheet does.
    """

    subject: str
    video: str
    onset: int
    apex: int | None
    offset: int
    onset_index: int | None
    apex_index: int | None
    offset_index: int | None
    type: Literal["micro", "macro"]
    emotion: str
    coarse: Literal["", "negative", "positive", "surprise", "others"]
    action_units: tuple[ActionUnit, ...] = ()
    event: str = ""
    row: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something missing, damaged or odd; an "error" makes what it names unusable, a "note" is a known trap, mended."""

    level: Literal["error", "warning", "note"]
    file: str
    row: int | None = None
    column: str | None = None
    message: str


class DataSet(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found under ``root``; recordings by (subject, video), annotations by (subject, video, onset)."""

    layout: str
    root: Path
    recordings: tuple[Recording, ...]
    annotations: tuple[Annotation, ...]
    findings: tuple[Finding, ...] = ()
