"""The lossless link from a publisher to recorders: ROUTER at the publisher, DEALER at the recorder.

Every published message gets a number that counts up by one within the session. A recorder joins and gets what is
published from then on, or everything where it joins within the first seconds: one that waits for the stream to begin
needs some time to connect. It acknowledges a number once everything up to it is safe. What a recorder has not
acknowledged is kept for it, so a recorder that connects again goes on where it was. What is kept is bounded in bytes:
the recorder that is furthest behind is then given up, with an alarm, and the analysis goes on.

Flow control is by credit: a recorder names, on joining, how many messages may be under way to it unacknowledged.
Beats in both directions, once a second, tell silence from death.

From the recorder, one msgpack map each: ``join`` (protocol, token, numbering, after, window, topics), ``ack`` (n),
``alarm`` (text), ``leave`` (n). From the publisher: ``welcome`` (protocol, token, numbering, session, schema, next_n,
unix_minus_clock_s, lost),
``beat`` (last_n), ``dropped`` (why), ``over`` (last_n), and ``message`` (n, after) followed by the parts of the wire
message, byte for byte. ``after`` names the message sent before it to this recorder: a break in the chain is a loss on
the way, and the recorder joins again.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec
import zmq

from megc_stream.errors import WireError
from megc_stream.packing import UNREADABLE
from megc_stream.wire.protocol import RecorderStatus
from megc_stream.wire.publisher import Publisher
from megc_stream.wire.schema import schema_hash
from megc_stream.wire.security import PLAIN, ConnectionMonitor, Security, bind, connect

__all__ = [
    "TAP_PROTOCOL",
    "Tap",
    "TapDropped",
    "TapMessage",
    "TapOver",
    "TapReader",
    "TapWelcome",
]

TAP_PROTOCOL = 1
_BEAT_S = 1.0
_SILENT_S = 30.0
_REJOIN_S = 3.0
_JOIN_AGAIN_S = 0.25
_KEEP_BYTES = 64 * 2**20
_BEGINNING_S = 10.0
_BEGINNING_BYTES = 16 * 2**20
_FLIGHT_BYTES = 8 * 2**20
_MOST_RECORDERS = 16
_MOST_ALARMS = 100
_LONGEST_ALARM = 500
_POLL_MS = 20
_SERVE_AT_ONCE = 1000


class _Said(msgspec.Struct, frozen=True, kw_only=True, tag_field="tap"):
    """Base of what the two sides say."""


class _Join(_Said, frozen=True, kw_only=True, tag="join"):
    protocol: int
    token: int
    numbering: str
    after: int
    window: int
    topics: tuple[str, ...] = ()


class _Ack(_Said, frozen=True, kw_only=True, tag="ack"):
    n: int


class _Alarm(_Said, frozen=True, kw_only=True, tag="alarm"):
    text: str


class _Leave(_Said, frozen=True, kw_only=True, tag="leave"):
    n: int


class TapWelcome(_Said, frozen=True, kw_only=True, tag="welcome"):
    """The publisher takes the recorder in: messages come from ``next_n`` on.

    ``numbering`` names what numbers belong to: one tap, so a session whose publisher was restarted has several.
    ``lost`` of those asked for are no longer kept; ``unix_minus_clock_s`` is the offset of the publisher's clock.
    """

    protocol: int
    token: int
    numbering: str
    session: str
    schema: str
    next_n: int
    unix_minus_clock_s: float
    lost: int = 0


class TapMessage(_Said, frozen=True, kw_only=True, tag="message"):
    """One published message: its number, that of the one it follows on this link, and its parts.

    The first one follows ``next_n`` - 1 of the welcome.
    """

    n: int
    after: int
    parts: tuple[bytes, ...] = ()


class TapDropped(_Said, frozen=True, kw_only=True, tag="dropped"):
    """The publisher no longer keeps messages for this recorder."""

    why: str


class TapOver(_Said, frozen=True, kw_only=True, tag="over"):
    """The stream is over; ``last_n`` was the last message that concerns this recorder."""

    last_n: int


class _Beat(_Said, frozen=True, kw_only=True, tag="beat"):
    last_n: int


_FromRecorder: TypeAlias = _Join | _Ack | _Alarm | _Leave
_FromPublisher: TypeAlias = TapWelcome | TapMessage | TapDropped | TapOver | _Beat
_encoder = msgspec.msgpack.Encoder()


class _Recorder:
    """What the publisher knows of one recorder."""

    def __init__(self, identity: bytes, topics: tuple[bytes, ...], window: int) -> None:
        self.identity = identity
        self.name = f"recorder {identity.hex()[:8]}"
        self.topics = topics
        self.window = window
        self.taken = -1  # everything up to this number was sent or does not concern it
        self.acked = -1
        self.last_n = -1  # the message sent last
        self.flight: deque[tuple[int, int]] = deque()  # number and size of messages sent and not acknowledged
        self.flight_bytes = 0
        self.heard_s = 0.0
        self.told_over = False

    @property
    def done(self) -> int:
        """Everything up to this number need not be kept for it."""
        return self.flight[0][0] - 1 if self.flight else self.taken

    def acknowledge(self, n: int) -> int:
        """Take note that everything up to ``n`` is safe; return how many messages that is news of."""
        self.acked = max(self.acked, min(n, self.taken))
        before = len(self.flight)
        while self.flight and self.flight[0][0] <= n:
            self.flight_bytes -= self.flight.popleft()[1]
        return before - len(self.flight)

    def go_back(self, after: int) -> None:
        """Send again what follows ``after``."""
        while self.flight and self.flight[-1][0] > after:
            self.flight_bytes -= self.flight.pop()[1]
        self.taken = self.last_n = after

    def has_room(self) -> bool:
        return len(self.flight) < self.window and self.flight_bytes < _FLIGHT_BYTES

    def wants(self, topic: bytes) -> bool:
        return not self.topics or topic.startswith(self.topics)


class Tap:
    """The publisher's end: hands every message to every recorder, and waits for none. Belongs to one thread.

    A tap is a listener of the publisher: call it with the parts of each message. :meth:`serve` must be called often.
    A recorder that nothing was heard of for 30 s, or for which more than ``keep_bytes`` would have to be kept, is given
    up.

    Parameters
    ----------
    endpoint
        Where to bind; the port ``*`` takes a free one, see :attr:`endpoint`.
    session, schema
        Of the stream; recorders note them.
    security, insecure
        See :func:`megc_stream.wire.security.bind`; the role is "recordings".
    keep_bytes
        How much may be kept for recorders, bytes of all parts.
    wait_s
        How long a call may wait for room before it gives a recorder up: 0 for a live source, more in replay.
    on_alarm
        Gets what went wrong with a recorder, one line each, within :meth:`serve` and :meth:`close`.
    beginning_s
        For so long, and at most 16 MiB, everything is kept for recorders that join for the first time.

    Raises
    ------
    UsageError
        The endpoint is malformed or not allowed.
    WireError
        It cannot be bound.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        *,
        session: str,
        schema: str,
        security: Security = PLAIN,
        insecure: bool = False,
        keep_bytes: int = _KEEP_BYTES,
        beginning_s: float = _BEGINNING_S,
        wait_s: float = 0.0,
        on_alarm: Callable[[str], None] | None = None,
    ) -> None:
        self.malformed = 0
        """Messages from recorders that could not be understood."""
        self._session, self._schema = session, schema
        self._numbering = uuid.uuid4().hex[:16]
        self._keep_bytes = keep_bytes
        self._wait_s = wait_s
        self._on_alarm = on_alarm
        self._alarms: deque[str] = deque(maxlen=_MOST_ALARMS)
        self._decoder: msgspec.msgpack.Decoder[_FromRecorder] = msgspec.msgpack.Decoder(_FromRecorder)
        self._recorders: dict[bytes, _Recorder] = {}
        self._kept: dict[int, tuple[list[bytes], int]] = {}
        self._kept_bytes = 0
        self._first_n = self._next_n = 0  # numbers of the oldest message kept and of the next one published
        self._beginning_until_s = time.monotonic() + beginning_s
        self._beat_s = 0.0
        self._acknowledged = 0
        self._lost = 0
        self._failed = False
        self._closing = False
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Queues are bounded by the recorders' credit; a peer that is gone must be an error, not silence.
        self._socket.set_hwm(0)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        try:
            self.endpoint: str = bind(self._socket, endpoint, security, insecure=insecure, role="recordings")
        except BaseException:
            self._socket.close()
            raise

    @classmethod
    def of(
        cls,
        publisher: Publisher,
        context: zmq.Context[Any],
        endpoint: str,
        *,
        security: Security = PLAIN,
        insecure: bool = False,
        wait_s: float = 0.0,
        on_alarm: Callable[[str], None] | None = None,
    ) -> Self:
        """Make a tap that gets every message of a publisher, and let its ``meta.hello.`` name the address."""
        tap = cls(
            context,
            endpoint,
            session=publisher.session,
            schema=schema_hash(),
            security=security,
            insecure=insecure,
            wait_s=wait_s,
            on_alarm=on_alarm,
        )
        publisher.listeners.append(tap)
        publisher.announce("recordings", tap.endpoint)
        return tap

    @property
    def status(self) -> RecorderStatus:
        """How the recorders stand, for status messages."""
        oldest = min((recorder.done for recorder in self._recorders.values()), default=self._next_n - 1)
        return RecorderStatus(
            state="recording" if self._recorders else "stopped" if self._failed else "idle",
            clients=len(self._recorders),
            backlog=self._next_n - 1 - oldest,
            lost=self._lost,
        )

    def __call__(self, parts: list[bytes]) -> None:
        """Take a published message; waits up to ``wait_s`` where recorders are too far behind, never longer."""
        n, self._next_n = self._next_n, self._next_n + 1
        size = sum(map(len, parts))
        self._kept[n] = (parts, size)
        self._kept_bytes += size
        for recorder in self._recorders.values():
            self._send_on(recorder)
        self._forget()
        if self._kept_bytes > self._keep_bytes:
            self._wait_for_room()

    def serve(self) -> None:
        """Take what recorders said, send on, give up the silent, and report alarms; never blocks."""
        self._turn()
        for recorder in list(self._recorders.values()):
            if time.monotonic() - recorder.heard_s > _SILENT_S:
                self._give_up(recorder, f"nothing was heard of it for {_SILENT_S:g} s")
        while self._alarms:
            text = self._alarms.popleft()
            if self._on_alarm is not None:
                self._on_alarm(text)

    def close(self, limit_s: float = 5.0) -> None:
        """Tell recorders that the stream is over, wait while they acknowledge, and close; a second call does nothing.

        Gives up once nobody has acknowledged anything for ``limit_s`` seconds, with an alarm for those behind. The
        publisher must still be open: alarms are published.
        """
        if self._socket.closed:
            return
        self._closing = True
        acknowledged, deadline_s = 0, time.monotonic() + limit_s
        self.serve()
        while self._recorders and time.monotonic() < deadline_s:
            for recorder in self._recorders.values():
                if recorder.taken == self._next_n - 1 and not recorder.told_over:
                    recorder.told_over = self._send(recorder, TapOver(last_n=recorder.last_n))
            if self._acknowledged > acknowledged:
                acknowledged, deadline_s = self._acknowledged, time.monotonic() + limit_s
            self._socket.poll(_POLL_MS)
            self.serve()
        for recorder in list(self._recorders.values()):
            behind = len(recorder.flight)
            if behind or recorder.taken < self._next_n - 1:
                self._give_up(recorder, f"{behind} messages were not acknowledged when the stream was over")
        self.serve()
        self._socket.close(int(limit_s * 1000))

    def _wait_for_room(self) -> None:
        deadline_s = time.monotonic() + self._wait_s
        self._turn()
        while self._kept_bytes > self._keep_bytes and time.monotonic() < deadline_s:
            self._socket.poll(_POLL_MS)
            self._turn()
        while self._kept_bytes > self._keep_bytes and self._recorders:
            slowest = min(self._recorders.values(), key=lambda recorder: recorder.done)
            waited = f" in {self._wait_s:g} s" if self._wait_s else ""
            limit = f"{self._keep_bytes / 2**20:g} MiB"
            self._give_up(slowest, f"it fell more than {limit} behind and did not catch up{waited}")

    def _turn(self) -> None:
        """Take what came in, and send what may go out."""
        self._listen()
        beat = time.monotonic() - self._beat_s >= _BEAT_S
        for recorder in self._recorders.values():
            self._send_on(recorder)
            if beat:
                self._send(recorder, _Beat(last_n=recorder.last_n))
        if beat:
            self._beat_s = time.monotonic()
        self._forget()

    def _listen(self) -> None:
        for _ in range(_SERVE_AT_ONCE):
            try:
                identity, *rest = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                (packed,) = rest
                said = self._decoder.decode(packed)
            except UNREADABLE:
                self.malformed += 1
                continue
            self._take(identity, said)

    def _take(self, identity: bytes, said: _FromRecorder) -> None:
        if isinstance(said, _Join):
            self._join(identity, said)
            return
        recorder = self._recorders.get(identity)
        if recorder is None:
            return
        recorder.heard_s = time.monotonic()
        match said:
            case _Ack(n=n):
                self._acknowledged += recorder.acknowledge(n)
            case _Alarm(text=text):
                self._failed = True
                self._alarms.append(f"{recorder.name}: {text[:_LONGEST_ALARM]}")
            case _Leave(n=n):
                recorder.acknowledge(n)
                del self._recorders[identity]

    def _join(self, identity: bytes, join: _Join) -> None:
        if join.window < 1 or join.after < -1:
            self.malformed += 1
            return
        topics = tuple(topic.encode() for topic in join.topics)
        recorder = self._recorders.get(identity)
        lost = 0
        if recorder is None:
            refusal = ""
            if join.protocol != TAP_PROTOCOL:
                refusal = f"it speaks protocol {join.protocol}, expected {TAP_PROTOCOL}; update one side"
            elif self._closing:
                refusal = "the stream is over"
            elif len(self._recorders) >= _MOST_RECORDERS:
                refusal = f"there are {_MOST_RECORDERS} recorders already"
            if refusal:
                self._send(_Recorder(identity, (), 1), TapDropped(why=refusal))
                return
            recorder = _Recorder(identity, topics, join.window)
            knows_stream = join.numbering == self._numbering and join.after < self._next_n
            newest = -1 if self._keeps_beginning() else self._next_n - 1
            after = max(join.after, self._first_n - 1) if knows_stream else newest
            lost = after - join.after if knows_stream else 0
            self._recorders[identity] = recorder
        else:
            recorder.topics, recorder.window = topics, join.window
            after = max(min(join.after, self._next_n - 1), self._first_n - 1)
            if join.numbering != self._numbering:
                after = self._next_n - 1
            elif join.after < recorder.acked:
                # It acknowledged more than it still has.
                lost = after - join.after
        self._failed = False
        recorder.heard_s = time.monotonic()
        recorder.told_over = False
        recorder.go_back(after)
        recorder.last_n = join.after if join.numbering == self._numbering and not lost else after
        welcome = TapWelcome(
            protocol=TAP_PROTOCOL,
            token=join.token,
            numbering=self._numbering,
            session=self._session,
            schema=self._schema,
            next_n=after + 1,
            lost=lost,
            unix_minus_clock_s=time.time() - time.monotonic(),
        )
        self._send(recorder, welcome)

    def _send_on(self, recorder: _Recorder) -> None:
        """Send what the recorder's credit allows."""
        while recorder.taken < self._next_n - 1 and recorder.has_room():
            n = recorder.taken + 1
            parts, size = self._kept[n]
            if recorder.wants(parts[0]):
                if not self._send(recorder, TapMessage(n=n, after=recorder.last_n), parts):
                    return
                recorder.flight.append((n, size))
                recorder.flight_bytes += size
                recorder.last_n = n
            recorder.taken = n

    def _send(self, recorder: _Recorder, said: _FromPublisher, parts: list[bytes] | None = None) -> bool:
        """Send one message; False where the recorder's connection is gone or full at the moment."""
        try:
            self._socket.send_multipart([recorder.identity, _encoder.encode(said), *(parts or ())], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise WireError(f"endpoint {self.endpoint}: cannot send to {recorder.name} ({error})") from error
        return True

    def _give_up(self, recorder: _Recorder, why: str) -> None:
        self._send(recorder, TapDropped(why=why))
        self._lost += self._next_n - 1 - recorder.done
        self._failed = True
        self._alarms.append(f"{recorder.name} was given up: {why}; its recording has a gap, the analysis goes on")
        del self._recorders[recorder.identity]
        self._forget()

    def _keeps_beginning(self) -> bool:
        """Return whether everything is kept from the first message on."""
        return self._first_n == 0 and time.monotonic() < self._beginning_until_s

    def _forget(self) -> None:
        """Drop what nobody needs any more."""
        if self._keeps_beginning() and self._kept_bytes <= min(_BEGINNING_BYTES, self._keep_bytes):
            return
        oldest = min((recorder.done for recorder in self._recorders.values()), default=self._next_n - 1) + 1
        for n in range(self._first_n, oldest):
            self._kept_bytes -= self._kept.pop(n)[1]
        self._first_n = max(self._first_n, oldest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class TapReader:
    """The recorder's end: yields messages in order, each once. Belongs to one thread.

    Connects and joins in the background, again after every loss of the connection, and says so by a welcome. Call
    :meth:`receive` at least once a second, and :meth:`acknowledge` once messages are safe.

    Parameters
    ----------
    endpoint
        The publisher's address for recordings.
    recorder
        Identity, 1 to 64 characters; the same one finds what was kept for it.
    numbering, after
        Where an earlier recording stands: what its numbers belong to, and the number of its last message.
    topics
        Prefixes of the topics wanted; empty for everything.
    window
        How many messages may be under way unacknowledged.

    Raises
    ------
    UsageError, WireError
        From :func:`megc_stream.wire.security.connect`.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        *,
        recorder: str,
        numbering: str = "",
        after: int = -1,
        topics: tuple[str, ...] = (),
        window: int = 4096,
        security: Security = PLAIN,
    ) -> None:
        self.endpoint = endpoint
        self.malformed = 0
        self._numbering, self._last_n = numbering, after
        self._topics, self._window = topics, window
        self._acked = after
        self._token = int.from_bytes(uuid.uuid4().bytes[:4], "big")
        self._joined = False
        self._join_s = -_JOIN_AGAIN_S
        self._heard_s = self._said_s = time.monotonic()
        self._decoder: msgspec.msgpack.Decoder[_FromPublisher] = msgspec.msgpack.Decoder(_FromPublisher)
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.ROUTING_ID, recorder.encode())
        self._socket.set_hwm(0)
        # Nothing is queued for a connection that is not there: after it comes back, joining says all.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._monitor = ConnectionMonitor(self._socket)
        try:
            connect(self._socket, endpoint, security)
        except BaseException:
            self.close()
            raise

    @property
    def silent_s(self) -> float:
        """Seconds since the publisher was heard (or since the start)."""
        return time.monotonic() - self._heard_s

    @property
    def window(self) -> int:
        """How many messages may be under way unacknowledged."""
        return self._window

    @property
    def problem(self) -> str:
        """Why the connection was refused, "" if it was not."""
        return self._monitor.problem()

    def receive(self, timeout_s: float) -> TapWelcome | TapMessage | TapDropped | TapOver | None:
        """Return what comes next, or None if nothing came within ``timeout_s``.

        A welcome of another numbering than before begins a new stream; one of the same follows a lost connection.
        After :class:`TapDropped` the reader joins again; what is no longer kept counts as ``lost``.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._keep_alive()
            said = self._next(max(0.0, min(deadline_s - time.monotonic(), _JOIN_AGAIN_S)))
            taken = None if said is None else self._take(said)
            if taken is not None or (said is None and time.monotonic() >= deadline_s):
                return taken

    def acknowledge(self, n: int) -> None:
        """Say that everything up to ``n`` is safe."""
        if n > self._acked:
            self._acked = n
            self._say(_Ack(n=n))

    def alarm(self, text: str) -> None:
        """Have the publisher tell everybody what went wrong here."""
        self._say(_Alarm(text=text))

    def leave(self) -> None:
        """Say that nothing more is wanted; what was not acknowledged is not kept any longer."""
        self._say(_Leave(n=self._acked))

    def close(self) -> None:
        """Close; what was said last leaves within half a second. A second call does nothing."""
        if not self._socket.closed:
            self._monitor.close()
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, timeout_s: float) -> _FromPublisher | None:
        if not self._socket.poll(timeout_s * 1000):
            return None
        packed, *parts = self._socket.recv_multipart()
        self._heard_s = time.monotonic()
        try:
            said = self._decoder.decode(packed)
        except UNREADABLE:
            self.malformed += 1
            return _Beat(last_n=self._last_n)
        return msgspec.structs.replace(said, parts=tuple(parts)) if isinstance(said, TapMessage) else said

    def _take(self, said: _FromPublisher) -> TapWelcome | TapMessage | TapDropped | TapOver | None:
        match said:
            case TapWelcome(token=self._token):
                if said.numbering != self._numbering or said.lost:
                    self._numbering = said.numbering
                    self._last_n = self._acked = said.next_n - 1
                self._joined = True
                return said
            case TapDropped():
                self._joined = False
                return said
            case TapMessage() if self._joined:
                if said.after != self._last_n:
                    self._join()
                    return None
                self._last_n = said.n
                return said
            case TapOver(last_n=last_n) | _Beat(last_n=last_n) if self._joined:
                if last_n != self._last_n:
                    self._join()
                elif isinstance(said, TapOver):
                    return said
        return None

    def _keep_alive(self) -> None:
        now_s = time.monotonic()
        lost_sight = now_s - self._heard_s > _REJOIN_S if self._joined else now_s - self._join_s >= _JOIN_AGAIN_S
        if lost_sight:
            self._join()
        elif self._joined and now_s - self._said_s >= _BEAT_S:
            self._say(_Ack(n=self._acked))

    def _join(self) -> None:
        self._joined = False
        self._join_s = time.monotonic()
        self._token += 1
        self._say(
            _Join(
                protocol=TAP_PROTOCOL,
                token=self._token,
                numbering=self._numbering,
                after=self._last_n if self._numbering else -1,
                window=self._window,
                topics=self._topics,
            )
        )

    def _say(self, said: _FromRecorder) -> None:
        self._said_s = time.monotonic()
        with contextlib.suppress(zmq.Again):
            self._socket.send(_encoder.encode(said), zmq.NOBLOCK)
