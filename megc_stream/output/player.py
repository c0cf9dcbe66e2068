"""Playing a recording: its messages are published again, in their own time or faster.

Every message goes out byte for byte as it was recorded, ``session``, ``seq`` and all times included, with one
exception: ``clock`` in the envelope becomes ``replay-<recording>``, because the times in it no longer run with the
clock of this host, and whoever compared them with it would take old for late. Recorded ``meta.hello.`` are left out
(the addresses in them lead nowhere); the player says hello itself, with the clock's offset to Unix time as it was then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import zmq

from megc_stream import __version__
from megc_stream.clock import Clock, MonotonicClock
from megc_stream.errors import WireError
from megc_stream.output.recording import RecordedMessage, RecordingHeader, RecordingJoin, RecordingReader
from megc_stream.packing import UNREADABLE
from megc_stream.wire.protocol import HELLO, PROTOCOL_VERSION, WELCOME, Hello, HelloMessage, encode
from megc_stream.wire.security import PLAIN, Security, bind

__all__ = ["Player", "PlayResult"]

_QUEUE = 10_000
_LINGER_MS = 10_000
_SLICE_S = 0.05
_PATIENCE_S = 10.0
_LONGEST_PAUSE_S = 10.0
_UNIX_BOUND_S = 1e-3


class PlayResult(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages were played, how long that took, and whether a subscriber was too slow for all of them."""

    messages: int
    seconds: float
    complete: bool


class _Stamp(msgspec.Struct, frozen=True):
    session: str
    t_publish_s: float


