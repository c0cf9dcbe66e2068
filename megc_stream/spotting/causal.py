"""Spotting while frames arrive: thresholds from the past only, peaks confirmed after a stated delay.

The score is smoothed by the same moving average as in whole-video mode, so the value at i needs the pair i + k' - 1.
It is held against the running median of the past plus a multiple of the running deviation. An event goes ::

    idle --smoothed > threshold--> rising --no higher value for k'--> falling --border reached--> resting (offset)
                                       \\--too long, face lost--> resting (retracted)
    resting --smoothed <= threshold--> idle
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Literal

import msgspec
import numpy as np

from megc_stream.records import frames_of
from megc_stream.settings import SpottingSettings

__all__ = ["Candidate", "CausalSpotter", "Smoothed", "State"]

_NO_SCORE = "no score: face lost or frames missing"
_MAD_TO_DEVIATION = 1.4826
_THRESHOLD_EVERY_S = 0.1


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A step in the life of one event; frames are indices of pairs, ``score`` is the smoothed score at the peak so
    far."""

    number: int
    kind: Literal["onset", "apex", "offset", "retracted"]
    onset: int
    apex: int | None
    offset: int | None
    score: float
    threshold: float
    reason: str = ""


class Smoothed(msgspec.Struct, frozen=True, kw_only=True):
    """The smoothed score of pair ``index`` and the threshold it was held against (None while warming up)."""

    index: int
    smoothed: float
    threshold: float | None


class _Phase(IntEnum):
    IDLE = 0
    RISING = 1
    FALLING = 2
    RESTING = 3


class State(msgspec.Struct, kw_only=True):
    """All that changes; packed as it is for a snapshot. Lists hold one value per pair, the last at ``next_index -
    1``. ``deviations`` and ``least_threshold`` stand in for those of the settings once they were adjusted."""

    next_index: int | None = None
    scores: list[float] = []
    present: list[bool] = []
    smoothed: list[float] = []
    history: list[float] = []
    median: float = 0.0
    deviation: float = 0.0
    threshold: float | None = None
    deviations: float | None = None
    least_threshold: float | None = None
    seen: int = 0
    start: int = 0
    missing: int = 0
    free_from: int = 0
    phase: int = 0
    number: int = 0
    onset: int = 0
    peak: int = 0
    peak_score: float = 0.0
    crossed: float = 0.0
    base: float = 0.0


