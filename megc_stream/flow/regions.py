"""Regions of channels, scaled and pooled to the input of a network."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow.jit import kernel
from megc_stream.flow.strain import _check_flow, _strain

__all__ = ["Box", "region_features"]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in px; right and bottom are exclusive."""


# Spans below this (px, or px per px) count as none: no flow resolves them, and their reciprocal might overflow.
_LEAST_SPAN = np.float32(1e-30)


@kernel
def _ranges(rows, lines, out):  # type: ignore[no-untyped-def]
    """Write least value and scale to [0, 1] of each channel into ``out`` (C, 2); each of ``rows`` has them in turn."""
    # Column by column first: that is vector code, a single least value is not.
    count = rows.shape[1]
    low = lines[0]
    high = lines[1]
    for i in range(count):
        low[i] = high[i] = rows[0, i]
    for y in range(1, rows.shape[0]):
        for i in range(count):
            low[i] = min(low[i], rows[y, i])
        for i in range(count):
            high[i] = max(high[i], rows[y, i])
    channels = out.shape[0]
    for channel in range(channels):
        least = low[channel]
        most = high[channel]
        for i in range(channel, count, channels):
            least = min(least, low[i])
            most = max(most, high[i])
        out[channel, 0] = least
        out[channel, 1] = np.float32(1.0) / (most - least) if most - least > _LEAST_SPAN else np.float32(0.0)


@kernel
def _place(index, count, size):  # type: ignore[no-untyped-def]
    """Where among ``size`` pixels the centre of output pixel ``index`` of ``count`` lies; at most on the outer ones."""
    return min(max((index + 0.5) * (size / count) - 0.5, 0.0), size - 1.0)


@kernel
def _pool(flow, boxes, out, strain, lines, ranges):  # type: ignore[no-untyped-def]
    """Write the scaled regions of ``flow`` (H, 2 W), u and v in turn, into ``out`` (boxes, height, width, 3).

    ``strain`` (H, W), ``lines`` (2, 2 W) and ``ranges`` (3, 2) are scratch.
    """
    _strain(flow, strain)
    _ranges(flow, lines, ranges[:2])
    _ranges(strain, lines, ranges[2:])
    height = out.shape[1]
    width = out.shape[2]
    mixed_flow = lines[0]
    mixed_strain = lines[1]
    for box in range(boxes.shape[0]):
        left = boxes[box, 0]
        top = boxes[box, 1]
        right = boxes[box, 2]
        bottom = boxes[box, 3]
        for y in range(height):
            # First between two rows, in vector code; then the few columns that are kept.
            place = _place(y, height, bottom - top)
            offset = int(place)
            weight = np.float32(place - offset)
            a = top + offset
            b = min(a + 1, bottom - 1)
            for i in range(flow.shape[1]):
                mixed_flow[i] = flow[a, i] + weight * (flow[b, i] - flow[a, i])
            for i in range(strain.shape[1]):
                mixed_strain[i] = strain[a, i] + weight * (strain[b, i] - strain[a, i])
            for x in range(width):
                place = _place(x, width, right - left)
                offset = int(place)
                weight = np.float32(place - offset)
                a = left + offset
                b = min(a + 1, right - 1)
                u = mixed_flow[2 * a] + weight * (mixed_flow[2 * b] - mixed_flow[2 * a])
                v = mixed_flow[2 * a + 1] + weight * (mixed_flow[2 * b + 1] - mixed_flow[2 * a + 1])
                s = mixed_strain[a] + weight * (mixed_strain[b] - mixed_strain[a])
                # Scaling and bilinear interpolation commute: scale the few values that are kept.
                out[box, y, x, 0] = (u - ranges[0, 0]) * ranges[0, 1]
                out[box, y, x, 1] = (v - ranges[1, 0]) * ranges[1, 1]
                out[box, y, x, 2] = (s - ranges[2, 0]) * ranges[2, 1]


_kept = threading.local()


def _scratch(height: int, width: int) -> tuple[NDArray[np.float32], ...]:
    """Return the last three arguments of ``_pool``, kept for each thread: its kernel runs without the GIL."""
    arrays: tuple[NDArray[np.float32], ...] | None = getattr(_kept, "arrays", None)
    if arrays is None or arrays[0].shape != (height, width):
        arrays = tuple(np.empty(shape, np.float32) for shape in ((height, width), (2, 2 * width), (3, 2)))
        _kept.arrays = arrays
    return arrays


def region_features(
    flow: NDArray[np.float32],
    boxes: tuple[Box, ...],
    width: int,
    height: int,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return u, v and strain of some regions, each channel scaled to [0, 1] by its range over the whole crop.

    Parameters
    ----------
    flow
        (H, W, 2) float32, C-contiguous, px.
    boxes
        Regions in px of the crop; clipped to it.
    width, height
        Size to which every region is resized (bilinear), px.
    out
        C-contiguous float32 array for the result; a new one is made without it.

    Returns
    -------
    (len(boxes) * height, width, 3) float32 in [0, 1]; regions stacked from top to bottom. A flat channel becomes 0.

    Raises
    ------
    FlowError
        A wrong ``flow`` or ``out``, or a box that lies outside the crop.
    """
    pairs = _check_flow(flow)
    shape = (len(boxes) * height, width, 3)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not (out.flags.c_contiguous and out.flags.writeable):
        raise FlowError(
            f"region_features: out is {out.dtype} {out.shape}, expected writeable C-contiguous float32 {shape}"
        )
    rows, columns = flow.shape[:2]
    clipped = np.empty((len(boxes), 4), np.int64)
    for index, (left, top, right, bottom) in enumerate(boxes):
        left, right = max(left, 0), min(right, columns)
        top, bottom = max(top, 0), min(bottom, rows)
        if left >= right or top >= bottom:
            raise FlowError(
                f"region_features: box {boxes[index]} lies outside the {columns}x{rows} px crop; "
                "expected left < right and top < bottom inside it"
            )
        clipped[index] = left, top, right, bottom
    _pool(pairs, clipped, out.reshape(len(boxes), height, width, 3), *_scratch(rows, columns))
    return out
