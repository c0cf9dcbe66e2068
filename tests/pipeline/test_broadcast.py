from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import simplejpeg
import zmq

from megc_stream.clock import ManualClock
from megc_stream.pipeline.broadcast import Broadcaster, LogHandler, take_snapshot
from megc_stream.pipeline.statistics import Statistics
from megc_stream.records import (
    Adjustment,
    Annotation,
    Crop,
    Event,
    EventKind,
    EventPoint,
    Score,
    StreamEnd,
    StreamInfo,
    Trace,
)
from megc_stream.settings import WireSettings
from megc_stream.wire import Publisher, Subscriber
from megc_stream.wire.protocol import FrameMessage, RecorderStatus, Status, decode


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


class Heard(list[Any]):
    """The messages that a publisher gave to its listeners."""

    def take(self, parts: list[bytes]) -> None:
        self.append(decode(parts))

    def topics(self) -> list[str]:
        return [message.topic for message in self]

    def statuses(self) -> list[Status]:
        return [message.status for message in self if message.type == "status"]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def publisher(context: zmq.Context, heard: Heard, clock: ManualClock) -> Iterator[Publisher]:
    with Publisher(context, WireSettings(), clock=clock) as made:
        made.listeners.append(heard.take)
        yield made


def info(source: str = "cam0") -> StreamInfo:
    return StreamInfo(source=source, subject="s", video="v", fps=200, width=640, height=480)


def crop(frame: int, *, source: str = "cam0", face: bool = True, dropped: dict[str, int] | None = None) -> Crop:
    return Crop(
        source=source,
        frame=frame,
        number=frame + 10,
        t_capture_s=frame / 200,
        segment=0,
        image=np.full((128, 128), frame % 251, np.uint8) if face else None,
        landmarks68=np.full((68, 2), 7.123, np.float32) if face else None,
        interocular_px=50.0 if face else None,
        flags=() if face else ("lost",),
        dropped=dropped or {},
    )


def score(frame: int, *, source: str = "cam0", t_score_s: float = 0.0, spot: float | None = 0.5) -> Score:
    return Score(
        source=source,
        frame=frame,
        number=frame,
        frame_to=frame + 20,
        t_capture_s=t_score_s - 0.01,
        t_score_s=t_score_s,
        spot=spot,
    )


def event(number: int, rev: int, kind: EventKind, *, final: bool = False, frame: int = 5) -> Event:
    return Event(
        event_id=f"cam0-{number}",
        event_number=number,
        rev=rev,
        kind=kind,
        final=final,
        source="cam0",
        subject="s",
        video="v",
        decision_frame=frame,
        onset=EventPoint(frame=1, number=1, t_s=0.1),
        score=1.0,
        threshold=0.5,
        model="m",
        model_sha256="0",
        k=1,
        k_prime=2,
        lookahead_s=0.1,
    )


def test_every_record_has_its_topic_and_capture_time(publisher: Publisher, heard: Heard, clock: ManualClock) -> None:
    sink = Broadcaster(publisher, clock=clock)
    trace = Trace(source="cam0", frame=3, smoothed=0.1, threshold=0.2)
    annotation = Annotation(source="cam0", frame=3, t_capture_s=0.5, text="coughs")
    adjustment = Adjustment(source="cam0", frame=3, t_capture_s=0.6, deviations=4.0)
    end = StreamEnd(source="cam0", frames=4, reason="end")
    for record in (info(), crop(3), score(3, t_score_s=0.11), trace, annotation, adjustment, event(1, 0, "onset"), end):
        sink.write(record)
    sink.on_event(event(1, 0, "onset", frame=3))
    sink.log("warning", "one\nline", "megc_stream.x")
    sink.alarm("recording", "disk full", "cam0", free_mb=0)
    assert [(m.topic, m.type, m.source, m.t_capture_s) for m in heard] == [
        ("meta.stream.cam0.", "stream", "cam0", None),
        ("metric.face.cam0.", "face", "cam0", 3 / 200),
        ("metric.score.cam0.", "score", "cam0", 0.11 - 0.01),
        ("metric.trace.cam0.", "trace", "cam0", 3 / 200),
        ("annotation.cam0.", "annotation", "cam0", 0.5),
        ("adjustment.cam0.", "adjustment", "cam0", 0.6),
        ("meta.end.cam0.", "end", "cam0", None),
        ("event.onset.cam0.", "event", "cam0", 3 / 200),
        ("log.warning.", "log", "", None),
        ("alarm.recording.", "alarm", "cam0", None),
    ]
    assert [heard[n].payload for n in (0, 2, 3, 4, 5, 6)] == [
        info(),
        score(3, t_score_s=0.11),
        trace,
        annotation,
        adjustment,
        end,
    ]
    face = heard[1].face
    assert (face.frame, face.number, face.found, face.interocular_px) == (3, 13, True, 50.0)
    assert heard[8].log.text == "one line"
    assert heard[9].alarm.detail == {"free_mb": 0}


