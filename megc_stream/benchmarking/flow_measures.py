"""How wrong a flow is: end-point error, angular error, TV-L1 energy, in plain numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BORDER_PX", "MOVING_PX", "angular_error_deg", "end_point_error_px", "moving", "tvl1_energy"]

BORDER_PX = 4
"""Errors leave out this many px at every edge: what moves in or out of the picture there cannot be known."""
MOVING_PX = 0.4
"""The face "moves" where the local part of the true motion is larger than this, px."""

_INSIDE = np.s_[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]

Array = NDArray[Any]


def moving(local_px: Array) -> NDArray[np.bool_]:
    """Return where the face moves, (H, W) bool, without the border; ``local_px`` (H, W) is the local motion, px."""
    where = np.zeros(local_px.shape, bool)
    where[_INSIDE] = local_px[_INSIDE] > MOVING_PX
    return where


def end_point_error_px(flow: Array, truth: Array, where: NDArray[np.bool_] | None = None) -> float:
    """Return the mean of |flow - truth|, px, over ``where``, or the picture without its border; NaN over nothing.

    ``flow``, ``truth``: (H, W, 2) px.
    """
    return _mean(np.linalg.norm(np.asarray(flow, np.float64) - truth, axis=-1), where)


def angular_error_deg(flow: Array, truth: Array, where: NDArray[np.bool_] | None = None) -> float:
    """Return the mean angle between the space-time directions (u, v, 1) of flow and truth, degrees; see above.

    References
    ----------
    Barron, Fleet, Beauchemin: Performance of Optical Flow Techniques, IJCV 1994, section 4.2.
    """
    found, true = (np.concatenate([f, np.ones((*f.shape[:2], 1))], axis=-1) for f in (flow, truth))
    # The angle by its tangent: the cosine is flat at small angles and would lose half the digits.
    sine = np.linalg.norm(np.cross(found, true), axis=-1)
    return _mean(np.degrees(np.arctan2(sine, (found * true).sum(axis=-1))), where)


def tvl1_energy(reference: Array, current: Array, flow: Array, lam: float = 0.15) -> float:
    """Return the TV-L1 energy of a flow, per pixel.

    E = (1/N) sum_x [ lam |I1(x + u(x)) - I0(x)| + |grad u1| + |grad u2| ], I1 sampled bilinearly with clamped
    coordinates, forward differences (0 beyond the last row and column), |.| the Euclidean norm (isotropic).

    Parameters
    ----------
    reference, current
        (H, W) pictures I0, I1, grey values 0..255.
    flow
        (H, W, 2), px.
    lam
        Weight of the data term.

    References
    ----------
    Zach, Pock, Bischof: A Duality Based Approach for Realtime TV-L1 Optical Flow, DAGM 2007, eq. 3.
    """
    height, width = reference.shape
    rows, columns = np.mgrid[:height, :width]
    image = np.asarray(current, np.float64)
    x = np.clip(columns + flow[..., 0], 0, width - 1)
    y = np.clip(rows + flow[..., 1], 0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    fx, fy = x - left, y - top
    upper = image[top, left] * (1 - fx) + image[top, left + 1] * fx
    lower = image[top + 1, left] * (1 - fx) + image[top + 1, left + 1] * fx
    energy = lam * float(np.abs(upper * (1 - fy) + lower * fy - reference).sum())
    for component in np.moveaxis(np.asarray(flow, np.float64), -1, 0):
        across = np.diff(component, axis=1, append=component[:, -1:])
        down = np.diff(component, axis=0, append=component[-1:])
        energy += float(np.hypot(across, down).sum())
    return float(energy / (height * width))


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_] | None) -> float:
    chosen = values[_INSIDE] if where is None else values[where]
    return float(chosen.mean()) if chosen.size else math.nan
