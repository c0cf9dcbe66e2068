"""Reading the public stream of a running analysis; :mod:`megc_stream.wire.aio` does the same with asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import zmq

from megc_stream.clock import Clock
from megc_stream.errors import WireError
from megc_stream.wire.intake import MOST_AT_ONCE, Intake, Mode
from megc_stream.wire.protocol import Hello, Message, ProtocolMismatch
from megc_stream.wire.security import PLAIN, ConnectionMonitor, Security, connect

__all__ = ["LOOK_S", "Subscriber", "SubscriberBase"]

_QUEUE = 10_000
LOOK_S = 0.1
"""How often a subscriber that waits for its welcome looks whether it was refused, s."""


class SubscriberBase:
    """What :class:`Subscriber` and :class:`~megc_stream.wire.aio.AsyncSubscriber` have in common.

    Parameters
    ----------
    endpoint
        E.g. ``tcp://127.0.0.1:5550``.
    topics
        Prefixes of the topics wanted, e.g. ``("event.label.",)``; ``("",)`` is everything.
    mode
        "all" yields every message in order. "latest" takes what is queued and yields the newest message of each topic
        only, so that a slow reader stays up to date; ``skipped`` counts the others.
    context
        ZeroMQ context; the process-wide one without it.
    security
        Our keys and the publisher's, from :func:`megc_stream.wire.security.load_security`.
    stale_after_s
        Silence, and age of messages, from which on the stream is called stale, s. The publisher sends a status every
        second.
    warn
        Gets a line when messages were lost (at most one a second), when nothing comes any more, and when what comes
        is old; without it they go to the logger ``megc_stream.wire.intake``.
    clock
        Of this program, for the judgement of age.

    Raises
    ------
    UsageError
        There is a secret key, and no key of the publisher.
    WireError
        The endpoint is malformed.
    """

    _sockets: type[Any] = zmq.Socket

    def __init__(
        self,
        endpoint: str,
        topics: tuple[str, ...] = ("event.",),
        *,
        mode: Mode = "all",
        context: zmq.Context[Any] | None = None,
        security: Security = PLAIN,
        stale_after_s: float = 3.0,
        warn: Callable[[str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._intake = Intake(endpoint, topics, mode, stale_after_s, warn, clock)
        self._socket = (context or zmq.Context.instance()).socket(zmq.SUB, socket_class=self._sockets)
        self._socket.set_hwm(_QUEUE)
        self._socket.setsockopt(zmq.LINGER, 0)
        *topics_first, hello = self._intake.subscriptions
        for topic in topics_first:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._monitor = ConnectionMonitor(self._socket)
        try:
            connect(self._socket, endpoint, security)
        except BaseException:
            self.close()
            raise
        # Last, and after connecting: the answer proves that the publisher has all our subscriptions.
        self._socket.setsockopt(zmq.SUBSCRIBE, hello)

    @property
    def hello(self) -> Hello | None:
        """Return the newest ``meta.hello.`` of the publisher, None before the first."""
        return self._intake.hello

    @property
    def gaps(self) -> int:
        """Return how many messages were lost on the way: the sum of the jumps in ``seq``."""
        return self._intake.gaps

    @property
    def gaps_by_topic(self) -> dict[str, int]:
        """Return the messages lost, by topic."""
        return dict(self._intake.gaps_by_topic)

    @property
    def malformed(self) -> int:
        """Return how many messages could not be understood."""
        return self._intake.malformed

    @property
    def skipped(self) -> int:
        """Return how many messages "latest" passed over."""
        return self._intake.skipped

    @property
    def stale(self) -> str:
        """Return "" while the stream is up to date, "silent" when nothing comes, "late" when what comes is old."""
        return self._intake.stale

    def endpoint_of(self, name: str) -> str:
        """Return the address of another socket of the publisher: ``events``, ``frames``, ``control``, ``recordings``.

        Raises
        ------
        WireError
            Not welcomed yet, or the publisher has no such socket.
        """
        if self.hello is None:
            raise WireError(f"endpoint {self.endpoint}: has not said hello yet; call wait_for_welcome() first")
        if name not in self.hello.endpoints:
            raise WireError(
                f"endpoint {self.endpoint}: the publisher has no socket '{name}', only {sorted(self.hello.endpoints)}"
            )
        return _seen_from(self.endpoint, self.hello.endpoints[name])

    def _unwelcome(self, timeout_s: float) -> WireError:
        problem = self._monitor.problem()
        if problem:
            return WireError(f"endpoint {self.endpoint}: {problem}")
        if self._intake.welcome:
            return WireError(
                f"endpoint {self.endpoint}: a publisher accepted us, but did not say hello within {timeout_s:g} s; "
                "is it hanging?"
            )
        return WireError(
            f"endpoint {self.endpoint}: no publisher answered within {timeout_s:g} s; "
            "is 'megc-stream run ... --publish' running there?"
        )

    def _take_tolerantly(self, parts: Sequence[bytes]) -> None:
        try:
            self._intake.accept(parts)
        except ProtocolMismatch:
            raise
        except WireError:
            return  # counted

    @property
    def _refused(self) -> bool:
        return bool(self._monitor.problem()) and self._monitor.refused

    @property
    def _welcomed(self) -> bool:
        return self._intake.welcome and self._intake.hello is not None

    def close(self) -> None:
        """Leave the stream."""
        self._intake.tell_gaps()
        if not self._socket.closed:
            self._monitor.close()
            self._socket.close()


class Subscriber(SubscriberBase):
    """Connects to a publisher and yields its messages; parameters are those of :class:`SubscriberBase`.

    >>> with Subscriber("tcp://127.0.0.1:5550", ("event.label.",)) as subscriber:  # doctest: +SKIP
    ...     subscriber.wait_for_welcome(10)
    ...     for message in subscriber:
    ...         print(message.event.emotion)
    """

    def wait_for_welcome(self, timeout_s: float) -> Hello:
        """Return once the publisher has our subscriptions: from then on nothing is missed.

        Raises
        ------
        ProtocolMismatch
            The publisher speaks another version of the protocol.
        WireError
            Nobody answered within ``timeout_s``, or we were refused.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._welcomed:
            wait_s = max(0.0, min(deadline_s - time.monotonic(), LOOK_S))
            if self._socket.poll(wait_s * 1000):
                self._take_tolerantly(self._socket.recv_multipart())
            elif wait_s < LOOK_S or self._refused:
                raise self._unwelcome(timeout_s)
        assert self.hello is not None
        return self.hello

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message of the topics wanted, or None if none came within ``timeout_s``.

        Raises
        ------
        ProtocolMismatch
            The publisher speaks another version of the protocol.
        WireError
            A message is malformed. It is counted and gone: call again for the next.
        """
        deadline_s = time.monotonic() + timeout_s
        for _ in range(MOST_AT_ONCE):  # a flood of messages that nobody asked for must not keep us here
            if self._intake.mode == "latest":
                self._drain()
            message = self._intake.pop()
            if message is not None:
                return message
            wait_s = min(max(0.0, deadline_s - time.monotonic()), self._intake.until_stale_s())
            if self._socket.poll(wait_s * 1000):
                self._take()
                continue
            self._intake.check(self._monitor.problem())
            if time.monotonic() >= deadline_s:
                return None
        return None

    def __iter__(self) -> Iterator[Message]:
        """Yield messages for ever; malformed ones are passed over and counted in ``malformed``."""
        while True:
            try:
                message = self.receive(1.0)
            except ProtocolMismatch:
                raise
            except WireError:
                continue
            if message is not None:
                yield message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _drain(self) -> None:
        for _ in range(MOST_AT_ONCE):
            if not self._socket.poll(0):
                return
            self._take()

    def _take(self) -> None:
        self._intake.accept(self._socket.recv_multipart())


def _seen_from(endpoint: str, other: str) -> str:
    """Return ``other`` with the host of ``endpoint`` where it names every interface."""
    for every in ("tcp://0.0.0.0:", "tcp://[::]:", "tcp://*:"):
        if other.startswith(every) and endpoint.startswith("tcp://"):
            return f"{endpoint.rpartition(':')[0]}:{other.removeprefix(every)}"
    return other
