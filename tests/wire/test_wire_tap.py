from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_keys import Keys

from megc_stream.errors import UsageError, WireError
from megc_stream.wire import authenticator
from megc_stream.wire import tap as tap_module
from megc_stream.wire.tap import Tap, TapDropped, TapMessage, TapOver, TapReader, TapWelcome

RECORDER = "recorder-1"
TRIES = 500


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


@pytest.fixture
def alarms() -> list[str]:
    return []


@pytest.fixture
def tap(context: zmq.Context, alarms: list[str]) -> Iterator[Tap]:
    with Tap(
        context,
        "tcp://127.0.0.1:*",
        session="s1",
        schema="f00",
        keep_bytes=10_000,
        on_alarm=alarms.append,
        beginning_s=0.0,
    ) as made:
        made._numbering = "n1"
        yield made
        made._recorders.clear()


@pytest.fixture
def join(context: zmq.Context, tap: Tap) -> Iterator[Callable[..., TapReader]]:
    made: list[TapReader] = []

    def connect(**options: object) -> TapReader:
        reader = TapReader(context, tap.endpoint, **{"recorder": RECORDER, **options})  # type: ignore[arg-type]
        made.append(reader)
        return reader

    yield connect
    for reader in made:
        reader.close()


def next_of(tap: Tap, reader: TapReader) -> TapWelcome | TapMessage | TapDropped | TapOver:
    for _ in range(TRIES):
        tap.serve()
        said = reader.receive(0.01)
        if said is not None:
            return said
    raise AssertionError("nothing came")


def settle(tap: Tap, until: Callable[[], bool]) -> None:
    for _ in range(TRIES):
        tap.serve()
        if until():
            return
        tap._socket.poll(10)
    raise AssertionError("did not happen")


def message(n: int, size: int = 10) -> list[bytes]:
    return [f"t.{n}.".encode(), bytes(size), b"raw"]


def test_messages_arrive_in_order_and_whole_from_the_join_on(tap: Tap, join: Callable[..., TapReader]) -> None:
    for n in range(3):
        tap(message(n))
    reader = join()
    welcome = next_of(tap, reader)
    assert isinstance(welcome, TapWelcome)
    assert (welcome.session, welcome.schema, welcome.next_n, welcome.lost) == ("s1", "f00", 3, 0)
    for n in range(3, 100):
        tap(message(n))
    for n in range(3, 100):
        said = next_of(tap, reader)
        assert said == TapMessage(n=n, after=n - 1, parts=tuple(message(n)))
        reader.acknowledge(n)
    settle(tap, lambda: tap.status.backlog == 0)
    assert tap._kept == {}
    assert tap._kept_bytes == 0
    assert tap.status.state == "recording"


def test_without_a_recorder_nothing_is_kept(tap: Tap) -> None:
    for n in range(1000):
        tap(message(n, 1000))
    assert tap._kept == {}
    assert tap.status == msgspec.structs.replace(tap.status, state="idle", clients=0, backlog=0, lost=0)


@pytest.mark.parametrize(("count", "first"), [(10, 0), (1000, 1000)])
def test_who_joins_early_gets_the_beginning_as_far_as_it_may_be_kept(
    context: zmq.Context, count: int, first: int
) -> None:
    """A recorder that waited for the stream needs a moment to connect: what is published meanwhile is kept."""
    endpoint = "inproc://beginning"
    with (
        Tap(context, endpoint, session="s", schema="", keep_bytes=10_000, beginning_s=3600.0) as tap,
        TapReader(context, endpoint, recorder=RECORDER) as reader,
    ):
        for n in range(count):
            tap(message(n))
        welcome = next_of(tap, reader)
        assert isinstance(welcome, TapWelcome)
        assert (welcome.next_n, welcome.lost) == (first, 0)
        tap(message(count))
        assert [next_of(tap, reader).n for _ in range(first, count + 1)] == list(range(first, count + 1))  # type: ignore[union-attr]
        reader.acknowledge(count)
        settle(tap, lambda: tap.status.backlog == 0)
        tap._beginning_until_s = 0.0
        tap.serve()
        assert tap._kept == {}
        tap._recorders.clear()