def test_the_capture_time_of_a_frame_long_gone_is_null(publisher: Publisher, heard: Heard) -> None:
    sink = Broadcaster(publisher)
    for frame in range(5000):
        sink.write(crop(frame))
    heard.clear()
    sink.on_event(event(1, 0, "onset", frame=5))
    sink.on_event(event(1, 1, "apex", frame=4999))
    assert [m.t_capture_s for m in heard] == [None, 4999 / 200]


def test_once_a_second_there_is_a_status_of_each_source_and_the_whole(
    publisher: Publisher, heard: Heard, clock: ManualClock
) -> None:
    statistics = Statistics(clock, insecure=True)
    statistics.recorder = lambda: RecorderStatus(state="recording", clients=1, backlog=2, lost=0)
    statistics.malformed["control"] = lambda: 3
    sinks = {name: Broadcaster(publisher, statistics) for name in ("cam0", "cam1")}
    for name, sink in sinks.items():
        sink.write(info(name))
    for tick in range(400):
        clock.advance_s(0.01)
        for name, sink in sinks.items():
            frame = 2 * tick + (name == "cam1")
            sink.write(crop(frame, source=name, dropped={"queue": 1} if tick % 100 == 0 else None, face=name == "cam0"))
            sink.advance("reader", frame)
            sink.observe("reader", 0.002)
            if name == "cam0" and frame >= 6:
                sink.write(score(frame - 6, t_score_s=clock.now_s()))
                sink.advance("spotter", frame - 6)
                sink.advance("recogniser", frame - 7)
                sink.observe("spotter", 0.004)
        for sink in sinks.values():
            sink.tick()
    sinks["cam0"].source.paused = True
    sinks["cam0"].source.dropped["restart"] += 5
    sinks["cam1"].write(StreamEnd(source="cam1", frames=400, reason="end", dropped={"queue": 1}))
    clock.advance_s(1.0)
    sinks["cam0"].tick()
    statuses = heard.statuses()
    assert [round(status.uptime_s, 2) for status in statuses] == [1.0, 2.0, 3.0, 4.0, 5.0]
    status = statuses[3]
    assert status.insecure
    assert status.malformed == {"control": 3}
    assert status.recorder == RecorderStatus(state="recording", clients=1, backlog=2, lost=0)
    one, other = status.sources["cam0"], status.sources["cam1"]
    assert (one.state, one.frame, one.frames, one.faces, one.scores) == ("running", 798, 400, 400, 397)
    assert one.fps_nominal == 200
    assert one.fps_in == one.fps_out == pytest.approx(100, rel=0.02)
    assert one.dropped == {"queue": 4}
    assert one.queues == {"spotter": 6, "recogniser": 1}
    assert set(one.latency) == {"reader", "spotter", "capture to score"}
    assert one.latency["reader"].p50_ms == pytest.approx(2.0, rel=0.013)
    assert one.latency["reader"].p99_ms == pytest.approx(2.0, rel=0.013)
    assert one.latency["capture to score"].p95_ms == pytest.approx(10.0, rel=0.013)
    assert (other.faces, other.scores, other.fps_out) == (0, 0, 0.0)
    whole = status.whole
    assert (whole.state, whole.frames, whole.faces, whole.scores) == ("running", 800, 400, 397)
    assert whole.dropped == {"queue": 8}
    assert whole.latency["reader"].count == one.latency["reader"].count + other.latency["reader"].count
    last = statuses[-1]
    assert [last.sources[name].state for name in ("cam0", "cam1")] == ["paused", "ended"]
    assert last.whole.state == "paused"
    assert last.sources["cam0"].dropped == {"queue": 4, "restart": 5}
    assert last.sources["cam1"].dropped == {"queue": 5}


