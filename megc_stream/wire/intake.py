"""What both subscribers do with the messages that arrive: decode, count losses, notice silence and lateness."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from megc_stream.clock import Clock, MonotonicClock
from megc_stream.errors import WireError
from megc_stream.wire.protocol import (
    HELLO,
    STATUS,
    WELCOME,
    Hello,
    HelloMessage,
    Message,
    clock_id,
    decode,
)

__all__ = ["MOST_AT_ONCE", "Intake", "Mode"]

Mode: TypeAlias = Literal["all", "latest"]

MOST_AT_ONCE = 20_000
"""Most messages taken from the socket in one call: twice its queue."""
_TOPICS = 10_000
_REPEAT_S = 1.0
_DRIFT = 1e-4
_REPLAYED = "replay-"
_logger = logging.getLogger(__name__)


class Intake:
    """Holds the messages that arrived and were not yet handed out, and the accounts of the stream.

    Parameters
    ----------
    endpoint
        Named in every message to the user.
    topics
        Prefixes wanted; whatever else arrives (``status.``, ``meta.hello.``) is only taken note of.
    mode
        "all" hands out every message in order; "latest" keeps the newest message of each topic.
    stale_after_s
        Silence, and age of messages, from which on the stream is called stale, s.
    warn
        Gets a line when messages were lost, nothing comes any more, or what comes is old; without it they go to the
        logger ``megc_stream.wire``.
    clock
        Of this program.
    """

    def __init__(
        self,
        endpoint: str,
        topics: tuple[str, ...],
        mode: Mode,
        stale_after_s: float,
        warn: Callable[[str], None] | None,
        clock: Clock | None,
    ) -> None:
        self.endpoint = endpoint
        self.topics = topics
        self.mode = mode
        self.stale_after_s = stale_after_s
        self.welcome = False
        self.hello: Hello | None = None
        self.gaps = 0
        self.gaps_by_topic: Counter[str] = Counter()
        self.malformed = 0
        self.skipped = 0
        self.stale = ""
        self._warn = warn or _logger.warning
        self._clock = clock or MonotonicClock()
        self._next: dict[str, tuple[str, int]] = {}
        self._queue: deque[Message] = deque()
        self._newest: dict[str, Message] = {}
        self._heard_s = self._clock.now_s()
        self._told_s: float | None = None
        self._told_gaps = 0
        self._gap_topic = ""
        self._least_age_s: float | None = None

    @property
    def subscriptions(self) -> list[bytes]:
        """Return the prefixes to subscribe to, ``meta.hello.`` last: its answer proves that the others have arrived."""
        return [topic.encode() for topic in dict.fromkeys((WELCOME, STATUS, *self.topics, HELLO))]

    def accept(self, parts: Sequence[bytes]) -> None:
        """Take one message from the socket.

        Raises
        ------
        ProtocolMismatch
            The publisher speaks another version.
        WireError
            The message is malformed; it is counted.
        """
        now_s = self._clock.now_s()
        self._heard_s = now_s
        if list(parts) == [WELCOME.encode()]:
            self.welcome = True
            return
        try:
            message = decode(parts)
        except WireError as error:
            self.malformed += 1
            raise type(error)(f"endpoint {self.endpoint}: {error}") from error
        self._count(message)
        self._tell_gaps_now_and_then(now_s)
        self._judge_age(message, now_s)
        if isinstance(message, HelloMessage):
            self.hello = message.hello
        if not message.topic.startswith(self.topics):
            return
        if self.mode == "all":
            self._queue.append(message)
        else:
            # In the order of their newest messages.
            self.skipped += self._newest.pop(message.topic, None) is not None
            self._newest[message.topic] = message

    def pop(self) -> Message | None:
        """Return the next message to hand out, None where none is left."""
        if self._queue:
            return self._queue.popleft()
        return self._newest.pop(next(iter(self._newest))) if self._newest else None

    def until_stale_s(self) -> float:
        """Return how long silence may last until :meth:`check` has something to say; at least 10 ms."""
        return max(0.01, self._heard_s + self.stale_after_s - self._clock.now_s())

    def check(self, problem: str = "") -> None:
        """Warn where nothing has come for too long; call it when nothing comes. ``problem`` is the reason if known."""
        now_s = self._clock.now_s()
        self._tell_gaps_now_and_then(now_s)
        silent_s = now_s - self._heard_s
        if silent_s >= self.stale_after_s:
            self._set_stale(
                "silent",
                f"endpoint {self.endpoint}: nothing came for {silent_s:.1f} s, not even a status: "
                f"{problem or 'the publisher has ended or cannot be reached'}",
            )

    def _count(self, message: Message) -> None:
        # On hello every socket counts for itself, and all subscribers get each: nothing can be learnt from a jump.
        known = self._next.get(message.topic)
        if known is None and len(self._next) >= _TOPICS:
            return
        self._next[message.topic] = (message.session, message.seq + 1)
        if known is None or known[0] != message.session or message.seq <= known[1]:
            return
        self.gaps_by_topic[message.topic] += message.seq - known[1]
        self.gaps += message.seq - known[1]
        self._gap_topic = message.topic

    def tell_gaps(self) -> None:
        """Warn of the losses not yet told."""
        if self.gaps > self._told_gaps:
            self._warn(
                f"endpoint {self.endpoint}: {self.gaps - self._told_gaps} messages lost ({self.gaps} so far), last of "
                f"{self._gap_topic}: this reader, or the network, is too slow"
            )
            self._told_gaps = self.gaps

    def _tell_gaps_now_and_then(self, now_s: float) -> None:
        if self.gaps > self._told_gaps and (self._told_s is None or now_s - self._told_s >= _REPEAT_S):
            self._told_s = now_s
            self.tell_gaps()

    def _judge_age(self, message: Message, now_s: float) -> None:
        """Warn when messages are old. A clock that is not ours is compared with its own best so far, plus drift."""
        age_s = now_s - message.t_publish_s
        if message.clock.startswith(_REPLAYED):
            age_s = 0.0  # the times of a recording that is played run at any pace
        elif message.clock != clock_id():
            if self._least_age_s is None:
                self._least_age_s, self._least_at_s = age_s, now_s
            self._least_age_s = min(age_s, self._least_age_s + _DRIFT * (now_s - self._least_at_s))
            self._least_at_s = now_s
            age_s -= self._least_age_s
        if age_s >= self.stale_after_s:
            self._set_stale(
                "late",
                f"endpoint {self.endpoint}: {message.topic} was published {age_s:.1f} s ago: this reader is too slow; "
                "mode 'latest' skips to the newest",
            )
        elif self.stale == "silent" or age_s < self.stale_after_s / 2:
            self.stale = ""

    def _set_stale(self, state: str, text: str) -> None:
        if self.stale != state:
            self.stale = state
            self._warn(text)
