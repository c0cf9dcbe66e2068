from __future__ import annotations

import threading
from collections.abc import Iterator

import msgpack
import pytest
import zmq

from megc_stream.clock import ManualClock
from megc_stream.errors import UsageError, WireError
from megc_stream.records import Event, EventPoint
from megc_stream.wire import Aborted, Inlet, Outlet, Publisher, Subscriber, check_endpoint

LOOPBACK = "tcp://127.0.0.1:*"


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


def event(rev: int = 0, kind: str = "onset") -> Event:
    return Event(
        event_id="cam0-0001",
        event_number=1,
        rev=rev,
        kind=kind,  # type: ignore[arg-type]
        final=False,
        source="cam0",
        subject="s",
        video="v",
        decision_frame=5,
        onset=EventPoint(frame=1, number=1, t_s=0.1),
        score=1.0,
        threshold=0.5,
        model="m",
        model_sha256="0",
        k=1,
        k_prime=2,
        lookahead_s=0.1,
    )


def serve_until(publisher: Publisher, done: threading.Event) -> None:
    while not done.is_set():
        publisher.serve()
        done.wait(0.001)


def test_records_pass_a_link_in_order_and_none_is_lost_when_it_is_full(context: zmq.Context) -> None:
    abort = threading.Event()
    inlet = Inlet(context, "inproc://a", 2, abort)

    def send() -> None:
        outlet = Outlet(context, "inproc://a", 2, abort)
        for number in range(200):
            outlet.send(str(number).encode(), b"second")
        outlet.close(linger_ms=1000)

    sender = threading.Thread(target=send)
    sender.start()
    received = [inlet.receive() for _ in range(200)]
    sender.join()
    assert received == [[str(n).encode(), b"second"] for n in range(200)]
    inlet.close()


def test_nobody_waits_for_ever(context: zmq.Context) -> None:
    abort = threading.Event()
    inlet = Inlet(context, "inproc://b", 1, abort)
    outlet = Outlet(context, "inproc://b", 1, abort)
    assert inlet.poll(1) is None
    abort.set()
    with pytest.raises(Aborted):
        inlet.receive()
    with pytest.raises(Aborted):
        for _ in range(10):
            outlet.send(b"x")
    outlet.close()
    inlet.close()


def test_an_endpoint_taken_twice_is_an_error(context: zmq.Context) -> None:
    inlet = Inlet(context, "inproc://c", 1, threading.Event())
    with pytest.raises(WireError, match="inproc://c: cannot be opened"):
        Inlet(context, "inproc://c", 1, threading.Event())
    inlet.close()


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:5550", "tcp://*:5550", "tcp://192.0.2.1:1", "tcp://example.org:1"])
def test_only_loopback_unless_allowed(endpoint: str) -> None:
    with pytest.raises(UsageError, match="--insecure-bind"):
        check_endpoint(endpoint, insecure=False)
    check_endpoint(endpoint, insecure=True)


@pytest.mark.parametrize(
    "endpoint", ["5550", "tcp://127.0.0.1", "tcp://:5550", "http://127.0.0.1:1", "ipc://", "tcp://127.0.0.1:x"]
)
def test_malformed_endpoints_are_named(endpoint: str) -> None:
    with pytest.raises(UsageError, match="expected tcp://"):
        check_endpoint(endpoint, insecure=True)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5550", "tcp://[::1]:5550", "tcp://localhost:1", "ipc:///tmp/x", "inproc://x"]
)
def test_local_endpoints_are_fine(endpoint: str) -> None:
    check_endpoint(endpoint, insecure=False)


def test_subscriber_gets_welcome_hello_and_events(context: zmq.Context) -> None:
    publisher = Publisher(context, LOOPBACK, ManualClock(5.0))
    with Subscriber(publisher.endpoint, context=context) as subscriber:
        done = threading.Event()
        helper = threading.Thread(target=serve_until, args=(publisher, done))
        helper.start()
        subscriber.wait_for_welcome(10)
        hello = subscriber.receive(10)
        done.set()
        helper.join()
        assert hello is not None
        assert hello.topic == "meta.hello."
        assert hello.hello is not None
        assert hello.hello["protocol"] == 1
        publisher.publish(event())
        publisher.publish(event(1, "apex"))
        publisher.publish(event(2, "apex"))
        messages = [subscriber.receive(10) for _ in range(3)]
    publisher.close()
    assert [m.topic for m in messages if m] == ["event.onset.cam0.", "event.apex.cam0.", "event.apex.cam0."]
    assert [m.seq for m in messages if m] == [0, 0, 1]
    assert messages[0] is not None
    assert messages[0].event == event()
    assert messages[0].t_publish_s == 5.0
    assert subscriber.gaps == 0


def test_a_bare_pyzmq_and_msgpack_subscriber_reads_it(context: zmq.Context) -> None:
    publisher = Publisher(context, LOOPBACK, ManualClock())
    bare = context.socket(zmq.SUB)
    bare.setsockopt(zmq.SUBSCRIBE, b"event.onset.")
    bare.setsockopt(zmq.SUBSCRIBE, b"meta.welcome.")
    bare.connect(publisher.endpoint)
    while not bare.poll(10):
        publisher.serve()
    assert bare.recv_multipart() == [b"meta.welcome."]
    publisher.publish(event(1, "apex"))
    publisher.publish(event())
    assert bare.poll(10_000)
    topic, payload = bare.recv_multipart()
    message = msgpack.unpackb(payload)
    assert topic == b"event.onset.cam0."
    assert message["topic"] == "event.onset.cam0."
    assert message["event"]["event_id"] == "cam0-0001"
    assert message["event"]["onset"] == {"frame": 1, "number": 1, "t_s": 0.1}
    bare.close(0)
    publisher.close()


def test_nobody_there_is_said_with_the_endpoint(context: zmq.Context) -> None:
    with (
        Subscriber("tcp://127.0.0.1:1", context=context) as subscriber,
        pytest.raises(WireError, match=r"tcp://127\.0\.0\.1:1: no publisher answered within 0.1 s"),
    ):
        subscriber.wait_for_welcome(0.1)


def test_gaps_and_malformed_messages_are_noticed(context: zmq.Context) -> None:
    fake = context.socket(zmq.PUB)
    port = fake.bind_to_random_port("tcp://127.0.0.1")
    xpub_like = {"v": 1, "topic": "event.x.", "type": "event", "session": "s", "source": "", "t_publish_s": 0.0}
    with Subscriber(f"tcp://127.0.0.1:{port}", context=context) as subscriber:
        # A PUB socket has no welcome: send until the subscription has landed.
        while True:
            fake.send_multipart([b"event.x.", msgpack.packb({**xpub_like, "seq": 0})])
            if subscriber.receive(0.05) is not None:
                break
        while subscriber.receive(0.05) is not None:
            pass
        fake.send_multipart([b"event.x.", msgpack.packb({**xpub_like, "seq": 4})])
        assert subscriber.receive(10) is not None
        assert subscriber.gaps == 3
        for payload, words in (
            (b"\xc1", "cannot be understood"),
            (msgpack.packb({**xpub_like, "seq": 5, "v": 9}), "protocol 9"),
        ):
            fake.send_multipart([b"event.x.", payload])
            with pytest.raises(WireError, match=words):
                subscriber.receive(10)
    fake.close(0)


def test_a_port_in_use_is_said(context: zmq.Context) -> None:
    publisher = Publisher(context, LOOPBACK, ManualClock())
    with pytest.raises(WireError, match="choose another port"):
        Publisher(context, publisher.endpoint, ManualClock())
    publisher.close()
