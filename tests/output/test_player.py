from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
import zmq

from megc_stream.clock import ManualClock, MonotonicClock
from megc_stream.errors import UsageError, WireError
from megc_stream.output.player import Player
from megc_stream.output.recording import RecordingHeader, RecordingJoin, RecordingReader, RecordingWriter
from megc_stream.records import Event
from megc_stream.settings import WireSettings
from megc_stream.wire import Publisher, Subscriber
from megc_stream.wire.protocol import EventMessage, topic_of

MakeEvent = Callable[..., Event]


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


@pytest.fixture
def recording(context: zmq.Context, make_event: MakeEvent, tmp_path: Path) -> Path:
    """Ten events published 0.5 s apart, then a second session with a foreign message."""
    path = tmp_path / "a.megc"
    clock = ManualClock(1000.0)
    header = RecordingHeader(
        recorder="ab" * 16, session="s1", schema="f00", began_unix_s=2e9, unix_minus_clock_s=2e9 - 1000
    )
    with RecordingWriter(path, header, clock=clock) as writer:
        publisher = Publisher(context, WireSettings(), clock=clock, session="s1")
        publisher.listeners.append(lambda parts: writer.append(writer.last_n + 1, writer.last_n, tuple(parts)))
        for n in range(10):
            publisher.publish(topic_of("event", "onset", "cam0"), "event", "cam0", make_event(n + 1), 999.0 + n)
            publisher.greet()
            clock.advance_s(0.5)
        publisher.close()
        writer.note(RecordingJoin(t_s=5.0, session="s2", schema="f11", next_n=0, why="joined", unix_minus_clock_s=5.0))
        writer.append(0, -1, (b"foreign.", b"\xc1no msgpack", b"raw"))
    return path


class Listener:
    """A bare subscriber on a thread of its own."""

    def __init__(self, context: zmq.Context, endpoint: str, last: bytes) -> None:
        self.got: list[list[bytes]] = []
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(endpoint)
        self._last = last
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while self._socket.poll(10_000):
            self.got.append(self._socket.recv_multipart())
            if self.got[-1][0] == self._last:
                break

    def finish(self) -> list[list[bytes]]:
        self._thread.join(20)
        self._socket.close()
        return self.got


def play(context: zmq.Context, path: Path, **options: object) -> tuple[list[list[bytes]], float, str]:
    """Play to one listener on a clock that does not wait; return what it got, the time played, and the clock's name."""
    clock = MonotonicClock()
    with RecordingReader(path) as reader:
        player = Player(context, reader, "tcp://127.0.0.1:*", clock=clock)
        listener = Listener(context, player.endpoint, b"foreign.")
        try:
            player.wait_for_subscriber(10)
            player._clock = ManualClock(50.0)
            result = player.play(**options)  # type: ignore[arg-type]
        finally:
            player.close()
        assert result.complete
        return listener.finish(), result.seconds, player._clock_id


def test_messages_go_out_as_they_were_apart_from_the_clock_and_hello(context: zmq.Context, recording: Path) -> None:
    with RecordingReader(recording) as reader:
        recorded = [message.parts for message in reader.messages()]
    got, seconds, clock_id = play(context, recording)
    played = [parts for parts in got if parts[0] not in (b"meta.hello.", b"meta.welcome.")]
    expected = [parts for parts in recorded if parts[0] != b"meta.hello."]
    assert len(played) == len(expected) == 11
    for was, now in zip(expected[:-1], played[:-1], strict=True):
        assert now[0] == was[0]
        before, after = msgpack.unpackb(was[1]), msgpack.unpackb(now[1])
        assert after.pop("clock") == clock_id == "replay-abababababab"
        del before["clock"]
        assert after == before
        assert list(after) == list(before)
    assert played[-1] == list(expected[-1])
    # Nine pauses of 0.5 s; the foreign message arrived 0.5 s after the one before it.
    assert seconds == pytest.approx(5.0, abs=0.06)
    hellos = [msgpack.unpackb(parts[1]) for parts in got if parts[0] == b"meta.hello."]
    assert hellos[0]["session"] == "s1"
    assert hellos[0]["hello"]["unix_minus_clock_s"] == 2e9 - 1000
    assert hellos[0]["hello"]["schema"] == "f00"
    assert hellos[0]["clock"] == clock_id


@pytest.mark.parametrize(("options", "seconds"), [({"speed": 2.0}, 2.5), ({"speed": 0.0}, 0.0)])
def test_the_pace_follows_speed(
    context: zmq.Context, recording: Path, options: dict[str, float], seconds: float
) -> None:
    assert play(context, recording, **options)[1] == pytest.approx(seconds, abs=0.06)


def test_our_subscriber_works_with_it(context: zmq.Context, recording: Path) -> None:
    lines: list[str] = []
    with RecordingReader(recording) as reader:
        player = Player(context, reader, "tcp://127.0.0.1:*")
        done = threading.Event()

        def run() -> None:
            player.wait_for_subscriber(10)
            player.play(speed=100.0, stopped=done.is_set)
            while not done.is_set():
                player._rest(player._clock.now_s() + 0.01)
            player.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            with Subscriber(player.endpoint, ("event.",), context=context, warn=lines.append) as subscriber:
                hello = subscriber.wait_for_welcome(10)
                assert hello.endpoints == {"events": player.endpoint, "frames": player.endpoint}
                events = []
                while len(events) < 10:
                    message = subscriber.receive(10)
                    assert isinstance(message, EventMessage)
                    events.append(message)
                assert [message.seq for message in events] == list(range(10))
                assert subscriber.gaps == 0
                assert subscriber.malformed == 0
        finally:
            done.set()
            thread.join(20)
    assert lines == []


def test_nobody_listening_is_said_after_a_while(context: zmq.Context, recording: Path) -> None:
    with RecordingReader(recording) as reader:
        player = Player(context, reader, "tcp://127.0.0.1:*", clock=ManualClock())
        with pytest.raises(WireError, match="nobody subscribed within 5 s"):
            player.wait_for_subscriber(5)
        player.close(at_once=True)
        with pytest.raises(UsageError, match="other hosts could read it"):
            Player(context, reader, "tcp://0.0.0.0:*")


def test_a_long_pause_is_cut_and_said_so(context: zmq.Context, tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    clock = ManualClock()
    header = RecordingHeader(recorder="ab" * 16, session="s", schema="", began_unix_s=0.0)
    with RecordingWriter(path, header, clock=clock) as writer:
        writer.append(0, -1, (b"a.",))
        clock.advance_s(8 * 3600)
        writer.append(1, 0, (b"b.",))
    lines: list[str] = []
    with RecordingReader(path) as reader:
        player = Player(context, reader, "inproc://player", clock=ManualClock(), warn=lines.append)
        result = player.play()
        player.close(at_once=True)
    assert result.messages == 2
    assert result.seconds == pytest.approx(10)
    assert lines == ["a pause of 28800 s in the recording is cut to 10 s"]


def test_playing_from_the_middle(context: zmq.Context, recording: Path) -> None:
    with RecordingReader(recording) as reader:
        player = Player(context, reader, "inproc://player", clock=ManualClock())
        assert player.play(start_s=3.1).messages == 4
        player.close(at_once=True)
