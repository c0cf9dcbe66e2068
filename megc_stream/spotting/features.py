"""MEAN's input: flow and strain of brows and mouth, from one pair of crops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow.regions import Box, region_features

__all__ = ["mean_features", "mean_regions"]

_SIZE_PX = 42
_MARGIN_PX = 12
_CORNERS = np.array([17, 19, 24, 26, 41, 46, 50, 57, 60, 64])


def mean_regions(landmarks68: NDArray[Any]) -> tuple[Box, Box]:
    """Return the boxes of brows and mouth, px of the crop, from the 68 landmarks of the window's reference frame.

    Brows: x from p17.x - 12 to p26.x + 12, y from min(p19.y, p24.y) - 12 to max(p41.y, p46.y) + 12. Mouth: x from
    p60.x - 12 to p64.x + 12, y from p50.y - 12 to p57.y + 12. Coordinates are truncated to integers; the boxes are not
    clipped yet.

    Raises
    ------
    FlowError
        ``landmarks68`` is not (68, 2) or not finite.
    """
    if landmarks68.shape != (68, 2) or np.count_nonzero(np.isfinite(landmarks68)) < landmarks68.size:
        raise FlowError(
            f"landmarks68: got {landmarks68.dtype} {landmarks68.shape}, expected finite values, shape (68, 2)"
        )
    p17, p19, p24, p26, p41, p46, p50, p57, p60, p64 = landmarks68.take(_CORNERS, 0).astype(np.int64).tolist()
    brows = (
        p17[0] - _MARGIN_PX,
        min(p19[1], p24[1]) - _MARGIN_PX,
        p26[0] + _MARGIN_PX,
        max(p41[1], p46[1]) + _MARGIN_PX,
    )
    mouth = (p60[0] - _MARGIN_PX, p50[1] - _MARGIN_PX, p64[0] + _MARGIN_PX, p57[1] + _MARGIN_PX)
    return brows, mouth


def mean_features(
    flow: NDArray[np.float32], landmarks68: NDArray[Any], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the input of MEAN for one pair (i, i + k).

    Parameters
    ----------
    flow
        (128, 128, 2) float32, C-contiguous: motion from crop i to crop i + k, px.
    landmarks68
        (68, 2) landmarks in crop px.
    out
        C-contiguous (42, 42, 3) float32 array for the result; a new one is made without it.

    Returns
    -------
    (42, 42, 3) float32 in [0, 1]: u, v and strain, each scaled to its range over the whole crop (a flat channel is 0);
    the upper half shows the brows, the lower half the mouth, each resized bilinearly to 42 wide and 21 high.

    Raises
    ------
    FlowError
        A wrong array, or regions outside the crop.

    References
    ----------
    Liong, See, Chan: Spot-then-recognize, Signal Processing: Image Communication 2023 (MEAN); pre-processing of its
    code, which takes the flow through OpenCV's approximate polar form. This function does not: the two differ by up
    to 3e-3.
    """
    return region_features(flow, mean_regions(landmarks68), _SIZE_PX, _SIZE_PX // 2, out)
