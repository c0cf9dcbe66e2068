"""Publishers, and payloads of every type, for the tests of the wire."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import zmq

from megc_stream.clock import Clock
from megc_stream.records import (
    Adjustment,
    Annotation,
    Event,
    EventKind,
    EventPoint,
    Score,
    StreamEnd,
    StreamInfo,
    Trace,
)
from megc_stream.settings import WireSettings
from megc_stream.wire import Publisher
from megc_stream.wire.protocol import (
    Alarm,
    DurationSummary,
    FaceFrame,
    FaceQuality,
    Hello,
    LogEntry,
    SourceStatus,
    Status,
)

LOOPBACK = "tcp://127.0.0.1:*"


def event(rev: int = 0, kind: EventKind = "onset", *, source: str = "cam0", final: bool = False) -> Event:
    return Event(
        event_id=f"{source}-0001",
        event_number=1,
        rev=rev,
        kind=kind,
        final=final,
        source=source,
        subject="s",
        video="v",
        decision_frame=5,
        onset=EventPoint(frame=1, number=1, t_s=0.1),
        apex=EventPoint(frame=3, number=3, t_s=0.3),
        emotion="positive",
        probabilities={"positive": 0.9},
        score=1.0,
        threshold=0.5,
        model="m",
        model_sha256="0",
        k=1,
        k_prime=2,
        lookahead_s=0.1,
    )


_SOURCE = SourceStatus(
    state="running",
    frame=9,
    frames=10,
    faces=10,
    scores=5,
    events=1,
    fps_nominal=200.0,
    fps_in=199.5,
    fps_out=198.5,
    dropped={"queue": 2},
    queues={"spotter": 3},
    latency={"spotter": DurationSummary(count=5, p50_ms=1, p95_ms=2, p99_ms=3, max_ms=4)},
)

PAYLOADS: dict[str, msgspec.Struct] = {
    "event": event(),
    "score": Score(
        source="cam0", frame=1, number=1, frame_to=2, t_capture_s=1.0, t_score_s=1.1, spot=0.5, recog=(1.0,)
    ),
    "trace": Trace(source="cam0", frame=1, smoothed=0.5, threshold=None),
    "face": FaceQuality(
        frame=1,
        number=1,
        segment=0,
        found=True,
        interocular_px=90.0,
        eye_opening=0.3,
        sharpness=20.0,
        flags=("small",),
        dropped={},
    ),
    "frame": FaceFrame(
        frame=1,
        number=1,
        segment=0,
        format="gray",
        width=2,
        height=1,
        landmarks68=((1.5, 2.5),),
        flags=(),
        pts_s=None,
    ),
    "status": Status(uptime_s=1.0, insecure=False, whole=_SOURCE, sources={"cam0": _SOURCE}, malformed={"events": 0}),
    "log": LogEntry(level="info", text="ready"),
    "alarm": Alarm(name="recording", text="disk full", detail={"free_mb": 0}),
    "annotation": Annotation(source="cam0", frame=1, t_capture_s=1.0, text="coughs"),
    "adjustment": Adjustment(source="cam0", frame=1, t_capture_s=1.0, deviations=4.0),
    "stream": StreamInfo(source="cam0", subject="s", video="v", fps=200, width=640, height=480),
    "end": StreamEnd(source="cam0", frames=10, reason="end"),
    "hello": Hello(
        protocol=1,
        schema="0",
        software="x",
        clock="c",
        unix_minus_clock_s=1.0,
        unix_bound_s=0.0,
        endpoints={"events": "tcp://127.0.0.1:1"},
    ),
}


def publisher_on(context: zmq.Context[Any], *, frames: bool = False, clock: Clock | None = None) -> Publisher:
    """A publisher of events, and of frames if wanted, on free ports of loopback."""
    settings = WireSettings(publish=LOOPBACK, publish_frames=LOOPBACK if frames else None)
    return Publisher(context, settings, clock=clock)


@contextlib.contextmanager
def serving(publisher: Publisher) -> Iterator[None]:
    """Let a publisher answer subscriptions meanwhile; nothing else may use it in this time."""
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            publisher.serve()
            done.wait(0.001)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)
