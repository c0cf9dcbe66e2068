from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
import zmq
import zmq.asyncio
from wire_keys import Keys
from wire_messages import LOOPBACK, PAYLOADS, event, publisher_on, serving

from megc_stream.clock import ManualClock
from megc_stream.errors import WireError
from megc_stream.settings import WireSettings
from megc_stream.wire import AsyncSubscriber, Publisher, Subscriber, authenticator
from megc_stream.wire.intake import Intake
from megc_stream.wire.protocol import MESSAGES, LogEntry, OtherMessage, ProtocolMismatch
from megc_stream.wire.subscriber import SubscriberBase

TOPIC = "event.onset.cam0."


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


def parts_of(seq: int, topic: str = TOPIC, kind: str = "event", **fields: Any) -> list[bytes]:
    """A message as it is on the wire."""
    envelope: dict[str, Any] = {
        "v": 1,
        "topic": topic,
        "type": kind,
        "session": "s",
        "source": "cam0",
        "seq": seq,
        "t_capture_s": None,
        "t_publish_s": 0.0,
        "clock": "another",
        kind: msgspec.to_builtins(PAYLOADS.get(kind)),
    }
    return [topic.encode(), msgpack.packb({**envelope, **fields})]


class Fake:
    """An XPUB socket that sends whatever it is told to."""

    def __init__(self, context: zmq.Context) -> None:
        self.socket = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.XPUB_WELCOME_MSG, b"meta.welcome.")
        self.endpoint = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"

    def accept(self, *subscribers: SubscriberBase) -> None:
        """Wait until a subscriber's last subscription has come."""
        for _ in subscribers:
            while True:
                assert self.socket.poll(10_000)
                if self.socket.recv() == b"\x01meta.hello.":
                    break

    def send(self, *messages: list[bytes]) -> None:
        for parts in messages:
            self.socket.send_multipart(parts)


@pytest.fixture
def fake(context: zmq.Context) -> Iterator[Fake]:
    made = Fake(context)
    yield made
    made.socket.close()


def test_every_type_comes_as_its_record(context: zmq.Context) -> None:
    with publisher_on(context, frames=True) as publisher:
        readers = {role: Subscriber(publisher.endpoints[role], ("",), context=context) for role in publisher.endpoints}
        with serving(publisher):
            for reader in readers.values():
                reader.wait_for_welcome(10)
        for kind, payload in PAYLOADS.items():
            topic = "frame.face.cam0." if kind == "frame" else f"{kind}."
            publisher.publish(topic, kind, "cam0", payload)
            reader = readers["frames" if kind == "frame" else "events"]
            message = reader.receive(10)
            while message is not None and message.topic == "meta.hello.":
                message = reader.receive(10)
            assert message is not None
            assert isinstance(message, MESSAGES[kind])
            assert message.payload == payload
        for reader in readers.values():
            reader.close()


def test_the_welcome_names_the_endpoint_when_nobody_is_there(context: zmq.Context) -> None:
    with (
        Subscriber("tcp://127.0.0.1:1", context=context) as subscriber,
        pytest.raises(WireError, match=r"tcp://127\.0\.0\.1:1: no publisher answered within 0.1 s"),
    ):
        subscriber.wait_for_welcome(0.1)


def test_a_publisher_that_hangs_is_told_from_none(context: zmq.Context, fake: Fake) -> None:
    with Subscriber(fake.endpoint, context=context) as subscriber:
        fake.accept(subscriber)
        with pytest.raises(WireError, match="accepted us, but did not say hello"):
            subscriber.wait_for_welcome(0.2)


def test_after_the_welcome_nothing_is_missed_and_what_came_with_it_is_kept(context: zmq.Context, fake: Fake) -> None:
    with Subscriber(fake.endpoint, context=context) as subscriber:
        fake.accept(subscriber)
        fake.send(parts_of(3), parts_of(0, "meta.hello.", "hello"), parts_of(4))
        assert subscriber.wait_for_welcome(10) == subscriber.hello == PAYLOADS["hello"]
        assert [message.seq for message in islice(subscriber, 2)] == [3, 4]


