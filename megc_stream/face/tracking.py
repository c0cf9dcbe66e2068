"""Tracking of points in patches that are nearly aligned: Lucas-Kanade, all that depends on the reference done before.

A window of 15x15 px around each point of the reference is kept with its gradients and the inverse of its structure
tensor, level by level of a pyramid. A frame then only costs the iterations: sample the window where the point is
thought to be, compare, move. Baker and Matthews, "Lucas-Kanade 20 Years On" (IJCV 2004), section 3.2, for a
translation: ::

    d = H^-1 sum_x grad T(x) (T(x) - I(x + p)),   p <- p + d,   H = sum_x grad T(x) grad T(x)^T
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.flow.jit import inner_kernel, kernel

__all__ = ["LEVELS", "WINDOW_PX", "Templates", "bordered", "make_templates", "track"]

LEVELS = 3
"""Levels of the pyramid, each half as large as the one before."""

WINDOW_PX = 15
"""Side of the window around a point."""

_HALF = WINDOW_PX // 2
_ROW = 16
"""Elements of a row of a window: whole vectors. The last one has no gradient, so it counts nothing."""
_BORDER_PX = 16
_LEAST_TEXTURE = 1.0
"""Smaller eigenvalue of the mean structure tensor, grey values^2 a px^2, below which a window cannot be placed."""
_TURNED_BACK_PX = 0.01
"""Two steps that nearly cancel are the end: the point goes to and fro."""

_f32 = np.float32
_ONE = _f32(1)


@dataclass(frozen=True)
class Templates:
    """Windows of n points on one level: :func:`make_templates` makes them."""

    windows: NDArray[np.float32]
    """(n, 3, 15, 16): grey values, their slope in x, in y."""
    inverses: NDArray[np.float32]
    """(n, 3): xx, xy and yy of H^-1; zeros where the window has too little texture."""


def bordered(patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a patch with the border around it that windows at its edge reach into."""
    padded: NDArray[np.uint8] = cv2.copyMakeBorder(patch, *(_BORDER_PX,) * 4, cv2.BORDER_REFLECT_101)
    return padded


def make_templates(patch: NDArray[np.uint8], points: NDArray[np.float32]) -> tuple[Templates, ...]:
    """Return the templates of (n, 2) points of an (H, W) patch, px, for each level, the finest first."""
    levels = []
    for _ in range(LEVELS):
        padded = bordered(patch)
        pictures = (padded.astype(np.float32), *(cv2.Scharr(padded, cv2.CV_32F, *d) / 32 for d in ((1, 0), (0, 1))))
        windows = np.zeros((len(points), 3, WINDOW_PX, _ROW), np.float32)
        for number, picture in enumerate(pictures):
            _cut(picture, points, windows[:, number])
        inverses = np.empty((len(points), 3), np.float32)
        _invert(windows, _LEAST_TEXTURE * WINDOW_PX**2, inverses)
        levels.append(Templates(windows, inverses))
        patch = cv2.pyrDown(patch)
        # Centre of pixel j of the halved picture is that of pixel 2 j of the picture: cv2.pyrDown keeps the even ones.
        points = points / _f32(2)
    return tuple(levels)


def track(
    padded: NDArray[np.uint8], templates: Templates, moved: NDArray[np.float32], steps: int, least_step_px: float
) -> NDArray[np.bool_]:
    """Look for the windows in a :func:`bordered` patch; ``moved`` (n, 2) is where to begin and becomes where they are.

    Returns
    -------
    (n,) whether the point was found: False where its window has too little texture or left the patch. Its ``moved``
    says nothing then. ``steps`` bounds the iterations, the last of which is no longer than ``least_step_px``.
    """
    found = np.empty(len(moved), np.bool_)
    scratch = np.empty((2, _ROW), np.float32)
    _track(
        padded, templates.windows, templates.inverses, moved, found, scratch, steps, _f32(least_step_px * least_step_px)
    )
    return found


@inner_kernel
def _blend(above, above_right, below, below_right, a, b, c, d, out):
    for x in range(WINDOW_PX):
        out[x] = a * above[x] + b * above_right[x] + c * below[x] + d * below_right[x]


