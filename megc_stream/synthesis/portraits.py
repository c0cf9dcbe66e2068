"""Portraits to make clips from."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import DataError, MissingExtraError, UsageError
from megc_stream.face import locate_landmarks

__all__ = ["astronaut", "load_portrait", "portrait_landmarks"]


def load_portrait(path: Path) -> NDArray[np.uint8]:
    """Read a picture as uint8 (H, W, 3) BGR.

    Raises
    ------
    UsageError
        The file is not there or cannot be read.
    DataError
        It is no picture that OpenCV knows.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UsageError(
            f"portrait {path}: cannot be read ({error.strerror}); expected a .jpg or .png picture"
        ) from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise DataError(f"portrait {path}: is no picture that can be decoded; expected a .jpg or .png picture")
    return np.asarray(image, np.uint8)


def astronaut() -> NDArray[np.uint8]:
    """Return the head of the astronaut in scikit-image's sample pictures (NASA, public domain), enlarged, as BGR.

    Raises
    ------
    MissingExtraError
        scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError("scikit-image", "demo", "a synthetic clip without --portrait") from error
    head = data.astronaut()[:330, 60:390, ::-1]
    return np.asarray(cv2.resize(head, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), np.uint8)


def portrait_landmarks(portrait: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    """Return the (478, 2) mesh of the largest face in a portrait, px.

    Raises
    ------
    DataError
        No face; names the portrait.
    """
    landmarks = locate_landmarks(portrait)
    if landmarks is None:
        raise DataError(
            f"portrait {name}: no face found; expected one frontal face with open eyes, about as wide as a third of it"
        )
    return landmarks
