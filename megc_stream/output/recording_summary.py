"""What a recording holds, at a glance: messages by topic, gaps, duration, damage."""

from __future__ import annotations

import contextlib
from datetime import datetime

import msgspec

from megc_stream.output.recording import (
    Damage,
    RecordedMessage,
    RecordingEnd,
    RecordingHeader,
    RecordingJoin,
    RecordingLoss,
    RecordingReader,
)
from megc_stream.output.recording_index import read_index
from megc_stream.packing import UNREADABLE

__all__ = ["RecordingSummary", "SessionSummary", "TopicSummary", "summarise"]


class TopicSummary(msgspec.Struct, kw_only=True):
    """Messages of one topic: count, bytes of all parts, first and last arrival, and jumps of ``seq``, in messages."""

    messages: int = 0
    bytes: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    gaps: int = 0


class SessionSummary(msgspec.Struct, kw_only=True):
    """Messages of one session of the publisher, and how many are known to be missing between first and last."""

    session: str
    messages: int = 0
    lost: int = 0


class RecordingSummary(msgspec.Struct, kw_only=True):
    """What :func:`summarise` found.

    ``began`` is local time; ``ended`` says why the recorder ended, "" where it could not say (it was killed, or is
    still at work); ``lost`` messages did not reach the file, ``damage`` are places that hold no readable record,
    ``torn_bytes`` were cut off at the end in the middle of a record; ``malformed`` messages have no readable envelope.
    """

    file: str
    bytes: int
    recorder: str = ""
    software: str = ""
    endpoint: str = ""
    schema: str = ""
    asked_for: tuple[str, ...] = ()
    began: str = ""
    duration_s: float = 0.0
    ended: str = ""
    messages: int = 0
    lost: int = 0
    malformed: int = 0
    damage: list[Damage] = []
    damaged_bytes: int = 0
    torn_bytes: int = 0
    indexed: bool = False
    sessions: list[SessionSummary] = []
    topics: dict[str, TopicSummary] = {}


class _Stamp(msgspec.Struct, frozen=True):
    session: str
    seq: int


def summarise(reader: RecordingReader) -> RecordingSummary:
    """Read a recording through and count."""
    found = _Counter(RecordingSummary(file=str(reader.path), bytes=reader.size))
    for entry in reader.entries():
        found.add(entry.item)
    summary = found.summary
    marks = read_index(reader.path, summary.recorder)
    summary.indexed = marks is not None and (bool(marks) or not summary.messages)
    summary.lost = sum(session.lost for session in summary.sessions)
    summary.damaged_bytes = sum(damage.length for damage in summary.damage)
    summary.topics = dict(sorted(summary.topics.items()))
    return summary


class _Counter:
    def __init__(self, summary: RecordingSummary) -> None:
        self.summary = summary
        self._last_n: int | None = None
        self._next_seq: dict[tuple[str, str], int] = {}
        self._decoder = msgspec.msgpack.Decoder(_Stamp)

    def add(
        self, item: RecordingHeader | RecordingJoin | RecordedMessage | RecordingLoss | RecordingEnd | Damage
    ) -> None:
        summary = self.summary
        match item:
            case RecordingHeader():
                summary.recorder, summary.software, summary.endpoint = item.recorder, item.software, item.endpoint
                summary.schema, summary.asked_for = item.schema, item.topics
                began = datetime.fromtimestamp(item.began_unix_s).astimezone()
                summary.began = began.isoformat(timespec="seconds")
                self._begin(item.session)
            case RecordingJoin():
                self._begin(item.session)
                self._last_n = item.next_n - 1
            case RecordedMessage():
                self._add_message(item)
            case RecordingLoss():
                self._session().lost += item.last_n - item.first_n + 1
                self._last_n = item.last_n
            case Damage(torn=True):
                summary.torn_bytes += item.length
            case Damage():
                summary.damage.append(item)
        # A recorder that went on after an end has not ended.
        summary.ended = item.why if isinstance(item, RecordingEnd) else ""
        summary.duration_s = max(summary.duration_s, getattr(item, "t_s", 0.0))

    def _begin(self, session: str) -> None:
        if not self.summary.sessions or self.summary.sessions[-1].session != session:
            self.summary.sessions.append(SessionSummary(session=session))
            self._last_n = None

    def _session(self) -> SessionSummary:
        if not self.summary.sessions:
            self._begin("")
        return self.summary.sessions[-1]

    def _add_message(self, message: RecordedMessage) -> None:
        session = self._session()
        session.messages += 1
        self.summary.messages += 1
        # With a choice of topics, the numbers between two messages belong in part to others: at least one is missing.
        if self._last_n is not None and message.after > self._last_n:
            session.lost += 1 if self.summary.asked_for else message.after - self._last_n
        self._last_n = message.n
        name = message.parts[0].decode(errors="backslashreplace") if message.parts else ""
        topic = self.summary.topics.setdefault(name, TopicSummary(first_s=message.t_s))
        topic.messages += 1
        topic.bytes += sum(map(len, message.parts))
        topic.last_s = message.t_s
        stamp = None
        with contextlib.suppress(IndexError, *UNREADABLE):
            stamp = self._decoder.decode(message.parts[1])
        if stamp is None:
            self.summary.malformed += 1
            return
        key = (stamp.session, name)
        topic.gaps += max(0, stamp.seq - self._next_seq.get(key, stamp.seq))
        self._next_seq[key] = stamp.seq + 1