def test_only_what_was_asked_for_is_handed_out(context: zmq.Context, fake: Fake) -> None:
    with Subscriber(fake.endpoint, ("event.onset.", "log."), context=context) as subscriber:
        fake.accept(subscriber)
        fake.send(
            parts_of(0, "status.", "status"),
            parts_of(0, "meta.hello.", "hello"),
            parts_of(0, "event.apex.cam0."),
            parts_of(0, "log.info.", "log"),
        )
        assert [message.topic for message in islice(subscriber, 1)] == ["log.info."]
        assert subscriber.receive(0.05) is None


def test_lost_messages_are_counted_by_topic_and_told(context: zmq.Context, fake: Fake) -> None:
    told: list[str] = []
    with Subscriber(fake.endpoint, ("",), context=context, warn=told.append) as subscriber:
        fake.accept(subscriber)
        fake.send(parts_of(5), parts_of(0, "log.info.", "log"), parts_of(9), parts_of(3, "log.info.", "log"))
        fake.send(parts_of(0, session="another"), parts_of(1, session="another"), parts_of(1, session="another"))
        assert len(list(islice(subscriber, 7))) == 7
        assert subscriber.gaps_by_topic == {TOPIC: 3, "log.info.": 2}
        assert subscriber.gaps == 5
        assert len(told) == 1, "at most one line a second"
    why = "this reader, or the network, is too slow"
    assert told == [
        f"endpoint {fake.endpoint}: 3 messages lost (3 so far), last of {TOPIC}: {why}",
        f"endpoint {fake.endpoint}: 2 messages lost (5 so far), last of log.info.: {why}",
    ]