@kernel
def _cut(picture, points, windows):
    """Sample the windows around the points bilinearly; the last element of each row stays as it is."""
    for n in range(points.shape[0]):
        left = int(points[n, 0])
        top = int(points[n, 1])
        fx = points[n, 0] - _f32(left)
        fy = points[n, 1] - _f32(top)
        a, b, c, d = (_ONE - fx) * (_ONE - fy), fx * (_ONE - fy), (_ONE - fx) * fy, fx * fy
        left += _BORDER_PX - _HALF
        top += _BORDER_PX - _HALF
        for y in range(WINDOW_PX):
            above, below = picture[top + y], picture[top + y + 1]
            _blend(above[left:], above[left + 1 :], below[left:], below[left + 1 :], a, b, c, d, windows[n, y])


@kernel
def _invert(windows, least, inverses):
    for n in range(windows.shape[0]):
        xx = xy = yy = 0.0
        for y in range(WINDOW_PX):
            for x in range(WINDOW_PX):
                gx, gy = np.float64(windows[n, 1, y, x]), np.float64(windows[n, 2, y, x])
                xx += gx * gx
                xy += gx * gy
                yy += gy * gy
        smaller = (xx + yy - math.sqrt((xx - yy) ** 2 + 4 * xy**2)) / 2
        determinant = xx * yy - xy * xy
        textured = smaller >= least
        inverses[n, 0] = yy / determinant if textured else 0.0
        inverses[n, 1] = -xy / determinant if textured else 0.0
        inverses[n, 2] = xx / determinant if textured else 0.0


@inner_kernel
def _compare(above, above_right, below, below_right, grey, slope_x, slope_y, a, b, c, d, sum_x, sum_y):
    """Add one row to the right-hand side of the equation, in as many lanes as the row has elements."""
    for x in range(_ROW):
        seen = a * _f32(above[x]) + b * _f32(above_right[x]) + c * _f32(below[x]) + d * _f32(below_right[x])
        difference = grey[x] - seen
        sum_x[x] += difference * slope_x[x]
        sum_y[x] += difference * slope_y[x]


@kernel
def _track(padded, windows, inverses, moved, found, scratch, steps, least_step_squared):
    sum_x, sum_y = scratch[0], scratch[1]
    right = _f32(padded.shape[1] - WINDOW_PX - 2)
    bottom = _f32(padded.shape[0] - WINDOW_PX - 2)
    for n in range(moved.shape[0]):
        found[n] = inverses[n, 0] > 0
        if not found[n]:
            continue
        # First element of the window in the bordered patch.
        x = moved[n, 0] + _f32(_BORDER_PX - _HALF)
        y = moved[n, 1] + _f32(_BORDER_PX - _HALF)
        last_x = last_y = _f32(0)
        for step in range(steps):
            if not (x >= 0 and y >= 0 and x <= right and y <= bottom):
                found[n] = False
                break
            column, row = int(x), int(y)
            fx, fy = x - _f32(column), y - _f32(row)
            a, b, c, d = (_ONE - fx) * (_ONE - fy), fx * (_ONE - fy), (_ONE - fx) * fy, fx * fy
            for m in range(_ROW):
                sum_x[m] = _f32(0)
                sum_y[m] = _f32(0)
            for m in range(WINDOW_PX):
                above, below = padded[row + m], padded[row + m + 1]
                _compare(
                    above[column : column + _ROW],
                    above[column + 1 : column + 1 + _ROW],
                    below[column : column + _ROW],
                    below[column + 1 : column + 1 + _ROW],
                    windows[n, 0, m],
                    windows[n, 1, m],
                    windows[n, 2, m],
                    a,
                    b,
                    c,
                    d,
                    sum_x,
                    sum_y,
                )
            bx = by = _f32(0)
            for m in range(_ROW):
                bx += sum_x[m]
                by += sum_y[m]
            move_x = inverses[n, 0] * bx + inverses[n, 1] * by
            move_y = inverses[n, 1] * bx + inverses[n, 2] * by
            x += move_x
            y += move_y
            if move_x * move_x + move_y * move_y <= least_step_squared:
                break
            if step > 0 and abs(move_x + last_x) < _TURNED_BACK_PX and abs(move_y + last_y) < _TURNED_BACK_PX:
                x -= _f32(0.5) * move_x
                y -= _f32(0.5) * move_y
                break
            last_x, last_y = move_x, move_y
        moved[n, 0] = x - _f32(_BORDER_PX - _HALF)
        moved[n, 1] = y - _f32(_BORDER_PX - _HALF)
