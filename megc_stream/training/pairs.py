"""Pairs of crops as the network sees them, and what is known of the recording that they come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow import TVL1Solver
from megc_stream.records import Crop
from megc_stream.settings import FlowSettings
from megc_stream.spotting import mean_features

__all__ = ["CLASSES", "K_S", "PairMaker", "Pairs", "TrueEvent", "stacked"]

CLASSES = ("negative", "positive", "surprise")
"""Emotion classes in the order of the network's outputs, where nothing else is asked for."""
K_S = 0.1
"""Seconds between the two frames of a pair."""

_CROP_PX = 128
_FEATURES = (42, 42, 3)


@dataclass(frozen=True)
class TrueEvent:
    """A known micro-expression: frames are 0-based and inclusive, ``apex`` None where unknown.

    ``emotion`` is the name of a class, or any other word ("others", "") for an event that belongs to none.
    """

    onset: int
    apex: int | None
    offset: int
    emotion: str


@dataclass(frozen=True, eq=False)
class Pairs:
    """The features of pairs (i, i + k) of one recording.

    Parameters
    ----------
    person
        Who is seen; no person is in two parts of a split.
    video
        Name of the recording, unique for the person.
    fps
        Frames per second.
    frame_count, k
        Frames of the recording, and frames between the two of a pair.
    first_number
        Native number of frame 0.
    events
        The micro-expressions.
    frames
        (N,) int64, first frame of each pair, increasing; pairs without a face in both frames are left out.
    features
        (N, 42, 42, 3) float16 in [0, 1].
    """

    person: str
    video: str
    fps: float
    frame_count: int
    k: int
    first_number: int
    events: tuple[TrueEvent, ...]
    frames: NDArray[np.int64]
    features: NDArray[np.float16]


class PairMaker:
    """Makes MEAN's features of pairs of crops as the spotting stage does: TV-L1 flow from a cold start, then features.

    A pair depends on its two crops alone, so leaving others out changes nothing.
    """

    def __init__(self) -> None:
        settings = FlowSettings()
        self._solver = TVL1Solver(_CROP_PX, _CROP_PX, **settings.model_dump())
        self._flow = np.empty((_CROP_PX, _CROP_PX, 2), np.float32)

    def features(self, reference: Crop, current: Crop) -> NDArray[np.float16] | None:
        """Return (42, 42, 3) in [0, 1]; None where the spotting stage gives no score: face lost, or out of the crop."""
        if reference.image is None or current.image is None or reference.segment != current.segment:
            return None
        assert reference.landmarks68 is not None
        self._solver.solve(reference.image, current.image, warm=False, out=self._flow)
        try:
            return mean_features(self._flow, reference.landmarks68).astype(np.float16)
        except FlowError:  # brows or mouth outside the crop
            return None


def stacked(features: list[NDArray[np.float16]]) -> NDArray[np.float16]:
    """Return the features of N pairs as one array (N, 42, 42, 3), also of none."""
    return np.array(features, np.float16).reshape(-1, *_FEATURES)
