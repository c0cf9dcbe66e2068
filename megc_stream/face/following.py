"""Following a face from frame to frame: optical flow of points on rigid parts and a robust similarity.

Every frame is compared with one reference patch in fixed coordinates, not with the frame before it, so errors do not
add up. The comparison is done twice, the second time on the frame warped by the first result: what remains to be
measured is then close to zero, where the estimate has no bias from interpolation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.face.tracking import LEVELS, WINDOW_PX, Templates, bordered, make_templates, track
from megc_stream.face.warp import Affine, View, compose, invert, sample, transform
from megc_stream.flow.jit import strict_kernel

__all__ = ["PATCH_PX", "Following", "Reference", "fit_similarity", "follow", "make_reference", "prepare"]

PATCH_PX = 128

_COARSE = (8, 0.05)
"""Most steps of each point, and the step in px that is small enough."""
_FINE = (10, 0.005)
_LEAST_POINTS = 12
_LEAST_INLIERS = 0.4
_REWEIGHTINGS = 5
_STILL_PX = 0.06
"""Correction of the patch's corners below which a pass needs no second one: what interpolation does to it is a
hundredth of that. It is three times the noise of a still face."""
_NEAR_INLIERS = 0.5
"""Share of points that must agree where the coarser levels of the pyramid were left out."""
_MOST_RESIDUAL_PX = 2.0
_SETTLED_RESIDUAL_PX = 0.5
_REACH = 2.5
"""Residual, in standard deviations, from which a pair has no weight. 4.685 would be best for normal errors; expressions
move whole groups of points by a little, and a shorter reach takes less of that for head motion."""
_LEAST_SIGMA_PX = 0.05
"""Below this spread of the residuals no point is taken for an outlier."""


@dataclass(frozen=True)
class Following:
    """Where the face went."""

    to_patch: Affine
    """(2, 3) map from frame px to patch px."""
    residual_px: float
    """Spread of the points."""
    patch: NDArray[np.uint8]
    """Prepared patch (128, 128) of the frame, as it was aligned before the last correction."""


@dataclass(frozen=True)
class Reference:
    """What frames are compared with; :func:`make_reference` makes one."""

    points: NDArray[np.float32]
    """(n, 2), px of the patch."""
    trust: NDArray[np.float64]
    """(n,) how well each point can be placed, 0..1."""
    templates: tuple[Templates, ...]
    """What the points look like, level by level."""


def prepare(patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a grey patch with light noise and uneven light taken out: 128 + 2 (slightly blurred - local mean)."""
    fine = cv2.GaussianBlur(patch, (5, 5), 1.0)
    coarse = cv2.blur(patch, (31, 31))
    prepared: NDArray[np.uint8] = cv2.addWeighted(fine, 2.0, coarse, -2.0, 128.0)
    return prepared


def make_reference(mean_patch: NDArray[np.float32], points: NDArray[np.float32]) -> Reference:
    """Return the reference for a (128, 128) mean of prepared patches and (n, 2) points, less those outside it.

    A point is trusted by the smaller eigenvalue of the structure tensor of its window, against the median of all.
    """
    patch = np.rint(mean_patch).astype(np.uint8)
    points = points[((points >= 4) & (points <= PATCH_PX - 5)).all(axis=1)]
    texture = cv2.cornerMinEigenVal(patch, WINDOW_PX)[tuple(np.rint(points).astype(int).T[::-1])].astype(np.float64)
    typical = max(float(np.median(texture)), 1e-9) if len(points) else 1.0
    return Reference(points, texture / (texture + typical) + 1e-6, make_templates(patch, points))


def fit_similarity(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    trust: NDArray[np.floating] | None = None,
    iterations: int = _REWEIGHTINGS,
) -> tuple[Affine, float, float]:
    """Fit a similarity to point pairs by iteratively reweighted least squares with Tukey's biweight.

    Parameters
    ----------
    source, target
        (n, 2) points, n >= 2.
    trust
        (n,) weights > 0 that the pairs have before any residual is known; None trusts all alike.
    iterations
        Reweightings; the first start is the least-absolute-deviations weight, which needs no scale.

    Returns
    -------
    tuple
        The (2, 3) map from source to target, the robust standard deviation of the residuals per axis (same unit), and
        the share of points with a weight above 1/4.
    """
    prior = np.ones(len(source)) if trust is None else trust
    a, b, x, y, sigma, inliers, _ = _fit(source, target, prior, np.ones(len(source), np.bool_), iterations)
    return np.array([[a, -b, x], [b, a, y]]), sigma, inliers


