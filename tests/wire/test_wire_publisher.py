from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq
from wire_messages import LOOPBACK, PAYLOADS, event, publisher_on, serving

from megc_stream import __version__
from megc_stream.clock import ManualClock, MonotonicClock
from megc_stream.errors import UsageError, WireError
from megc_stream.settings import WireSettings
from megc_stream.wire import Publisher, Subscriber
from megc_stream.wire.protocol import EventMessage, FrameMessage, HelloMessage, LogEntry, clock_id, decode
from megc_stream.wire.schema import schema_hash


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


def bare(context: zmq.Context, endpoint: str, *topics: bytes) -> zmq.Socket:
    """What any program has: a SUB socket, subscribed."""
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)  # else more than 1000 subscriptions do not leave
    for topic in topics:
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    socket.connect(endpoint)
    return socket


def next_of(socket: zmq.Socket) -> list[bytes]:
    assert socket.poll(10_000), "nothing came"
    return socket.recv_multipart()


def test_a_bare_pyzmq_and_msgpack_subscriber_reads_it_as_it_reads_pupil(context: zmq.Context) -> None:
    with publisher_on(context, clock=ManualClock(5.0)) as publisher:
        socket = bare(context, publisher.endpoints["events"], b"event.onset.", b"meta.")
        with serving(publisher):
            assert next_of(socket) == [b"meta.welcome."]
            topic, payload = next_of(socket)
        hello = msgpack.unpackb(payload)
        assert topic.decode() == hello["topic"] == "meta.hello."
        publisher.publish("event.apex.cam0.", "event", "cam0", event(1, "apex"))
        publisher.publish("event.onset.cam0.", "event", "cam0", event(), 4.5)
        topic, payload = next_of(socket)
        message = msgpack.unpackb(payload)
        assert topic == b"event.onset.cam0."
        assert message.pop("event")["onset"] == {"frame": 1, "number": 1, "t_s": 0.1}
        assert message == {
            "v": 1,
            "topic": "event.onset.cam0.",
            "type": "event",
            "session": publisher.session,
            "source": "cam0",
            "seq": 0,
            "t_capture_s": 4.5,
            "t_publish_s": 5.0,
            "clock": clock_id(),
        }
        socket.close()


def pupil_receive(socket: zmq.Socket) -> tuple[str, dict[str, Any]]:
    """Receive a message as programs written for Pupil do: topic, map, and what follows under ``__raw_data__``."""
    topic = socket.recv_string()
    rest = []
    while socket.getsockopt(zmq.RCVMORE):
        rest.append(socket.recv())
    payload = msgpack.unpackb(rest.pop(0), raw=False, strict_map_key=False)
    if rest:
        payload["__raw_data__"] = rest
    return topic, payload


def test_subscribers_written_for_pupil_need_no_change(context: zmq.Context) -> None:
    with publisher_on(context, frames=True) as publisher:
        sockets = {
            role: bare(context, publisher.endpoints[role], prefix)
            for role, prefix in (("events", b"event."), ("frames", b"frame."))
        }
        while not publisher.wants("frame.face.cam0."):
            publisher.serve()
        for n in range(3):
            publisher.publish("frame.face.cam0.", "frame", "cam0", PAYLOADS["frame"], raw=[bytes([n, n])])
            topic, payload = pupil_receive(sockets["frames"])
            assert topic == payload["topic"] == "frame.face.cam0."
            assert payload["__raw_data__"] == [bytes([n, n])]
            assert payload["frame"]["format"] == "gray"
        while not sockets["events"].poll(10):
            publisher.serve()
            publisher.publish("event.label.cam1.", "event", "cam1", event(source="cam1"))
        topic, payload = pupil_receive(sockets["events"])
        assert topic == payload["topic"] == "event.label.cam1."
        assert payload["event"]["event_id"] == "cam1-0001"
        for socket in sockets.values():
            socket.close()


