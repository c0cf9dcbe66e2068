"""What a run leaves behind: takes the records of all stages and writes the result files."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from megc_stream.clock import Clock, MonotonicClock
from megc_stream.errors import MegcError, OutputError
from megc_stream.output._files import write_text
from megc_stream.output.curve import CurveRecorder
from megc_stream.output.event_log import EventLog, EventMerger
from megc_stream.output.pictures import CropStore, Picture, onset_apex_flow
from megc_stream.output.report import ReportData, ReportEvent, render_report
from megc_stream.output.report_chart import TruthInterval
from megc_stream.output.report_pictures import EventPictures
from megc_stream.output.run_folder import ANNOTATIONS, EVENTS, INTERVALS, REPORT, RUN, SCORES
from megc_stream.output.run_record import (
    RunRecord,
    RunStatus,
    environment,
    redacted,
    without_password,
    write_run_record,
)
from megc_stream.output.tables import AnnotationTable, IntervalTable, ScoreTable, is_settled
from megc_stream.pipeline import Sink
from megc_stream.pipeline.statistics import DurationHistogram
from megc_stream.records import (
    Annotation,
    Crop,
    Event,
    EventPoint,
    Record,
    Score,
    StreamEnd,
    StreamInfo,
    Trace,
    frames_of,
)
from megc_stream.settings import Settings

__all__ = ["RunModel", "RunWriter"]

_TRACE_DELAY_S = 10.0
# Crops kept for events yet to be decided, and for the reader being ahead of the other stages by what their links hold.
_CROPS_MARGIN_S = 3.0
_CROPS_AHEAD = 500
_LATENCY_LEFT_OUT_S = 2.0
# Frames whose time is remembered until their score comes: far more than may wait between the stages.
_TIMES_KEPT = 10_000
# The report stays readable and below some 20 MB; the tables hold everything.
_EVENTS_SHOWN = 500
_EVENTS_WITH_PICTURES = 60
_LOST_SHOWN = 500
_MORE_COUNTS = (
    *("events_retracted", "event_revisions", "answers_served", "answers_embedded"),
    *("answers_replaced", "answers_repaired"),
)


class RunModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model of a run as the results name it; ``k_s`` and ``k_prime_s`` are those in use, in seconds."""

    name: str
    sha256: str
    classes: tuple[str, ...]
    k_s: float
    k_prime_s: float


