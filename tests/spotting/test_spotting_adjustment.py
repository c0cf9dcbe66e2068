"""A threshold that is changed while the stream runs."""

from __future__ import annotations

import numpy as np

from megc_stream.packing import Unpacker, pack
from megc_stream.settings import SpottingSettings
from megc_stream.spotting.causal import CausalSpotter, Smoothed, State


def thresholds(target: CausalSpotter, scores: np.ndarray, first: int = 0) -> list[float | None]:
    decisions = [one for index, score in enumerate(scores, first) for one in target.push(index, float(score))]
    return [one.threshold for one in decisions if isinstance(one, Smoothed)]


def test_it_is_in_force_from_the_next_pair_on_and_part_of_the_snapshot() -> None:
    scores = np.random.default_rng(0).normal(0, 0.05, 800)
    target = CausalSpotter(SpottingSettings(deviations=5, least_threshold=0.0), 100, 19)
    before = thresholds(target, scores)[-1]
    assert before is not None
    state = target.state
    target.adjust(10, None)
    twice = thresholds(target, scores[:1], 800)[0]
    assert twice is not None
    assert np.isclose(twice - state.median, 2 * (before - state.median))
    other = CausalSpotter(SpottingSettings(deviations=5, least_threshold=0.0), 100, 19)
    other.state = Unpacker[State](State)(pack(target.state))
    assert thresholds(other, scores, 801) == thresholds(target, scores, 801)
    target.adjust(None, 3.0)
    assert thresholds(target, scores[:1], 1601) == [3.0]


def test_nothing_is_reported_earlier_for_it() -> None:
    target = CausalSpotter(SpottingSettings(), 100, 19)
    target.adjust(1, 0.01)
    assert thresholds(target, np.zeros(50)) == [None] * len(
        thresholds(CausalSpotter(SpottingSettings(), 100, 19), np.zeros(50))
    )
