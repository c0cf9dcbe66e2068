from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.face import locate_landmarks
from megc_stream.face.following import PATCH_PX, fit_similarity, follow, make_reference, prepare
from megc_stream.face.landmarks import RIGID
from megc_stream.face.warp import View, compose, sample, similarity, transform


def test_similarity_is_exact_in_spite_of_outliers() -> None:
    rng = np.random.default_rng(1)
    source = rng.uniform(0, 128, (60, 2))
    truth = similarity(1.04, -0.08, (3.0, -5.0))
    target = transform(truth, source)
    target[:18] += rng.normal(0, 1.5, (18, 2)) + np.array([1.0, 3.0])
    matrix, sigma, inliers = fit_similarity(source, target)
    assert matrix == pytest.approx(truth, abs=1e-3)
    assert sigma < 0.01
    assert inliers == pytest.approx(42 / 60, abs=0.05)


def test_points_without_trust_count_for_little() -> None:
    source = np.random.default_rng(2).uniform(0, 128, (40, 2))
    target = source.copy()
    target[20:, 0] += 0.1  # too little to be an outlier
    trust = np.where(np.arange(40) < 20, 1.0, 1e-6)
    assert fit_similarity(source, target, trust)[0] == pytest.approx(np.eye(2, 3), abs=1e-3)


@pytest.mark.parametrize(
    "motion",
    [similarity(1.0, 0.0, (1.3, -0.4)), similarity(1.02, 0.02, (-6.0, 2.0)), similarity(0.99, -0.02, (3.0, 7.0))],
)
def test_a_known_motion_is_measured(portrait: NDArray[np.uint8], motion: NDArray[np.float64]) -> None:
    points = locate_landmarks(portrait)
    assert points is not None
    to_patch = similarity(0.9, 0.0, (-140.0, -55.0))
    patch = prepare(sample(portrait, to_patch, (PATCH_PX, PATCH_PX), 1)).astype(np.float32)
    rigid = transform(to_patch, points[RIGID]).astype(np.float32)
    moved = sample(portrait, motion, (512, 512), 1)
    following = follow(View(moved), to_patch, make_reference(patch, rigid), 1)
    assert following is not None
    grid = transform(to_patch, points[::20])
    seen = transform(compose(following.to_patch, motion), points[::20])
    assert np.abs(seen - grid).max() < 0.1


def test_a_motion_below_what_one_pass_settles_is_measured(portrait: NDArray[np.uint8]) -> None:
    points = locate_landmarks(portrait)
    assert points is not None
    to_patch = similarity(0.9, 0.0, (-140.0, -55.0))
    patch = prepare(sample(portrait, to_patch, (PATCH_PX, PATCH_PX), 1)).astype(np.float32)
    reference = make_reference(patch, transform(to_patch, points[RIGID]).astype(np.float32))
    for shift in (0.01, 0.03, 0.06):
        following = follow(View(portrait), compose(similarity(1, 0, (shift, -shift)), to_patch), reference, 1)
        assert following is not None
        error = transform(following.to_patch, points[::20]) - transform(to_patch, points[::20])
        assert np.abs(error).max() < 0.01


def test_nothing_to_follow_in_a_flat_frame(portrait: NDArray[np.uint8]) -> None:
    to_patch = similarity(0.9, 0.0, (-140.0, -55.0))
    patch = prepare(sample(portrait, to_patch, (PATCH_PX, PATCH_PX), 1)).astype(np.float32)
    points = np.random.default_rng(0).uniform(20, 100, (60, 2)).astype(np.float32)
    assert follow(View(np.zeros_like(portrait)), to_patch, make_reference(patch, points), 1) is None


def test_points_outside_the_frame_are_left_out(portrait: NDArray[np.uint8]) -> None:
    far = similarity(0.9, 0.0, (4000.0, 0.0))
    reference = make_reference(prepare(portrait[:128, :128]).astype(np.float32), np.full((60, 2), 64, np.float32))
    assert follow(View(portrait), far, reference, 1) is None
    assert len(make_reference(np.zeros((128, 128), np.float32), np.full((60, 2), 200, np.float32)).points) == 0
