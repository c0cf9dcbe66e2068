"""What a run costs while it runs: latency from capture to score, time and CPU of every stage, losses, memory.

:class:`LatencyProbe` is a sink beside those of an ordinary run, so that what is measured is what users run.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from megc_stream.benchmarking.machine import calibration_beside_ms, calibration_ms, processor, stolen_s
from megc_stream.errors import UsageError
from megc_stream.output.run_record import environment
from megc_stream.pipeline import Sink
from megc_stream.records import Crop, Record, Score, StreamEnd, StreamInfo, frames_of

__all__ = ["LatencyBench", "LatencyProbe", "Lookahead", "Percentiles", "histogram_svg"]

LEFT_OUT_S = 2.0
"""Seconds after the first score that count for nothing: caches fill, threads start."""
_SAMPLE_S = 0.25
_BINS = 60
_TITLE = 90
_AT_THE_END = "whole-video mode: an event is known at the end of the video, not before"
_IMPORTED_S = time.monotonic()


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in ms: nearest-rank percentiles, the maximum, and how many there were."""

    p50: float
    p95: float
    p99: float
    max: float
    count: int


class Lookahead(msgspec.Struct, frozen=True, kw_only=True):
    """The delay in the method itself, seconds, whatever the speed of the machine.

    ``pair`` is k, the distance of the two frames of a pair; ``smoothing`` and ``peak`` are the k' - 1 and k' pairs
    after a peak that the smoothed score and its confirmation need; ``total`` is their sum.
    """

    pair: float
    smoothing: float
    peak: float
    total: float


