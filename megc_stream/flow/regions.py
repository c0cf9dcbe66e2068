"""Regions of channels, scaled and pooled to the input of a network."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow.jit import kernel
from megc_stream.flow.strain import strain

__all__ = ["Box", "region_features"]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in px; right and bottom are exclusive."""


@kernel
def _ranges(flow, strain_map, out):  # type: ignore[no-untyped-def]
    """Write least value and span of u, v and strain into ``out`` (3, 2)."""
    height, width = strain_map.shape
    low_u = high_u = flow[0, 0, 0]
    low_v = high_v = flow[0, 0, 1]
    low_s = high_s = strain_map[0, 0]
    for y in range(height):
        for x in range(width):
            u = flow[y, x, 0]
            v = flow[y, x, 1]
            s = strain_map[y, x]
            low_u = min(low_u, u)
            high_u = max(high_u, u)
            low_v = min(low_v, v)
            high_v = max(high_v, v)
            low_s = min(low_s, s)
            high_s = max(high_s, s)
    out[0, 0] = low_u
    out[0, 1] = high_u - low_u
    out[1, 0] = low_v
    out[1, 1] = high_v - low_v
    out[2, 0] = low_s
    out[2, 1] = high_s - low_s


def region_features(flow: NDArray[np.float32], boxes: tuple[Box, ...], width: int, height: int) -> NDArray[np.float32]:
    """Return u, v and strain of some regions, each channel scaled to [0, 1] by its range over the whole crop.

    Parameters
    ----------
    flow
        (H, W, 2) float32, C-contiguous, px.
    boxes
        Regions in px of the crop; clipped to it.
    width, height
        Size to which every region is resized (bilinear), px.

    Returns
    -------
    (len(boxes) * height, width, 3) float32 in [0, 1]; regions stacked from top to bottom. A flat channel becomes 0.

    Raises
    ------
    FlowError
        A wrong ``flow``, or a box that lies outside the crop.
    """
    strain_map = strain(flow)  # checks the flow
    rows, columns = strain_map.shape
    channels = np.empty((rows, columns, 3), np.float32)
    ranges = np.empty((3, 2), np.float32)
    _ranges(flow, strain_map, ranges)
    channels[..., :2] = flow
    channels[..., 2] = strain_map
    result = np.empty((len(boxes) * height, width, 3), np.float32)
    for index, (left, top, right, bottom) in enumerate(boxes):
        left, right = max(left, 0), min(right, columns)
        top, bottom = max(top, 0), min(bottom, rows)
        if left >= right or top >= bottom:
            raise FlowError(
                f"region_features: box {boxes[index]} lies outside the {columns}x{rows} px crop; "
                "expected left < right and top < bottom inside it"
            )
        part = result[index * height : (index + 1) * height]
        part[:] = cv2.resize(channels[top:bottom, left:right], (width, height), interpolation=cv2.INTER_LINEAR)
    # Scaling and bilinear interpolation commute: scale the few values that are kept.
    result -= ranges[:, 0]
    result *= np.divide(1.0, ranges[:, 1], out=np.zeros(3, np.float32), where=ranges[:, 1] > 0)
    return result