def test_a_recorder_gets_what_it_asked_for_and_the_rest_is_not_kept(tap: Tap, join: Callable[..., TapReader]) -> None:
    reader = join(topics=("event.", "log."))
    next_of(tap, reader)
    for n in range(200):
        tap([b"event.a." if n % 50 == 0 else b"metric.", bytes(10)])
    for n in (0, 50, 100, 150):
        said = next_of(tap, reader)
        assert isinstance(said, TapMessage)
        assert (said.n, said.after) == (n, n - 50 if n else -1)
        reader.acknowledge(n)
    settle(tap, lambda: tap._kept == {})


def test_credit_limits_what_is_under_way(tap: Tap, join: Callable[..., TapReader]) -> None:
    reader = join(window=3)
    next_of(tap, reader)
    for n in range(10):
        tap(message(n))
    assert [next_of(tap, reader).n for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]
    tap.serve()
    assert reader.receive(0.05) is None
    reader.acknowledge(1)
    assert [next_of(tap, reader).n for _ in range(2)] == [3, 4]  # type: ignore[union-attr]


def test_a_recorder_that_connects_again_goes_on_where_it_was(tap: Tap, join: Callable[..., TapReader]) -> None:
    first = join()
    next_of(tap, first)
    for n in range(20):
        tap(message(n))
    for _ in range(10):
        next_of(tap, first)
    first.acknowledge(6)
    settle(tap, lambda: tap.status.backlog == 13)
    first.close()
    for n in range(20, 30):
        tap(message(n))
    second = join(numbering="n1", after=6)
    welcome = next_of(tap, second)
    assert isinstance(welcome, TapWelcome)
    assert (welcome.next_n, welcome.lost) == (7, 0)
    for n in range(7, 30):
        said = next_of(tap, second)
        assert isinstance(said, TapMessage)
        assert (said.n, said.after, said.parts) == (n, n - 1, tuple(message(n)))


def test_a_recorder_of_another_session_or_time_starts_afresh(tap: Tap, join: Callable[..., TapReader]) -> None:
    for n in range(5):
        tap(message(n))
    welcome = next_of(tap, join(recorder="x", numbering="n0", after=3))
    assert isinstance(welcome, TapWelcome)
    assert (welcome.next_n, welcome.lost) == (5, 0)
    welcome = next_of(tap, join(recorder="y", numbering="n1", after=1))
    assert isinstance(welcome, TapWelcome)
    assert (welcome.next_n, welcome.lost) == (5, 3)


def test_one_that_falls_too_far_behind_is_given_up_with_an_alarm(
    tap: Tap, join: Callable[..., TapReader], alarms: list[str]
) -> None:
    slow, quick = join(recorder="slow", window=5), join(recorder="quick")
    next_of(tap, slow)
    next_of(tap, quick)
    for n in range(300):
        tap(message(n, 100))
        said = next_of(tap, quick)
        assert isinstance(said, TapMessage)
        quick.acknowledge(n)
        assert tap._kept_bytes <= 10_000
    assert len(alarms) == 1
    assert "given up: it fell more than" in alarms[0]
    assert tap.status.clients == 1
    assert tap.status.lost > 50
    # It is told so, comes back by itself, and hears how much it missed.
    for n in range(5):
        said = next_of(tap, slow)
        assert isinstance(said, TapMessage)
        assert said.n == n
    assert isinstance(next_of(tap, slow), TapDropped)
    settle(tap, lambda: tap.status.backlog == 0)
    welcome = next_of(tap, slow)
    assert isinstance(welcome, TapWelcome)
    assert (welcome.next_n, welcome.lost) == (300, 295)
    tap(message(300))
    said = next_of(tap, slow)
    assert isinstance(said, TapMessage)
    assert (said.n, said.after) == (300, 299)