def test_hello_says_who_publishes_and_where_else(context: zmq.Context) -> None:
    with publisher_on(context, frames=True) as publisher:
        publisher.announce("control", "tcp://127.0.0.1:77")
        for role in ("events", "frames"):
            with Subscriber(publisher.endpoints[role], context=context) as subscriber, serving(publisher):
                before_s = time.time() - MonotonicClock().now_s()
                hello = subscriber.wait_for_welcome(10)
                assert abs(hello.unix_minus_clock_s - before_s) < 0.5
                assert 0 <= hello.unix_bound_s < 0.1
                assert hello.protocol == 1
                assert hello.schema == schema_hash()
                assert hello.clock == clock_id()
                assert hello.software == f"megc-stream {__version__}"
                assert hello.endpoints == {**publisher.endpoints, "control": "tcp://127.0.0.1:77"}


def test_each_new_subscription_that_matches_is_answered_by_hello(context: zmq.Context) -> None:
    with publisher_on(context) as publisher:
        first = bare(context, publisher.endpoints["events"], b"meta.hello.")
        with serving(publisher):
            assert decode(next_of(first)).seq == 0
            second = bare(context, publisher.endpoints["events"], b"")
            assert next_of(second) == [b"meta.welcome."]
            assert isinstance(decode(next_of(second)), HelloMessage)
            assert decode(next_of(first)).seq == 1
            third = bare(context, publisher.endpoints["events"], b"meta.welcome.", b"status.")
            assert next_of(third) == [b"meta.welcome."]
        assert not first.poll(50)
        for socket in (first, second, third):
            socket.close()


def test_messages_are_counted_by_topic(context: zmq.Context) -> None:
    with publisher_on(context) as publisher, Subscriber(publisher.endpoints["events"], context=context) as subscriber:
        publisher.publish("event.onset.cam0.", "event", "cam0", event())
        with serving(publisher):
            subscriber.wait_for_welcome(10)
        publisher.publish("event.onset.cam0.", "event", "cam0", event())
        publisher.publish("event.apex.cam0.", "event", "cam0", event(1, "apex"))
        publisher.publish("event.apex.cam0.", "event", "cam0", event(2, "apex"))
        messages = [subscriber.receive(10) for _ in range(3)]
        assert [(m.topic, m.seq) for m in messages if m] == [
            ("event.onset.cam0.", 1),
            ("event.apex.cam0.", 0),
            ("event.apex.cam0.", 1),
        ]
        assert isinstance(messages[0], EventMessage)
        assert messages[0].event == event()
        assert subscriber.gaps == 0
        assert publisher.next_seq["event.onset.cam0."] == 2


def test_frames_have_a_socket_of_their_own_and_are_wanted_while_somebody_subscribes(context: zmq.Context) -> None:
    topic = "frame.face.cam0."
    with publisher_on(context, frames=True) as publisher:
        heard = Subscriber(publisher.endpoints["events"], ("",), context=context)
        assert not publisher.wants(topic)
        with Subscriber(publisher.endpoints["frames"], ("frame.face.",), context=context) as subscriber:
            with serving(publisher):
                subscriber.wait_for_welcome(10)
                heard.wait_for_welcome(10)
            assert publisher.wants(topic)
            assert not publisher.wants("frame.scene.cam0.")
            publisher.publish(topic, "frame", "cam0", PAYLOADS["frame"], raw=[b"\x00\xff"])
            message = subscriber.receive(10)
            assert isinstance(message, FrameMessage)
            assert (message.frame, message.raw) == (PAYLOADS["frame"], (b"\x00\xff",))
        with serving(publisher):
            for _ in range(10_000):
                if not publisher.wants(topic):
                    break
                time.sleep(0)
        assert not publisher.wants(topic)
        assert [m.topic for m in iter(lambda: heard.receive(0.05), None)] == ["meta.hello."]
        heard.close()


def test_the_status_goes_out_on_both_sockets(context: zmq.Context) -> None:
    with publisher_on(context, frames=True) as publisher:
        readers = [Subscriber(publisher.endpoints[role], ("status.",), context=context) for role in publisher.endpoints]
        with serving(publisher):
            for reader in readers:
                reader.wait_for_welcome(10)
        publisher.publish("status.", "status", "", PAYLOADS["status"])
        for reader in readers:
            message = reader.receive(10)
            assert message is not None
            assert message.payload == PAYLOADS["status"]
            reader.close()


