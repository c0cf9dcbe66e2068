"""What the network is asked to answer for a pair of crops, from what is known about the planted events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from megc_stream.training.corpus import ClipPairs

__all__ = ["recognition_labels", "spotting_targets"]

_FULL_MOTION_PX = 0.25
_LEAST_MOTION_PX = 0.1


def spotting_targets(pairs: ClipPairs) -> NDArray[np.float32]:
    """Return the score each pair should get, (N,) in [0, 1].

    With d the planted displacement of the event at its strongest point, the target is
    ``min(1, |d(i + k) - d(i)| / 0.25 px)``: 1 where the pair shows motion of an event well above the flow's noise, 0
    outside events, and less where a pair lies astride the apex or at the edges and shows next to nothing. The features
    are min-max scaled, so a pair without motion looks like noise whether it belongs to an event or not; asking for 1
    there would only raise the score of noise. Strong and weak events get the same target, because the published
    threshold is relative to the highest peak of the video.

    The motion of a symmetric event is symmetric about its middle, so the box-filtered score peaks at the middle in
    terms of the pair's middle ``i + k/2``, k/2 before it in terms of ``i``.
    """
    return np.minimum(1.0, np.abs(pairs.motion_px) / _FULL_MOTION_PX).astype(np.float32)


def recognition_labels(pairs: ClipPairs) -> NDArray[np.int64]:
    """Return the class of each pair that shows the rise of an event by 0.1 px or more, -1 for all others, (N,).

    The emotion of an interval is voted over the pairs of [peak - k', peak), which is the rise; the fall moves the other
    way and never votes.
    """
    emotions = np.array([event.emotion for event in pairs.events] or [-1], np.int64)
    rising = (pairs.event >= 0) & (pairs.motion_px >= _LEAST_MOTION_PX)
    return np.where(rising, emotions[np.maximum(pairs.event, 0)], -1)
