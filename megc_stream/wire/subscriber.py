"""Reading the event stream of a running analysis."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq

from megc_stream.errors import WireError
from megc_stream.records import Event
from megc_stream.wire.publisher import HELLO_TOPIC, PROTOCOL_VERSION, WELCOME

__all__ = ["Message", "Subscriber"]

_QUEUE = 10_000


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the stream: the envelope, and an event if it carries one."""

    v: int
    topic: str
    type: str
    session: str
    source: str
    seq: int
    t_publish_s: float
    event: Event | None = None
    hello: dict[str, Any] | None = None


class Subscriber:
    """Connects to a publisher's endpoint and yields its messages.

    Parameters
    ----------
    endpoint
        E.g. ``tcp://127.0.0.1:5550``.
    topics
        Prefixes of the topics wanted, e.g. ``("event.label.",)``.
    context
        ZeroMQ context; the process-wide one without it.

    Raises
    ------
    WireError
        The endpoint is malformed.
    """

    def __init__(
        self, endpoint: str, topics: tuple[str, ...] = ("event.",), context: zmq.Context[Any] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.gaps = 0
        self._next: dict[tuple[str, str], int] = {}
        self._decoder = msgspec.msgpack.Decoder(Message)
        self._socket = (context or zmq.Context.instance()).socket(zmq.SUB)
        self._socket.set_hwm(_QUEUE)
        self._socket.setsockopt(zmq.LINGER, 0)
        for topic in (WELCOME, HELLO_TOPIC, *(topic.encode() for topic in topics)):
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise WireError(f"endpoint {endpoint}: {error}; expected e.g. tcp://127.0.0.1:5550") from error

    def wait_for_welcome(self, timeout_s: float) -> None:
        """Return once the publisher has accepted us: from then on nothing is missed.

        Raises
        ------
        WireError
            Nobody answered within ``timeout_s``.
        """
        if not self._socket.poll(timeout_s * 1000) or self._socket.recv_multipart() != [WELCOME]:
            raise WireError(
                f"endpoint {self.endpoint}: no publisher answered within {timeout_s:g} s; "
                "is 'megc-stream run ... --publish' running there?"
            )

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message, or None if none came within ``timeout_s``.

        ``gaps`` counts the messages known to be lost: jumps in ``seq`` of one topic and session.

        Raises
        ------
        WireError
            A message is malformed, or of another version of the protocol.
        """
        if not self._socket.poll(timeout_s * 1000):
            return None
        parts = self._socket.recv_multipart()
        if parts == [WELCOME]:
            return self.receive(timeout_s)
        try:
            message = self._decoder.decode(parts[1])
        except (msgspec.DecodeError, IndexError) as error:
            raise WireError(
                f"endpoint {self.endpoint}: message {parts[0][:60]!r} cannot be understood ({error})"
            ) from error
        if message.v != PROTOCOL_VERSION:
            raise WireError(
                f"endpoint {self.endpoint}: protocol {message.v}, expected {PROTOCOL_VERSION}; update one side"
            )
        key = (message.session, message.topic)
        self.gaps += max(0, message.seq - self._next.get(key, message.seq))
        self._next[key] = message.seq + 1
        return message

    def __iter__(self) -> Iterator[Message]:
        """Yield messages for ever."""
        while True:
            message = self.receive(1.0)
            if message is not None:
                yield message

    def close(self) -> None:
        """Leave the stream."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
