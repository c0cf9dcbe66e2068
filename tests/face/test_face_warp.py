from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.face.warp import View, compose, invert, sample, scale_of, shrink_for, similarity, transform


def test_maps_compose_and_invert() -> None:
    first, second = similarity(1.3, 0.2, (4.0, -7.0)), similarity(0.6, -1.1, (0.5, 30.0))
    points = np.array([[0.0, 0.0], [10.0, 3.0], [-5.0, 40.0]])
    assert transform(compose(second, first), points) == pytest.approx(transform(second, transform(first, points)))
    assert transform(invert(first), transform(first, points)) == pytest.approx(points)
    assert scale_of(first) == pytest.approx(1.3)


@pytest.mark.parametrize(("scale", "shrink"), [(2.0, 1), (0.51, 1), (0.5, 2), (0.34, 2), (0.25, 4), (0.01, 100)])
def test_shrink_leaves_at_least_one_sample_in_two_pixels(scale: float, shrink: int) -> None:
    assert shrink_for(scale) == shrink


@pytest.mark.parametrize("shrink", [1, 2, 3])
def test_sampling_puts_a_ramp_where_the_map_says(shrink: int) -> None:
    y, x = np.mgrid[:300, :400]
    ramp = np.rint(40 + 0.3 * x + 0.2 * y).astype(np.uint8)
    to_target = similarity(0.4, 0.1, (-20.0, -15.0))
    sampled = sample(ramp, to_target, (64, 48), shrink)
    v, u = np.mgrid[:48, :64].astype(np.float64)
    where = transform(invert(to_target), np.stack([u.ravel(), v.ravel()], axis=1))
    expected = 40 + where @ np.array([0.3, 0.2])
    assert np.abs(sampled.ravel() - expected).max() < 1.6
    assert abs((sampled.ravel() - expected).mean()) < 0.1


@pytest.mark.parametrize("size", [(64, 64), (65, 71), (7, 5)])
def test_sampling_beyond_the_border_repeats_it(size: tuple[int, int]) -> None:
    image = np.full(size, 77, np.uint8)
    for scale in (0.05, 0.3, 1.0):
        assert (sample(image, similarity(scale, 0.5, (900.0, -900.0)), (32, 32)) == 77).all()


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6, 7, 11])
def test_blocks_are_averaged_exactly(factor: int) -> None:
    image = np.random.default_rng(factor).integers(0, 256, (20 * factor + 1, 30 * factor + 2), np.uint8)
    low_x, low_y = 4 * factor, 6 * factor
    means, (x, y) = View(image).averaged((low_x, 20 * factor), (low_y, 15 * factor), factor)
    blocks = image[y:, x:][: means.shape[0] * factor, : means.shape[1] * factor].astype(np.float64)
    expected = blocks.reshape(means.shape[0], factor, means.shape[1], factor).mean(axis=(1, 3))
    assert (x, y) == (low_x, low_y)
    assert means.shape == (9, 16)
    assert np.abs(means - expected).max() <= 0.5


def test_a_region_is_as_good_as_the_whole_picture() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (400, 500), np.uint8)
    asked = 0
    for _ in range(700):  # roundings that depended on the region showed in one of a few hundred
        scale = random.uniform(0.18, 1.2)
        to_target = similarity(scale, random.uniform(-0.4, 0.4), tuple(random.uniform(-200 * scale, 40, 2).tolist()))
        corners = transform(invert(to_target), np.array([[0, 0], [64, 0], [0, 64], [64, 64]]))
        around = 2 * shrink_for(scale) + random.integers(0, 40)
        low, high = (
            np.floor(corners.min(axis=0) - around).astype(int),
            np.ceil(corners.max(axis=0) + around).astype(int),
        )
        x_low, y_low = max(low[0], 0), max(low[1], 0)
        x_high, y_high = min(high[0], 500), min(high[1], 400)
        partial = random.integers(0, 256, image.shape, np.uint8)
        partial[y_low:y_high, x_low:x_high] = image[y_low:y_high, x_low:x_high]

        def whole() -> NDArray[np.uint8]:
            nonlocal asked
            asked += 1
            return image

        seen = sample(View(partial, (x_low, y_low, x_high, y_high), whole), to_target, (64, 64))
        assert np.array_equal(seen, sample(image, to_target, (64, 64)))
        elsewhere = View(np.zeros_like(image), (0, 0, 1, 1), lambda: image)
        assert np.array_equal(sample(elsewhere, to_target, (64, 64)), seen)
    assert asked < 350  # parts that lie beyond the picture altogether


def test_what_was_sampled_before_changes_nothing() -> None:
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (300, 400), np.uint8)
    for _ in range(700):
        view = View(image)
        scale = random.uniform(0.15, 0.5)
        for _ in range(3):
            shift = tuple((-scale * random.uniform(40, 160, 2)).tolist())
            to_target = similarity(scale, random.uniform(-0.2, 0.2), shift)
            assert np.array_equal(sample(view, to_target, (40, 40)), sample(image, to_target, (40, 40)))


def test_a_large_picture_is_averaged_not_skipped() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    sampled = sample(noise, similarity(1 / 8, 0.0), (60, 60))
    bilinear = cv2.warpAffine(noise, similarity(1 / 8, 0.0), (60, 60))
    assert sampled.std() < 0.35 * bilinear.std()
