"""Affine maps as (2, 3) matrices, and sampling of pictures through them. Pixel centres have whole coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.flow.jit import inner_kernel, kernel
from megc_stream.records import Region

__all__ = ["View", "compose", "contains", "invert", "sample", "scale_of", "shrink_for", "similarity", "transform"]

Affine = NDArray[np.float64]

_LEAST_OWN_FACTOR = 3
"""From here on OpenCV, which is quick at 2, takes eight times as long."""
_MARGIN = 16  # a view averages 1/16 more on each side than it is asked for


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
    # Plain numbers here and below: the libraries take ten times as long over six of them, for every frame.
    (a, b, x), (c, d, y) = outer.tolist()
    (e, f, v), (g, h, w) = inner.tolist()
    return np.array(
        [[a * e + b * g, a * f + b * h, a * v + b * w + x], [c * e + d * g, c * f + d * h, c * v + d * w + y]]
    )


def invert(matrix: Affine) -> Affine:
    """Return the inverse of an affine map; the zero map for one that has none."""
    (a, b, x), (c, d, y) = matrix.tolist()
    determinant = a * d - b * c
    if determinant == 0:
        return np.zeros((2, 3))
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def scale_of(matrix: Affine) -> float:
    """Return the scale of a similarity: sqrt of its determinant."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return math.sqrt(abs(a * d - b * c))


def shrink_for(scale: float) -> int:
    """Return the whole factor by which a picture is averaged down before it is sampled ``scale`` times smaller.

    Bilinear sampling reads 2x2 px; from a step of 2 px on it would skip some, which turns texture into false motion.
    """
    return max(1, math.floor(1 / scale))


