"""Recording over a real link: a publisher on a thread of its own, recorders in this process and in others."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from megc_stream.errors import OutputError, WireError
from megc_stream.output.recorder import RecordingResult, record_stream
from megc_stream.output.recording import (
    Damage,
    Fsync,
    RecordedMessage,
    RecordingEnd,
    RecordingHeader,
    RecordingJoin,
    RecordingLoss,
    RecordingReader,
    RecordingWriter,
)
from megc_stream.wire.tap import Tap, TapReader

ID = "ab" * 16


class Station:
    """A publisher on a thread of its own: publishes numbered messages on demand, and notes what is acknowledged."""

    def __init__(self, context: zmq.Context, endpoint: str = "tcp://127.0.0.1:*", **options: object) -> None:
        self.alarms: list[str] = []
        self.sent: list[tuple[bytes, ...]] = []
        self.acknowledged = -1
        self.endpoint = ""
        self._wanted = 0
        self._ending = threading.Event()
        self._ready = threading.Event()
        self._joined = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(context, endpoint, options))
        self._thread.start()
        assert self._ready.wait(10)

    def publish(self, count: int) -> None:
        """Publish so many more messages, as fast as it goes."""
        self._wanted += count

    def wait_for_recorder(self) -> None:
        assert self._joined.wait(20)

    def end(self) -> None:
        """Publish what is left, say that the stream is over, and close."""
        self._ending.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self, context: zmq.Context, endpoint: str, options: dict[str, object]) -> None:
        with Tap(
            context,
            endpoint,
            session="s1",
            schema="f00",
            on_alarm=self.alarms.append,
            **options,  # type: ignore[arg-type]
        ) as tap:
            self.endpoint = tap.endpoint
            self._listen_to(tap)
            self._ready.set()
            while not (self._ending.is_set() and len(self.sent) >= self._wanted):
                tap.serve()
                if len(self.sent) < self._wanted:
                    n = len(self.sent)
                    parts = (f"event.{n % 3}.".encode(), n.to_bytes(4, "big"), bytes(n % 300))
                    self.sent.append(parts)
                    tap(list(parts))
                else:
                    tap._socket.poll(5)

    def _listen_to(self, tap: Tap) -> None:
        """Note what recorders say, the last word of one that leaves included."""
        take = tap._take

        def noting(identity: bytes, said: Any) -> None:
            before = tap._recorders.get(identity)
            take(identity, said)
            recorder = tap._recorders.get(identity, before)
            if recorder is not None:
                self._joined.set()
                self.acknowledged = max(self.acknowledged, recorder.acked)

        tap._take = noting  # type: ignore[method-assign]


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


@pytest.fixture
def station(context: zmq.Context) -> Iterator[Station]:
    made = Station(context)
    yield made
    made.end()


def record(
    context: zmq.Context,
    station: Station,
    path: Path,
    *,
    open_file: Callable[[RecordingHeader], RecordingWriter] | None = None,
    topics: tuple[str, ...] = (),
    fsync: Fsync = 0.02,
    window: int = 64,
    **options: object,
) -> RecordingResult:
    with TapReader(context, station.endpoint, recorder=ID, topics=topics, window=window) as reader:
        make = open_file or (lambda header: RecordingWriter(path, header, fsync=fsync))
        return record_stream(reader, make, ID, topics=topics, **options)  # type: ignore[arg-type]


def read(path: Path) -> list[object]:
    with RecordingReader(path) as reader:
        return [entry.item for entry in reader.entries()]


def messages(path: Path) -> list[RecordedMessage]:
    return [item for item in read(path) if isinstance(item, RecordedMessage)]


@pytest.mark.parametrize("fsync", ["always", "never", 0.02])
def test_everything_from_the_join_on_is_recorded(
    context: zmq.Context, station: Station, tmp_path: Path, fsync: Fsync
) -> None:
    path = tmp_path / "a.megc"
    helper = threading.Thread(target=lambda: (station.wait_for_recorder(), station.publish(300), station.end()))
    helper.start()
    counts: list[int] = []
    result = record(context, station, path, fsync=fsync, progress=counts.append)
    helper.join()
    assert result == RecordingResult(messages=300, lost=0, sessions=1, why="over")
    assert counts[-1] == 300
    header, joined, *recorded, end = read(path)
    assert isinstance(header, RecordingHeader)
    assert (header.recorder, header.session, header.schema, header.endpoint) == (ID, "s1", "f00", station.endpoint)
    assert isinstance(joined, RecordingJoin)
    assert [item.parts for item in recorded] == station.sent  # type: ignore[attr-defined]
    assert [(item.n, item.after) for item in recorded] == [(n, n - 1) for n in range(300)]  # type: ignore[attr-defined]
    assert isinstance(end, RecordingEnd)
    assert (end.messages, end.why) == (300, "over")
    assert station.alarms == []


def test_only_the_topics_asked_for(context: zmq.Context, station: Station, tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    helper = threading.Thread(target=lambda: (station.wait_for_recorder(), station.publish(90), station.end()))
    helper.start()
    result = record(context, station, path, topics=("event.1.",))
    helper.join()
    assert (result.messages, result.lost) == (30, 0)
    assert {item.parts[0] for item in messages(path)} == {b"event.1."}
    assert [item.n for item in messages(path)] == list(range(1, 90, 3))


def test_stopping_acknowledges_all_and_leaves(context: zmq.Context, station: Station, tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    seen: list[int] = []

    def progress(count: int) -> None:
        seen.append(count)
        if count == 0 and station._joined.is_set() and not station._wanted:
            station.publish(50)

    result = record(
        context, station, path, progress=progress, stopped=lambda: bool(seen) and seen[-1] >= 50, window=4096
    )
    assert (result.messages, result.why) == (50, "stopped")
    station.end()
    assert station.acknowledged == 49
    assert station.alarms == []


def test_nobody_there_is_said_in_one_line(context: zmq.Context, tmp_path: Path) -> None:
    with (
        TapReader(context, "tcp://127.0.0.1:1", recorder=ID) as reader,
        pytest.raises(WireError, match=r"tcp://127.0.0.1:1: no publisher answered within 0.1 s"),
    ):
        record_stream(reader, lambda header: RecordingWriter(tmp_path / "a.megc", header), ID, timeout_s=0.1)
    assert not (tmp_path / "a.megc").exists()


class FillingUp:
    """A file on a disk with so much room."""

    def __init__(self, inner: object, room: int) -> None:
        self.inner = inner
        self.room = room

    def write(self, data: bytes) -> int:
        if self.room < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return self.inner.write(data)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_a_full_disk_stops_the_recording_with_an_alarm_and_the_publisher_goes_on(
    context: zmq.Context, station: Station, tmp_path: Path
) -> None:
    path = tmp_path / "a.megc"

    def open_file(header: RecordingHeader) -> RecordingWriter:
        writer = RecordingWriter(path, header, fsync=10.0)
        writer._file = FillingUp(writer._file, 20_000)  # type: ignore[assignment]
        return writer

    helper = threading.Thread(target=lambda: (station.wait_for_recorder(), station.publish(300)))
    helper.start()
    with pytest.raises(OutputError, match="No space left"):
        record(context, station, path, open_file=open_file)
    helper.join()
    station.end()
    assert len(station.sent) == 300
    assert len(station.alarms) == 1
    assert "recording stopped" in station.alarms[0]
    assert "No space left" in station.alarms[0]
    recorded = messages(path)
    assert [item.parts for item in recorded] == station.sent[: len(recorded)]
    assert station.acknowledged == len(recorded) - 1 > 50
    assert not any(isinstance(item, Damage) for item in read(path))


def test_a_slow_recorder_loses_messages_says_so_and_goes_on(context: zmq.Context, tmp_path: Path) -> None:
    station = Station(context, keep_bytes=2000)
    path = tmp_path / "a.megc"
    lines: list[str] = []
    hold = threading.Event()

    def progress(count: int) -> None:
        # Slow: while this callback lasts, nothing is acknowledged.
        if count and not hold.is_set():
            station.publish(200)
            for _ in range(4000):
                if station.alarms:
                    break
                threading.Event().wait(0.005)
            hold.set()
        if lines and lines[-1].endswith("has a gap") and station._wanted == 210:
            station.publish(5)

    helper = threading.Thread(target=lambda: (station.wait_for_recorder(), station.publish(10)))
    helper.start()
    result = record(
        context,
        station,
        path,
        progress=progress,
        warn=lines.append,
        window=2,
        stopped=lambda: path.exists() and bool(found := messages(path)) and found[-1].n == 214,
    )
    helper.join()
    station.end()
    assert len(station.alarms) == 1
    losses = [item for item in read(path) if isinstance(item, RecordingLoss)]
    assert sum(loss.last_n - loss.first_n + 1 for loss in losses) == result.lost > 100
    recorded = {item.n for item in messages(path)}
    lost = {n for loss in losses for n in range(loss.first_n, loss.last_n + 1)}
    assert recorded | lost == set(range(215))
    assert not recorded & lost


def test_keeping_on_records_the_next_stream_too(context: zmq.Context, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/tap"
    path = tmp_path / "a.megc"
    first = Station(context, endpoint)

    def run() -> None:
        first.wait_for_recorder()
        first.publish(10)
        first.end()
        second = Station(context, endpoint)
        second.wait_for_recorder()
        second.publish(20)
        second.end()

    helper = threading.Thread(target=run)
    helper.start()
    lines: list[str] = []
    seen: list[int] = []
    result = record(
        context,
        first,
        path,
        keep=True,
        warn=lines.append,
        progress=seen.append,
        stopped=lambda: bool(seen) and seen[-1] == 30,
    )
    helper.join()
    assert (result.messages, result.sessions, result.lost) == (30, 2, 0)
    assert [item.n for item in messages(path)] == [*range(10), *range(20)]
    assert "a new stream began" in lines[-1]


_RECORDER = """
import sys
from pathlib import Path
import zmq
from megc_stream.output.recorder import record_stream
from megc_stream.output.recording import RecordingWriter
from megc_stream.wire.tap import TapReader
endpoint, path, recorder = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
writer, numbering, last_n = None, "", -1
if path.exists():
    writer = RecordingWriter(path, None, fsync=0.005)
    numbering, last_n = writer.numbering, writer.last_n
