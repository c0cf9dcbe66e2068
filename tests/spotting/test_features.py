from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from megc_stream.errors import FlowError
from megc_stream.spotting import mean_features
from megc_stream.spotting.features import mean_regions


def test_published_features_are_reproduced(shared: Path) -> None:
    files = sorted((shared / "golden" / "pipeline").glob("features_*.npz"))
    assert len(files) == 12
    for file in files:
        golden = np.load(file)
        features = mean_features(golden["flow"], golden["landmarks68"])
        # The published code takes the flow through OpenCV's approximate angles.
        assert np.abs(features - golden["features"]).max() <= 5e-3, file.name


def _landmarks() -> np.ndarray:
    points = np.full((68, 2), 64.0, np.float32)
    points[[17, 26]] = (20.9, 30), (108.2, 30)
    points[[19, 24]] = (40, 18.7), (88, 20)
    points[[41, 46]] = (42, 44.9), (86, 43)
    points[[60, 64]] = (50.5, 90), (78, 90)
    points[[50, 57]] = (60, 82.9), (64, 100)
    return points


def test_regions_follow_the_truncated_landmarks() -> None:
    assert mean_regions(_landmarks()) == ((8, 6, 120, 56), (38, 70, 90, 112))


def test_shape_range_and_order_of_the_halves() -> None:
    flow = np.zeros((128, 128, 2), np.float32)
    flow[100:, :, 0] = 1.0  # motion below the mouth's upper border only
    features = mean_features(flow, _landmarks())
    assert features.shape == (42, 42, 3)
    assert features.dtype == np.float32
    assert features[:21, :, 0].max() == 0
    assert features[21:, :, 0].max() == 1


def test_features_are_written_to_out_without_allocating() -> None:
    flow = np.random.default_rng(0).normal(size=(128, 128, 2)).astype(np.float32)
    landmarks = _landmarks()
    out = np.empty((42, 42, 3), np.float32)
    assert mean_features(flow, landmarks, out) is out
    assert np.array_equal(out, mean_features(flow, landmarks))
    tracemalloc.start()
    mean_features(flow, landmarks, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1024


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((68, 2), np.nan)])
def test_wrong_landmarks_are_named(points: np.ndarray) -> None:
    with pytest.raises(FlowError, match=r"expected finite values, shape \(68, 2\)"):
        mean_features(np.zeros((128, 128, 2), np.float32), points)
