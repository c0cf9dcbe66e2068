"""The pace of a replay: one absolute deadline per frame, so that lateness never adds up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from megc_stream.clock import Clock

__all__ = ["LATE_S", "Pacer"]

LATE_S = 0.05
"""A frame released more than this many seconds after its deadline counts as late."""

_WAITED_S = 0.001  # shorter ones are no wait for a picture
_SLICE_S = 0.1  # longest uninterrupted wait, so that stop() is noticed


class Pacer:
    """Releases frames at ``start + pts / speed`` on a clock, or at once where ``speed`` is None.

    The first frame defines ``start``. ``late_by_reason`` counts the frames released more than :data:`LATE_S` after the
    deadline: "decoding" where the frame had to be waited for, "analysis" where it was there before it was asked for.
    """

    def __init__(self, clock: Clock, speed: float | None) -> None:
        self._clock = clock
        self._speed = speed
        self._start_s: float | None = None
        self._asked_s = math.inf
        self.late_by_reason: Counter[str] = Counter()

    @property
    def late(self) -> int:
        """Return how many frames were late."""
        return self.late_by_reason.total()

    def ask(self) -> None:
        """Note that the next frame is wanted from now on."""
        self._asked_s = self._clock.now_s()

    def pause(self, held: Callable[[], bool]) -> None:
        """Wait while ``held()`` is true, asked every 0.1 s, and put off all deadlines by as much."""
        begin_s = now_s = self._clock.now_s()
        while held():
            self._clock.wait_until_s(now_s + _SLICE_S)
            now_s = self._clock.now_s()
        self._asked_s += now_s - begin_s
        if self._start_s is not None:
            self._start_s += now_s - begin_s

    def release(self, pts_s: float, stopped: Callable[[], bool]) -> float:
        """Wait for the frame's deadline, unless ``stopped()`` becomes true, and return its ``t_capture_s``.

        Parameters
        ----------
        pts_s
            Time of the frame in its medium, seconds.
        stopped
            Asked before each wait and every 0.1 s.

        Returns
        -------
        float
            The deadline; the present time without a pace.
        """
        came_s = now_s = self._clock.now_s()
        if self._speed is None:
            return now_s
        if self._start_s is None:
            self._start_s = now_s - pts_s / self._speed
        deadline_s = self._start_s + pts_s / self._speed
        while now_s < deadline_s and not stopped():
            self._clock.wait_until_s(min(deadline_s, now_s + _SLICE_S))
            now_s = self._clock.now_s()
        if now_s > deadline_s + LATE_S:
            self.late_by_reason["decoding" if came_s > self._asked_s + _WAITED_S else "analysis"] += 1
        return deadline_s
