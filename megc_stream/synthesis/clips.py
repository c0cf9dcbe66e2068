"""``synth clip`` in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.synthesis.plan import plan_clip
from megc_stream.synthesis.portraits import astronaut, load_portrait, portrait_landmarks
from megc_stream.synthesis.rendering import render_clip
from megc_stream.synthesis.truth import TruthRow, truth_path, truth_rows, write_truth
from megc_stream.synthesis.writing import check_target, write_clip

__all__ = ["Progress", "counted", "synth_clip"]

Progress = Callable[[int, int], None]
"""Called with the number of frames done and in all."""


def synth_clip(
    out: Path,
    portrait: Path | None = None,
    *,
    fps: float = 200.0,
    seconds: float = 20.0,
    events: int = 6,
    seed: int = 0,
    colour: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[TruthRow]:
    """Make a 640x480 clip of one face with known micro-expressions, and write its truth beside it.

    Parameters
    ----------
    out
        ``.mkv`` (FFV1, lossless), ``.mp4`` (H.264), or a folder of PNG images; the truth is ``name.csv`` beside it.
    portrait
        A picture of a neutral, frontal face with open eyes; None takes scikit-image's astronaut (extra ``demo``).
    fps, seconds, events, seed
        As in :func:`megc_stream.synthesis.plan.plan_clip`; the same values make the same clip.
    colour
        BGR instead of grey, at three times the size.
    overwrite
        Replace what is there.
    progress
        Called after every frame.

    Returns
    -------
    The rows of the truth.

    Raises
    ------
    UsageError
        Something is in the way, no such portrait, or a value out of range.
    DataError
        The portrait is no picture, or shows no face.
    OutputError
        The clip cannot be written.
    MissingExtraError
        No portrait is given, and scikit-image is not installed.
    """
    check_target(out, overwrite)
    plan = plan_clip(seed, fps, seconds, events=events)
    picture = astronaut() if portrait is None else load_portrait(portrait)
    landmarks = portrait_landmarks(picture, "astronaut" if portrait is None else str(portrait))
    if not colour:
        picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    frames = render_clip(plan, picture, landmarks)
    rows = truth_rows(out, plan.fps, plan.events)
    write_clip(out, counted(frames, plan.frames, progress), plan.fps, colour, overwrite)
    write_truth(truth_path(out), rows)
    return rows


def counted(frames: Iterable[NDArray[np.uint8]], total: int, progress: Progress | None) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames, and report each that has been dealt with."""
    for done, frame in enumerate(frames, start=1):
        yield frame
        if progress is not None:
            progress(done, total)