class LatencyBench(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one run.

    ``fps_in`` and ``fps_out`` are frames and scores per second between the first and the last, those of all sources
    together; ``seconds`` lie between the first and the last frame read, ``times_real_time`` is ``fps_in`` over the
    sources' own rates. ``dropped`` counts lost frames, ``late`` those released more than 50 ms after their deadline
    (None where there are no deadlines: live, or at full speed), ``late_by_reason`` whether they had to be waited for
    ("decoding") or were there before they were asked for ("analysis"). ``stopped``: the run was ended before its source
    did.
    ``capture_to_score_ms`` ends when the score of pair (i, i+k) is out and begins at the ``t_capture_s`` of frame i+k;
    ``stages_ms`` is the time a stage works on one record (``decode``: reading and decoding one picture, ahead of time;
    ``capture``: the reader's wait for a frame). ``cpu_cores`` is CPU time over time, ``cpu_cores_by_thread`` its parts.
    ``calibration_ms`` is a fixed loop after the run, ``calibration_in_run_ms`` the median of what it took meanwhile.
    ``stolen_cores`` is what the host of a virtual machine gave to others meanwhile (None where that is unknown).
    ``first_score_s`` counts from the start of the program. ``lookahead`` and its total ``lookahead_s`` are None in
    whole-video mode, as ``lookahead_reason`` then says. Latencies, durations, CPU and memory leave out the first
    2 s after the first score.
    """

    machine: str
    cores: int
    versions: dict[str, str]
    calibration_ms: float
    calibration_in_run_ms: float
    sources: tuple[str, ...]
    fps_in: float
    fps_out: float
    frames: int
    scores: int
    seconds: float
    times_real_time: float
    dropped: int
    dropped_by_reason: dict[str, int]
    late: int | None
    late_by_reason: dict[str, int]
    stopped: bool
    capture_to_score_ms: Percentiles
    stages_ms: dict[str, Percentiles]
    cpu_cores: float
    cpu_cores_by_thread: dict[str, float]
    stolen_cores: float | None
    cpu_ms_per_frame: float
    rss_mb: float
    rss_growth_mb: float
    first_score_s: float
    lookahead_s: float | None
    lookahead: Lookahead | None
    lookahead_reason: str = ""


class _Rate:
    """First and last instant of something that repeats."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.last_s = 0.0
        self.count = 0

    def add(self, t_s: float) -> None:
        self.first_s = t_s if self.first_s is None else self.first_s
        self.last_s = t_s
        self.count += 1

    def per_s(self) -> float:
        if self.first_s is None or self.last_s <= self.first_s:
            return 0.0
        return (self.count - 1) / (self.last_s - self.first_s)


class LatencyProbe(Sink):
    """Watches one run; :meth:`result` tells what it saw."""

    def __init__(self) -> None:
        self._begin_s = time.monotonic() - _age_s()
        self._infos: dict[str, StreamInfo] = {}
        self._crops: dict[str, _Rate] = {}
        self._times: dict[str, _Rate] = {}
        self._scores: dict[str, _Rate] = {}
        self._first_score_s: float | None = None
        self._dropped: Counter[str] = Counter()
        self._latencies_s: list[float] = []
        self._costs_s: dict[str, list[float]] = {}
        self._steady = False
        # (time, CPU of the process, resident bytes) while it ran steadily, and CPU by thread at the ends of that time.
        self._samples: list[tuple[float, float, int]] = []
        self._stolen_s: list[float | None] = []
        self._calibrations_ms: list[float] = []
        self._threads: dict[int, tuple[str, float, float]] = {}
        self._frames_at_start = self._frames_at_end = 0

    def write(self, record: Record) -> None:
        """Take one record."""
        if isinstance(record, Crop):
            self._crops.setdefault(record.source, _Rate()).add(time.monotonic())
            self._times.setdefault(record.source, _Rate()).add(record.t_capture_s)
            self._dropped.update(record.dropped)
        elif isinstance(record, Score):
            if record.spot is None:
                return
            self._scores.setdefault(record.source, _Rate()).add(record.t_score_s)
            if self._first_score_s is None:
                self._first_score_s = record.t_score_s
            if record.t_score_s - self._first_score_s >= LEFT_OUT_S:
                self._steady = True
                self._latencies_s.append(record.t_score_s - record.t_capture_s)
        elif isinstance(record, StreamInfo):
            self._infos[record.source] = record
        elif isinstance(record, StreamEnd):
            self._dropped.update(record.dropped)

    def observe(self, stage: str, duration_s: float) -> None:
        """Note how long a stage worked on one record."""
        if self._steady:
            self._costs_s.setdefault(stage, []).append(duration_s)

    def tick(self) -> None:
        """Sample CPU and memory now and then."""
        now_s = time.monotonic()
        if self._steady and (not self._samples or now_s - self._samples[-1][0] >= _SAMPLE_S):
            if not self._samples:
                self._frames_at_start = self._frames()
            self._samples.append((now_s, time.process_time(), _resident_bytes()))
            self._stolen_s = [*self._stolen_s[:1], stolen_s()]
            self._calibrations_ms.append(calibration_beside_ms())
            for thread in threading.enumerate():
                cpu_s = _thread_cpu_s(thread.native_id)
                if thread.native_id is not None and cpu_s is not None:
                    _, first_s, _ = self._threads.get(thread.native_id, ("", cpu_s, 0.0))
                    self._threads[thread.native_id] = (thread.name, first_s, cpu_s)
            self._frames_at_end = self._frames()

    def result(
        self,
        *,
        late: int | None,
        stopped: bool,
        k_s: float,
        k_prime_s: float,
        late_by_reason: Mapping[str, int] | None = None,
        whole_video: bool = False,
    ) -> LatencyBench:
        """Return the figures of the finished run.

        Parameters
        ----------
        late
            Frames released too late, from the run's own record; None where there are no deadlines.
        late_by_reason
            The same by reason.
        stopped
            Whether the run was ended before its source did.
        k_s, k_prime_s
            Of the spotter, seconds.
        whole_video
            Whether events were only decided at the end of the video.

        Raises
        ------
        UsageError
            The run was too short: nothing was scored after the first 2 s.
        """
        if not self._latencies_s or self._first_score_s is None or len(self._samples) < 2:
            raise UsageError(
                f"bench: nothing was scored later than {LEFT_OUT_S:g} s after the first score, and those count for "
                "nothing; expected a source with a face in it that takes at least 5 s to analyse"
            )
        here = environment()
        ahead = [_lookahead(info.fps, k_s, k_prime_s) for info in self._infos.values()]
        lookahead = None if whole_video else max(ahead, key=lambda it: it.total)
        span_s = self._samples[-1][0] - self._samples[0][0]
        cpu_s = self._samples[-1][1] - self._samples[0][1]
        frames = max(1, self._frames_at_end - self._frames_at_start)
        threads: Counter[str] = Counter()
        for name, first_s, last_s in self._threads.values():
            threads[_plain(name)] += (last_s - first_s) / span_s  # type: ignore[assignment]
        first_stolen_s, last_stolen_s = self._stolen_s[0], self._stolen_s[-1]
        stolen = None if first_stolen_s is None or last_stolen_s is None else (last_stolen_s - first_stolen_s) / span_s
        rss = [sample[2] / 2**20 for sample in self._samples]
        fps_in = sum(rate.per_s() for rate in self._crops.values())
        return LatencyBench(
            machine=f"{processor()}, {here.platform}",
            cores=here.cpu_count,
            versions={"megc_stream": here.megc_stream, "python": here.python, **here.packages},
            calibration_ms=calibration_ms(),
            calibration_in_run_ms=float(np.median(self._calibrations_ms)),
            sources=tuple(f"{info.source}: {info.description}, {info.fps:g} fps" for info in self._infos.values()),
            fps_in=fps_in,
            fps_out=sum(rate.per_s() for rate in self._scores.values()),
            frames=self._frames(),
            scores=sum(rate.count for rate in self._scores.values()),
            seconds=max(rate.last_s - (rate.first_s or 0.0) for rate in self._times.values()),
            times_real_time=fps_in / sum(info.fps for info in self._infos.values()),
            dropped=self._dropped.total(),
            dropped_by_reason=dict(sorted(self._dropped.items())),
            late=late,
            late_by_reason=dict(sorted((late_by_reason or {}).items())),
            stopped=stopped,
            capture_to_score_ms=percentiles(self._latencies_s),
            stages_ms={stage: percentiles(costs) for stage, costs in sorted(self._costs_s.items())},
            cpu_cores=cpu_s / span_s,
            cpu_cores_by_thread={name: round(share, 4) for name, share in sorted(threads.items())},
            stolen_cores=stolen,
            cpu_ms_per_frame=cpu_s * 1e3 / frames,
            rss_mb=max(rss),
            rss_growth_mb=rss[-1] - rss[0],
            first_score_s=self._first_score_s - self._begin_s,
            lookahead_s=None if lookahead is None else lookahead.total,
            lookahead=lookahead,
            lookahead_reason=_AT_THE_END if whole_video else "",
        )

    def latencies_s(self) -> tuple[float, ...]:
        """Return every latency from capture to score, seconds."""
        return tuple(self._latencies_s)

    def _frames(self) -> int:
        return sum(rate.count for rate in self._crops.values())


def percentiles(durations_s: Sequence[float]) -> Percentiles:
    """Return nearest-rank percentiles of at least one duration, in ms."""
    ordered = np.sort(np.asarray(durations_s)) * 1e3
    p50, p95, p99 = (float(ordered[math.ceil(len(ordered) * percent / 100) - 1]) for percent in (50, 95, 99))
    return Percentiles(p50=p50, p95=p95, p99=p99, max=float(ordered[-1]), count=len(ordered))


def histogram_svg(durations_s: Sequence[float], title: str, machine: str) -> str:
    """Draw how often each latency occurred: linear in ms up to twice the 99th percentile, the rest in the last bar.

    ``title`` and ``machine`` are lines above the bars.
    """
    figures = percentiles(durations_s)
    top_ms = max(2 * figures.p99, 1e-3)
    counts, _ = np.histogram(np.minimum(np.asarray(durations_s) * 1e3, top_ms), bins=_BINS, range=(0, top_ms))
    width, height, left, bottom = 720, 330, 60, 270
    step = (width - 2 * left) / _BINS
    digits = 1 if top_ms < 100 else 0
    scale = (bottom - 110) / max(counts.max(), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="13" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="22">{_escaped(title[:_TITLE])}</text>',
        f'<text x="{left}" y="40" font-size="11" fill="#666">{_escaped(machine[:_TITLE])}</text>',
    ]
    for number, count in enumerate(counts.tolist()):
        parts.append(
            f'<rect x="{left + number * step:.1f}" y="{bottom - count * scale:.1f}" width="{step - 1:.1f}" '
            f'height="{count * scale:.1f}" fill="#3b6ea5"/>'
        )
    for name, value, y in (("p50", figures.p50, 66), ("p95", figures.p95, 82), ("p99", figures.p99, 98)):
        x = left + value / top_ms * (width - 2 * left)
        parts.append(f'<path d="M{x:.1f} 54V{bottom}" stroke="#b03a2e" stroke-dasharray="4 3"/>')
        parts.append(f'<text x="{x + 3:.1f}" y="{y}">{name} {value:.{digits}f} ms</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + share * (width - 2 * left)
        more = " or more" if share == 1 else ""
        text = f"{share * top_ms:.{digits}f}{more}"
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{text}</text>')
    parts.append(f'<text x="{width / 2}" y="{bottom + 44}" text-anchor="middle">capture to score, ms</text></svg>')
    return "\n".join(parts) + "\n"


def _lookahead(fps: float, k_s: float, k_prime_s: float) -> Lookahead:
    k, k_prime = frames_of(k_s, fps), frames_of(k_prime_s, fps)
    return Lookahead(pair=k / fps, smoothing=(k_prime - 1) / fps, peak=k_prime / fps, total=(k + 2 * k_prime - 1) / fps)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(name: str) -> str:
    """Return what a thread is called whatever its source and number: "cam0/spotter" and "megc-decode_1" lose theirs."""
    stage = name.rpartition("/")[2]
    base, _, number = stage.rpartition("_")
    return base if number.isdecimal() else stage


def _age_s() -> float:
    """Return how long ago this program was started."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:  # not Linux: take the time since the import of this package
        return time.monotonic() - _IMPORTED_S
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _thread_cpu_s(native_id: int | None) -> float | None:
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except (OSError, ValueError, IndexError):  # not Linux, or the thread has just ended
        return None
