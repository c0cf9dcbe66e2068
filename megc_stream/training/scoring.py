"""How well a model finds and names known events, in both modes of spotting, from features that are already there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from megc_stream.datasets.labels import coarse_emotion
from megc_stream.evaluation import Interval, StrsResult, evaluate_strs, length_ceiling
from megc_stream.recognition import most_frequent_class
from megc_stream.records import frames_of
from megc_stream.settings import SpottingSettings
from megc_stream.spotting import CausalSpotter, spot_video
from megc_stream.spotting.causal import Candidate
from megc_stream.training.pairs import CLASSES, Pairs

__all__ = ["ClipScore", "Mode", "Scorer", "pooled", "score_clips"]

_BATCH = 1024

Mode = Literal["video", "causal"]
Scorer = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""What gives spotting scores (N,) and class probabilities (N, C) of features, such as ``MeanModel.score``."""


@dataclass(frozen=True)
class ClipScore:
    """What is known of one recording and what was found, in native numbers, emotions by the challenge's classes.

    ``ceiling`` is the share of the known events that an interval of 2k' + 1 frames can match at IoU 0.5.
    """

    person: str
    video: str
    fps: float
    truth: tuple[Interval, ...]
    found: tuple[Interval, ...]
    result: StrsResult
    ceiling: float


def score_clips(
    scorer: Scorer,
    clips: Sequence[Pairs],
    mode: Mode,
    k_prime_s: float,
    classes: Sequence[str] = CLASSES,
    settings: SpottingSettings = SpottingSettings(),  # noqa: B008  frozen
) -> list[ClipScore]:
    """Spot and name the events of recordings of which every pair was taken.

    Parameters
    ----------
    scorer
        The model.
    clips
        The recordings.
    mode
        "video": as published, over the whole recording; "causal": from the past only, as a live stream is analysed.
    k_prime_s
        Half the expected length of a micro-expression, seconds.
    classes
        Names of the model's outputs.
    settings
        Thresholds of both modes.
    """
    scores = []
    for clip in clips:
        spot, recog = _score_all(scorer, clip)
        k_prime = frames_of(k_prime_s, clip.fps)
        spans = (
            _whole_video(clip, spot, k_prime, settings) if mode == "video" else _causal(clip, spot, k_prime, settings)
        )
        votes = dict(zip(clip.frames.tolist(), recog.argmax(axis=1).tolist(), strict=True))
        last = clip.frame_count - 1
        found = []
        for onset, peak, offset in spans:
            cast = [votes[frame] for frame in range(peak - k_prime, peak) if frame in votes]
            emotion = classes[most_frequent_class(cast)] if cast else ""
            found.append(_interval(clip, max(onset, 0), min(offset, last), emotion))
        truth = [_interval(clip, event.onset, event.offset, event.emotion) for event in clip.events]
        scores.append(
            ClipScore(
                clip.person,
                clip.video,
                clip.fps,
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


def _interval(clip: Pairs, onset: int, offset: int, emotion: str) -> Interval:
    first = clip.first_number
    return Interval(clip.person, clip.video, onset + first, offset + first, coarse_emotion(emotion) or emotion)


def _score_all(scorer: Scorer, clip: Pairs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score in batches: a long recording need not fit into memory."""
    parts = [
        scorer(clip.features[start : start + _BATCH].astype(np.float32)) for start in range(0, len(clip.frames), _BATCH)
    ]
    if not parts:
        return np.empty(0, np.float32), np.empty((0, 1), np.float32)
    return np.concatenate([spot for spot, _ in parts]), np.concatenate([recog for _, recog in parts])


def _whole_video(
    clip: Pairs, spot: NDArray[np.float32], k_prime: int, settings: SpottingSettings
) -> list[tuple[int, int, int]]:
    # Pairs without a face stand at the median, as in the spotting stage.
    series = np.full(max(clip.frame_count - clip.k, 0), np.median(spot) if len(spot) else 0.0)
    series[clip.frames] = spot
    return [(onset, onset + k_prime, offset) for onset, offset in spot_video(series, k_prime, settings.p)]


def _causal(
    clip: Pairs, spot: NDArray[np.float32], k_prime: int, settings: SpottingSettings
) -> list[tuple[int, int, int]]:
    spotter = CausalSpotter(settings, clip.fps, k_prime)
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
