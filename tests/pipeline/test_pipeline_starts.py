"""How stages and coordinator find together: both sides played by hand, word by word."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import zmq

from megc_stream.errors import MegcError, WireError
from megc_stream.packing import pack
from megc_stream.pipeline import stage_link
from megc_stream.pipeline.coordinator import Coordinator
from megc_stream.pipeline.orders import Beat, Begin, Orders, unpack_from_coordinator, unpack_from_stage
from megc_stream.pipeline.stage_link import StageLink
from megc_stream.records import StreamInfo
from megc_stream.settings import PipelineSettings
from megc_stream.wire.security import PLAIN

INFO = StreamInfo(source="x", subject="x", video="x", fps=100.0, width=8, height=8, live=True)
LIMIT_MS = 60_000


class Actor:
    """Plays a stage to a real coordinator."""

    def __init__(self, context: zmq.Context[Any], source: str, stage: str) -> None:
        self._beat = Beat(source=source, stage=stage, instance="only")
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.RCVTIMEO, LIMIT_MS)
        self._socket.connect("inproc://c")

    def says(self, **state: Any) -> tuple[Begin | None, Orders]:
        """Send a beat and return what comes back."""
        while self._socket.poll(0):
            self._socket.recv_multipart()  # orders that came unasked
        self._socket.send(pack(msgspec.structs.replace(self._beat, **state)))
        begin = None
        while True:
            word = unpack_from_coordinator(self._socket.recv_multipart()[-1])
            if isinstance(word, Orders):
                return begin, word
            begin = word

    def close(self) -> None:
        self._socket.close(0)


class Play:
    """A coordinator that runs on a thread, and actors for all its stages."""

    def __init__(self, context: zmq.Context[Any], sources: tuple[str, ...]) -> None:
        stages = dict.fromkeys(sources, ("reader", "adder"))
        self.coordinator = Coordinator(
            context,
            "inproc://c",
            stages,
            PipelineSettings(),
            launch=None,
            on_info=lambda source, info, warnings: {},
        )
        self.publisher = Actor(context, "", "publisher")
        self.readers = {source: Actor(context, source, "reader") for source in sources}
        self.adders = {source: Actor(context, source, "adder") for source in sources}
        self.summaries: dict[str, bytes] = {}
        self.error: MegcError | None = None
        self._turns = threading.Semaphore(0)
        look_after = self.coordinator._look_after

        def looking() -> None:
            self._turns.release()
            look_after()

        self.coordinator._look_after = looking  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.summaries = self.coordinator.run()
        except MegcError as error:
            self.error = error
        finally:
            self._turns.release(100)

    def turns(self) -> None:
        """Return when the coordinator has gone round its loop, or has ended."""
        while self._turns.acquire(blocking=False):
            pass
        for _ in range(2):
            assert self._turns.acquire(timeout=LIMIT_MS / 1000)

    def comes_up(self) -> None:
        """Everybody comes; nobody but the readers has got ready."""
        for reader in self.readers.values():
            begin, orders = reader.says(info=INFO)
            assert begin is None
            assert not orders.down, "nothing is being restarted: a camera has no frames to drop"
        for other in (*self.adders.values(), self.publisher):
            assert other.says()[0] is not None
            assert other.says(begun=True)[0] is None

    def gets_ready(self) -> None:
        for other in (*self.adders.values(), self.publisher):
            assert other.says(begun=True, ready=True)[0] is None

    def ends(self) -> None:
        if self._thread.is_alive():
            self.publisher.says(begun=True, ready=True, ended=True, summaries=dict.fromkeys(self.readers, b"over"))
        self._thread.join(LIMIT_MS / 1000)
        for actor in (self.publisher, *self.readers.values(), *self.adders.values()):
            actor.close()


@pytest.fixture
def play() -> Iterator[Callable[..., Play]]:
    with zmq.Context() as context:
        made: list[Play] = []

        def make(*sources: str) -> Play:
            made.append(Play(context, sources))
            return made[-1]

        yield make
        for one in made:
            one.ends()


@pytest.mark.parametrize("last", ["adder", "publisher"])
def test_readers_begin_when_everybody_takes_records(play: Callable[..., Play], last: str) -> None:
    made = play("x")
    made.comes_up()
    both = {"adder": made.adders["x"], "publisher": made.publisher}
    both.pop(last).says(begun=True)
    [other] = both.values()
    other.says(begun=True, ready=True)
    assert made.readers["x"].says(info=INFO)[0] is None, "its link is there, the stage still loads"
    made.gets_ready()
    assert made.readers["x"].says(info=INFO)[0] == Begin(n=-1)


def test_a_stage_that_comes_back_holds_the_reader_until_its_link_is_there(play: Callable[..., Play]) -> None:
    made = play("x")
    made.comes_up()
    made.gets_ready()
    reader, adder = made.readers["x"], made.adders["x"]
    reader.says(info=INFO)
    begin, _ = adder.says(instance="another")
    assert begin is not None
    assert reader.says(info=INFO, begun=True)[1].down
    adder.says(instance="another", begun=True)
    assert not reader.says(info=INFO, begun=True)[1].down, "what comes while it loads waits on the links"


def test_stopping_before_any_reader_has_begun_ends_the_run(play: Callable[..., Play]) -> None:
    made = play("left", "right")
    made.comes_up()
    made.coordinator.stop()
    made._thread.join(LIMIT_MS / 1000)
    assert "nothing was analysed" in str(made.error)


def test_stopping_while_a_source_is_read_lets_the_other_begin_and_end(play: Callable[..., Play]) -> None:
    made = play("left", "right")
    made.comes_up()
    made.gets_ready()
    left, right = made.readers["left"], made.readers["right"]
    assert left.says(info=INFO)[0] is not None
    made.coordinator.stop()
    made.turns()
    assert made.error is None, "what was read is finished"
    assert left.says(info=INFO, begun=True)[1].stopped
    begin, orders = right.says(info=INFO)
    assert begin is not None
    assert orders.stopped
    made.ends()
    assert made.error is None
    assert made.summaries == {"left": b"over", "right": b"over"}


@contextmanager
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StageLink, zmq.Socket[bytes], list[float]]]:
    """A real link, the socket that plays its coordinator, and the time, which nobody moves but the test."""
    now = [1000.0]
    monkeypatch.setattr(stage_link, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.RCVTIMEO, LIMIT_MS)
        socket.bind("inproc://c")
        made = StageLink(context, "inproc://c", PLAIN, "x", "reader", silent_s=1000.0)
        try:
            yield made, socket, now
        finally:
            made.close()


def test_a_stage_waits_for_its_begin_as_long_as_the_coordinator_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with link(monkeypatch) as (made, socket, now):
        real_wait = made._answered.wait
        waits: list[float] = []

        def wait(timeout_s: float) -> bool:
            """Let 100 s pass, in which the coordinator answers; the fifth time it has the word that is waited for."""
            waits.append(timeout_s)
            now[0] += 100.0
            identity, _ = socket.recv_multipart()
            socket.send_multipart([identity, pack(Orders() if len(waits) < 5 else Begin(n=7))])
            while made._heard_s != now[0]:
                real_wait(0.001)
            return len(waits) == 5 and real_wait(LIMIT_MS / 1000)

        monkeypatch.setattr(made._answered, "wait", wait)
        assert made.wait_for_begin(120.0) == Begin(n=7)
        assert len(waits) == 5


def test_a_stage_does_not_wait_for_a_coordinator_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with link(monkeypatch) as (made, _, now):
        now[0] += 121.0
        with pytest.raises(WireError, match="no answer from the coordinator at inproc://c within 120 s"):
            made.wait_for_begin(120.0)


def test_a_stage_that_is_told_to_end_before_it_began_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with link(monkeypatch) as (made, socket, _):
        identity, data = socket.recv_multipart()
        assert unpack_from_stage(data) == Beat(source="x", stage="reader", instance=made._instance)
        socket.send_multipart([identity, pack(Orders(quit="the camera is gone"))])
        with pytest.raises(WireError, match="stage reader: told to end before it began: the camera is gone"):
            made.wait_for_begin(120.0)
        monkeypatch.setattr(made._told, "wait", lambda timeout_s: pytest.fail("nobody listens"))
        made.fail(WireError("its last words"))