def test_a_reader_that_falls_behind_knows_exactly_what_it_lost(
    context: zmq.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megc_stream.wire.publisher._EVENTS_QUEUE", 100)
    monkeypatch.setattr("megc_stream.wire.subscriber._QUEUE", 100)
    entry, sent = LogEntry(level="info", text="x" * 20_000), 2000  # more than the system's buffers hold
    told: list[str] = []
    with publisher_on(context) as publisher:
        endpoint = publisher.endpoints["events"]
        with Subscriber(endpoint, ("log.",), context=context, warn=told.append) as subscriber:
            with serving(publisher):
                subscriber.wait_for_welcome(10)
            for _ in range(sent):
                publisher.publish("log.info.", "log", "", entry)
            received = sum(1 for _ in iter(lambda: subscriber.receive(0.5), None))
            publisher.publish("log.info.", "log", "", entry)
            last = subscriber.receive(10)
            assert last is not None
            assert last.seq == sent
            assert subscriber.gaps == subscriber.gaps_by_topic["log.info."] == sent - received > 0
    assert f"({subscriber.gaps} so far)" in told[-1]


def test_malformed_messages_raise_in_receive_and_are_counted_in_iteration(context: zmq.Context, fake: Fake) -> None:
    bad = [
        [TOPIC.encode(), b"\xc1"],
        [TOPIC.encode()],
        parts_of(1, v=9),
        parts_of(1, event={}),
        [TOPIC.encode(), b"\x91" * 5000],
    ]
    with Subscriber(fake.endpoint, context=context) as subscriber:
        fake.accept(subscriber)
        fake.send(*bad)
        for _ in bad:
            with pytest.raises(WireError, match=f"endpoint {fake.endpoint}: "):
                subscriber.receive(10)
        assert subscriber.malformed == 5
        fake.send(*bad, parts_of(1), *bad, parts_of(2, kind="smell"))
        first, second = islice(subscriber, 2)
        assert first.seq == 1
        assert isinstance(second, OtherMessage)
        assert subscriber.malformed == 15


def test_a_publisher_of_another_version_ends_the_iteration(context: zmq.Context, fake: Fake) -> None:
    hello = parts_of(0, "meta.hello.", "hello", v=2)
    with Subscriber(fake.endpoint, context=context) as subscriber:
        fake.accept(subscriber)
        fake.send(hello, hello)
        with pytest.raises(ProtocolMismatch, match="protocol 2, expected 1"):
            subscriber.wait_for_welcome(10)
        with pytest.raises(ProtocolMismatch, match="protocol 2, expected 1"):
            next(iter(subscriber))


def test_latest_takes_all_that_is_queued_and_keeps_the_newest_of_each_topic(context: zmq.Context, fake: Fake) -> None:
    with Subscriber(fake.endpoint, ("event.",), mode="latest", context=context) as subscriber:
        fake.accept(subscriber)
        for seq in range(500):
            fake.send(parts_of(seq), parts_of(seq, "event.apex.cam0."))
        fake.send(parts_of(0, "meta.hello.", "hello"))
        subscriber.wait_for_welcome(10)
        newest = [subscriber.receive(10), subscriber.receive(10)]
        assert [(m.topic, m.seq) for m in newest if m] == [(TOPIC, 499), ("event.apex.cam0.", 499)]
        assert subscriber.receive(0) is None
        assert (subscriber.skipped, subscriber.gaps) == (998, 0)
        fake.send(parts_of(500))
        message = subscriber.receive(10)
        assert message is not None
        assert message.seq == 500


def test_other_sockets_are_found_through_hello(context: zmq.Context, fake: Fake) -> None:
    endpoints = {"control": "tcp://0.0.0.0:77", "frames": "ipc:///tmp/frames"}
    hello = msgspec.to_builtins(msgspec.structs.replace(PAYLOADS["hello"], endpoints=endpoints))
    with Subscriber(fake.endpoint, context=context) as subscriber:
        with pytest.raises(WireError, match="call wait_for_welcome"):
            subscriber.endpoint_of("control")
        fake.accept(subscriber)
        fake.send(parts_of(0, "meta.hello.", "hello", hello=hello))
        subscriber.wait_for_welcome(10)
        assert subscriber.endpoint_of("control") == "tcp://127.0.0.1:77"
        assert subscriber.endpoint_of("frames") == "ipc:///tmp/frames"
        with pytest.raises(WireError, match=r"no socket 'recordings', only \['control', 'frames'\]"):
            subscriber.endpoint_of("recordings")


def test_a_wrong_endpoint_is_an_error_and_leaves_nothing_open() -> None:
    with zmq.Context() as context, pytest.raises(WireError, match="nonsense"):
        Subscriber("nonsense", context=context)


class Told(list[str]):
    """The warnings of one intake."""


def intake(clock: ManualClock, told: Told) -> Intake:
    return Intake("tcp://x:1", ("event.",), "all", 3.0, told.append, clock)


def test_silence_is_told_once_and_ends_with_the_next_message() -> None:
    clock, told = ManualClock(100.0), Told()
    stream = intake(clock, told)
    assert stream.until_stale_s() == 3.0
    clock.advance_s(2.9)
    stream.check()
    assert told == []
    clock.advance_s(0.2)
    stream.check()
    stream.check()
    assert stream.stale == "silent"
    assert [line.split(": ", 1)[1] for line in told] == [
        "nothing came for 3.1 s, not even a status: the publisher has ended or cannot be reached"
    ]
    stream.accept(parts_of(0, "status.", "status", t_publish_s=7.0))
    assert stream.stale == ""
    clock.advance_s(4)
    stream.check("refused")
    assert told[1].endswith("not even a status: refused")


@pytest.mark.parametrize("own", [True, False])
def test_old_messages_are_told_whatever_clock_they_are_stamped_by(monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    offset_s = 0.0 if own else -5000.0
    monkeypatch.setattr("megc_stream.wire.intake.clock_id", lambda: "another" if own else "ours")
    clock, told = ManualClock(1000.0), Told()
    stream = intake(clock, told)
    for delay_s, expected in (
        (0.1, ""),
        (2.5, ""),
        (3.5, "late"),
        (3.6, "late"),
        (2.0, "late"),
        (1.0, ""),
        (4.0, "late"),
    ):
        clock.advance_s(1.0)
        stream.accept(parts_of(0, t_publish_s=clock.now_s() + offset_s - delay_s))
        assert stream.stale == expected
    assert len(told) == 2
    assert "this reader is too slow" in told[0]


def test_the_drift_of_another_clock_is_not_taken_for_lateness() -> None:
    clock, told = ManualClock(0.0), Told()
    stream = intake(clock, told)
    for hour in range(100):
        clock.advance_s(3600)
        stream.accept(parts_of(hour, t_publish_s=clock.now_s() * (1 - 5e-5)))
    assert told == []


def test_a_recording_played_at_any_pace_is_not_late() -> None:
    clock, told = ManualClock(0.0), Told()
    stream = intake(clock, told)
    for second in range(100):
        clock.advance_s(1.0)
        stream.accept(parts_of(second, t_publish_s=second / 2, clock="replay-session"))
    assert (told, stream.stale) == ([], "")


def test_with_keys_those_on_the_list_read_the_stream_and_others_are_told_why(
    context: zmq.Context, tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    settings = WireSettings(publish=LOOPBACK, publish_frames=LOOPBACK)
    with authenticator(context, keys.server), Publisher(context, settings, keys.server) as publisher:
        ada, eve = keys.client("ada"), keys.client("eve", listed=False)
        with serving(publisher):
            with Subscriber(publisher.endpoints["events"], context=context, security=ada) as subscriber:
                assert subscriber.wait_for_welcome(10).endpoints == publisher.endpoints
            for role, stranger in (("events", eve), ("frames", ada)):
                with (
                    Subscriber(publisher.endpoints[role], context=context, security=stranger) as subscriber,
                    pytest.raises(WireError, match="our key is not on the server's list"),
                ):
                    subscriber.wait_for_welcome(30)  # at once, not after 30 s


def test_the_number_of_topics_watched_is_bounded() -> None:
    stream = intake(ManualClock(), Told())
    for n in range(10_050):
        stream.accept(parts_of(0, f"event.{n}.", "end"))
    assert len(stream._next) == 10_000


def test_without_a_listener_warnings_are_logged(
    context: zmq.Context, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "megc_stream"),
        Subscriber(fake.endpoint, context=context, stale_after_s=0.05) as subscriber,
    ):
        assert subscriber.receive(0.2) is None
        assert subscriber.stale == "silent"
    assert "nothing came for" in caplog.text


async def _follow(subscriber: AsyncSubscriber, publisher: Publisher) -> None:
    with serving(publisher):
        hello = await subscriber.wait_for_welcome(10)
    assert hello.endpoints == publisher.endpoints
    assert await subscriber.receive(0.01) is None
    for rev in range(50):
        publisher.publish(TOPIC, "event", "cam0", event(rev))
    revs = []
    async for message in subscriber:
        revs.append(message.payload.rev)
        if revs[-1] == 49:
            break
    assert revs == (list(range(50)) if subscriber.skipped == 0 else revs)
    assert len(revs) + subscriber.skipped == 50


@pytest.mark.parametrize("mode", ["all", "latest"])
@pytest.mark.parametrize("kind", [zmq.Context, zmq.asyncio.Context])
def test_asyncio_reads_the_same(context: zmq.Context, mode: Any, kind: type[zmq.Context]) -> None:
    async def read() -> None:
        with publisher_on(context) as publisher, kind() as ours:
            async with AsyncSubscriber(publisher.endpoints["events"], mode=mode, context=ours) as subscriber:
                await _follow(subscriber, publisher)

    asyncio.run(read())


def test_asyncio_names_the_endpoint_and_counts_malformed_messages(context: zmq.Context, fake: Fake) -> None:
    async def read() -> None:
        async with AsyncSubscriber("tcp://127.0.0.1:1", context=context) as nobody:
            with pytest.raises(WireError, match=r"127\.0\.0\.1:1: no publisher answered within 0.05 s"):
                await nobody.wait_for_welcome(0.05)
        async with AsyncSubscriber(fake.endpoint, context=context) as subscriber:
            fake.accept(subscriber)
            fake.send([TOPIC.encode(), b"\xc1"], parts_of(0), [TOPIC.encode(), b"\xc1"])
            async for message in subscriber:
                assert message.seq == 0
                break
            assert subscriber.malformed == 1
            with pytest.raises(WireError, match="cannot be understood"):
                await subscriber.receive(10)
            fake.send(parts_of(0, "meta.hello.", "hello", v=3))
            with pytest.raises(ProtocolMismatch):
                async for _ in subscriber:
                    pass

    asyncio.run(read())