@strict_kernel
def _fit(
    every_source: NDArray[np.floating],
    every_target: NDArray[np.floating],
    trust: NDArray[np.floating],
    used: NDArray[np.bool_],
    iterations: int,
) -> tuple[float, float, float, float, float, float, int]:
    """See :func:`fit_similarity`; only the ``used`` pairs count, whose number comes last."""
    n = int(np.count_nonzero(used))
    source, target, prior = np.empty((n, 2)), np.empty((n, 2)), np.empty(n)
    k = 0
    for i in range(len(used)):
        if used[i]:
            for axis in range(2):
                source[k, axis] = every_source[i, axis]
                target[k, axis] = every_target[i, axis]
            prior[k] = trust[i]
            k += 1
    if n < 2:
        return 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, n
    weights = prior.copy()
    residuals = np.empty(n)
    a, b, x, y, sigma = 1.0, 0.0, 0.0, 0.0, 0.0
    for iteration in range(iterations + 1):
        total = sx = sy = tx = ty = 0.0
        for i in range(n):
            w = weights[i]
            total += w
            sx += w * source[i, 0]
            sy += w * source[i, 1]
            tx += w * target[i, 0]
            ty += w * target[i, 1]
        sx, sy, tx, ty = sx / total, sy / total, tx / total, ty / total
        moment = along = across = 0.0
        for i in range(n):
            w = weights[i]
            px, py = source[i, 0] - sx, source[i, 1] - sy
            qx, qy = target[i, 0] - tx, target[i, 1] - ty
            moment += w * (px * px + py * py)
            along += w * (px * qx + py * qy)
            across += w * (px * qy - py * qx)
        a, b = along / max(moment, 1e-12), across / max(moment, 1e-12)
        x, y = tx - (a * sx - b * sy), ty - (b * sx + a * sy)
        for i in range(n):
            ex = a * source[i, 0] - b * source[i, 1] + x - target[i, 0]
            ey = b * source[i, 0] + a * source[i, 1] + y - target[i, 1]
            residuals[i] = math.sqrt(ex * ex + ey * ey)
        # The median length of a 2-D normal residual is 1.1774 standard deviations.
        sigma = np.median(residuals) / 1.1774
        if iteration == iterations:
            break
        reach = _REACH * max(sigma, _LEAST_SIGMA_PX)
        for i in range(n):
            if iteration == 0:
                weights[i] = prior[i] / max(residuals[i], _LEAST_SIGMA_PX)
            else:
                weights[i] = prior[i] * max(0.0, 1 - (residuals[i] / reach) ** 2) ** 2
    return a, b, x, y, sigma, float(np.sum(weights > 0.25 * prior)) / n, n


def follow(view: View, to_patch: Affine, reference: Reference, shrink: int) -> Following | None:
    """Return where the face of a reference patch is in the next frame; None when it cannot be followed.

    Parameters
    ----------
    view
        The grey frame.
    to_patch
        Map from frame px to patch px for the frame before.
    reference
        What to look for.
    shrink
        Averaging before sampling, see :func:`megc_stream.face.warp.sample`.
    """
    visible = _visible(reference.points, to_patch, view.image.shape)
    if np.count_nonzero(visible) < 2 * _LEAST_POINTS:
        return None
    # Mostly the face moved by a px or less since the last frame; if not, the coarser levels find it.
    near = _aligned(view, to_patch, reference, visible, shrink, ((1, _FINE), (1, _FINE)), _NEAR_INLIERS)
    if near is not None and near.residual_px < _SETTLED_RESIDUAL_PX:
        return near
    passes = ((LEVELS, _COARSE), (1, _FINE), (2, _COARSE), (1, _FINE))
    found = _aligned(view, to_patch, reference, visible, shrink, passes, _LEAST_INLIERS)
    return found if found is not None and found.residual_px <= _MOST_RESIDUAL_PX else None


def _aligned(
    view: View,
    to_patch: Affine,
    reference: Reference,
    visible: NDArray[np.bool_],
    shrink: int,
    passes: tuple[tuple[int, tuple[int, float]], ...],
    least_inliers: float,
) -> Following | None:
    """Align in passes, each on the frame as the pass before aligned it: (levels, when to stop) of each."""
    residual = math.inf
    for levels, (steps, least_step_px) in passes:
        patch = prepare(sample(view, to_patch, (PATCH_PX, PATCH_PX), shrink))
        pyramid = [patch]
        for _ in range(levels - 1):
            pyramid.append(cv2.pyrDown(pyramid[-1]))
        moved = reference.points * np.float32(0.5**levels)
        for templates, level in zip(reference.templates[levels - 1 :: -1], reversed(pyramid), strict=True):
            moved *= 2
            found = track(bordered(level), templates, moved, steps, least_step_px)
        found &= visible
        a, b, x, y, residual, inliers, used = _fit(moved, reference.points, reference.trust, found, _REWEIGHTINGS)
        if used < _LEAST_POINTS or inliers < least_inliers:
            return None
        to_patch = compose(np.array([[a, -b, x], [b, a, y]]), to_patch)
        if levels == 1 and residual < _SETTLED_RESIDUAL_PX and _farthest_px(a, b, x, y) < _STILL_PX:
            break
    return Following(to_patch, residual, patch)


def _farthest_px(a: float, b: float, x: float, y: float) -> float:
    """Return how far a small similarity moves the corners of the patch at most, px."""
    middle = (PATCH_PX - 1) / 2
    shift = math.hypot((a - 1) * middle - b * middle + x, b * middle + (a - 1) * middle + y)
    return shift + math.hypot(a - 1, b) * middle * math.sqrt(2)


def _visible(points: NDArray[np.float32], to_patch: Affine, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Tell which points of the patch lie inside the frame."""
    to_frame = invert(to_patch)
    (a, b, x), (c, d, y) = to_frame.tolist()
    width, height = shape[1] - 2, shape[0] - 2
    corners = ((x + a * u + b * v, y + c * u + d * v) for u in (0, PATCH_PX) for v in (0, PATCH_PX))
    if all(1 <= u <= width and 1 <= v <= height for u, v in corners):
        return np.ones(len(points), np.bool_)
    in_frame = transform(to_frame, points)
    return np.asarray(((in_frame >= 1) & (in_frame <= np.array([width, height]))).all(axis=1))
