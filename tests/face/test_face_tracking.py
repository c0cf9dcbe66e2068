from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.face.following import prepare
from megc_stream.face.tracking import LEVELS, bordered, make_templates, track

GRID = np.stack(np.meshgrid(np.arange(10.3, 120, 12), np.arange(9.7, 120, 12)), axis=-1).reshape(-1, 2)


@pytest.fixture(scope="module")
def patch(portrait: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return prepare(portrait[60:188, 170:298])


def shifted(portrait: NDArray[np.uint8], x: float, y: float) -> NDArray[np.uint8]:
    """What :func:`patch` shows, its content moved by (x, y) px."""
    window = np.array([[1, 0, 170 - x], [0, 1, 60 - y]], np.float64)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return prepare(cv2.warpAffine(portrait, window, (128, 128), flags=flags))


@pytest.mark.parametrize("motion", [(0.0, 0.0), (0.05, -0.02), (0.7, -0.4), (-1.4, 1.1)])
def test_points_are_found_where_opencv_finds_them(
    portrait: NDArray[np.uint8], patch: NDArray[np.uint8], motion: tuple[float, float]
) -> None:
    points = GRID.astype(np.float32)
    moved_patch = shifted(portrait, *motion)
    moved = points.copy()
    found = track(bordered(moved_patch), make_templates(patch, points)[0], moved, 20, 0.001)
    theirs, status, _ = cv2.calcOpticalFlowPyrLK(
        patch,
        moved_patch,
        points,
        points.copy(),
        winSize=(15, 15),
        maxLevel=0,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.001),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        minEigThreshold=1e-3,
    )
    both = found & (status.ravel() == 1) & (np.abs(theirs - points - motion).max(axis=1) < 0.5)
    assert both.sum() > 60
    assert np.percentile(np.abs(moved - theirs)[both], 95) < 0.01
    assert np.median(moved[both] - points[both], axis=0) == pytest.approx(motion, abs=0.06)


def test_a_pyramid_reaches_farther(portrait: NDArray[np.uint8], patch: NDArray[np.uint8]) -> None:
    points = GRID[(GRID > 30).all(axis=1) & (GRID < 98).all(axis=1)].astype(np.float32)
    motion = (13.0, -10.0)
    level, pyramid = shifted(portrait, *motion), []
    for _ in range(LEVELS):
        pyramid.append(level)
        level = cv2.pyrDown(level)
    moved = points / np.float32(2**LEVELS)
    for templates, level in zip(reversed(make_templates(patch, points)), reversed(pyramid), strict=True):
        moved *= 2
        found = track(bordered(level), templates, moved, 10, 0.01)
    near = points.copy()
    found_near = track(bordered(pyramid[0]), make_templates(patch, points)[0], near, 10, 0.01)
    right = found & (np.abs(moved - points - motion).max(axis=1) < 0.2)
    right_near = found_near & (np.abs(near - points - motion).max(axis=1) < 0.2)
    assert right.mean() > 0.7
    assert right_near.mean() < 0.4


def test_windows_without_texture_and_points_that_leave_are_not_found(patch: NDArray[np.uint8]) -> None:
    half = patch.copy()
    half[:, :64] = 128
    points = np.array([[20.0, 64.0], [100.0, 64.0], [100.0, 60.0]], np.float32)
    templates = make_templates(half, points)[0]
    moved = points.copy()
    moved[2] = [400.0, 60.0]
    assert track(bordered(half), templates, moved, 5, 0.01).tolist() == [False, True, False]
    assert moved[1] == pytest.approx(points[1], abs=1e-3)
