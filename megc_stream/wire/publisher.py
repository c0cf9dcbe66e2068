"""The public stream: one publisher, an XPUB socket for events and one for frames, and listeners in the same program.

Messages and topics are those of :mod:`megc_stream.wire.protocol`. On joining, a subscriber that asked for it gets the
single frame ``meta.welcome.``; each new subscription that matches ``meta.hello.`` is answered by a ``meta.hello.``.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
import zmq

from megc_stream import __version__
from megc_stream.clock import Clock, MonotonicClock
from megc_stream.settings import WireSettings
from megc_stream.wire.protocol import (
    HELLO,
    MESSAGES,
    PROTOCOL_VERSION,
    STATUS,
    WELCOME,
    Hello,
    clock_id,
    encode,
)
from megc_stream.wire.schema import schema_hash
from megc_stream.wire.security import PLAIN, Security, bind

__all__ = ["Publisher"]

_EVENTS_QUEUE = 10_000
_FRAMES_QUEUE = 4
_LINGER_MS = 2000
_SUBSCRIPTIONS_AT_ONCE = 1000
_PREFIXES = 1000
_CLOCK_PROBES = 5


class _Channel:
    """One XPUB socket and what is subscribed on it."""

    def __init__(
        self,
        context: zmq.Context[Any],
        role: Literal["events", "frames"],
        endpoint: str,
        security: Security,
        insecure: bool,
    ) -> None:
        self.role = role
        self._prefixes: set[bytes] = set()
        self._wanted: tuple[bytes, ...] = ()
        self.malformed = 0
        self.hellos = 0
        self.socket = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.SNDHWM, _EVENTS_QUEUE if role == "events" else _FRAMES_QUEUE)
        self.socket.setsockopt(zmq.LINGER, _LINGER_MS)
        # Every subscription is passed on to us, the cancellation of a prefix only when its last subscriber goes.
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.socket.setsockopt(zmq.XPUB_WELCOME_MSG, WELCOME.encode())
        try:
            self.endpoint = bind(self.socket, endpoint, security, insecure=insecure, role=role)
        except BaseException:
            self.socket.close(0)
            raise

    def wants(self, topic: bytes) -> bool:
        """Return whether a subscription matches."""
        return topic.startswith(self._wanted)

    def asks_for_hello(self) -> bool:
        """Take in the subscriptions that came; return whether one of them matches ``meta.hello.``."""
        asked = False
        for _ in range(_SUBSCRIPTIONS_AT_ONCE):
            if not self.socket.get(zmq.EVENTS) & zmq.POLLIN:
                break
            parts = self.socket.recv_multipart()
            first, prefix = parts[0][:1], parts[0][1:]
            if len(parts) != 1 or first not in (b"\x00", b"\x01"):
                self.malformed += 1
                continue
            if first == b"\x01":
                # So many that looking through them takes long: from now on everything is wanted.
                self._prefixes.add(prefix if len(self._prefixes) < _PREFIXES else b"")
                asked = asked or HELLO.encode().startswith(prefix)
            elif len(self._prefixes) < _PREFIXES:
                self._prefixes.discard(prefix)
            self._wanted = tuple(self._prefixes)
        return asked


class Publisher:
    """Numbers, stamps, encodes and sends the messages of the public stream; belongs to one thread.

    Parameters
    ----------
    context
        With keys, it needs a running :func:`megc_stream.wire.security.authenticator`.
    settings
        ``publish`` and ``publish_frames`` are bound where given; the port ``*`` takes a free one, see
        :attr:`endpoints`. Without either, messages go to the listeners only.
    security
        Keys; :data:`megc_stream.wire.security.PLAIN` for none.
    clock
        Stamps ``t_publish_s``.
    session
        Identity of this start of the program; a random one without it.

    Raises
    ------
    UsageError
        An endpoint is malformed, or outside loopback without keys and without ``insecure_bind``.
    WireError
        It cannot be bound.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        settings: WireSettings,
        security: Security = PLAIN,
        clock: Clock | None = None,
        *,
        session: str | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock or MonotonicClock()
        self._clock_id = clock_id()
        self._sequence: Counter[str] = Counter()
        self._channels: list[_Channel] = []
        self.session = session or uuid.uuid4().hex
        """Changes with every publisher."""
        self.endpoints: dict[str, str] = {}
        """Addresses of the open sockets, as ``meta.hello.`` tells them; :meth:`announce` adds those of others."""
        self.listeners: list[Callable[[list[bytes]], None]] = []
        """Get the parts of every message, on the publisher's thread, in order: they must not block."""
        try:
            for role, endpoint in (("events", settings.publish), ("frames", settings.publish_frames)):
                if endpoint is not None:
                    channel = _Channel(context, role, endpoint, security, settings.insecure_bind)  # type: ignore[arg-type]
                    self._channels.append(channel)
                    self.endpoints[role] = channel.endpoint
        except BaseException:
            self.close()
            raise

    @property
    def malformed(self) -> dict[str, int]:
        """Return the messages from subscribers that were no subscriptions, by socket."""
        return {channel.role: channel.malformed for channel in self._channels}

    @property
    def next_seq(self) -> dict[str, int]:
        """Return the ``seq`` of the next message, by topic (``meta.hello.`` apart, which each socket counts itself)."""
        return dict(self._sequence)

    def announce(self, name: str, endpoint: str) -> None:
        """Tell the address of another socket (``control``, ``recordings``) in ``meta.hello.`` from now on."""
        self.endpoints[name] = endpoint

    def wants(self, topic: str) -> bool:
        """Return whether anybody has subscribed to frames under ``topic``: if not, do not encode any."""
        name = topic.encode()
        return any(channel.role == "frames" and channel.wants(name) for channel in self._channels)

    def publish(
        self,
        topic: str,
        type: str,
        source: str,
        payload: msgspec.Struct,
        t_capture_s: float | None = None,
        raw: Sequence[bytes] = (),
    ) -> None:
        """Send one message; never blocks (a subscriber that is too slow sees a gap in ``seq``).

        A message that nobody has subscribed to, and no listener gets, is only counted.
        Topics ``frame.`` go out on the socket of frames, ``status.`` on both, all others on that of events.

        Parameters
        ----------
        topic
            From :func:`megc_stream.wire.protocol.topic_of`.
        type
            A key of :data:`megc_stream.wire.protocol.MESSAGES`.
        source
            Name of the source, "" for none.
        payload
            Of the class that belongs to the type.
        t_capture_s
            Capture time of the newest frame that the message depends on.
        raw
            Parts that follow the map.
        """
        seq = self._sequence[topic]
        self._sequence[topic] = seq + 1
        name = topic.encode()
        role = "frames" if topic.startswith("frame.") else "events"
        channels = [each for each in self._channels if (each.role == role or topic == STATUS) and each.wants(name)]
        if not channels and not self.listeners:
            return
        parts = self._parts(topic, type, source, payload, seq, t_capture_s)
        parts.extend(raw)
        for channel in channels:
            channel.socket.send_multipart(parts)
        for listener in self.listeners:
            listener(parts)

    def greet(self) -> None:
        """Send ``meta.hello.`` on the socket of events and to the listeners."""
        hello = self._hello()
        self.publish(HELLO, "hello", "", hello)

    def serve(self) -> None:
        """Take in subscriptions, and send ``meta.hello.`` where a new one matches it; call it often."""
        for channel in self._channels:
            if not channel.asks_for_hello():
                continue
            if channel.role == "events":
                self.greet()
            else:
                # Numbered apart, and not for the listeners: nobody reads both sockets as one stream.
                channel.socket.send_multipart(self._parts(HELLO, "hello", "", self._hello(), channel.hellos, None))
                channel.hellos += 1

    def close(self) -> None:
        """Let the last messages leave, for 2 s at most, and close."""
        self.serve()
        for channel in self._channels:
            channel.socket.close()
        self._channels.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _parts(
        self, topic: str, type: str, source: str, payload: msgspec.Struct, seq: int, t_capture_s: float | None
    ) -> list[bytes]:
        # Encoded as a whole before it is sent: an exception between two parts would leave half a message.
        message = MESSAGES[type](
            v=PROTOCOL_VERSION,
            topic=topic,
            session=self.session,
            source=source,
            seq=seq,
            t_capture_s=t_capture_s,
            t_publish_s=self._clock.now_s(),
            clock=self._clock_id,
            **{type: payload},  # type: ignore[arg-type]
        )
        return encode(message)

    def _hello(self) -> Hello:
        offset_s, bound_s = self._unix_offset()
        return Hello(
            protocol=PROTOCOL_VERSION,
            schema=schema_hash(),
            software=f"megc-stream {__version__}",
            clock=self._clock_id,
            unix_minus_clock_s=offset_s,
            unix_bound_s=bound_s,
            endpoints=dict(self.endpoints),
        )

    def _unix_offset(self) -> tuple[float, float]:
        """Return Unix time minus our clock and the bound of that, s, from the quickest of a few readings."""
        best = (0.0, float("inf"))
        for _ in range(_CLOCK_PROBES):
            before_s = self._clock.now_s()
            unix_s = time.time()
            after_s = self._clock.now_s()
            if after_s - before_s < 2 * best[1]:
                best = (unix_s - (before_s + after_s) / 2, (after_s - before_s) / 2)
        return best
