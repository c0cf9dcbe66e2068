"""How strong an expression is over time."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["closure", "intensity", "speech_envelope"]


def intensity(frame: float, onset: int, apex: int, offset: int) -> float:
    """Return the intensity, 0..1, of an expression at a frame.

    A raised cosine, (1 - cos(pi s)) / 2, up from onset (0) to apex (1) and down to offset (0); 0 elsewhere.
    """
    if not onset < frame < offset:
        return 0.0
    phase = (frame - onset) / (apex - onset) if frame <= apex else (offset - frame) / (offset - apex)
    return 0.5 * (1 - math.cos(math.pi * phase))


def closure(time_s: float, start_s: float, length_s: float) -> float:
    """Return how far the eyes are closed, 0..1, in a blink: shut within the first 35 %, held for 15 %, then opened."""
    phase = (time_s - start_s) / length_s
    if not 0 < phase < 1:
        return 0.0
    rise = min(phase / 0.35, 1.0, (1 - phase) / 0.5)
    return 0.5 * (1 - math.cos(math.pi * rise))


def speech_envelope(time_s: float, start_s: float, length_s: float) -> float:
    """Return the loudness, 0..1, of a bout of speech: faded in and out over 0.15 s."""
    edge = min(time_s - start_s, start_s + length_s - time_s) / 0.15
    return float(np.clip(edge, 0.0, 1.0))
