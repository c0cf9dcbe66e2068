"""The camera's clock against the host's: time stamps made continuous, offset and drift fitted on the way.

A frame exposed at device time t arrives at host time ``offset + (1 + drift) t + delay``. Delays are never negative and
have a heavy tail (scheduling, transfers, other processes), so least squares would follow them. The line sought is the
highest one below all points in the sense of Moon, Skelly and Towsley, "Estimation and removal of clock skew from
network delay measurements" (INFOCOM 1999), section IV: of all lines that no point lies below, the one with the least
sum of vertical distances. That is the edge of the lower convex hull that spans the mean of the times.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

__all__ = ["ClockFit", "DeviceClock"]

_BLOCK_S = 1.0  # of each second the earliest arrival is kept
_BLOCKS = 600  # the fit looks back this many of them: drift changes with temperature
_LEAST_BLOCKS = 5  # fewer say too little about the drift, which is 0 until then
_RECENT = 2048  # frames over which the residual is taken
_JUMP_S = 5.0  # a device clock that runs ahead of the host's by more between two frames was set, or started again


@dataclass(frozen=True, slots=True)
class ClockFit:
    """Host time as a line over device time: ``host_s(t) = t + offset_s + 1e-6 drift_ppm (t - reference_s)``.

    ``offset_s`` (seconds, host minus device) holds at the device time ``reference_s`` and contains the shortest delay
    seen, which one-way stamps cannot tell from an offset. ``drift_ppm`` is positive where the device clock is slow; 0
    before 5 s of frames. ``residual_s`` and ``residual_p99_s`` are the median and 99th percentile of the arrivals'
    distance from the line over the last 2048 frames. ``frames`` and ``span_s`` say what the fit rests on, ``resets``
    how often the device clock began anew (the fit then does too).
    """

    offset_s: float
    drift_ppm: float
    reference_s: float
    residual_s: float
    residual_p99_s: float
    frames: int
    span_s: float
    resets: int

    def __str__(self) -> str:
        return (
            f"The camera's clock: host minus camera {self.offset_s:.6f} s, drift {self.drift_ppm:+.2f} ppm; arrivals "
            f"{self.residual_s * 1e3:.2f} ms after the fit in the median, {self.residual_p99_s * 1e3:.2f} ms at most "
            f"for 99 %; from {self.frames} frames of {self.span_s:.0f} s, {self.resets} resets."
        )

    def host_s(self, t_device_s: float) -> float:
        """Return the host time at which a frame stamped ``t_device_s`` arrives when nothing delays it."""
        return t_device_s + self.offset_s + 1e-6 * self.drift_ppm * (t_device_s - self.reference_s)


@dataclass(frozen=True, slots=True)
class _Point:
    """Device time since the first frame, and how much more host time has passed since then, both in seconds."""

    x: float
    y: float


class DeviceClock:
    """Turns a camera's ticks into ``t_device_s`` and fits that clock to the host's.

    Parameters
    ----------
    tick_s
        Seconds per tick, above 0.
    bits
        Width of the tick counter, 8..64; it wraps at 2**bits.
    """

    def __init__(self, tick_s: float, bits: int = 64) -> None:
        self._tick_s = tick_s
        self._period = 1 << bits
        self._ticks = 0  # made continuous
        self._last_arrival_s: float | None = None
        self._resets = 0
        self._begin(0.0, 0.0)

    def observe(self, tick: int, arrival_s: float) -> float:
        """Take one frame into the fit and return its ``t_device_s``: seconds on the camera's own clock.

        Where the tick counter wrapped, time goes on. How often it did follows from the host's clock, and is ambiguous
        only for a counter that wraps faster than frames can be held up. A clock that goes back, or ahead by more than
        5 s, starts a new fit.

        Parameters
        ----------
        tick
            Time stamp of the frame, 0 <= tick < 2**bits.
        arrival_s
            Host time of its arrival, seconds.
        """
        if self._last_arrival_s is None:
            self._ticks = tick
        else:
            elapsed_s = arrival_s - self._last_arrival_s
            step = (tick - self._ticks) % self._period
            # Delays only add to the time between two arrivals, or take away what held the earlier one up.
            step += max(0, math.floor((elapsed_s / self._tick_s - step) / self._period + 0.25)) * self._period
            if step * self._tick_s - elapsed_s > _JUMP_S:
                self._resets += 1
                self._ticks = tick
                self._last_arrival_s = None
            else:
                self._ticks += step
        t_device_s = self._ticks * self._tick_s
        if self._last_arrival_s is None:
            self._begin(t_device_s, arrival_s)
        self._last_arrival_s = arrival_s
        self._add(_Point(t_device_s - self._device_0_s, (arrival_s - self._host_0_s) - (t_device_s - self._device_0_s)))
        return t_device_s

    def restart(self) -> None:
        """Begin anew with the next frame: the camera was away."""
        if self._last_arrival_s is not None:
            self._resets += 1
            self._last_arrival_s = None

    @property
    def fit(self) -> ClockFit | None:
        """Return the fit so far, None before the first frame."""
        if self._frames == 0:
            return None
        slope, level = self._line()
        recent = np.array(self._recent)
        distances = recent[:, 1] - (level + slope * recent[:, 0])
        return ClockFit(
            offset_s=self._host_0_s - self._device_0_s + level,
            drift_ppm=1e6 * slope,
            reference_s=self._device_0_s,
            residual_s=float(np.median(distances)),
            residual_p99_s=float(np.percentile(distances, 99)),
            frames=self._frames,
            span_s=self._recent[-1][0],
            resets=self._resets,
        )

    def _begin(self, device_s: float, host_s: float) -> None:
        self._device_0_s = device_s
        self._host_0_s = host_s
        self._frames = 0
        self._slope = 0.0
        self._earliest: deque[_Point] = deque(maxlen=_BLOCKS)
        self._block: _Point | None = None  # earliest of the second that is not over yet
        self._block_end_s = _BLOCK_S
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)

    def _add(self, point: _Point) -> None:
        self._frames += 1
        self._recent.append((point.x, point.y))
        if point.x >= self._block_end_s:
            if self._block is not None:
                self._earliest.append(self._block)
            self._block = None
            self._block_end_s = (math.floor(point.x / _BLOCK_S) + 1) * _BLOCK_S
            self._slope, _ = self._line()
        # Along the slope known so far: otherwise a fast or slow clock would choose by the order within the second.
        if self._block is None or point.y - self._slope * point.x < self._block.y - self._slope * self._block.x:
            self._block = point

    def _line(self) -> tuple[float, float]:
        """Return slope and level at x = 0 of the highest line below the earliest arrivals."""
        points = [*self._earliest] if self._block is None else [*self._earliest, self._block]
        if not points:
            return 0.0, 0.0
        if len(points) < _LEAST_BLOCKS:
            return 0.0, min(point.y for point in points)
        hull: list[_Point] = []
        for point in points:
            while len(hull) >= 2 and _turns_right(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        mean_x = sum(point.x for point in points) / len(points)
        end = next(n for n in range(1, len(hull)) if hull[n].x >= mean_x)
        left, right = hull[end - 1], hull[end]
        slope = (right.y - left.y) / (right.x - left.x)
        return slope, left.y - slope * left.x


def _turns_right(a: _Point, b: _Point, c: _Point) -> bool:
    """Return whether b lies on or above the line from a to c."""
    return (b.x - a.x) * (c.y - a.y) <= (b.y - a.y) * (c.x - a.x)