class RunWriter(Sink):
    """Feeds ``events.jsonl``, ``intervals.csv`` and ``scores.parquet`` while records come, ``report.html`` and
    ``run.json`` at the end; ``annotations.csv`` where there are remarks of an operator.

    Not thread-safe: one thread writes. What was written stays on disk whatever happens later. As a context manager it
    closes itself: "complete" after the block, "failed" after an exception, "stopped" after KeyboardInterrupt.

    Parameters
    ----------
    folder
        From :func:`megc_stream.output.prepare_folder`.
    settings
        Of the run; recorded without passwords.
    model
        The model in use.
    started
        Start of the run, local time.
    stages
        The stages that produce events; each must :meth:`advance`.
    checksums
        SHA-256 of every model file in use, by name.
    truth
        Events known beforehand (frames), drawn in the report; None for none.
    notes
        What the reader should know about the model or the source, one sentence or two each; :meth:`note` adds more.
    on_event
        Gets every revision when it is logged: in the order of the log, so that revisions of one event grow.
    clock
        Measures the duration of the run.

    Raises
    ------
    OutputError
        A file cannot be created or written; from :meth:`push` and :meth:`advance` of the event log, too.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        model: RunModel,
        started: datetime,
        *,
        stages: Sequence[str] = ("spotter", "recogniser"),
        checksums: Mapping[str, str] | None = None,
        truth: Sequence[TruthInterval] | None = None,
        notes: Sequence[str] = (),
        on_event: Callable[[Event], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder
        self.report: ReportData | None = None
        """What the report shows; known once closed (None if the stream never began)."""
        self._settings = settings
        self._model = model
        self._started = started
        self._checksums = dict(checksums or {})
        self._truth = None if truth is None else tuple(truth)
        self._notes = list(notes)
        self._on_event = on_event
        self._clock = clock or MonotonicClock()
        self._started_s = self._clock.now_s()
        self._closed = False

        self._info: StreamInfo | None = None
        self._end: StreamEnd | None = None
        self._merger = EventMerger(stages)
        self._log = EventLog(folder / EVENTS)
        try:
            self._intervals = IntervalTable(folder / INTERVALS)
        except OutputError:
            self._log.close()
            raise
        self._scores: ScoreTable | None = None
        self._annotations = AnnotationTable(folder / ANNOTATIONS)

        self._counts: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._lost: list[tuple[int, int]] = []
        self._events: dict[str, Event] = {}
        self._pictures: dict[str, dict[str, Picture]] = {}
        self._crops: CropStore | None = None
        self._start_s = 0.0
        self._early: list[Record] = []
        self._waiting: deque[Score] = deque()
        self._times: deque[tuple[int, float]] = deque(maxlen=_TIMES_KEPT)
        self._curves = {name: CurveRecorder() for name in ("score", "smoothed", "threshold")}
        self._timings: dict[str, DurationHistogram] = {}
        self._first_score_s: float | None = None
        self._last_score_s = 0.0

    def write(self, record: Record) -> None:
        """Take one record of any stage; frames are passed over (their crops say what is needed of them).

        The records of one stage come in its order, those of different stages in any.
        """
        if self._info is None and isinstance(record, Crop | Score | Trace):
            self._early.append(record)
            return
        match record:
            case Crop():
                self._take_crop(record)
            case Score():
                self._waiting.append(record)
                self._take_scores()
            case Trace():
                self._curves["smoothed"].add(record.frame, record.smoothed)
                if record.threshold is not None:
                    self._curves["threshold"].add(record.frame, record.threshold)
                if self._scores is not None:
                    self._scores.add_trace(record)
            case Event():
                self._keep_pictures(record)
                self._log_events(self._merger.push(record))
            case Annotation():
                self._annotations.add(record)
            case StreamInfo():
                self._open(record)
            case StreamEnd():
                self._end = record
                self._dropped.update(record.dropped)

    def advance(self, stage: str, frame: int) -> None:
        """Note that ``stage`` has handled ``frame`` and will write no event decided before it."""
        self._log_events(self._merger.advance(stage, frame))

    def observe(self, stage: str, duration_s: float) -> None:
        """Count how long ``stage`` took for one record."""
        if stage not in self._timings:
            self._timings[stage] = DurationHistogram()
        self._timings[stage].add(duration_s)

    def note(self, text: str) -> None:
        """Add a sentence to the notes of the report and of ``run.json``."""
        self._notes.append(text)

    def close(self, status: RunStatus = "complete", error: str = "", *, late: int | None = None) -> None:
        """Write everything that is left; a second call does nothing.

        Every file is completed as far as possible before the first failure is raised.

        Parameters
        ----------
        status
            "complete", "stopped" (by the user) or "failed".
        error
            The message of the failure.
        late
            Frames released more than 50 ms after their deadline; None where nothing was paced.

        Raises
        ------
        OutputError
            A file could not be written.
        """
        if self._closed:
            return
        self._closed = True
        steps: list[Callable[[], None]] = [
            lambda: self._log_events(self._merger.finish()),
            self._log.close,
            self._intervals.close,
            self._annotations.close,
            self._close_scores,
            lambda: self._write_report(self._run_record(status, error, late)),
            lambda: write_run_record(self.folder / RUN, self._run_record(status, error, late)),
        ]
        failures: list[MegcError] = []
        for step in steps:
            try:
                step()
            except MegcError as failure:
                failures.append(failure)
                if status != "failed":
                    status, error = "failed", str(failure)
        if failures:
            raise failures[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            if isinstance(error, KeyboardInterrupt):
                self.close("stopped")
            else:
                self.close("failed", str(error) or type(error).__name__)
        except MegcError as second:
            error.add_note(f"results are incomplete: {second}")

    def _open(self, info: StreamInfo) -> None:
        info = msgspec.structs.replace(info, source=without_password(info.source))
        self._info = info
        causal = self._settings.spotting.mode == "causal"
        if self._settings.output.with_images:
            self._crops = CropStore(
                frames_of(self._settings.spotting.longest_s + _CROPS_MARGIN_S, info.fps) + _CROPS_AHEAD
                if causal
                else None
            )
        self._scores = ScoreTable(
            self.folder / SCORES,
            self._model.classes,
            {
                "version": environment().megc_stream,
                "source": info.source,
                "model": self._model.name,
                "sha256": self._model.sha256,
                "k": str(frames_of(self._model.k_s, info.fps)),
                "k_prime": str(frames_of(self._model.k_prime_s, info.fps)),
                "fps": repr(info.fps),
            },
            trace_delay_frames=frames_of(_TRACE_DELAY_S, info.fps) if causal else None,
        )
        early, self._early = self._early, []
        for record in early:
            self.write(record)

    def _take_crop(self, crop: Crop) -> None:
        t_s = crop.t_capture_s if crop.pts_s is None else crop.pts_s
        if not self._counts["frames"]:
            self._start_s = t_s
        self._counts["frames"] += 1
        if crop.flags:
            self._flags.update(crop.flags)
        if crop.dropped:
            self._dropped.update(crop.dropped)
        self._times.append((crop.frame, t_s))
        self._take_scores()
        if crop.image is None:
            if self._lost and self._lost[-1][1] == crop.frame - 1:
                self._lost[-1] = (self._lost[-1][0], crop.frame)
            elif len(self._lost) < _LOST_SHOWN:
                self._lost.append((crop.frame, crop.frame))
            return
        self._counts["frames_with_face"] += 1
        if self._crops is not None:
            self._crops.add(crop)

    def _take_scores(self, *, all_of_them: bool = False) -> None:
        """Take the scores whose crop has come: with it the time of their frame is known."""
        while self._waiting and (all_of_them or (self._times and self._times[-1][0] >= self._waiting[0].frame)):
            self._take_score(self._waiting.popleft())

    def _take_score(self, score: Score) -> None:
        if score.spot is not None:
            self._counts["scores"] += 1
            self._curves["score"].add(score.frame, score.spot)
            if self._first_score_s is None:
                self._first_score_s = score.t_score_s
            self._last_score_s = score.t_score_s
            if score.t_score_s - self._first_score_s >= _LATENCY_LEFT_OUT_S:
                self.observe("capture to score", score.t_score_s - score.t_capture_s)
        else:
            self._counts["pairs_not_scored"] += 1
        while self._times and self._times[0][0] < score.frame:
            self._times.popleft()
        t_s = self._times[0][1] if self._times and self._times[0][0] == score.frame else score.pts_s
        if self._scores is not None:
            self._scores.add(score, t_s)

    def _keep_pictures(self, event: Event) -> None:
        if self._crops is None:
            return
        if event.event_id not in self._pictures and len(self._pictures) >= _EVENTS_WITH_PICTURES:
            return
        kept = self._pictures.setdefault(event.event_id, {})
        points: dict[str, EventPoint | None] = {"onset": event.onset, "apex": event.apex, "offset": event.offset}
        for name, point in points.items():
            # A later revision may move a point; its crop may then be gone from the store, and the old one is wrong.
            if point is not None and (name not in kept or kept[name].frame != point.frame):
                picture = self._crops.get(point.frame)
                if picture is not None:
                    kept[name] = picture
                else:
                    kept.pop(name, None)
        if event.kind == "retracted":
            del self._pictures[event.event_id]

    def _log_events(self, events: Sequence[Event]) -> None:
        for event in events:
            # Once more: an event may have overtaken its crops.
            self._keep_pictures(event)
            self._log.write(event)
            if self._on_event is not None:
                self._on_event(event)
            self._counts["event_revisions"] += 1
            self._counts["events_begun"] += event.rev == 0
            self._counts["events_retracted"] += event.kind == "retracted"
            if is_settled(event):
                self._intervals.add(event)
                self._counts["events"] += 1
                self._counts["events_macro"] += event.type == "macro"
                if len(self._events) < _EVENTS_SHOWN:
                    self._events[event.event_id] = event
            elif event.kind == "answer" and event.event_id in self._events:
                self._events[event.event_id] = event
            if event.kind == "answer" and event.final:
                self._counts["answers_served"] += sum(answer.by == "served" for answer in event.answers)
                self._counts["answers_embedded"] += sum(answer.by == "embedded" for answer in event.answers)
                self._counts["answers_replaced"] += sum(bool(answer.fallback) for answer in event.answers)
                self._counts["answers_repaired"] += sum(
                    bool(answer.evidence.get("repaired")) for answer in event.answers
                )

    def _close_scores(self) -> None:
        try:
            self._take_scores(all_of_them=True)
        finally:
            if self._scores is not None:
                self._scores.close()

    def _run_record(self, status: RunStatus, error: str, late: int | None) -> RunRecord:
        info = self._info
        span_s = 0.0 if self._first_score_s is None else self._last_score_s - self._first_score_s
        summaries = ((stage, histogram.summary()) for stage, histogram in self._timings.items())
        names = ("frames", "frames_with_face", "scores", "pairs_not_scored", "events", "events_macro", "events_begun")
        return RunRecord(
            status=status,
            error=error,
            started=self._started.isoformat(timespec="seconds"),
            wall_s=round(self._clock.now_s() - self._started_s, 6),
            environment=environment(),
            settings=redacted(self._settings.model_dump(mode="json")),
            source=info,
            end=self._end,
            model=self._model.name,
            checksums=self._checksums,
            k=frames_of(self._model.k_s, info.fps) if info else None,
            k_prime=frames_of(self._model.k_prime_s, info.fps) if info else None,
            counts={name: self._counts[name] for name in (*names, *_MORE_COUNTS)},
            flags=dict(sorted(self._flags.items())),
            dropped=dict(sorted(self._dropped.items())),
            late=late,
            fps_out=self._counts["scores"] / span_s if span_s > 0 else None,
            timings={stage: summary for stage, summary in summaries if summary is not None},
            notes=tuple(self._notes),
        )

    def _write_report(self, record: RunRecord) -> None:
        if self._info is None:
            return
        self.report = ReportData(
            info=self._info,
            status=record.status,
            error=record.error,
            started=self._started,
            mode=self._settings.spotting.mode,
            model=self._model.name,
            model_sha256=self._model.sha256,
            k=frames_of(self._model.k_s, self._info.fps),
            k_prime=frames_of(self._model.k_prime_s, self._info.fps),
            start_s=self._start_s,
            frames=self._counts["frames"],
            frames_with_face=self._counts["frames_with_face"],
            scores=self._counts["scores"],
            micro=self._counts["events"] - self._counts["events_macro"],
            macro=self._counts["events_macro"],
            events=tuple(
                ReportEvent(event=event, pictures=self._pictures_of(event)) for event in self._events.values()
            ),
            retracted=self._counts["events_retracted"],
            score=self._curves["score"].curve(),
            smoothed=self._curves["smoothed"].curve(),
            threshold=self._curves["threshold"].curve(),
            lost=tuple(self._lost),
            truth=self._truth,
            flags=record.flags,
            dropped=record.dropped,
            late=record.late,
            fps_out=record.fps_out,
            wall_s=record.wall_s,
            timings=record.timings,
            with_images=self._settings.output.with_images,
            settings=record.settings,
            checksums=self._checksums,
            notes=tuple(self._notes),
        )
        write_text(self.folder / REPORT, render_report(self.report))

    def _pictures_of(self, event: Event) -> EventPictures | None:
        kept = self._pictures.get(event.event_id)
        if not kept:
            return None
        onset, apex = kept.get("onset"), kept.get("apex")
        flow = onset_apex_flow(onset, apex) if onset is not None and apex is not None else None
        return EventPictures(onset=onset, apex=apex, offset=kept.get("offset"), flow=flow)