with zmq.Context() as context:
    with TapReader(context, endpoint, recorder=recorder, numbering=numbering, after=last_n, window=32) as reader:
        record_stream(reader, lambda header: writer or RecordingWriter(path, header, fsync=0.005), recorder)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("kills", [int(os.environ.get("MEGC_TEST_KILLS") or 2)])
def test_a_recorder_killed_at_any_moment_loses_nothing_acknowledged_and_goes_on(
    context: zmq.Context, tmp_path: Path, kills: int
) -> None:
    station = Station(context)
    path = tmp_path / "a.megc"
    dice = random.Random(kills)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", _RECORDER, station.endpoint, str(path), ID]))
        return started[-1]

    def wait_until(reached: Callable[[], bool]) -> None:
        for _ in range(4000):
            if reached():
                return
            assert started[-1].poll() is None, "the recorder ended by itself"
            threading.Event().wait(0.005)
        raise AssertionError("did not happen")

    try:
        process = start()
        station.wait_for_recorder()
        for _ in range(kills):
            goal = station.acknowledged + dice.randint(1, 400)
            station.publish(goal + 200 - len(station.sent) if goal + 200 > len(station.sent) else 1)
            wait_until(lambda goal=goal: station.acknowledged >= goal)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            # Whatever is acknowledged now was so before the kill; later ones cannot come.
            acknowledged = station.acknowledged
            recorded = messages(path)
            assert [item.n for item in recorded] == list(range(len(recorded)))
            assert len(recorded) > acknowledged
            process = start()
            wait_until(lambda: station.acknowledged >= len(station.sent) - 1)
        station.publish(100)
        station.end()
        assert process.wait(20) == 0
    finally:
        for process in started:
            process.kill()
            process.wait(10)
        station.end()
    assert [item.parts for item in messages(path)] == station.sent
    assert station.alarms == []
    items = read(path)
    assert not any(isinstance(item, Damage | RecordingLoss) for item in items)
