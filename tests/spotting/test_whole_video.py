from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from megc_stream.errors import UsageError
from megc_stream.spotting import spot_video
from megc_stream.spotting.whole_video import find_intervals, smooth_scores


def test_published_spotting_is_reproduced(shared: Path) -> None:
    cases = json.loads((shared / "golden" / "pipeline" / "spotting.json").read_text())
    assert len(cases) == 40
    for case in cases:
        scores, k_prime = case["scores"], case["k_prime"]
        assert spot_video(scores, k_prime, case["p"]) == [tuple(interval) for interval in case["intervals"]]
        if len(scores) >= 2 * k_prime and np.ptp(scores) > 0:
            smoothed = smooth_scores(scores, k_prime)
            assert np.allclose(smoothed[:40], case["smoothed_head"], atol=1e-12)
            threshold, peaks = find_intervals(smoothed, k_prime, case["p"])
            assert threshold == pytest.approx(case["threshold"], abs=1e-12)
            assert peaks == case["peaks"]


def test_smoothing_is_the_stated_sum() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    padded = np.concatenate([np.zeros(5), scores, np.zeros(5)])
    plain = [padded[i : i + 10].mean() for i in range(50)]
    assert np.allclose(smooth_scores(scores, 5), plain)


@pytest.mark.parametrize("scores", [[], [1.0] * 9, [0.5] * 100])
def test_too_few_or_constant_scores_give_nothing(scores: list[float]) -> None:
    assert spot_video(scores, 5) == []


def test_intervals_are_not_clipped() -> None:
    scores = np.zeros(100)
    scores[[4, 5]] = 1.0
    scores[12] = 0.5
    [(onset, offset)] = spot_video(scores, 10)
    assert onset < 0
    assert offset - onset == 20


@pytest.mark.parametrize(
    ("scores", "k_prime", "p"), [([1.0], 0, 0.5), ([1.0], 5, 1.5), ([np.nan] * 20, 5, 0.5), (np.zeros((3, 3)), 1, 0.5)]
)
def test_wrong_use_is_named(scores: object, k_prime: int, p: float) -> None:
    with pytest.raises(UsageError, match="spot_video"):
        spot_video(scores, k_prime, p)  # type: ignore[arg-type]
