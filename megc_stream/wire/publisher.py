"""Events on the wire: an XPUB socket that any ZeroMQ subscriber with msgpack can read.

A message is ``[topic][msgpack map]``. Topics end in a dot, ``event.onset.cam0.``, so that a prefix subscription never
matches a longer name. The map holds ``v, topic, type, session, source, seq, t_publish_s, clock`` and the payload
under ``event`` or ``hello``; ``seq`` counts per topic, so a subscriber sees what it missed. On joining, a subscriber
gets the single frame ``meta.welcome.``; each new subscription to ``meta.hello.`` is answered by a ``meta.hello.``
with the offset of our clock to Unix time.
"""

from __future__ import annotations

import ipaddress
import time
import uuid
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import msgspec
import zmq

from megc_stream.clock import Clock
from megc_stream.errors import UsageError, WireError
from megc_stream.records import Event

__all__ = ["HELLO_TOPIC", "PROTOCOL_VERSION", "WELCOME", "Publisher", "check_endpoint"]

PROTOCOL_VERSION = 1
WELCOME = b"meta.welcome."
HELLO_TOPIC = b"meta.hello."
_QUEUE = 10_000
_LINGER_MS = 2000


def check_endpoint(endpoint: str, insecure: bool) -> None:
    """Raise unless ``endpoint`` is a ZeroMQ address that other hosts cannot reach, or ``insecure`` allows it to be.

    Raises
    ------
    UsageError
        Not ``tcp://HOST:PORT``, ``ipc://PATH`` or ``inproc://NAME``, or a TCP address outside loopback.
    """
    parts = urlsplit(endpoint)
    if parts.scheme in ("ipc", "inproc") and endpoint.split("://", 1)[1]:
        return
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if parts.scheme != "tcp" or not host or not (port.isdecimal() or port == "*"):
        raise UsageError(f"endpoint {endpoint}: expected tcp://127.0.0.1:5550, ipc:///path or inproc://name")
    if not insecure and not _is_loopback(host.strip("[]")):
        raise UsageError(
            f"endpoint {endpoint}: other hosts could read it, without encryption; "
            "use tcp://127.0.0.1:PORT, or say --insecure-bind"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Publisher:
    """Publishes events on one endpoint; belongs to one thread.

    Parameters
    ----------
    endpoint
        Where to bind; the port ``*`` takes a free one, see :attr:`endpoint`.
    clock
        Stamps ``t_publish_s``.
    insecure
        Allow other hosts to connect, without encryption.

    Raises
    ------
    UsageError
        The endpoint is malformed or not on loopback.
    WireError
        It cannot be bound.
    """

    def __init__(self, context: zmq.Context[Any], endpoint: str, clock: Clock, *, insecure: bool = False) -> None:
        check_endpoint(endpoint, insecure)
        self._clock = clock
        self._session = uuid.uuid4().hex
        self._sequence: Counter[str] = Counter()
        self._encoder = msgspec.msgpack.Encoder()
        self._socket = context.socket(zmq.XPUB)
        self._socket.set_hwm(_QUEUE)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.XPUB_WELCOME_MSG, WELCOME)
        try:
            self._socket.bind(endpoint.replace("tcp://localhost:", "tcp://127.0.0.1:"))
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise WireError(f"endpoint {endpoint}: cannot be opened ({error}); choose another port") from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def publish(self, event: Event) -> None:
        """Send one revision of an event; never blocks (a subscriber that is too slow sees a gap in ``seq``)."""
        # A dot inside the source would let "event.label.a." match the source "a.b".
        topic = f"event.{event.kind}.{event.source.replace('.', '_')}."
        self._send(topic, event.source, "event", event)

    def serve(self) -> None:
        """Answer the subscriptions that came in; call it often."""
        while self._socket.poll(0):
            message = self._socket.recv()
            if message[:1] == b"\x01" and HELLO_TOPIC.startswith(message[1:]):
                hello = {"unix_minus_clock_s": time.time() - self._clock.now_s(), "protocol": PROTOCOL_VERSION}
                self._send(HELLO_TOPIC.decode(), "", "hello", hello)

    def close(self) -> None:
        """Let the last revisions leave, for 2 s at most, and close."""
        self.serve()
        self._socket.close()

    def _send(self, topic: str, source: str, kind: str, payload: object) -> None:
        message = {
            "v": PROTOCOL_VERSION,
            "topic": topic,
            "type": kind,
            "session": self._session,
            "source": source,
            "seq": self._sequence[topic],
            "t_publish_s": self._clock.now_s(),
            "clock": "monotonic",
            kind: payload,
        }
        self._sequence[topic] += 1
        # Encode first: an exception between two parts would leave half a message on the socket.
        parts = [topic.encode(), self._encoder.encode(message)]
        self._socket.send_multipart(parts)
