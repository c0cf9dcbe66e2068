"""What time it is: the one place where megc_stream reads a clock or waits.

Times are float64 seconds on the host's monotonic clock. Stages and sources get a :class:`Clock` handed in, so that
tests run on :class:`ManualClock` without waiting.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "MonotonicClock"]


class Clock(Protocol):
    """A monotonic clock that can also wait."""

    def now_s(self) -> float:
        """Return the current time in seconds since an arbitrary, fixed instant."""
        ...

    def wait_until_s(self, deadline_s: float) -> None:
        """Return once ``now_s() >= deadline_s``; at once if it has passed."""
        ...


class MonotonicClock:
    """The host's monotonic clock (on Linux ``CLOCK_MONOTONIC``, shared by all processes of the host)."""

    def now_s(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()

    def wait_until_s(self, deadline_s: float) -> None:
        """Sleep for most of the remainder, again and again, until the absolute deadline: lateness never adds up."""
        while (remaining_s := deadline_s - time.monotonic()) > 0:
            time.sleep(remaining_s * 0.8 if remaining_s > 0.001 else remaining_s)


class ManualClock:
    """A clock that moves only when told to, or when somebody waits on it."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        """Return the time set last."""
        return self._now_s

    def wait_until_s(self, deadline_s: float) -> None:
        """Jump to the deadline unless it has passed."""
        self._now_s = max(self._now_s, deadline_s)

    def advance_s(self, duration_s: float) -> None:
        """Let ``duration_s`` >= 0 seconds pass."""
        self._now_s += duration_s
