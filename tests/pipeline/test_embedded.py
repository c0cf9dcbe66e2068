"""The runner, with small stages, and the whole chain on a generated clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from megc_stream.errors import CaptureError, UsageError
from megc_stream.pipeline import Sink, run_embedded
from megc_stream.records import Crop, Frame, Record, Score, StreamEnd, StreamInfo
from megc_stream.settings import PipelineSettings


class Frames:
    """A source of numbered frames, without any medium."""

    assumed_fps = False
    late = 0
    clock_fit: str | None = None

    def __init__(self, n: int, error_at: int | None = None) -> None:
        self.info = StreamInfo(source="x", subject="x", video="x", fps=100, width=8, height=8, frames=n)
        self._n = n
        self._error_at = error_at
        self._stopped = False
        self._delivered = 0
        self.end = StreamEnd(source="x", frames=0, reason="stopped")

    def frames(self) -> Iterator[Frame]:
        for number in range(self._n):
            if self._stopped:
                self.end = StreamEnd(source="x", frames=self._delivered, reason="stopped")
                return
            if number == self._error_at:
                self.end = StreamEnd(source="x", frames=self._delivered, reason="damaged")
                raise CaptureError("the cable was pulled")
            self._delivered += 1
            yield Frame(source="x", frame=number, number=number, image=np.zeros((8, 8), np.uint8), t_capture_s=number)
        self.end = StreamEnd(source="x", frames=self._delivered, reason="end")

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        pass

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Carrier:
    """Stands for the face: a crop that carries its frame's number in its pixels."""

    region = None

    def process(self, frame: Frame) -> Crop:
        image = np.full((128, 128), frame.number % 251, np.uint8)
        return Crop(
            source="x", frame=frame.frame, number=frame.number, t_capture_s=frame.t_capture_s, segment=0, image=image
        )


class Counting:
    """A stage that turns each crop into a score of the number it carries, and one more at the end."""

    def __init__(self, fail_at: int | None = None) -> None:
        self._fail_at = fail_at
        self.seen: list[int] = []

    def process(self, record: Record) -> Iterable[Record]:
        if isinstance(record, StreamInfo):
            return [record]
        if isinstance(record, Crop):
            if record.frame == self._fail_at:
                raise UsageError("enough")
            assert record.image is not None
            assert record.image[0, 0] == record.frame % 251
            self.seen.append(record.frame)
            return [score(record.frame)]
        return []

    def flush(self) -> Iterable[Record]:
        return [score(10**6)]

    def snapshot(self) -> bytes:
        return b""

    def restore(self, data: bytes) -> None:
        pass


class Passing(Counting):
    """A second stage, which only notes what it gets."""

    def process(self, record: Record) -> Iterable[Record]:
        if isinstance(record, Score):
            self.seen.append(record.frame)
        return []

    def flush(self) -> Iterable[Record]:
        return []


def score(frame: int) -> Score:
    return Score(source="x", frame=frame, number=frame, frame_to=frame, t_capture_s=0, t_score_s=0, spot=0.0)


class Collecting(Sink):
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.positions: dict[str, int] = {}
        self.durations: dict[str, int] = {}

        self.notes: list[str] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, stage: str, frame: int) -> None:
        assert frame >= self.positions.get(stage, -1)
        self.positions[stage] = frame

    def observe(self, stage: str, duration_s: float) -> None:
        assert duration_s > 0
        self.durations[stage] = self.durations.get(stage, 0) + 1


def run(source: Frames, first: Counting, second: Passing, sink: Collecting, queue: int = 4) -> StreamEnd:
    stages = [("first", first), ("second", second)]
    return run_embedded(source, Carrier(), stages, [sink], PipelineSettings(queue_records=queue))  # type: ignore[arg-type]


@pytest.mark.parametrize("queue", [1, 4, 1000])
def test_every_frame_reaches_every_stage_and_the_sink_once_in_order(queue: int) -> None:
    n = 500
    first, second, sink = Counting(), Passing(), Collecting()
    end = run(Frames(n), first, second, sink, queue)
    assert end == StreamEnd(source="x", frames=n, reason="end")
    assert first.seen == list(range(n))
    assert second.seen == [*range(n), 10**6]
    assert [r.frame for r in sink.records if isinstance(r, Crop)] == list(range(n))
    assert [r.frame for r in sink.records if isinstance(r, Score)] == [*range(n), 10**6]
    assert isinstance(sink.records[0], StreamInfo)
    assert sum(isinstance(r, StreamEnd) for r in sink.records) == 1
    assert sink.positions == {"reader": n - 1, "first": n - 1, "second": n - 1}
    assert sink.durations["reader"] == n
    assert sink.durations["capture"] == n


def test_what_is_known_of_the_source_at_its_end_reaches_the_sinks_once() -> None:
    source, sink = Frames(30), Collecting()
    source.clock_fit = "the fit"
    run(source, Counting(), Passing(), sink)
    assert sink.notes == ["the fit"]


def test_a_failing_stage_ends_the_run_with_its_error_and_keeps_what_came_before() -> None:
    sink = Collecting()
    with pytest.raises(UsageError, match="enough"):
        run(Frames(100_000), Counting(fail_at=50), Passing(), sink)
    assert [r.frame for r in sink.records if isinstance(r, Score)] == list(range(50))


def test_a_failing_source_ends_the_run_with_its_error() -> None:
    sink = Collecting()
    with pytest.raises(CaptureError, match="cable"):
        run(Frames(100, error_at=30), Counting(), Passing(), sink)
    assert [r.frame for r in sink.records if isinstance(r, Crop)] == list(range(30))
    assert [r.frame for r in sink.records if isinstance(r, Score)] == [*range(30), 10**6], (
        "all that was read is finished"
    )
    assert any(isinstance(r, StreamEnd) for r in sink.records)


def test_a_failing_sink_ends_the_run_with_its_error() -> None:
    class Full(Collecting):
        def write(self, record: Record) -> None:
            super().write(record)
            if len(self.records) > 20:
                raise UsageError("disk full")

    with pytest.raises(UsageError, match="disk full"):
        run(Frames(100_000), Counting(), Passing(), Full())


def test_stopping_finishes_all_that_was_read() -> None:
    source, first, second = Frames(1_000_000), Counting(), Passing()

    class Stopping(Collecting):
        def advance(self, stage: str, frame: int) -> None:
            if stage == "second" and frame >= 100:
                source.stop()

    end = run(source, first, second, Stopping())
    assert end.reason == "stopped"
    assert end.frames < 1_000_000
    assert first.seen == list(range(end.frames))
    assert second.seen == [*range(end.frames), 10**6]


def test_a_bug_in_a_stage_is_reported_as_one() -> None:
    class Broken(Counting):
        def process(self, record: Record) -> Iterable[Record]:
            raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="stage first failed: ZeroDivisionError"):
        run(Frames(10), Broken(), Passing(), Collecting())


def test_a_source_without_frames() -> None:
    sink = Collecting()
    assert run(Frames(0), Counting(), Passing(), sink).frames == 0
    assert [type(r) for r in sink.records if not isinstance(r, Score)] == [StreamInfo, StreamEnd]
