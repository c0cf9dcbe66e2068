"""The offset between the clock of a running analysis and ours, with a bound that holds.

A probe notes our time t0, asks the server, which answers with its times t1 (request received) and t2 (reply sent), and
notes our time t3. Whatever the delays on the way, the offset (server minus ours) lies between t2 - t3 and t1 - t0: the
midpoint ((t1 - t0) + (t2 - t3)) / 2 is right within half the round trip ((t3 - t0) - (t2 - t1)) / 2, and unbiased
where both ways take equally long. Of a round of probes only the one with the shortest round trip counts. Over several
rounds a straight line gives the drift; the bound of its slope follows from the bounds of the rounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from megc_stream.errors import WireError

__all__ = ["ClockEstimate", "ClockSync", "Probe"]

# Quartz is good for 100 ppm, and NTP slews by at most 500 ppm: more than this is a step, not a drift.
_MOST_DRIFT = 1e-3
_RESOLUTION_S = 1e-6
_ROUNDS = 64


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """The four times of one probe, seconds: ``t0_s``, ``t3_s`` on our clock, ``t1_s``, ``t2_s`` on the server's."""

    t0_s: float
    t1_s: float
    t2_s: float
    t3_s: float

    @property
    def offset_s(self) -> float:
        """Return the midpoint of the offsets (server minus ours) that are possible."""
        return ((self.t1_s - self.t0_s) + (self.t2_s - self.t3_s)) / 2

    @property
    def bound_s(self) -> float:
        """Return half the round trip without the time at the server: the offset is within this of the midpoint.

        What the clocks can drift apart meanwhile is added.
        """
        took_s = self.t3_s - self.t0_s
        return max((took_s - (self.t2_s - self.t1_s) + _MOST_DRIFT * took_s) / 2, _RESOLUTION_S)

    @property
    def at_s(self) -> float:
        """Return the middle of the probe on our clock."""
        return (self.t0_s + self.t3_s) / 2


class ClockEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """The offset as a straight line, ``offset_s + drift (t - at_s)`` at our time t, and how wrong it can be.

    ``bound_s`` belongs to ``at_s`` and grows by ``drift_bound`` seconds per second before and after it.
    """

    at_s: float
    offset_s: float
    drift: float
    bound_s: float
    drift_bound: float
    rounds: int

    def to_server_s(self, ours_s: float) -> float:
        """Return the server's time at our time ``ours_s``."""
        return ours_s + self.offset_s + self.drift * (ours_s - self.at_s)

    def to_ours_s(self, server_s: float) -> float:
        """Return our time at the server's time ``server_s``."""
        return self.at_s + (server_s - self.offset_s - self.at_s) / (1 + self.drift)

    def bound_at_s(self, ours_s: float) -> float:
        """Return how far :meth:`to_server_s` can be off at our time ``ours_s``."""
        return self.bound_s + self.drift_bound * abs(ours_s - self.at_s)


class ClockSync:
    """Follows the clock of a server; call :meth:`measure` now and then, every minute for instance.

    Parameters
    ----------
    probe
        Does one exchange: :meth:`megc_stream.wire.Control.probe`.

    Attributes
    ----------
    steps
        How often a measurement contradicted the line, because a clock was set or a host restarted; what was known
        until then is forgotten.
    """

    def __init__(self, probe: Callable[[], Probe]) -> None:
        self.steps = 0
        self._probe = probe
        self._rounds: deque[Probe] = deque(maxlen=_ROUNDS)

    def measure(self, probes: int = 16) -> ClockEstimate:
        """Do a round of ``probes`` >= 1 exchanges; return the offset as of now.

        Raises
        ------
        WireError
            No answer in time, or the server's times run backwards.
        """
        best = min((self._checked() for _ in range(probes)), key=lambda probe: probe.bound_s)
        if self._rounds:
            known = self._estimate()
            predicted_s = known.to_server_s(best.at_s) - best.at_s
            if abs(best.offset_s - predicted_s) > best.bound_s + known.bound_at_s(best.at_s):
                self.steps += 1
                self._rounds.clear()
        self._rounds.append(best)
        return self._estimate()

    def _checked(self) -> Probe:
        probe = self._probe()
        most_s = (probe.t3_s - probe.t0_s) * (1 + _MOST_DRIFT) + _RESOLUTION_S
        if not 0 <= probe.t2_s - probe.t1_s <= most_s:
            raise WireError(
                f"clock of the server: it had the request for {probe.t2_s - probe.t1_s:g} s, the whole exchange took "
                f"{probe.t3_s - probe.t0_s:g} s; its times cannot be right"
            )
        return probe

    def _estimate(self) -> ClockEstimate:
        """Return the line through the round that says most about the newest moment, with the slope of all rounds."""
        now_s = self._rounds[-1].at_s
        drift, drift_bound = self._slope()
        anchor = min(self._rounds, key=lambda probe: probe.bound_s + drift_bound * (now_s - probe.at_s))
        return ClockEstimate(
            at_s=now_s,
            offset_s=anchor.offset_s + drift * (now_s - anchor.at_s),
            drift=drift,
            bound_s=anchor.bound_s + drift_bound * (now_s - anchor.at_s),
            drift_bound=drift_bound,
            rounds=len(self._rounds),
        )

    def _slope(self) -> tuple[float, float]:
        """Return the weighted least-squares slope of the offsets, and how wrong it can be if the drift is constant.

        The slope is the sum of g_i offset_i with sum g_i = 0, so its error is at most the sum of \\|g_i\\| bound_i.
        """
        weights = [1 / probe.bound_s**2 for probe in self._rounds]
        middle_s = sum(w * probe.at_s for w, probe in zip(weights, self._rounds, strict=True)) / sum(weights)
        levers = [w * (probe.at_s - middle_s) for w, probe in zip(weights, self._rounds, strict=True)]
        spread = sum(lever * (probe.at_s - middle_s) for lever, probe in zip(levers, self._rounds, strict=True))
        if spread <= 0:
            return 0.0, _MOST_DRIFT
        pairs = list(zip(levers, self._rounds, strict=True))
        error = sum(abs(lever) * probe.bound_s for lever, probe in pairs) / spread
        if error >= _MOST_DRIFT:
            return 0.0, _MOST_DRIFT
        # Clocks can be years apart: without the common part, rounding would pass for drift.
        common_s = self._rounds[0].offset_s
        return sum(lever * (probe.offset_s - common_s) for lever, probe in pairs) / spread, error