class Player:
    """Publishes the messages of a recording on one endpoint. Belongs to one thread.

    A subscriber that does not keep up is waited for, 10 s without progress at most; from then on it loses messages, and
    sees that in ``seq``. Pauses of more than 10 s between two messages are cut to that.

    Parameters
    ----------
    endpoint
        Where to bind; the port ``*`` takes a free one, see :attr:`endpoint`. Frames go out there as well.
    clock
        Paces the messages.
    warn
        Gets one line when a subscriber loses messages or a pause is cut.

    Raises
    ------
    UsageError, WireError
        From :func:`megc_stream.wire.security.bind`.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        reader: RecordingReader,
        endpoint: str,
        *,
        security: Security = PLAIN,
        insecure: bool = False,
        clock: Clock | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._reader = reader
        self._clock = clock or MonotonicClock()
        self._warn = warn
        header = reader.header
        self._clock_id = f"replay-{header.recorder[:12] if header else 'unknown'}"
        self._joins = {} if header is None else {header.session: (header.schema, header.unix_minus_clock_s)}
        self._session = "" if header is None else header.session
        self._stamps = msgspec.msgpack.Decoder(_Stamp)
        self._maps = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
        self._encoder = msgspec.msgpack.Encoder()
        # Where the playing is, on the clock of the recording: whoever compares times must find hello no younger.
        self._position_s = next((self._stamp(message)[1] for message in self._messages(0.0)), 0.0)
        self._hellos = 0
        self._subscribed = False
        self._complete = True
        self._socket = context.socket(zmq.XPUB)
        self._socket.set_hwm(_QUEUE)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(zmq.XPUB_WELCOME_MSG, WELCOME.encode())
        try:
            self.endpoint = bind(self._socket, endpoint, security, insecure=insecure, role="events")
        except BaseException:
            self._socket.close(0)
            raise

    def wait_for_subscriber(self, timeout_s: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Return once somebody has subscribed to anything but the welcome, or ``stopped``.

        Raises
        ------
        WireError
            Nobody did within ``timeout_s``.
        """
        deadline_s = self._clock.now_s() + timeout_s
        while not self._subscribed and not stopped():
            if self._clock.now_s() >= deadline_s:
                raise WireError(
                    f"endpoint {self.endpoint}: nobody subscribed within {timeout_s:g} s; "
                    f"e.g. 'megc-stream subscribe {self.endpoint}'"
                )
            self._rest(deadline_s)
        # One subscriber has several subscriptions; its others are on the way.
        self._rest(self._clock.now_s() + _SLICE_S)

    def play(
        self,
        *,
        speed: float = 1.0,
        start_s: float = 0.0,
        stopped: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda messages: None,
    ) -> PlayResult:
        """Publish the recording from ``start_s`` on, ``speed`` times as fast as it was published (0: at once).

        The distance of two messages of a session is that of their ``t_publish_s``, else that of their arrivals.
        """
        began_s = self._clock.now_s()
        position_s, count = 0.0, 0
        last: tuple[str, float, float] | None = None
        for message in self._messages(start_s):
            session, published_s = self._stamp(message)
            if last is not None:
                same = session == last[0] and session != ""
                pause_s = max(0.0, published_s - last[1] if same else message.t_s - last[2])
                if pause_s > _LONGEST_PAUSE_S and speed > 0:
                    self._warn(f"a pause of {pause_s:.0f} s in the recording is cut to {_LONGEST_PAUSE_S:g} s")
                position_s += min(pause_s, _LONGEST_PAUSE_S)
            last = session, published_s, message.t_s
            if session and session != self._session:
                self._session = session
                if session not in self._joins and self._reader.header is not None:
                    # We entered the recording after it was joined: its arrival tells the offset to some milliseconds.
                    header = self._reader.header
                    self._joins[session] = (header.schema, header.began_unix_s + message.t_s - published_s)
                self._greet()
            deadline_s = began_s + position_s / speed if speed > 0 else 0.0
            self._serve()
            while self._clock.now_s() < deadline_s and not stopped():
                self._rest(deadline_s)
            if stopped():
                break
            self._position_s = published_s
            self._send(self._retimed(message))
            count += 1
            progress(count)
        return PlayResult(messages=count, seconds=self._clock.now_s() - began_s, complete=self._complete)

    def close(self, *, at_once: bool = False) -> None:
        """Let the last messages leave, for 10 s at most unless ``at_once``, and close."""
        self._socket.close(0 if at_once else _LINGER_MS)

    def _messages(self, start_s: float) -> Iterator[RecordedMessage]:
        """Yield the messages to play, and take note of the sessions on the way."""
        for item in self._reader.items(start_s):
            match item:
                case RecordingHeader() | RecordingJoin():
                    self._joins[item.session] = (item.schema, item.unix_minus_clock_s)
                case RecordedMessage() if item.t_s >= start_s and item.parts[:1] != (HELLO.encode(),):
                    yield item

    def _stamp(self, message: RecordedMessage) -> tuple[str, float]:
        """Return session and time of publication; without an envelope "" and the time of arrival."""
        with contextlib.suppress(IndexError, *UNREADABLE):
            stamp = self._stamps.decode(message.parts[1])
            return stamp.session, stamp.t_publish_s
        return "", message.t_s

    def _retimed(self, message: RecordedMessage) -> list[bytes]:
        """Return the parts with the clock of the envelope renamed, everything else byte for byte."""
        topic, *rest = message.parts or (b"",)
        if rest:
            with contextlib.suppress(*UNREADABLE):
                fields = self._maps.decode(rest[0])
                if "clock" in fields:
                    fields["clock"] = msgspec.Raw(self._encoder.encode(self._clock_id))
                    rest[0] = self._encoder.encode(fields)
        return [topic, *rest]

    def _send(self, parts: list[bytes]) -> None:
        waited_from_s = self._clock.now_s()
        while True:
            try:
                self._socket.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                if self._clock.now_s() - waited_from_s >= _PATIENCE_S:
                    self._warn(f"endpoint {self.endpoint}: a subscriber is too slow; it loses messages from here on")
                    self._complete = False
                    self._socket.setsockopt(zmq.XPUB_NODROP, 0)
                else:
                    self._rest(self._clock.now_s() + 0.001)
                continue
            return

    def _rest(self, until_s: float) -> None:
        """Let a little time pass, at most up to ``until_s``, and take in subscriptions."""
        self._clock.wait_until_s(min(until_s, self._clock.now_s() + _SLICE_S))
        self._serve()

    def _serve(self) -> None:
        asked = False
        with contextlib.suppress(zmq.Again):
            while True:
                said = self._socket.recv_multipart(zmq.NOBLOCK)[0]
                if said[:1] == b"\x01" and said[1:] != WELCOME.encode():
                    self._subscribed = True
                    asked = asked or HELLO.encode().startswith(said[1:])
        if asked:
            self._greet()

    def _greet(self) -> None:
        schema, unix_minus_clock_s = self._joins.get(self._session, ("", 0.0))
        message = HelloMessage(
            v=PROTOCOL_VERSION,
            topic=HELLO,
            session=self._session,
            source="",
            seq=self._hellos,
            t_capture_s=None,
            t_publish_s=self._position_s,
            clock=self._clock_id,
            hello=Hello(
                protocol=PROTOCOL_VERSION,
                schema=schema,
                software=f"megc-stream {__version__} play",
                clock=self._clock_id,
                unix_minus_clock_s=unix_minus_clock_s,
                unix_bound_s=_UNIX_BOUND_S,
                endpoints={"events": self.endpoint, "frames": self.endpoint},
            ),
        )
        self._hellos += 1
        # A hello that finds a full queue is not worth waiting for.
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(encode(message), zmq.NOBLOCK)