def test_a_silent_recorder_is_given_up(
    tap: Tap, join: Callable[..., TapReader], alarms: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    next_of(tap, join())
    monkeypatch.setattr(tap_module, "_SILENT_S", 0.0)
    tap(message(0))
    tap.serve()
    assert "nothing was heard of it" in alarms[0]
    assert tap.status.state == "stopped"
    assert tap._kept == {}


def test_in_replay_the_sender_waits_for_room_and_only_so_long(context: zmq.Context, alarms: list[str]) -> None:
    with Tap(
        context, "inproc://tap", session="s", schema="", keep_bytes=1000, wait_s=20, on_alarm=alarms.append
    ) as tap:
        got: list[int] = []

        def record() -> None:
            with TapReader(context, "inproc://tap", recorder="r", window=2) as reader:
                while True:
                    said = reader.receive(0.5)
                    if isinstance(said, TapMessage):
                        got.append(said.n)
                        reader.acknowledge(said.n)
                    elif isinstance(said, TapOver):
                        reader.leave()
                        return

        thread = threading.Thread(target=record)
        thread.start()
        settle(tap, lambda: tap.status.clients == 1)
        for n in range(300):
            tap(message(n, 200))
        tap.close()
        thread.join(20)
        assert not thread.is_alive()
        assert got == list(range(300))
        assert alarms == []


def test_waiting_in_vain_ends(context: zmq.Context, alarms: list[str]) -> None:
    with (
        Tap(context, "inproc://tap", session="s", schema="", keep_bytes=50, wait_s=0.05, on_alarm=alarms.append) as tap,
        TapReader(context, "inproc://tap", recorder="r") as reader,
    ):
        next_of(tap, reader)
        for n in range(20):
            tap(message(n))
        tap.serve()
        assert "did not catch up in 0.05 s" in alarms[0]
        assert tap.status.clients == 0


def test_the_end_is_told_and_waited_for(tap: Tap, join: Callable[..., TapReader], alarms: list[str]) -> None:
    reader = join(window=1)
    next_of(tap, reader)
    for n in range(3):
        tap(message(n))
    tap.close(limit_s=0.1)
    assert "1 messages were not acknowledged when the stream was over" in alarms[0]
    tap.close()


def test_a_lost_message_is_asked_for_again(tap: Tap, join: Callable[..., TapReader]) -> None:
    reader = join()
    next_of(tap, reader)
    for n in range(10):
        tap(message(n))
    assert next_of(tap, reader).n == 0  # type: ignore[union-attr]
    while not reader._socket.poll(1000):
        pass
    reader._socket.recv_multipart()  # lost on the way
    seen = [next_of(tap, reader) for _ in range(10)]
    assert isinstance(seen[0], TapWelcome)
    assert [said.n for said in seen[1:]] == list(range(1, 10))  # type: ignore[union-attr]


def test_an_alarm_of_the_recorder_is_passed_on(tap: Tap, join: Callable[..., TapReader], alarms: list[str]) -> None:
    reader = join()
    next_of(tap, reader)
    reader.alarm("disk full")
    reader.leave()
    settle(tap, lambda: bool(alarms) and tap.status.clients == 0)
    assert alarms[0].endswith(": disk full")
    assert tap.status.state == "stopped"


def test_what_recorders_say_wrongly_is_counted_and_harmless(tap: Tap, join: Callable[..., TapReader]) -> None:
    reader = join()
    next_of(tap, reader)
    pack = msgspec.msgpack.encode
    join_map = {"tap": "join", "protocol": 1, "token": 1, "numbering": "n1", "after": -1, "window": 4}
    for wrong in (
        b"",
        b"\xc1",
        pack({"tap": "ack"}),
        pack({"tap": "ack", "n": "x"}),
        pack({"tap": "what"}),
        pack(join_map | {"window": 0}),
        pack(join_map | {"after": -2}),
    ):
        reader._socket.send(wrong)
    reader._socket.send_multipart([b"a", b"b"])
    settle(tap, lambda: tap.malformed == 8)
    reader._socket.send(pack({"tap": "ack", "n": 10**15}))
    tap(message(0))
    assert next_of(tap, reader).n == 0  # type: ignore[union-attr]


def test_another_protocol_is_refused_with_the_reason(
    tap: Tap, join: Callable[..., TapReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = join()
    monkeypatch.setattr(tap_module, "TAP_PROTOCOL", 2)
    assert reader._socket.poll(5000, zmq.POLLOUT)
    reader._keep_alive()
    monkeypatch.undo()
    said = next_of(tap, reader)
    assert isinstance(said, TapDropped)
    assert "speaks protocol 2, expected 1" in said.why


def test_with_keys_only_recorders_on_the_list_get_in(context: zmq.Context, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with (
        authenticator(context, keys.server),
        Tap(context, "tcp://127.0.0.1:*", session="s1", schema="", security=keys.server) as tap,
    ):
        with TapReader(
            context, tap.endpoint, recorder="r", security=keys.client("ada", roles=("recordings",))
        ) as reader:
            assert isinstance(next_of(tap, reader), TapWelcome)
            tap(message(0))
            assert next_of(tap, reader).n == 0  # type: ignore[union-attr]
            reader.leave()
            settle(tap, lambda: tap.status.clients == 0)
        with TapReader(context, tap.endpoint, recorder="x", security=keys.client("bob", roles=("events",))) as reader:
            settle(tap, lambda: reader.receive(0.01) is None and bool(reader.problem))
            assert "our key is not on the server's list for this socket" in reader.problem
        assert tap.status.clients == 0


def test_endpoints_outside_loopback_are_refused(context: zmq.Context) -> None:
    with pytest.raises(UsageError, match="other hosts could read it"):
        Tap(context, "tcp://0.0.0.0:*", session="", schema="")
    with pytest.raises(WireError):
        TapReader(context, "nonsense", recorder="r")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_whatever_is_lost_or_broken_every_message_is_recorded_once(context: zmq.Context, seed: int) -> None:
    """A recorder that dies, forgets what it had not acknowledged, loses messages and comes back has them all."""
    dice = random.Random(seed)
    endpoint = f"inproc://tap-{seed}"
    with contextlib.ExitStack() as stack:
        tap = stack.enter_context(Tap(context, endpoint, session="s", schema="", keep_bytes=10**7))
        stack.callback(tap._recorders.clear)
        stack.callback(lambda: reader.close())
        reader = TapReader(context, endpoint, recorder="r", window=dice.randint(1, 8), topics=("a.",))
        assert isinstance(next_of(tap, reader), TapWelcome)
        safe: list[int] = []
        unsafe: list[int] = []
        sent: list[int] = []
        for n in range(80):
            wanted = dice.random() < 0.7
            tap([b"a." if wanted else b"b.", n.to_bytes(4, "big")])
            if wanted:
                sent.append(n)
            tap.serve()
            chance = dice.random()
            if chance < 0.05:
                reader.close()
                unsafe.clear()
                after = safe[-1] if safe else -1
                reader = TapReader(
                    context, endpoint, recorder="r", numbering=tap._numbering, after=after, window=4, topics=("a.",)
                )
            elif chance < 0.1 and reader._socket.poll(0):
                reader._socket.recv_multipart()
            elif chance < 0.6:
                said = reader.receive(0)
                if isinstance(said, TapMessage):
                    assert said.after == ([-1, *safe, *unsafe][-1])
                    unsafe.append(said.n)
            if dice.random() < 0.4 and unsafe:
                safe += unsafe
                unsafe.clear()
                reader.acknowledge(safe[-1])
        for _ in range(TRIES):
            if safe == sent:
                break
            tap.serve()
            said = reader.receive(0.01)
            safe += [*unsafe, *([said.n] if isinstance(said, TapMessage) else [])]
            unsafe.clear()
            reader.acknowledge(safe[-1] if safe else -1)
            reader._heard_s -= 1.0  # as if silence had lasted: it joins again
        assert safe == sent
        reader.leave()
