from __future__ import annotations

import numpy as np
import pytest

from megc_stream.face.landmarks import MESH_TO_68, RIGID, eye_centres, eye_opening, yaw_pitch_deg


def test_the_68_points_of_the_published_preprocessing() -> None:
    published = {17: 70, 19: 105, 21: 107, 22: 336, 24: 334, 26: 300, 41: 163, 46: 390, 50: 37, 57: 17, 60: 78, 64: 308}
    assert {point: int(MESH_TO_68[point]) for point in published} == published
    assert len(set(MESH_TO_68.tolist())) == len(MESH_TO_68) == 68


def test_rigid_points_are_distinct_and_come_in_mirrored_sides() -> None:
    assert len(set(RIGID.tolist())) == len(RIGID)
    assert RIGID.min() >= 0 and RIGID.max() < 468


def test_eye_opening_and_centres() -> None:
    points = np.zeros((478, 3), np.float32)
    for offset, contour in ((0, (33, 160, 158, 133, 153, 144)), (100, (362, 385, 387, 263, 373, 380))):
        points[contour, :2] = [[0, 0], [10, -4], [20, -4], [30, 0], [20, 4], [10, 4]]
        points[contour, :2] += [offset, 50]
    assert eye_opening(points) == pytest.approx(8 / 30)
    assert eye_centres(points).tolist() == [[15, 50], [115, 50]]


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (30, 0), (-20, 0), (0, 15), (0, -25)])
def test_yaw_and_pitch_of_a_turned_cross(yaw: float, pitch: float) -> None:
    points = np.zeros((478, 3))
    points[[33, 263]] = [[-40, 0, 0], [40, 0, 0]]
    points[[10, 152]] = [[0, -70, 0], [0, 70, 0]]
    a, b = np.radians(yaw), np.radians(pitch)
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    assert yaw_pitch_deg((points @ (about_x @ about_y).T).astype(np.float32)) == pytest.approx((yaw, pitch), abs=1e-4)
