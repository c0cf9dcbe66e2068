"""Confidence intervals by the bootstrap over subjects: whole subjects are drawn, because their events are alike."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Confidence", "bootstrap"]

_LEVEL = 0.95
_CHUNK = 1000


class Confidence(msgspec.Struct, frozen=True, kw_only=True):
    """Percentile intervals of scores.

    ``intervals`` has (low, high) by score, None where the score is undefined in every resample; ``undefined`` the share
    of resamples in which a score is undefined, where that is above 0. ``subjects`` below 2 leaves all intervals None.
    """

    level: float
    resamples: int
    seed: int
    subjects: int
    intervals: dict[str, tuple[float, float] | None]
    undefined: dict[str, float]


def bootstrap(
    spotting: NDArray[np.int64],
    confusion: NDArray[np.int64],
    scorer: Callable[[NDArray[np.float64], NDArray[np.float64]], dict[str, NDArray[np.float64]]],
    resamples: int,
    seed: int,
) -> Confidence:
    """Return percentile confidence intervals (95 %; Efron and Tibshirani 1993, chapter 13) of the pooled scores.

    Parameters
    ----------
    spotting, confusion
        Counts of each of S subjects: (S, 3) and (S, 3, 4), see :mod:`megc_stream.evaluation.counts`.
    scorer
        Turns (n, 3) and (n, 3, 4) summed counts into named scores (n,), NaN where undefined.
    resamples
        How often S subjects are drawn with replacement.
    seed
        Same seed, same intervals.
    """
    subjects = len(spotting)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, resamples if subjects else 0, _CHUNK):
        size = min(_CHUNK, resamples - start)
        times = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=size).astype(np.float64)
        summed = (times @ confusion.reshape(subjects, -1)).reshape(size, *confusion.shape[1:])
        for name, values in scorer(times @ spotting, summed).items():
            drawn.setdefault(name, []).append(values)
    if not drawn:
        drawn = {name: [] for name in scorer(np.zeros((1, 3)), np.zeros((1, *confusion.shape[1:])))}
    intervals: dict[str, tuple[float, float] | None] = {}
    undefined: dict[str, float] = {}
    for name, chunks in drawn.items():
        values = np.concatenate(chunks) if chunks else np.empty(0)
        known = values[~np.isnan(values)]
        if len(values) > len(known):
            undefined[name] = 1 - len(known) / len(values)
        if subjects < 2 or not len(known):
            intervals[name] = None
        else:
            low, high = np.percentile(known, [50 * (1 - _LEVEL), 50 * (1 + _LEVEL)])
            intervals[name] = (float(low), float(high))
    return Confidence(
        level=_LEVEL, resamples=resamples, seed=seed, subjects=subjects, intervals=intervals, undefined=undefined
    )
