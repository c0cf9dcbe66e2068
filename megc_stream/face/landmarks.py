"""Which of the 478 mesh points mean what: the 68-point scheme, eyes, rigid parts; eye opening and head pose from them.

Left and right in names are the image's. Mesh numbers are those of MediaPipe's face mesh; 68-point numbers are 0-based,
in the usual order (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-59 outer and 60-67 inner lips).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EYE_CENTRES_CROP_PX",
    "MESH_TO_68",
    "RIGID",
    "eye_centres",
    "eye_opening",
    "outer_eye_distance",
    "yaw_pitch_deg",
]

# fmt: off
MESH_TO_68 = np.array([
    # jaw, from the left temple over the chin (8) to the right temple
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    # left brow 17-21, right brow 22-26
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    # bridge of the nose 27-30, nostrils 31-35
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    # left eye 36-41, right eye 42-47, each from its left corner over the upper lid
    33, 160, 158, 133, 153, 163, 362, 385, 387, 263, 390, 380,
    # outer lips 48-59, inner lips 60-67
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
])
"""(68,) mesh number of each point of the 68-point scheme."""

RIGID = np.array([
    # bridge and back of the nose
    168, 6, 197, 195, 5, 4, 1, 122, 351, 196, 419, 3, 248, 236, 456, 198, 420, 174, 399, 188, 412, 45, 275, 44, 274,
    # tip and wings of the nose
    2, 19, 94, 97, 326, 218, 438, 220, 440, 131, 360, 115, 344, 48, 278,
    # inner corners of the eyes and beside them
    133, 362, 243, 463, 244, 464, 245, 465, 112, 341,
    # outer corners and beside them
    33, 263, 130, 359, 226, 446, 35, 265, 143, 372, 31, 261,
    # temples and cheekbones, away from the outline, where the background would be followed
    139, 368, 34, 264, 116, 345, 111, 340, 117, 346, 123, 352, 227, 447, 137, 366, 50, 280, 118, 347,
])
"""Mesh numbers of points that facial expressions move little: they carry the alignment."""
# fmt: on

EYE_CENTRES_CROP_PX = np.array([[39.0, 36.0], [89.0, 36.0]])
"""(2, 2) where the crop has the left and the right eye centre, x and y in crop px."""

_EYE_CORNERS = np.array([[33, 133], [362, 263]])
_EYE_CONTOURS = np.array([[33, 160, 158, 133, 153, 144], [362, 385, 387, 263, 373, 380]])
_FOREHEAD, _CHIN = 10, 152


def eye_centres(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (2, 2) the left and right eye centre, the means of inner and outer corner, from (478, >=2) points."""
    centres: NDArray[np.float64] = points[_EYE_CORNERS, :2].mean(axis=1, dtype=np.float64)
    return centres


def outer_eye_distance(points: NDArray[np.floating]) -> float:
    """Return the distance between the outer corners of the eyes, in the unit of the (478, >=2) points."""
    return math.dist(points[33, :2].tolist(), points[263, :2].tolist())


def eye_opening(points: NDArray[np.floating]) -> float:
    """Return the eye aspect ratio, mean of both eyes, from (478, >=2) points: about 0.3 open, below 0.2 closed.

    Of six points p1..p6 around one eye, (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|): Soukupova and Cech 2016, equation 1.
    """
    p1, p2, p3, p4, p5, p6 = points[_EYE_CONTOURS, :2].astype(np.float64).transpose(1, 0, 2)
    height = np.linalg.norm(p2 - p6, axis=1) + np.linalg.norm(p3 - p5, axis=1)
    width = np.maximum(np.linalg.norm(p1 - p4, axis=1), 1e-6)
    return float(np.mean(height / (2 * width)))


def yaw_pitch_deg(points: NDArray[np.floating]) -> tuple[float, float]:
    """Return how far the head is turned, from (478, 3) points with z in the unit of x and y, in degrees.

    Yaw is the slope in depth of the line between the outer eye corners, above 0 when the face looks to the image's
    right; pitch is that of the line from the forehead to the chin, above 0 when it looks down. Both are good to a few
    degrees: the depth is the model's guess from one picture.
    """
    across = (points[263] - points[33]).astype(np.float64)
    down = (points[_CHIN] - points[_FOREHEAD]).astype(np.float64)
    yaw, pitch = (math.degrees(math.atan2(v[2], math.hypot(v[0], v[1]))) for v in (across, down))
    return yaw, pitch