class CausalSpotter:
    """Finds expressions in a stream of spotting scores.

    Parameters
    ----------
    settings
        Thresholds and borders.
    fps
        Frames per second of the stream.
    k_prime
        Half the expected length of a micro-expression, frames.
    """

    def __init__(self, settings: SpottingSettings, fps: float, k_prime: int) -> None:
        self._settings = settings
        self._k_prime = k_prime
        self._longest = frames_of(settings.longest_s, fps)
        self._keep = self._longest + 4 * k_prime
        self._every = frames_of(_THRESHOLD_EVERY_S, fps)
        self._warmup = frames_of(settings.warmup_s, fps)
        self._history_length = max(1, frames_of(settings.history_s, fps) // self._every)
        self.state = State()

    @property
    def lookahead(self) -> int:
        """Pairs between a peak and the earliest moment it can be confirmed: k' - 1 (smoothing) + k' (no higher
        value)."""
        return 2 * self._k_prime - 1

    def push(self, index: int, score: float | None) -> Iterator[Smoothed | Candidate]:
        """Take the score of pair ``index`` (None where there is none) and yield what it decides.

        Pairs skipped since the last call count as missing. A missing score stands at the running median, ends an event
        that is under way, and is no part of the history; after ``warmup_s`` without scores the history begins anew. Of
        a gap longer than 4k' only the edges are walked through.
        """
        state = self.state
        if state.next_index is None:
            state.start = state.free_from = state.next_index = index
        if index - state.next_index > 4 * self._k_prime:
            for _ in range(2 * self._k_prime):
                yield from self._push_one(None)
            skipped = index - 2 * self._k_prime - state.next_index
            state.next_index += skipped
            self._count_missing(skipped)
            state.free_from = state.next_index - self._k_prime
        while state.next_index < index:
            yield from self._push_one(None)
        yield from self._push_one(score)

    def adjust(self, deviations: float | None, least_threshold: float | None) -> None:
        """Change the threshold from the next pair on; None leaves a value as it is."""
        state = self.state
        if deviations is not None:
            state.deviations = deviations
        if least_threshold is not None:
            state.least_threshold = least_threshold
        if state.threshold is not None:
            state.threshold = self._threshold()

    def finish(self) -> Iterator[Smoothed | Candidate]:
        """End of the stream: smooth the rest with scores of 0 beyond the end, and close an event under way."""
        if self.state.next_index is None:
            return
        for _ in range(self._k_prime - 1):
            yield from self._push_one(None, beyond_end=True)
        yield from self._close("the stream ended")

    def _count_missing(self, pairs: int) -> None:
        state = self.state
        before, state.missing = state.missing, state.missing + pairs
        if before < self._warmup <= state.missing:
            # Whoever comes back may be somebody else, in another light.
            state.seen, state.history, state.threshold = 0, [], None

    def _push_one(self, score: float | None, beyond_end: bool = False) -> Iterator[Smoothed | Candidate]:
        state = self.state
        assert state.next_index is not None
        filler = 0.0 if beyond_end else state.median
        state.scores.append(filler if score is None else score)
        state.present.append(score is not None or beyond_end)
        state.next_index += 1
        if len(state.scores) > 2 * self._keep:
            del state.scores[: self._keep], state.present[: self._keep]
        if score is not None:
            state.seen += 1
            state.missing = 0
        elif not beyond_end:
            self._count_missing(1)
        # smoothed[i] = mean of scores[i - k' .. i + k' - 1]; before the start of the stream the scores count as 0.
        i = state.next_index - self._k_prime
        if i < state.start or (state.seen == 0 and not state.smoothed):
            return
        window = state.scores[-2 * self._k_prime :]
        smoothed = sum(window) / (2 * self._k_prime)
        state.smoothed.append(smoothed)
        if len(state.smoothed) > 2 * self._keep:
            del state.smoothed[: self._keep]
        here = state.present[-self._k_prime]
        if here and i % self._every == 0:
            self._update_threshold(smoothed)
        yield Smoothed(index=i, smoothed=smoothed, threshold=state.threshold)
        if not here:
            yield from self._close(_NO_SCORE)
            state.free_from = i + 1
        else:
            yield from self._step(i, smoothed)

    def _update_threshold(self, smoothed: float) -> None:
        state = self.state
        if state.seen >= self._warmup and len(state.history) > 1:
            past = np.asarray(state.history)
            state.median = float(np.median(past))
            state.deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(past - state.median)))
            state.threshold = self._threshold()
        state.history.append(smoothed)
        if len(state.history) > self._history_length:
            del state.history[0]

    def _threshold(self) -> float:
        state, settings = self.state, self._settings
        deviations = settings.deviations if state.deviations is None else state.deviations
        least = settings.least_threshold if state.least_threshold is None else state.least_threshold
        return max(state.median + deviations * state.deviation, least)

    def _step(self, i: int, smoothed: float) -> Iterator[Candidate]:
        state = self.state
        if state.threshold is None:
            return
        if state.phase == _Phase.RESTING and smoothed <= state.threshold:
            state.phase = _Phase.IDLE
        if state.phase in (_Phase.IDLE, _Phase.RESTING):
            if state.phase == _Phase.IDLE and smoothed > state.threshold:
                state.phase = _Phase.RISING
                state.number += 1
                state.onset = state.peak = i
                state.peak_score = smoothed
                state.crossed = state.threshold
                state.base = state.median
                yield self._candidate("onset")
            return
        if smoothed > state.peak_score:
            state.peak, state.peak_score = i, smoothed
            state.phase = _Phase.RISING
        elif state.phase == _Phase.RISING and i - state.peak >= self._k_prime:
            state.phase = _Phase.FALLING
            state.onset = self._rising_border()
            yield self._candidate("apex", apex=state.peak)
        if state.phase == _Phase.FALLING and self._at_border(i, smoothed):
            yield from self._offset(i)
        elif i - state.onset > self._longest:
            yield from self._retract(f"longer than {self._settings.longest_s} s: a change of pose, not an expression")

    def _level(self) -> float:
        return self.state.base + self._settings.border_level * (self.state.peak_score - self.state.base)

    def _rising_border(self) -> int:
        """Return the first frame before the peak from which the smoothed score stays above the border level."""
        if not self._settings.refine_borders:
            return max(self.state.peak - self._k_prime, self.state.free_from)
        assert self.state.next_index is not None
        newest = self.state.next_index - self._k_prime
        level = self._level()
        frame = self.state.peak
        # smoothed[-1] belongs to `newest`; no event reaches into the one before it, or over a stretch without scores.
        least = max(self.state.free_from, newest - len(self.state.smoothed) + 1)
        while frame > least and self.state.smoothed[frame - 2 - newest] > level:
            frame -= 1
        return frame

    def _at_border(self, i: int, smoothed: float) -> bool:
        return smoothed <= self._level() if self._settings.refine_borders else True

    def _offset(self, i: int) -> Iterator[Candidate]:
        state = self.state
        offset = self._falling_border(i) if self._settings.refine_borders else state.peak + self._k_prime
        state.phase = _Phase.RESTING
        state.free_from = offset + 1
        yield self._candidate("offset", apex=state.peak, offset=offset)

    def _falling_border(self, i: int) -> int:
        """Return the last frame after the peak up to which the smoothed score stays above the border level."""
        level = self._level()
        frame = self.state.peak
        while frame < i and self.state.smoothed[frame - i] > level:
            frame += 1
        return frame

    def _close(self, reason: str) -> Iterator[Candidate]:
        state = self.state
        assert state.next_index is not None
        if state.phase == _Phase.FALLING:
            yield from self._offset(state.next_index - self._k_prime)
        elif state.phase == _Phase.RISING:
            yield from self._retract(reason)

    def _retract(self, reason: str) -> Iterator[Candidate]:
        self.state.phase = _Phase.RESTING
        yield self._candidate("retracted", reason=reason)

    def _candidate(
        self,
        kind: Literal["onset", "apex", "offset", "retracted"],
        apex: int | None = None,
        offset: int | None = None,
        reason: str = "",
    ) -> Candidate:
        state = self.state
        return Candidate(
            number=state.number,
            kind=kind,
            onset=state.onset,
            apex=apex,
            offset=offset,
            score=state.peak_score,
            threshold=state.crossed,
            reason=reason,
        )
