from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megc_stream.pipeline.statistics import DurationHistogram


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_sorted_durations(durations: list[float]) -> None:
    histogram = DurationHistogram()
    for duration in durations:
        histogram.add(duration)
    summary = histogram.summary()
    assert summary is not None
    assert summary.count == len(durations)
    assert summary.max_ms == max(durations) * 1e3
    ordered = sorted(durations)
    for percent, got_ms in ((50, summary.p50_ms), (95, summary.p95_ms), (99, summary.p99_ms)):
        exact_ms = ordered[math.ceil(len(ordered) * percent / 100) - 1] * 1e3
        assert exact_ms * (1 - 1e-9) <= got_ms <= exact_ms * 10 ** (1 / 200) * (1 + 1e-9)


def test_extreme_durations_are_counted() -> None:
    histogram = DurationHistogram()
    for duration in (0.0, -1.0, 1e9):
        histogram.add(duration)
    summary = histogram.summary()
    assert summary is not None
    assert (summary.count, summary.max_ms) == (3, 1e12)
    assert summary.p50_ms == pytest.approx(1e-4)


def test_no_durations_no_summary() -> None:
    assert DurationHistogram().summary() is None
