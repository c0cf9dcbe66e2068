"""Curves of any length in fixed memory, for drawing."""

from __future__ import annotations

import msgspec

__all__ = ["Curve", "CurveRecorder"]


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A curve as (frame, least, greatest) of runs of neighbouring frames, in order."""

    points: tuple[tuple[int, float, float], ...] = ()


class CurveRecorder:
    """Keeps a curve as the minimum and maximum of runs of frames, so that no peak is lost when it is thinned out.

    Runs cover ``width`` frames, from multiples of ``width``; ``width`` doubles whenever more than ``limit`` runs would
    be kept.

    Parameters
    ----------
    limit
        Most runs kept.
    """

    def __init__(self, limit: int = 800) -> None:
        self._limit = limit
        self._width = 1
        self._runs: dict[int, tuple[float, float]] = {}

    def add(self, frame: int, value: float) -> None:
        """Add one value; frames come in any order."""
        self._merge(self._runs, frame // self._width, value, value)
        while len(self._runs) > self._limit:
            self._width *= 2
            wider: dict[int, tuple[float, float]] = {}
            for run, (low, high) in self._runs.items():
                self._merge(wider, run // 2, low, high)
            self._runs = wider

    def curve(self) -> Curve:
        """Return what is kept; the frame of a run is its first."""
        return Curve(points=tuple((run * self._width, low, high) for run, (low, high) in sorted(self._runs.items())))

    @staticmethod
    def _merge(runs: dict[int, tuple[float, float]], run: int, low: float, high: float) -> None:
        old_low, old_high = runs.get(run, (low, high))
        runs[run] = (min(low, old_low), max(high, old_high))
