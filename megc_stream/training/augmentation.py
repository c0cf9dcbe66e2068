"""Variants of features that a recording could have given as well."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["AUGMENTATIONS", "Augmentation", "changer", "mirrored", "scaled"]

Augmentation = Literal["mirror", "scale", "rate", "negatives"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
"""``mirror`` and ``scale`` change features, see :func:`mirrored` and :func:`scaled`; ``rate`` and ``negatives`` add
pairs, see :func:`megc_stream.training.recordings.prepare_recordings`."""

_LEAST_GAIN, _MOST_GAIN = 0.7, 1.5
# Every third value tells the median as well, and sooner.
_STEP = 3


def mirrored(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features of the mirrored face, (..., 42, 42, 3) as given.

    Mirroring turns the flow (u, v)(x) into (-u, v)(-x). With the range scaling of each channel, u becomes 1 - u, and
    all three are turned left to right. That is exact up to rounding of the regions to whole pixels, and up to half a
    pixel for the strain, whose differences are backward. A flat channel stays 0.
    """
    result = features[..., ::-1, :].copy()
    u = result[..., 0]
    flat = (u == 0).all(axis=(-2, -1), keepdims=True)
    result[..., 0] = np.where(flat, 0, 1 - u)
    return result


def scaled(features: NDArray[np.float32], gain: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features of a motion ``gain`` times as strong within the regions, (B, 42, 42, 3) as given.

    A gain on the whole flow is invisible, and so is one on its deviation from a common motion: each channel is scaled
    to its range over the crop. What the strength of an expression changes is its share of that range, which blinks,
    the rim of the face and noise elsewhere in the crop share in. With the extremes of the crop kept, u and v move away
    from their median (the motion that most of the region has) by ``gain``, strain, which is homogeneous, from 0; the
    result is clipped to [0, 1]. Exact where the extremes lie outside the regions and nothing is clipped.
    """
    gain = gain[:, None, None, None]
    still = np.median(features[:, ::_STEP, ::_STEP], axis=(1, 2), keepdims=True)
    still[..., 2] = 0
    result: NDArray[np.float32] = np.clip(still + gain * (features - still), 0, 1).astype(np.float32)
    return result


def changer(
    augment: Collection[Augmentation],
) -> Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]] | None:
    """Return what changes a batch of features at random: half of them mirrored, gains of 0.7 to 1.5; None for nothing.

    Gains are drawn evenly in their logarithm.
    """
    if not {"mirror", "scale"} & set(augment):
        return None

    def change(features: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        if "mirror" in augment:
            turned = rng.random(len(features)) < 0.5
            features = features.copy()
            features[turned] = mirrored(features[turned])
        if "scale" in augment:
            gain = np.exp(rng.uniform(np.log(_LEAST_GAIN), np.log(_MOST_GAIN), len(features)))
            features = scaled(features, gain.astype(np.float32))
        return features

    return change
