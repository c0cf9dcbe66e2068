from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq

from megc_stream.errors import UsageError, WireError
from megc_stream.wire import Aborted, Inlet, Outlet, check_endpoint


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


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
    "endpoint",
    [
        "5550",
        "tcp://127.0.0.1",
        "tcp://:5550",
        "http://127.0.0.1:1",
        "ipc://",
        "tcp://127.0.0.1:x",
        "tcp://[::1]:65536",
    ],
)
def test_malformed_endpoints_are_named(endpoint: str) -> None:
    with pytest.raises(UsageError, match="expected tcp://"):
        check_endpoint(endpoint, insecure=True)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5550", "tcp://[::1]:5550", "tcp://localhost:1", "ipc:///tmp/x", "inproc://x"]
)
def test_local_endpoints_are_fine(endpoint: str) -> None:
    check_endpoint(endpoint, insecure=False)