def test_latencies_are_those_of_the_last_seconds(publisher: Publisher, heard: Heard, clock: ManualClock) -> None:
    sink = Broadcaster(publisher, clock=clock)
    sink.write(info())
    sink.observe("spotter", 1.0)
    for _ in range(8):
        clock.advance_s(1.0)
        sink.observe("spotter", 0.001)
        sink.tick()
    worst = [status.sources["cam0"].latency["spotter"].max_ms for status in heard.statuses()]
    assert worst[:5] == [1000.0] * 5
    assert worst[5:] == [1.0] * 3


def test_after_a_pause_there_is_one_status_not_one_for_each_second(
    publisher: Publisher, heard: Heard, clock: ManualClock
) -> None:
    sink = Broadcaster(publisher, clock=clock)
    for advance_s in (1.0, 7.3, 0.1, 0.1, 0.4, 0.4, 1.0):
        clock.advance_s(advance_s)
        sink.tick()
    assert [round(status.uptime_s, 1) for status in heard.statuses()] == [1.0, 8.3, 8.9, 10.3]
    assert heard.statuses()[0].whole.state == "waiting"


def test_log_records_of_any_thread_are_published_by_the_sinks_thread(publisher: Publisher, heard: Heard) -> None:
    handler = LogHandler()
    sink = Broadcaster(publisher, log_handler=handler)
    logger = logging.getLogger("megc_stream.test_broadcast")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        thread = threading.Thread(target=lambda: logger.warning("%d frames\nlost", 3))
        thread.start()
        thread.join()
        logger.debug("not this")
        logger.log(35, "above")
    finally:
        logger.removeHandler(handler)
    assert not heard
    sink.tick()
    assert [(m.topic, m.log.text, m.log.logger) for m in heard] == [
        ("log.warning.", "3 frames lost", "megc_stream.test_broadcast"),
        ("log.warning.", "above", "megc_stream.test_broadcast"),
    ]


def test_who_joins_late_gets_the_open_events_and_where_the_stream_is(
    publisher: Publisher, heard: Heard, clock: ManualClock
) -> None:
    sink = Broadcaster(publisher, clock=clock)
    sink.write(info())
    sink.on_event(event(1, 0, "onset"))
    sink.on_event(event(1, 1, "apex"))
    sink.on_event(event(2, 0, "onset"))
    sink.on_event(event(2, 1, "retracted"))
    sink.on_event(event(3, 0, "onset"))
    sink.on_event(event(3, 1, "label", final=True))
    snapshot = take_snapshot([sink], clock)
    assert snapshot.events == (event(1, 1, "apex"),)
    assert snapshot.streams == (info(),)
    assert snapshot.ended == ()
    assert snapshot.session == publisher.session
    assert snapshot.next_seq["event.onset.cam0."] == 3
    assert snapshot.status.sources["cam0"].state == "waiting"
    sink.write(StreamEnd(source="cam0", frames=4, reason="end"))
    assert [end.frames for end in take_snapshot([sink], clock).ended] == [4]


@pytest.mark.parametrize("form", ["jpeg", "gray"])
def test_crops_are_encoded_only_while_somebody_subscribes(
    context: zmq.Context, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = simplejpeg.encode_jpeg
    monkeypatch.setattr(simplejpeg, "encode_jpeg", lambda *given, **named: encoded.append(1) or encode(*given, **named))
    settings = WireSettings(publish_frames="tcp://127.0.0.1:*", frames_format=form)
    with Publisher(context, settings) as publisher:
        sink = Broadcaster(publisher)
        sink.write(info())
        sink.write(crop(0))
        with Subscriber(publisher.endpoints["frames"], ("frame.",), context=context) as subscriber:
            while not publisher.wants("frame.face.cam0."):
                sink.tick()
            sink.write(crop(1, face=False))
            sink.write(crop(100))
            message = subscriber.receive(10)
            assert isinstance(message, FrameMessage)
            assert (message.frame.frame, message.frame.format, message.seq) == (100, form, 0)
            assert message.frame.landmarks68 == ((7.12, 7.12),) * 68
            assert len(encoded) == (form == "jpeg")
            (data,) = message.raw
            if form == "jpeg":
                picture = simplejpeg.decode_jpeg(data, "GRAY")[:, :, 0]
            else:
                picture = np.frombuffer(data, np.uint8).reshape(128, 128)
            assert np.abs(picture.astype(int) - 100).max() <= 1
        while publisher.wants("frame.face.cam0."):
            sink.tick()
        sink.write(crop(101))
        assert publisher.next_seq["frame.face.cam0."] == 1
