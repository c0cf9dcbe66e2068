"""Crops kept for the pictures of the report, in bounded memory."""

from __future__ import annotations

from typing import cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import OutputError
from megc_stream.records import Crop

__all__ = ["CropStore", "Picture", "onset_apex_flow", "png"]


class Picture(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A crop that was kept: its frame, its segment (crops of different segments are never compared), the pixels."""

    frame: int
    segment: int
    image: NDArray[np.uint8]


class CropStore:
    """Keeps recent crops, or all of them, until their events are known.

    Parameters
    ----------
    newest
        Keep this many crops, as they are (16 kB each). None keeps all, as PNG, for events that come at the end only.
    budget_bytes
        With ``newest`` None: once the PNGs take more than this, every second crop goes and only every second further
        one is kept; and so on. :meth:`get` then returns a neighbour.
    """

    def __init__(self, newest: int | None, *, budget_bytes: int = 512 * 2**20) -> None:
        self._newest = newest
        self._budget_bytes = budget_bytes
        self._kept: dict[int, tuple[int, NDArray[np.uint8] | bytes]] = {}
        self._bytes = 0
        self._stride = 1

    def add(self, crop: Crop) -> None:
        """Keep the crop, if it has an image; crops come in order of frames."""
        if crop.image is None or crop.frame % self._stride:
            return
        if self._newest is not None:
            self._kept[crop.frame] = (crop.segment, crop.image)
            if len(self._kept) > self._newest:
                del self._kept[next(iter(self._kept))]
            return
        encoded = png(crop.image)
        self._kept[crop.frame] = (crop.segment, encoded)
        self._bytes += len(encoded)
        while self._bytes > self._budget_bytes and len(self._kept) > 1:
            self._stride *= 2
            self._kept = {frame: kept for frame, kept in self._kept.items() if frame % self._stride == 0}
            self._bytes = sum(len(kept) for _, kept in self._kept.values())

    def get(self, frame: int) -> Picture | None:
        """Return the crop of ``frame``, or of the nearest frame kept where crops were thinned out, else None."""
        nearest = (frame + self._stride // 2) // self._stride * self._stride
        kept = self._kept.get(nearest)
        if kept is None:
            return None
        segment, image = kept
        if isinstance(image, bytes):
            decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
            image = cast("NDArray[np.uint8]", decoded)
        return Picture(frame=nearest, segment=segment, image=image)


def onset_apex_flow(onset: Picture, apex: Picture) -> NDArray[np.float32] | None:
    """Return the TV-L1 flow from onset to apex, (128, 128, 2) float32 px, or None for crops of different segments."""
    if onset.segment != apex.segment or onset.frame == apex.frame:
        return None
    # Imported late: it brings in numba, which a run without pictures may not need in this process.
    from megc_stream.flow import TVL1Solver

    height, width = onset.image.shape
    return TVL1Solver(height, width).solve(onset.image, apex.image, warm=False)


def png(image: NDArray[np.uint8]) -> bytes:
    """Return an (H, W) grey or (H, W, 3) BGR picture as PNG.

    Raises
    ------
    OutputError
        The array is not a picture that PNG can hold.
    """
    try:
        _, encoded = cv2.imencode(".png", image)
    except cv2.error as error:
        raise OutputError(
            f"picture of shape {image.shape}, {image.dtype}: not a PNG picture; expected uint8"
        ) from error
    return encoded.tobytes()
