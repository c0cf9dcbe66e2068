"""How the pipeline is doing: percentiles of durations in fixed memory, rates, losses and queues by source."""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from megc_stream.clock import Clock
from megc_stream.records import Crop, Event, Record, Score, StreamEnd, StreamInfo
from megc_stream.wire.protocol import DurationSummary, RecorderStatus, SourceStatus, Status

__all__ = ["DurationHistogram", "DurationSummary", "SourceStatistics", "Statistics"]

_LEAST_S = 1e-7
_PER_DECADE = 200
_DECADES = 11
_STATUS_EVERY_S = 1.0
_WINDOW = 5
_LATENCY_LEFT_OUT_S = 2.0


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
        cumulated = np.cumsum(self._bins)
        count = int(cumulated[-1])
        if count == 0:
            return None

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

    @staticmethod
    def together(histograms: Iterable[DurationHistogram]) -> DurationHistogram:
        """Return one histogram with the durations of several."""
        total = DurationHistogram()
        for histogram in histograms:
            total._bins += histogram._bins
            total._max_s = max(total._max_s, histogram._max_s)
        return total


class SourceStatistics:
    """The figures of one source, from what its sinks see.

    Parameters
    ----------
    stages
        Names of its stages in order, the reader first.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.paused = False
        """Set it while the source is held."""
        self.dropped: Counter[str] = Counter()
        """Frames lost, by reason; add to it what crops cannot tell."""
        self._positions = dict.fromkeys(stages, -1)
        self._info: StreamInfo | None = None
        self._ended = False
        self._frame = -1
        self._counts = Counter(frames=0, faces=0, scores=0, events=0)
        self._first_score_s: float | None = None
        self._recent: dict[str, deque[DurationHistogram]] = {}
        self._history: deque[tuple[float, int, int]] = deque(maxlen=_WINDOW)

    def write(self, record: Record) -> None:
        """Count one record."""
        match record:
            case Crop():
                self._frame = record.frame
                self._counts["frames"] += 1
                self._counts["faces"] += record.image is not None
                if record.dropped:
                    self.dropped.update(record.dropped)
            case Score():
                self._take_score(record)
            case Event():
                self._counts["events"] += record.rev == 0
            case StreamInfo():
                self._info = record
            case StreamEnd():
                self._ended = True
                self.dropped.update(record.dropped)

    def advance(self, stage: str, frame: int) -> None:
        """Note how far a stage is."""
        if stage in self._positions:
            self._positions[stage] = max(self._positions[stage], frame)

    def observe(self, stage: str, duration_s: float) -> None:
        """Count a duration, s."""
        if stage not in self._recent:
            self._recent[stage] = deque([DurationHistogram()], maxlen=_WINDOW)
        self._recent[stage][-1].add(duration_s)

    def begin_slot(self, now_s: float) -> None:
        """Forget what is older than the last seconds; called once for every status."""
        self._history.append((now_s, self._counts["frames"], self._counts["scores"]))
        for slots in self._recent.values():
            slots.append(DurationHistogram())

    def recent(self) -> dict[str, DurationHistogram]:
        """Return the durations of the last seconds, by stage."""
        return {stage: DurationHistogram.together(slots) for stage, slots in self._recent.items()}

    def status(self, now_s: float, recent: Mapping[str, DurationHistogram]) -> SourceStatus:
        """Return the figures as they are now; ``recent`` is from :meth:`recent`."""
        fps_in, fps_out = self._rates(now_s)
        return SourceStatus(
            state=self._state(),
            frame=self._frame,
            frames=self._counts["frames"],
            faces=self._counts["faces"],
            scores=self._counts["scores"],
            events=self._counts["events"],
            fps_nominal=None if self._info is None else self._info.fps,
            fps_in=fps_in,
            fps_out=fps_out,
            dropped=dict(self.dropped),
            queues=self._queues(),
            latency=_latency(recent),
        )

    def _take_score(self, score: Score) -> None:
        if score.spot is None:
            return
        self._counts["scores"] += 1
        if self._first_score_s is None:
            self._first_score_s = score.t_score_s
        if score.t_score_s - self._first_score_s >= _LATENCY_LEFT_OUT_S:
            self.observe("capture to score", score.t_score_s - score.t_capture_s)

    def _state(self) -> Literal["waiting", "running", "paused", "ended"]:
        if self._ended:
            return "ended"
        if self.paused:
            return "paused"
        return "running" if self._counts["frames"] else "waiting"

    def _rates(self, now_s: float) -> tuple[float, float]:
        if not self._history or now_s <= self._history[0][0]:
            return 0.0, 0.0
        then_s, frames, scores = self._history[0]
        span_s = now_s - then_s
        return (self._counts["frames"] - frames) / span_s, (self._counts["scores"] - scores) / span_s

    def _queues(self) -> dict[str, int]:
        positions = list(self._positions.items())
        return {stage: max(0, before - frame) for (_, before), (stage, frame) in itertools.pairwise(positions)}


class Statistics:
    """The figures of all sources, and what else a status says; belongs to the thread of the sinks.

    Parameters
    ----------
    clock
        Times the status messages.
    insecure
        ``--insecure-bind`` is in force.
    """

    def __init__(self, clock: Clock, *, insecure: bool = False) -> None:
        self.sources: dict[str, SourceStatistics] = {}
        """By name."""
        self.malformed: dict[str, Callable[[], int]] = {}
        """By socket: tells how many messages could not be understood there; asked once a second."""
        self.recorder: Callable[[], RecorderStatus] | None = None
        """Tells how recorders stand, where recordings are offered."""
        self._clock = clock
        self._insecure = insecure
        self._started_s = clock.now_s()
        self._next_s = self._started_s + _STATUS_EVERY_S

    def due(self) -> Status | None:
        """Return the status if a second has passed since the last one."""
        now_s = self._clock.now_s()
        if now_s < self._next_s:
            return None
        # Regular where it can be; after a pause there is one status, not one for each second of the pause.
        self._next_s = max(self._next_s + _STATUS_EVERY_S, now_s + _STATUS_EVERY_S / 2)
        status = self.status()
        for source in self.sources.values():
            source.begin_slot(now_s)
        return status

    def status(self) -> Status:
        """Return the figures as they are now."""
        now_s = self._clock.now_s()
        recent = {name: source.recent() for name, source in self.sources.items()}
        sources = {name: source.status(now_s, recent[name]) for name, source in self.sources.items()}
        return Status(
            uptime_s=now_s - self._started_s,
            insecure=self._insecure,
            whole=_whole(list(sources.values()), list(recent.values())),
            sources=sources,
            malformed={socket: count() for socket, count in self.malformed.items()},
            recorder=None if self.recorder is None else self.recorder(),
        )


def _whole(sources: Sequence[SourceStatus], recent: Sequence[Mapping[str, DurationHistogram]]) -> SourceStatus:
    """Return the figures of all sources together."""
    states = {source.state for source in sources}
    state: Literal["waiting", "running", "paused", "ended"] = "waiting"
    for candidate in ("running", "paused", "waiting", "ended"):
        if candidate in states:
            state = candidate
            break
    by_stage: dict[str, list[DurationHistogram]] = {}
    for histograms in recent:
        for stage, histogram in histograms.items():
            by_stage.setdefault(stage, []).append(histogram)
    dropped: Counter[str] = Counter()
    queues: Counter[str] = Counter()
    for source in sources:
        dropped.update(source.dropped)
        queues.update(source.queues)
    return SourceStatus(
        state=state,
        frame=-1,
        frames=sum(source.frames for source in sources),
        faces=sum(source.faces for source in sources),
        scores=sum(source.scores for source in sources),
        events=sum(source.events for source in sources),
        fps_nominal=None,
        fps_in=sum(source.fps_in for source in sources),
        fps_out=sum(source.fps_out for source in sources),
        dropped=dict(dropped),
        queues=dict(queues),
        latency=_latency({stage: DurationHistogram.together(of) for stage, of in by_stage.items()}),
    )


def _latency(recent: Mapping[str, DurationHistogram]) -> dict[str, DurationSummary]:
    summaries = ((stage, histogram.summary()) for stage, histogram in recent.items())
    return {stage: summary for stage, summary in summaries if summary is not None}
