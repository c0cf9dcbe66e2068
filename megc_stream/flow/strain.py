"""Optical strain: how much the flow deforms the face at each pixel, whatever the head does as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow.jit import kernel

__all__ = ["strain"]


@kernel
def _strain(flow, out):  # type: ignore[no-untyped-def]
    height, width = out.shape
    half = np.float32(0.5)
    zero = np.float32(0.0)
    for y in range(height):
        for x in range(width):
            ux = flow[y, x, 0] - flow[y, x - 1, 0] if x > 0 else zero
            vx = flow[y, x, 1] - flow[y, x - 1, 1] if x > 0 else zero
            uy = flow[y, x, 0] - flow[y - 1, x, 0] if y > 0 else zero
            vy = flow[y, x, 1] - flow[y - 1, x, 1] if y > 0 else zero
            shear = uy + vx
            out[y, x] = np.sqrt(ux * ux + vy * vy + half * shear * shear)


def _check_flow(flow: NDArray[Any]) -> None:
    """Raise FlowError unless ``flow`` is a C-contiguous, finite (H, W, 2) float32 array."""
    if flow.ndim != 3 or flow.shape[2] != 2 or flow.dtype != np.float32 or not flow.flags.c_contiguous:
        raise FlowError(f"flow: got {flow.dtype} {flow.shape}, expected C-contiguous float32 (H, W, 2)")
    # The sum is finite only if every value is; overflow to infinity takes values no flow has.
    if not np.isfinite(flow.sum()):
        raise FlowError("flow: has values that are not finite (NaN or infinity); expected displacements in px")


def strain(flow: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the magnitude of the optical strain tensor, sqrt(u_x^2 + v_y^2 + (u_y + v_x)^2 / 2).

    Parameters
    ----------
    flow
        (H, W, 2) float32, C-contiguous, px.
    out
        (H, W) float32 array for the result; a new one is made without it.

    Returns
    -------
    (H, W) float32 >= 0, px per px. Derivatives are backward differences; terms that would read outside are 0.

    Raises
    ------
    FlowError
        A wrong shape, dtype or layout, or values that are not finite.

    References
    ----------
    Shreve et al.: Macro- and micro-expression spotting in long videos using spatio-temporal strain, FG 2011; in the
    form used by SOFTNet (Liong, See, Wong: Shallow optical flow three-stream CNN, ICIP 2021) and MEAN.
    """
    _check_flow(flow)
    shape = flow.shape[:2]
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32:
        raise FlowError(f"strain: out is {out.dtype} {out.shape}, expected float32 {shape}")
    _strain(flow, out)
    return out
