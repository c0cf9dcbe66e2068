"""From the records of a run to the messages of the public stream."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg

from megc_stream.clock import Clock, MonotonicClock
from megc_stream.pipeline.stage import Sink
from megc_stream.pipeline.statistics import SourceStatistics, Statistics
from megc_stream.records import Adjustment, Annotation, Crop, Event, Record, Score, StreamEnd, StreamInfo, Trace
from megc_stream.wire.protocol import STATUS, Alarm, FaceFrame, FaceQuality, LogEntry, LogLevel, Snapshot, topic_of
from megc_stream.wire.publisher import Publisher

__all__ = ["Broadcaster", "LogHandler", "take_snapshot"]

_TIMES = 4096
_LOG_QUEUE = 1000
_topic = functools.lru_cache(1024)(topic_of)


class LogHandler(logging.Handler):
    """Keeps log records, from any thread, until a :class:`Broadcaster` publishes them; the oldest go first.

    Attach it to the logger ``megc_stream``.
    """

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.entries: deque[LogEntry] = deque(maxlen=_LOG_QUEUE)
        """What was not yet published."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record, as one line."""
        text = " ".join(record.getMessage().split())
        self.entries.append(LogEntry(level=_level(record.levelno), text=text, logger=record.name))


class Broadcaster(Sink):
    """A sink that publishes the records of one source, and the status of all; all on the publisher's thread.

    Events are not published as they come but by :meth:`on_event`, in the order of the log.

    Parameters
    ----------
    publisher
        Shared by the broadcasters of all sources.
    statistics
        Shared by the broadcasters of all sources; one of its own without it.
    stages
        Names of the source's stages in order, the reader first: between them queues are counted.
    log_handler
        Its records are published on :meth:`tick`.
    clock
        Times the status without ``statistics``.
    """

    def __init__(
        self,
        publisher: Publisher,
        statistics: Statistics | None = None,
        *,
        stages: Sequence[str] = ("reader", "spotter", "recogniser"),
        log_handler: LogHandler | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.publisher = publisher
        self.statistics = statistics or Statistics(clock or MonotonicClock(), insecure=publisher.settings.insecure_bind)
        self.source = SourceStatistics(stages)
        """The figures of this source; ``paused`` and ``dropped`` may be set."""
        self.info: StreamInfo | None = None
        self.end: StreamEnd | None = None
        self.open_events: dict[str, Event] = {}
        """The newest revision of each event that is neither final nor retracted, by ``event_id``."""
        self._log_handler = log_handler
        self._times: list[tuple[int, float]] = [(-1, 0.0)] * _TIMES
        for role in publisher.malformed:
            self.statistics.malformed.setdefault(role, _count_of(publisher, role))

    def write(self, record: Record) -> None:
        """Publish one record, unless it is an event."""
        self.source.write(record)
        source = record.source
        match record:
            case Crop():
                self._times[record.frame % _TIMES] = (record.frame, record.t_capture_s)
                self._publish_face(record)
                topic = _topic("frame", "face", source)
                if record.image is not None and self.publisher.wants(topic):
                    self._publish_frame(topic, record)
            case Score():
                self.publisher.publish(_topic("metric", "score", source), "score", source, record, record.t_capture_s)
            case Trace():
                self.publisher.publish(
                    _topic("metric", "trace", source), "trace", source, record, self._time_of(record.frame)
                )
            case Annotation():
                self.publisher.publish(_topic("annotation", source), "annotation", source, record, record.t_capture_s)
            case Adjustment():
                self.publisher.publish(_topic("adjustment", source), "adjustment", source, record, record.t_capture_s)
            case StreamInfo():
                self.info = record
                self.statistics.sources[source] = self.source
                self.publisher.publish(_topic("meta", "stream", source), "stream", source, record)
            case StreamEnd():
                self.end = record
                self.publisher.publish(_topic("meta", "end", source), "end", source, record)

    def advance(self, stage: str, frame: int) -> None:
        """Note how far a stage is."""
        self.source.advance(stage, frame)

    def observe(self, stage: str, duration_s: float) -> None:
        """Note how long a stage worked on one record, s."""
        self.source.observe(stage, duration_s)

    def on_event(self, event: Event) -> None:
        """Publish one revision of an event: call it in the order of the log."""
        if event.final or event.kind == "retracted":
            self.open_events.pop(event.event_id, None)
        else:
            self.open_events[event.event_id] = event
        topic = _topic("event", event.kind, event.source)
        self.publisher.publish(topic, "event", event.source, event, self._time_of(event.decision_frame))

    def log(self, level: LogLevel, text: str, logger: str = "") -> None:
        """Publish a line of the log."""
        self._publish_log(LogEntry(level=level, text=" ".join(text.split()), logger=logger))

    def alarm(self, name: str, text: str, source: str = "", **detail: object) -> None:
        """Publish something that a person must look at while the analysis goes on."""
        self.publisher.publish(_topic("alarm", name), "alarm", source, Alarm(name=name, text=text, detail=detail))

    def tick(self) -> None:
        """Serve subscriptions, publish the log, and once a second the status; call it at least every 100 ms."""
        self.publisher.serve()
        while self._log_handler is not None and self._log_handler.entries:
            self._publish_log(self._log_handler.entries.popleft())
        status = self.statistics.due()
        if status is not None:
            self.publisher.publish(STATUS, "status", "", status)

    def _publish_log(self, entry: LogEntry) -> None:
        self.publisher.publish(_topic("log", entry.level), "log", "", entry)

    def _publish_face(self, crop: Crop) -> None:
        topic = _topic("metric", "face", crop.source)
        quality = FaceQuality(
            frame=crop.frame,
            number=crop.number,
            segment=crop.segment,
            found=crop.image is not None,
            interocular_px=crop.interocular_px,
            eye_opening=crop.eye_opening,
            sharpness=crop.sharpness,
            flags=crop.flags,
            dropped=crop.dropped,
        )
        self.publisher.publish(topic, "face", crop.source, quality, crop.t_capture_s)

    def _publish_frame(self, topic: str, crop: Crop) -> None:
        assert crop.image is not None
        image = np.ascontiguousarray(crop.image)
        settings = self.publisher.settings
        if settings.frames_format == "jpeg":
            data = simplejpeg.encode_jpeg(image[:, :, np.newaxis], settings.frames_quality, "GRAY")
        else:
            data = image.tobytes()
        points = crop.landmarks68
        frame = FaceFrame(
            frame=crop.frame,
            number=crop.number,
            segment=crop.segment,
            format=settings.frames_format,
            width=image.shape[1],
            height=image.shape[0],
            landmarks68=None if points is None else tuple((x, y) for x, y in points.astype(float).round(2).tolist()),
            flags=crop.flags,
            pts_s=crop.pts_s,
        )
        self.publisher.publish(topic, "frame", crop.source, frame, crop.t_capture_s, raw=(data,))

    def _time_of(self, frame: int) -> float | None:
        kept, t_s = self._times[frame % _TIMES]
        return t_s if kept == frame else None


def take_snapshot(broadcasters: Sequence[Broadcaster], clock: Clock) -> Snapshot:
    """Return the state of the stream for one who joins late; ``broadcasters`` (one or more) share a publisher."""
    publisher = broadcasters[0].publisher
    return Snapshot(
        t_snapshot_s=clock.now_s(),
        session=publisher.session,
        next_seq=publisher.next_seq,
        streams=tuple(each.info for each in broadcasters if each.info is not None),
        ended=tuple(each.end for each in broadcasters if each.end is not None),
        events=tuple(event for each in broadcasters for event in each.open_events.values()),
        status=broadcasters[0].statistics.status(),
    )


def _count_of(publisher: Publisher, role: str) -> Callable[[], int]:
    return lambda: publisher.malformed.get(role, 0)


def _level(number: int) -> LogLevel:
    for least, name in ((50, "critical"), (40, "error"), (30, "warning"), (20, "info")):
        if number >= least:
            return name  # type: ignore[return-value]
    return "debug"
