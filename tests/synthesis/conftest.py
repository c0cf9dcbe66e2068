from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.synthesis.portraits import astronaut, portrait_landmarks


class Portrait(NamedTuple):
    """A BGR picture of a face and its (478, 2) mesh."""

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]

    @property
    def grey(self) -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(self.image, cv2.COLOR_BGR2GRAY), np.uint8)


@pytest.fixture(scope="session")
def portrait() -> Portrait:
    image = astronaut()
    return Portrait(image, portrait_landmarks(image, "astronaut"))


@pytest.fixture(scope="session")
def texture(portrait: Portrait) -> NDArray[np.uint8]:
    """A picture with detail everywhere, of the portrait's size: flow can be measured at every point of it."""
    generator = np.random.default_rng(1)
    noise = generator.standard_normal(portrait.grey.shape).astype(np.float32)
    smooth = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (3.0, 6.0))
    return np.clip(128 + 50 * smooth, 0, 255).astype(np.uint8)
