"""Optical strain: how much the flow deforms the face at each pixel, whatever the head does as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow.jit import kernel

__all__ = ["strain"]


_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)


@kernel
def _finite(bits):  # type: ignore[no-untyped-def]
    """Tell from the bits of float32 values whether all are finite; kernels that compute with them assume it."""
    largest = np.int32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i] & _MAGNITUDE)
    return largest < _INFINITY


@kernel
def _strain(flow, out):  # type: ignore[no-untyped-def]
    """Write the strain of ``flow`` (H, 2 W), u and v in turn, into ``out`` (H, W)."""
    height, width = out.shape
    half = np.float32(0.5)
    for y in range(height):
        # Slices, so that every index of the inner loop is a multiple of 2 from 0 on: only then is it vectorised.
        left = flow[y]
        above = flow[max(y - 1, 0)]
        uy = left[0] - above[0]
        vy = left[1] - above[1]
        out[y, 0] = np.sqrt(vy * vy + half * uy * uy)
        here = left[2:]
        above = above[2:]
        rest = out[y, 1:]
        for x in range(width - 1):
            ux = here[2 * x] - left[2 * x]
            vy = here[2 * x + 1] - above[2 * x + 1]
            shear = here[2 * x] - above[2 * x] + (here[2 * x + 1] - left[2 * x + 1])
            rest[x] = np.sqrt(ux * ux + vy * vy + half * shear * shear)


def _check_flow(flow: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``flow`` as (H, 2 W); raise FlowError unless it is a C-contiguous, finite (H, W, 2) float32 array."""
    if flow.ndim != 3 or flow.shape[2] != 2 or flow.dtype != np.float32 or not flow.flags.c_contiguous:
        raise FlowError(f"flow: got {flow.dtype} {flow.shape}, expected C-contiguous float32 (H, W, 2)")
    if not flow.size:
        raise FlowError(f"flow: got no pixels, shape {flow.shape}; expected H and W of at least 1")
    rows = flow.reshape(flow.shape[0], -1)
    if not _finite(rows.view(np.int32).ravel()):
        raise FlowError("flow: has values that are not finite (NaN or infinity); expected displacements in px")
    return rows


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
    rows = _check_flow(flow)
    shape = flow.shape[:2]
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.writeable:
        raise FlowError(f"strain: out is {out.dtype} {out.shape}, expected writeable float32 {shape}")
    _strain(rows, out)
    return out
