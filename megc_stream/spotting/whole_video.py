"""Spotting as published: the scores of a whole video, smoothed, thresholded, peaks turned into intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from megc_stream.errors import UsageError

__all__ = ["Peaks", "find_intervals", "smooth_scores", "spot_video"]

Peaks = list[int]


def smooth_scores(scores: ArrayLike, k_prime: int) -> NDArray[np.float64]:
    """Return the moving average of 2k' scores, of the same length; beyond both ends the scores count as 0.

    smoothed[i] = (1 / 2k') sum of scores[i - k' .. i + k' - 1].
    """
    values = np.asarray(scores, np.float64)
    box = np.full(2 * k_prime, 1.0 / (2 * k_prime))
    # "same" of numpy has the length of the longer of the two.
    return np.convolve(values, box, mode="same")[: len(values)]


def find_intervals(smoothed: NDArray[np.float64], k_prime: int, p: float) -> tuple[float, Peaks]:
    """Return the threshold mean + p (max - mean) of smoothed scores, and the peaks above it, at least k' apart."""
    # SciPy takes a second to load: not before it is needed, at the end of a video.
    from scipy.signal import find_peaks

    threshold = float(smoothed.mean() + p * (smoothed.max() - smoothed.mean()))
    peaks, _ = find_peaks(smoothed, height=threshold, distance=k_prime)
    return threshold, [int(peak) for peak in peaks]


def spot_video(scores: Sequence[float] | ArrayLike, k_prime: int, p: float = 0.55) -> list[tuple[int, int]]:
    """Return the intervals [peak - k', peak + k'] of a video, not clipped to it.

    Parameters
    ----------
    scores
        (N,) spotting scores, one per pair (i, i + k).
    k_prime
        Half the mean length of a micro-expression, frames, >= 1.
    p
        Share of the way from mean to maximum at which the threshold lies, 0 < p < 1.

    Returns
    -------
    Intervals (onset, offset) in frames, inclusive, in time order. None for fewer than 2k' scores or constant scores.

    Raises
    ------
    UsageError
        ``k_prime`` < 1, ``p`` outside (0, 1), scores that are not one-dimensional or not finite.

    References
    ----------
    Liong, See, Chan: Spot-then-recognize, Signal Processing: Image Communication 2023 (MEAN); post-processing of its
    code.
    """
    values = np.asarray(scores, np.float64)
    if k_prime < 1 or not 0 < p < 1:
        raise UsageError(f"spot_video: got k_prime={k_prime}, p={p}; expected k_prime >= 1 and 0 < p < 1")
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UsageError(f"spot_video: scores have shape {values.shape}; expected one finite value per pair")
    if len(values) < 2 * k_prime or np.ptp(values) == 0:
        return []
    _, peaks = find_intervals(smooth_scores(values, k_prime), k_prime, p)
    return [(peak - k_prime, peak + k_prime) for peak in peaks]
