"""Faces to move: large float pictures from which the frames of a benchmark are sampled."""

from __future__ import annotations

import importlib.util
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.synthesis.portraits import astronaut

__all__ = ["TEXTURE_PX", "TextureName", "default_texture", "make_texture"]

TextureName = Literal["portrait", "generated"]

TEXTURE_PX = 512
"""Width and height of a texture, px; several times finer than the frames sampled from it."""

# Rows and columns of the face in the enlarged head of the astronaut.
_FACE = np.s_[180:570, 300:690]
_SOFT = 0.006
# Ellipses of the generated face, painted in this order: centre x and y, radii, softness of the edge (all as shares of
# the width), change of grey. x is taken to both sides of the middle.
_FEATURES = (
    (0.19, 0.215, 0.085, 0.012, _SOFT, -120.0),  # brow
    (0.19, 0.300, 0.075, 0.030, _SOFT, -80.0),  # eye socket
    (0.19, 0.300, 0.055, 0.018, _SOFT, 110.0),  # white of the eye
    (0.19, 0.300, 0.024, 0.024, _SOFT, -150.0),  # iris
    (0.20, 0.292, 0.007, 0.007, 0.003, 150.0),  # light in the eye
    (0.045, 0.552, 0.020, 0.009, _SOFT, -80.0),  # nostril
    (0.15, 0.57, 0.012, 0.080, 0.012, -40.0),  # fold beside the nose
    (0.0, 0.53, 0.045, 0.120, 0.030, -20.0),  # nose
    (0.0, 0.50, 0.020, 0.100, 0.020, 25.0),  # bridge of the nose
    (0.0, 0.66, 0.155, 0.040, _SOFT, -115.0),  # mouth
    (0.0, 0.66, 0.120, 0.022, _SOFT, 150.0),  # teeth
)


def default_texture() -> TextureName:
    """Return ``portrait`` where scikit-image (extra ``demo``) is installed, else ``generated``."""
    return "portrait" if importlib.util.find_spec("skimage") is not None else "generated"


def make_texture(name: TextureName, seed: int = 0) -> NDArray[np.float32]:
    """Return a face that fills the picture, (512, 512) float32, grey values 0..255.

    ``portrait`` is scikit-image's astronaut, ``generated`` a drawn face with random skin and hair whose mean, contrast
    and gradients at 128 px are near those of the portrait; only the latter depends on ``seed``.

    Raises
    ------
    MissingExtraError
        The portrait is asked for and scikit-image is not installed.
    """
    if name == "generated":
        return _drawn_face(np.random.default_rng(seed))
    grey = cv2.cvtColor(astronaut(), cv2.COLOR_BGR2GRAY)[_FACE]
    face = cv2.resize(grey, (TEXTURE_PX, TEXTURE_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.GaussianBlur(face.astype(np.float32), (0, 0), 1.5), np.float32)


def _drawn_face(rng: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[:TEXTURE_PX, :TEXTURE_PX].astype(np.float32) / TEXTURE_PX
    skin = 205 - 250 * ((x - 0.46) ** 2 + (y - 0.45) ** 2) + _grain(rng, ((3.0, 3, 10), (7.0, 10, 30), (12.0, 30, 90)))
    hair = 70 + _grain(rng, ((30.0, 2.2, 9), (28.0, 8, 40)), stretch=3.5)
    cloth = 8 + _grain(rng, ((6.0, 6, 20),))
    picture = 195 + _grain(rng, ((8.0, 20, 80),))
    for layer, where in (
        (cloth, _step(y - 0.78) * _step(np.abs(x - 0.5) - 0.28)),
        (hair, _ellipse(x, y, 0.5, 0.12, 0.56, 0.46)),
        (skin, _ellipse(x, y, 0.5, 0.53, 0.38, 0.48)),
        (skin, _step(0.26 - np.abs(x - 0.5)) * _step(y - 0.8)),
        (hair, _step(0.14 + 0.05 * np.sin(9 * x) + 0.02 * np.sin(31 * x) - y)),
    ):
        picture += (layer - picture) * where
    for side, centre_y, radius_x, radius_y, soft, grey in _FEATURES:
        for centre_x in {0.5 - side, 0.5 + side}:
            picture += grey * _ellipse(x, y, centre_x, centre_y, radius_x, radius_y, soft)
    return np.asarray(cv2.GaussianBlur(np.clip(picture, 0, 255).astype(np.float32), (0, 0), 1.5), np.float32)


def _grain(
    rng: np.random.Generator, bands: tuple[tuple[float, float, float], ...], stretch: float = 1.0
) -> NDArray[np.float32]:
    """Return random texture: per band its standard deviation, and its finest and coarsest scale in px.

    ``stretch`` lengthens it downwards.
    """
    total = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    for deviation, fine, coarse in bands:
        noise = rng.standard_normal(total.shape, np.float32)
        band = cv2.GaussianBlur(noise, (0, 0), sigmaX=fine, sigmaY=fine * stretch)
        band -= cv2.GaussianBlur(noise, (0, 0), sigmaX=coarse, sigmaY=coarse * stretch)
        total += band * (deviation / band.std())
    return total


def _step(depth: NDArray[np.float32], soft: float = _SOFT) -> NDArray[np.float32]:
    """Return 1 where ``depth`` is positive and 0 where it is negative, with a soft edge."""
    return np.asarray(1 / (1 + np.exp(np.clip(-depth / soft, -30, 30))), np.float32)


def _ellipse(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    centre_x: float,
    centre_y: float,
    radius_x: float,
    radius_y: float,
    soft: float = _SOFT,
) -> NDArray[np.float32]:
    """Return 1 inside and 0 outside of an ellipse, with a soft edge."""
    radius = np.hypot((x - centre_x) / radius_x, (y - centre_y) / radius_y)
    return _step((1 - radius) * min(radius_x, radius_y), soft)
