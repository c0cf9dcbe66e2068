"""A generated corpus in the layout of SAMM Long Videos: portraits set in motion, with known micro-expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openpyxl
import simplejpeg

from megc_stream.synthesis import plan_clip, render_clip
from megc_stream.synthesis.action_units import format_units
from megc_stream.synthesis.portraits import load_portrait, portrait_landmarks

_LONG_VIDEOS = (
    "Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type", "Action Units", "Notes",
)  # fmt: skip
_FACS = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
)  # fmt: skip
_WORDS = {"negative": "Anger", "positive": "Happiness", "surprise": "Surprise"}


def write_samm_layout(
    root: Path,
    portraits: Sequence[Path],
    *,
    recordings: int = 2,
    seconds: float = 10.0,
    events: int = 4,
    fps: float = 200.0,
    seed: int = 0,
    plan: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write ``SAMM_longvideos/006_1/006_1_0001.jpg`` and so on, and both sheets; return the number of events.

    Events of 0.2-0.5 s and .018-.05 inter-ocular distances, noise of 2 grey values, sway of the head, drifting light,
    blinks and speech; pictures as large as the face needs. ``plan`` overrides what ``plan_clip`` is asked for.
    """
    long_videos: list[list[Any]] = []
    facs: list[list[Any]] = []
    for number, portrait in enumerate(portraits):
        image = np.asarray(cv2.cvtColor(load_portrait(portrait), cv2.COLOR_BGR2GRAY), np.uint8)
        landmarks = portrait_landmarks(image, portrait.name)
        subject = f"{6 + number:03d}"
        for take in range(1, recordings + 1):
            video = f"{subject}_{take}"
            folder = root / "SAMM_longvideos" / video
            folder.mkdir(parents=True)
            clip = plan_clip(
                seed + 100 * number + take,
                fps,
                seconds,
                **{
                    "events": events,
                    "length_s": (0.2, 0.5),
                    "amplitude_iod": (0.018, 0.05),
                    "width": 384,
                    "height": 432,
                    **(plan or {}),
                },
            )
            for index, picture in enumerate(render_clip(clip, image, landmarks), start=1):
                data = simplejpeg.encode_jpeg(picture[:, :, None], colorspace="GRAY", quality=95)
                (folder / f"{video}_{index:04d}.jpg").write_bytes(data)
            for count, event in enumerate(clip.events, start=1):
                name = f"{video}_{count}"
                frames = [event.onset + 1, event.apex + 1, event.offset + 1, event.offset - event.onset + 1]
                units = format_units(event.units)
                long_videos.append([subject, name, take, *frames, "Micro - 1/2", units, None])
                facs.append([subject, name, take, *frames, "Micro - 1/2", units, _WORDS[event.emotion], 1, None])
            progress(number * recordings + take, len(portraits) * recordings)
    _xlsx(root / "SAMM_LongVideos_V2_Release.xlsx", "Sheet1", [*_preamble(9), _LONG_VIDEOS, *long_videos])
    _xlsx(root / "SAMM_20181215_Micro_FACS_Codes_v2.xlsx", "MICRO_ONLY", [*_preamble(13), _FACS, *facs])
    return len(long_videos)


def _preamble(rows: int) -> list[list[Any]]:
    return [["SAMM Long Videos"], *([None] for _ in range(rows - 1))]


def _xlsx(path: Path, name: str, rows: Sequence[Sequence[Any]]) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = name
    for number, row in enumerate(rows, start=1):
        for column, value in enumerate(row, start=1):
            if value is not None:
                sheet.cell(number, column, value)
    book.save(path)
