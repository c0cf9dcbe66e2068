"""Percentiles of durations in fixed memory."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["DurationHistogram", "DurationSummary"]

_LEAST_S = 1e-7
_PER_DECADE = 200
_DECADES = 11


class DurationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Count and percentiles of durations, in milliseconds."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class DurationHistogram:
    """Counts durations in bins whose borders grow by 10^(1/200), from 0.1 us to 10^4 s.

    A percentile is the upper border of the bin that holds it, so it is never understated and at most 1.2 % too large;
    the maximum is exact. 18 kB, whatever the number of durations.
    """

    def __init__(self) -> None:
        self._bins: NDArray[np.int64] = np.zeros(_PER_DECADE * _DECADES + 1, dtype=np.int64)
        self._max_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one duration; one below 0.1 us, negative ones too, falls into the first bin."""
        position = 0 if duration_s <= _LEAST_S else math.ceil(math.log10(duration_s / _LEAST_S) * _PER_DECADE)
        self._bins[min(position, self._bins.size - 1)] += 1
        self._max_s = max(self._max_s, duration_s)

    def summary(self) -> DurationSummary | None:
        """Return the percentiles (nearest rank: the least duration with at least that share up to it), or None."""
        count = int(self._bins.sum())
        if count == 0:
            return None
        cumulated = np.cumsum(self._bins)

        def percentile_ms(percent: int) -> float:
            position = int(np.searchsorted(cumulated, math.ceil(count * percent / 100)))
            return min(_LEAST_S * 10 ** (position / _PER_DECADE), self._max_s) * 1e3

        return DurationSummary(
            count=count,
            p50_ms=percentile_ms(50),
            p95_ms=percentile_ms(95),
            p99_ms=percentile_ms(99),
            max_ms=self._max_s * 1e3,
        )