def test_listeners_get_every_message_as_it_is_on_the_wire(context: zmq.Context) -> None:
    heard: list[list[bytes]] = []
    with publisher_on(context) as publisher:
        socket = bare(context, publisher.endpoints["events"], b"event.", b"meta.hello.")
        publisher.listeners.append(heard.append)
        with serving(publisher):
            received = [next_of(socket)]
        publisher.publish("log.info.", "log", "", LogEntry(level="info", text="nobody subscribed to this"))
        publisher.publish("event.onset.cam0.", "event", "cam0", event())
        received.append(next_of(socket))
        socket.close()
    assert [parts[0] for parts in heard] == [b"meta.hello.", b"log.info.", b"event.onset.cam0."]
    assert [heard[0], heard[2]] == received


def test_without_sockets_there_are_still_listeners(context: zmq.Context) -> None:
    heard: list[list[bytes]] = []
    with Publisher(context, WireSettings(), session="s") as publisher:
        publisher.listeners.append(heard.append)
        publisher.greet()
        publisher.serve()
    assert publisher.endpoints == {}
    (message,) = map(decode, heard)
    assert (message.type, message.session) == ("hello", "s")


def test_an_encoding_that_fails_leaves_no_half_message(context: zmq.Context) -> None:
    with publisher_on(context) as publisher, Subscriber(publisher.endpoints["events"], context=context) as subscriber:
        with serving(publisher):
            subscriber.wait_for_welcome(10)
        broken = event()
        broken.run["x"] = object()
        with pytest.raises(TypeError):
            publisher.publish("event.onset.cam0.", "event", "cam0", broken)
        publisher.publish("event.apex.cam0.", "event", "cam0", event(1, "apex"))
        message = subscriber.receive(10)
        assert message is not None
        assert message.topic == "event.apex.cam0."


def test_what_is_no_subscription_is_counted_and_ignored(context: zmq.Context) -> None:
    with publisher_on(context) as publisher:
        socket = context.socket(zmq.XSUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(publisher.endpoints["events"])
        socket.send(b"hello?")
        socket.send_multipart([b"\x01event.", b"\x01meta."])
        socket.send(b"\x01meta.hello.")
        with serving(publisher):
            assert next_of(socket) == [b"meta.welcome."]
            assert decode(next_of(socket)).type == "hello"
        assert publisher.malformed["events"] >= 1
        socket.close()


def test_a_flood_of_subscriptions_does_not_slow_down_publishing(context: zmq.Context) -> None:
    with publisher_on(context, frames=True) as publisher:
        socket = bare(context, publisher.endpoints["frames"], *(b"%d" % n for n in range(1500)), b"meta.hello.")
        with serving(publisher):
            assert decode(next_of(socket)).type == "hello"
            for n in range(1500):
                socket.setsockopt(zmq.UNSUBSCRIBE, b"%d" % n)
            socket.setsockopt(zmq.SUBSCRIBE, b"meta.h")
            assert decode(next_of(socket)).type == "hello"
        assert publisher.wants("frame.face.cam0."), "beyond a thousand, everything counts as wanted"
        socket.close()


def test_a_port_in_use_and_a_wrong_endpoint_are_said_and_nothing_stays_open(context: zmq.Context) -> None:
    with publisher_on(context) as publisher:
        taken = publisher.endpoints["events"]
        with pytest.raises(WireError, match="choose another port"):
            Publisher(context, WireSettings(publish=LOOPBACK, publish_frames=taken))
    with pytest.raises(UsageError, match="--insecure-bind"):
        Publisher(context, WireSettings(publish="tcp://0.0.0.0:*"))


def test_the_last_message_leaves_before_the_socket_is_gone(context: zmq.Context) -> None:
    publisher = publisher_on(context)
    subscriber = Subscriber(publisher.endpoints["events"], context=context)
    with serving(publisher):
        subscriber.wait_for_welcome(10)
    for rev in range(200):
        publisher.publish("event.label.cam0.", "event", "cam0", event(rev, "label"))
    publisher.close()
    publisher.close()
    received = [subscriber.receive(10) for _ in range(200)]
    assert [m.payload.rev for m in received if m] == list(range(200))
    subscriber.close()
