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

from megc_stream.face.warp import Affine, View, compose, invert, sample, transform
from megc_stream.flow.jit import strict_kernel

__all__ = ["PATCH_PX", "Following", "Reference", "fit_similarity", "follow", "make_reference", "prepare"]

PATCH_PX = 128

_WINDOW = (15, 15)
_COARSE = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 8, 0.05)
_FINE = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.005)
_LEAST_POINTS = 12
_LEAST_INLIERS = 0.4
_MOST_RESIDUAL_PX = 2.0
_SETTLED_RESIDUAL_PX = 0.5
_REACH = 2.5
"""Residual, in standard deviations, from which a pair has no weight. 4.685 would be best for normal errors; expressions
move whole groups of points by a little, and a shorter reach takes less of that for head motion."""
_LEAST_SIGMA_PX = 0.05
"""Below this spread of the residuals no point is taken for an outlier."""


@dataclass(frozen=True)
class Following:
    """Where the face went: ``to_patch`` (2, 3) maps frame px to patch px, ``residual_px`` is the points' spread."""

    to_patch: Affine
    residual_px: float


@dataclass(frozen=True)
class Reference:
    """What frames are compared with; :func:`make_reference` makes one."""

    patch: NDArray[np.uint8]
    points: NDArray[np.float32]
    trust: NDArray[np.float32]
    """How well each point can be placed, 0..1."""


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
    texture = cv2.cornerMinEigenVal(patch, _WINDOW[0])[tuple(np.rint(points).astype(int).T[::-1])]
    typical = max(float(np.median(texture)), 1e-9) if len(points) else 1.0
    return Reference(patch, points, texture / (texture + typical) + 1e-6)


def fit_similarity(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    trust: NDArray[np.floating] | None = None,
    iterations: int = 5,
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
    prior = np.ones(len(source)) if trust is None else trust.astype(np.float64)
    a, b, x, y, sigma, inliers = _fit(source.astype(np.float64), target.astype(np.float64), prior, iterations)
    return np.array([[a, -b, x], [b, a, y]]), sigma, inliers


@strict_kernel
def _fit(
    source: NDArray[np.float64], target: NDArray[np.float64], prior: NDArray[np.float64], iterations: int
) -> tuple[float, float, float, float, float, float]:
    n = len(source)
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
    return a, b, x, y, sigma, float(np.sum(weights > 0.25 * prior)) / n


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
    points, trust = reference.points[visible], reference.trust[visible]
    if len(points) < 2 * _LEAST_POINTS:
        return None
    # The first pass only has to bring the second near: half the points will do. Two are enough unless the head moves
    # fast.
    passes = [(2, 2, _COARSE), (1, 0, _FINE), (1, 1, _COARSE), (1, 0, _FINE)]
    residual = math.inf
    for number, (step, levels, criteria) in enumerate(passes):
        used = points[::step].copy()
        patch = prepare(sample(view, to_patch, (PATCH_PX, PATCH_PX), shrink))
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            reference.patch,
            patch,
            used,
            used.copy(),
            winSize=_WINDOW,
            maxLevel=levels,
            criteria=criteria,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
            minEigThreshold=1e-3,
        )
        good = status.ravel() == 1
        if np.count_nonzero(good) < _LEAST_POINTS:
            return None
        correction, residual, inliers = fit_similarity(moved[good], used[good], trust[::step][good])
        if inliers < _LEAST_INLIERS:
            return None
        to_patch = compose(correction, to_patch)
        if number == 1 and residual < _SETTLED_RESIDUAL_PX:
            break
    return Following(to_patch, residual) if residual <= _MOST_RESIDUAL_PX else None


def _visible(points: NDArray[np.float32], to_patch: Affine, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Tell which points of the patch lie inside the frame."""
    in_frame = transform(invert(to_patch), points)
    return np.asarray(((in_frame >= 1) & (in_frame <= np.array([shape[1], shape[0]]) - 2)).all(axis=1))
