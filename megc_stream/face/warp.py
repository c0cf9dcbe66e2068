"""Affine maps as (2, 3) matrices, and sampling of pictures through them. Pixel centres have whole coordinates."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["compose", "invert", "sample", "scale_of", "shrink_for", "similarity", "transform"]

Affine = NDArray[np.float64]


def similarity(scale: float, angle_rad: float, shift: tuple[float, float] = (0.0, 0.0)) -> Affine:
    """Return the (2, 3) similarity x -> scale R(angle) x + shift, angle from the x towards the y axis."""
    a, b = scale * math.cos(angle_rad), scale * math.sin(angle_rad)
    return np.array([[a, -b, shift[0]], [b, a, shift[1]]])


def transform(matrix: Affine, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map (n, 2) points."""
    mapped: NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def compose(outer: Affine, inner: Affine) -> Affine:
    """Return the map x -> outer(inner(x))."""
    result = outer[:, :2] @ inner
    result[:, 2] += outer[:, 2]
    return result


def invert(matrix: Affine) -> Affine:
    """Return the inverse of an affine map."""
    inverse: Affine = cv2.invertAffineTransform(matrix)
    return inverse


def scale_of(matrix: Affine) -> float:
    """Return the scale of a similarity: sqrt of its determinant."""
    (a, b), (c, d) = matrix[:, :2]
    return math.sqrt(abs(a * d - b * c))


def shrink_for(scale: float) -> int:
    """Return the whole factor by which a picture is averaged down before it is sampled ``scale`` times smaller.

    Bilinear sampling reads 2x2 px; from a step of 2 px on it would skip some, which turns texture into false motion.
    """
    return max(1, math.floor(1 / scale))


def sample(
    image: NDArray[np.uint8], to_target: Affine, size: tuple[int, int], shrink: int | None = None
) -> NDArray[np.uint8]:
    """Return the (height, width[, 3]) uint8 picture whose pixel ``to_target(x)`` shows ``image`` at x.

    Outside the image its border is repeated. ``size`` is (width, height). ``shrink`` is the factor of the averaging
    that comes first; None takes :func:`shrink_for`. Sampling is bilinear.
    """
    factor = shrink_for(scale_of(to_target)) if shrink is None else shrink
    to_source = invert(to_target)
    if factor > 1:
        image, origin = _averaged(image, to_source, size, factor)
        # Centre of averaged pixel j is (j + 1/2) factor - 1/2 in the original.
        to_source[:, 2] = (to_source[:, 2] - origin + 0.5) / factor - 0.5
        to_source[:, :2] /= factor
    sampled: NDArray[np.uint8] = cv2.warpAffine(
        image, to_source, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled


def _averaged(
    image: NDArray[np.uint8], to_source: Affine, size: tuple[int, int], factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Average ``factor`` x ``factor`` blocks of the part that is sampled, on a grid fixed to the image."""
    width, height = size
    corners = transform(to_source, np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64))
    extent = np.array([image.shape[1], image.shape[0]])
    limit = np.maximum(extent // factor, 1) * factor
    low = np.clip((np.floor(corners.min(axis=0)) // factor - 1) * factor, 0, np.maximum(limit - factor, 0)).astype(int)
    high = np.clip((np.ceil(corners.max(axis=0)) // factor + 2) * factor, low + factor, np.maximum(limit, low + factor))
    high = np.minimum(high.astype(int), extent)
    part = image[low[1] : high[1], low[0] : high[0]]
    blocks = (max((high[0] - low[0]) // factor, 1), max((high[1] - low[1]) // factor, 1))
    return cv2.resize(part, blocks, interpolation=cv2.INTER_AREA), low.astype(np.float64)