class View:
    """A picture that is sampled several times in about the same place: what is averaged down is kept for the next time.

    Parameters
    ----------
    image
        (H, W[, 3]) uint8, C-contiguous, not written to while the view is used.
    region, whole
        Of a picture that was decoded in part: what of ``image`` holds it, and what returns all of it, as in
        :class:`megc_stream.records.Frame`.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        region: Region | None = None,
        whole: Callable[[], NDArray[np.uint8]] | None = None,
    ) -> None:
        self.image = image
        self._region = region
        self._whole = whole
        self._factor = 0
        self._spans = ((0, 0), (0, 0))
        self._small = image

    def pixels(self, x: tuple[int, int], y: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the picture, in which at least the (low, high) spans ``x`` and ``y`` are valid."""
        if self._whole is not None and not contains(self._region, (x[0], y[0], x[1], y[1])):
            self.image = self._whole()
            self._region = self._whole = None
        return self.image

    def averaged(
        self, x: tuple[int, int], y: tuple[int, int], factor: int
    ) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """Return means of ``factor`` x ``factor`` blocks of the (low, high) spans ``x`` and ``y``, and their origin.

        The spans begin at multiples of ``factor`` and end at them or with the picture: blocks lie on a grid fixed to
        it. What is kept is a larger part, which depends on what was asked for before and on what was decoded; what is
        returned is not, because a sample's roundings depend on where its picture begins.
        """
        (x_low, x_high), (y_low, y_high) = self._spans
        if factor != self._factor or x[0] < x_low or x[1] > x_high or y[0] < y_low or y[1] > y_high:
            self.pixels(x, y)
            height, width = self.image.shape[:2]
            left, top, right, bottom = self._region or (0, 0, width, height)
            x_low, x_high = _widened(x, (left, right), factor)
            y_low, y_high = _widened(y, (top, bottom), factor)
            part = self.image[y_low:y_high, x_low:x_high]
            blocks = max(part.shape[1] // factor, 1), max(part.shape[0] // factor, 1)
            if factor < _LEAST_OWN_FACTOR or part.ndim != 2 or min(part.shape) < factor:
                self._small = cv2.resize(part, blocks, interpolation=cv2.INTER_AREA)
            else:
                self._small = np.empty(blocks[::-1], np.uint8)
                # The whole picture and a place in it: a part may be contiguous or not, which numba takes for two types.
                sums = np.empty(blocks[0] * factor, np.uint16)
                _block_means(self.image, x_low, y_low, factor, sums, self._small)
            self._factor, self._spans = factor, ((x_low, x_high), (y_low, y_high))
        first_x, first_y = (x[0] - x_low) // factor, (y[0] - y_low) // factor
        blocks_x, blocks_y = max((x[1] - x[0]) // factor, 1), max((y[1] - y[0]) // factor, 1)
        return self._small[first_y : first_y + blocks_y, first_x : first_x + blocks_x], (x[0], y[0])


@inner_kernel
def _sum_of_three(a, b, c, sums):  # type: ignore[no-untyped-def]
    for x in range(sums.shape[0]):
        sums[x] = np.uint16(np.uint16(np.uint16(a[x]) + np.uint16(b[x])) + np.uint16(c[x]))


@inner_kernel
def _add(row, sums):  # type: ignore[no-untyped-def]
    for x in range(sums.shape[0]):
        sums[x] = np.uint16(sums[x] + np.uint16(row[x]))


@inner_kernel
def _means(sums, factor, out):  # type: ignore[no-untyped-def]
    share = np.float32(1 / (factor * factor))
    for x in range(out.shape[0]):
        first = np.uint64(factor) * np.uint64(x)
        total = np.uint32(0)
        for n in range(factor):
            total += np.uint32(sums[first + np.uint64(n)])
        out[x] = np.uint8(np.int32(np.float32(total) * share + np.float32(0.5)))


@kernel
def _block_means(image, x_low, y_low, factor, sums, out):  # type: ignore[no-untyped-def]
    """Write the rounded means of ``factor`` x ``factor`` blocks, at least 3 x 3, from (x_low, y_low) on into ``out``.

    ``sums``, uint16, is scratch for one row; factors up to 257 fit into it.
    """
    x_high = x_low + sums.shape[0]
    for y in range(out.shape[0]):
        top = y_low + y * factor
        _sum_of_three(image[top, x_low:x_high], image[top + 1, x_low:x_high], image[top + 2, x_low:x_high], sums)
        for n in range(3, factor):
            _add(image[top + n, x_low:x_high], sums)
        # With a constant as the factor LLVM makes vector code of it, five times faster.
        if factor == 3:
            _means(sums, 3, out[y])
        elif factor == 4:
            _means(sums, 4, out[y])
        elif factor == 5:
            _means(sums, 5, out[y])
        elif factor == 6:
            _means(sums, 6, out[y])
        else:
            _means(sums, factor, out[y])


def _widened(span: tuple[int, int], bounds: tuple[int, int], factor: int) -> tuple[int, int]:
    """Return a little more than asked for, in whole blocks: the next sample is some px beside this one."""
    low, high = span
    first, last = -(-bounds[0] // factor) * factor, max(bounds[1] // factor, 1) * factor
    margin = ((high - low) // (_MARGIN * factor) + 1) * factor
    return min(max(low - margin, first), low), max(min(high + margin, last), high)


def sample(
    image: NDArray[np.uint8] | View, to_target: Affine, size: tuple[int, int], shrink: int | None = None
) -> NDArray[np.uint8]:
    """Return the (height, width[, 3]) uint8 picture whose pixel ``to_target(x)`` shows ``image`` at x.

    Outside the image its border is repeated. ``size`` is (width, height). ``shrink`` is the factor of the averaging
    that comes first; None takes :func:`shrink_for`. Sampling is bilinear.
    """
    factor = shrink_for(scale_of(to_target)) if shrink is None else shrink
    to_source = invert(to_target)
    view = image if isinstance(image, View) else View(image)
    spans = _spans(to_source, size, view.image.shape, factor)
    if factor == 1:
        pixels = view.pixels(*spans)
    else:
        pixels, origin = view.averaged(*spans, factor)
        # Centre of averaged pixel j is (j + 1/2) factor - 1/2 in the original.
        for axis in (0, 1):
            to_source[axis, 2] = (to_source[axis, 2] - origin[axis] + 0.5) / factor - 0.5
        to_source[:, :2] /= factor
    sampled: NDArray[np.uint8] = cv2.warpAffine(
        pixels, to_source, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled


def _spans(
    to_source: Affine, size: tuple[int, int], shape: tuple[int, ...], factor: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the (low, high) spans in x and y of a picture that a sample reads, in whole blocks."""
    width, height = size
    spans = []
    for (a, b, shift), extent in zip(to_source.tolist(), shape[1::-1], strict=True):
        least = shift + min(a * width, 0) + min(b * height, 0)
        most = shift + max(a * width, 0) + max(b * height, 0)
        limit = max(extent // factor, 1) * factor
        low = min(max((math.floor(least) // factor - 1) * factor, 0), max(limit - factor, 0))
        high = min(max((math.ceil(most) // factor + 2) * factor, low + factor), max(limit, low + factor))
        spans.append((low, min(high, extent)))
    return spans[0], spans[1]


def contains(outer: Region | None, inner: Region | None) -> bool:
    """Tell whether one region lies within another; None is all of the picture."""
    if outer is None or inner is None:
        return outer is None
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]
