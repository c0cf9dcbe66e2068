"""How well a model finds and names planted events, in both modes of spotting, from features that are already there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from megc_stream.evaluation import Interval, StrsResult, evaluate_strs, length_ceiling
from megc_stream.recognition import most_frequent_class
from megc_stream.records import frames_of
from megc_stream.settings import SpottingSettings
from megc_stream.spotting import CausalSpotter, spot_video
from megc_stream.spotting.causal import Candidate
from megc_stream.training.corpus import CLASSES, ClipPairs

__all__ = ["ClipScore", "Mode", "Scorer", "pooled", "score_clips"]

Mode = Literal["video", "causal"]
Scorer = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""What gives spotting scores (N,) and class probabilities (N, C) of features, such as ``MeanModel.score``."""


@dataclass(frozen=True)
class ClipScore:
    """What was planted in one clip and what was found.

    ``ceiling`` is the share of the planted events that an interval of 2k' + 1 frames can match at IoU 0.5.
    """

    person: str
    fps: float
    truth: tuple[Interval, ...]
    found: tuple[Interval, ...]
    result: StrsResult
    ceiling: float


def score_clips(
    scorer: Scorer,
    clips: Sequence[ClipPairs],
    mode: Mode,
    k_prime_s: float,
    settings: SpottingSettings = SpottingSettings(),  # noqa: B008  frozen
) -> list[ClipScore]:
    """Spot and name the events of clips of which every pair was taken.

    Parameters
    ----------
    scorer
        The model.
    clips
        Clips made with ``dense``.
    mode
        "video": as published, over the whole clip; "causal": from the past only, as a live stream is analysed.
    k_prime_s
        Half the expected length of a micro-expression, seconds.
    settings
        Thresholds of both modes.
    """
    scores = []
    for number, clip in enumerate(clips):
        spot, recog = scorer(clip.features.astype(np.float32))
        k_prime = frames_of(k_prime_s, clip.spec.fps)
        spans = (
            _whole_video(clip, spot, k_prime, settings) if mode == "video" else _causal(clip, spot, k_prime, settings)
        )
        votes = dict(zip(clip.frames.tolist(), recog.argmax(axis=1).tolist(), strict=True))
        video = f"{clip.spec.person}_{number}"
        found = []
        for onset, peak, offset in spans:
            cast = [votes[frame] for frame in range(peak - k_prime, peak) if frame in votes]
            emotion = CLASSES[most_frequent_class(cast)] if cast else ""
            last = clip.frame_count - 1
            found.append(Interval(clip.spec.person, video, max(onset, 0), min(offset, last), emotion))
        truth = [
            Interval(clip.spec.person, video, event.onset, event.offset, CLASSES[event.emotion])
            for event in clip.events
        ]
        scores.append(
            ClipScore(
                clip.spec.person,
                clip.spec.fps,
                tuple(truth),
                tuple(found),
                evaluate_strs(found, truth),
                length_ceiling(truth, k_prime),
            )
        )
    return scores


def pooled(scores: Sequence[ClipScore]) -> tuple[StrsResult, float]:
    """Return the result over all events of some clips, and the share of them that fixed intervals can match."""
    truth = [interval for score in scores for interval in score.truth]
    found = [interval for score in scores for interval in score.found]
    ceiling = sum(score.ceiling * len(score.truth) for score in scores) / max(1, len(truth))
    return evaluate_strs(found, truth), ceiling


def _whole_video(
    clip: ClipPairs, spot: NDArray[np.float32], k_prime: int, settings: SpottingSettings
) -> list[tuple[int, int, int]]:
    # Pairs without a face stand at the median, as in the spotting stage.
    series = np.full(max(clip.frame_count - clip.k, 0), np.median(spot) if len(spot) else 0.0)
    series[clip.frames] = spot
    return [(onset, onset + k_prime, offset) for onset, offset in spot_video(series, k_prime, settings.p)]


def _causal(
    clip: ClipPairs, spot: NDArray[np.float32], k_prime: int, settings: SpottingSettings
) -> list[tuple[int, int, int]]:
    spotter = CausalSpotter(settings, clip.spec.fps, k_prime)
    decisions = [
        decision
        for frame, score in zip(clip.frames.tolist(), spot.tolist(), strict=True)
        for decision in spotter.push(frame, score)
    ]
    decisions += spotter.finish()
    return [
        (step.onset, step.apex, step.offset)
        for step in decisions
        if isinstance(step, Candidate) and step.kind == "offset" and step.apex is not None and step.offset is not None
    ]
