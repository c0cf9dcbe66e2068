"""The public stream: every message, topic and envelope field, as types.

A message is ``[topic][msgpack map][raw...]``. The map is one of the ``...Message`` structs below: the fields of
:class:`Envelope`, ``type``, and the payload under a key of the same name as the type. ``docs/protocol.md`` is made
from this module and from ``records.py`` by ``python -m megc_stream.wire.protocol_page``.

Topics end in a dot (``event.onset.cam0.``), so a prefix subscription never matches a longer name. All times ending in
``_s`` are float64 seconds on the publisher's monotonic clock unless said otherwise.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from megc_stream.errors import WireError
from megc_stream.records import Adjustment, Annotation, Event, FaceFlag, Score, StreamEnd, StreamInfo, Trace

__all__ = [
    "HELLO",
    "MESSAGES",
    "PROTOCOL_VERSION",
    "STATUS",
    "WELCOME",
    "AdjustmentMessage",
    "Alarm",
    "AlarmMessage",
    "AnnotationMessage",
    "DurationSummary",
    "EndMessage",
    "Envelope",
    "EventMessage",
    "FaceFrame",
    "FaceMessage",
    "FaceQuality",
    "FrameMessage",
    "Hello",
    "HelloMessage",
    "LogEntry",
    "LogLevel",
    "LogMessage",
    "Message",
    "OtherMessage",
    "ProtocolMismatch",
    "RecorderStatus",
    "ScoreMessage",
    "Snapshot",
    "SourceStatus",
    "Status",
    "StatusMessage",
    "StreamMessage",
    "TraceMessage",
    "clock_id",
    "decode",
    "encode",
    "topic_of",
]

PROTOCOL_VERSION = 1
WELCOME = "meta.welcome."
HELLO = "meta.hello."
STATUS = "status."

LogLevel = Literal["debug", "info", "warning", "error", "critical"]


class ProtocolMismatch(WireError):
    """The publisher speaks another version of the protocol."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Who publishes; sent to each new subscription that matches ``meta.hello.``, on every socket."""

    protocol: int
    """Version of the protocol; it changes when a message loses or redefines a field, not when one is added."""
    schema: str
    """First 16 hexadecimal digits of the SHA-256 of all message types (names, fields, types)."""
    software: str
    """Name and version of the publishing program."""
    clock: str
    """Identity of the clock: two programs that name the same one can compare their times directly."""
    unix_minus_clock_s: float
    """Unix time minus the publisher's clock at this moment, s."""
    unix_bound_s: float
    """The offset is right within this bound, s (half the time that reading both clocks took)."""
    endpoints: dict[str, str]
    """Addresses of the sockets that are open: ``events``, ``frames``, ``control``, ``recordings``. A host of
    ``0.0.0.0`` or ``[::]`` stands for the one that this message came from."""


class DurationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Count and percentiles of durations, in milliseconds."""

    count: int
    """How many durations."""
    p50_ms: float
    """Half of them are at most this long, ms."""
    p95_ms: float
    """95 % of them, ms."""
    p99_ms: float
    """99 % of them, ms."""
    max_ms: float
    """The longest, ms."""


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one source, or the whole, is doing."""

    state: Literal["waiting", "running", "paused", "ended"]
    """``waiting`` before the first frame."""
    frame: int
    """Newest frame read (0-based index); -1 before the first, and for the whole."""
    frames: int
    """Frames read since the start."""
    faces: int
    """Frames with a face."""
    scores: int
    """Pairs scored."""
    events: int
    """Events begun."""
    fps_nominal: float | None
    """Rate that the source states, frames/s; null for the whole."""
    fps_in: float
    """Frames read per second, over the last seconds."""
    fps_out: float
    """Scores per second, over the last seconds."""
    dropped: dict[str, int]
    """Frames lost since the start, by reason."""
    queues: dict[str, int]
    """By stage: frames that the stage before it has finished and it has not."""
    latency: dict[str, DurationSummary]
    """Over the last seconds, by stage: time spent on one record (``capture``: waiting for and decoding a frame);
    ``capture to score``: from the capture of a pair's second frame until its score was out, the first 2 s left out."""


class RecorderStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the lossless link to recorders is doing."""

    state: Literal["idle", "recording", "stopped"]
    """``idle`` without a recorder, ``stopped`` after a failure."""
    clients: int
    """Recorders connected."""
    backlog: int
    """Messages not yet acknowledged by the slowest."""
    lost: int
    """Messages that a recorder could not be given."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Heartbeat, once a second, on the sockets of events and frames: silence means that the publisher is gone."""

    uptime_s: float
    """Time since the publisher started, s."""
    insecure: bool
    """``--insecure-bind`` is in force: sockets may be open to other hosts without encryption."""
    whole: SourceStatus
    """All sources together."""
    sources: dict[str, SourceStatus]
    """Each source by name."""
    malformed: dict[str, int]
    """Messages received that could not be understood, by socket."""
    recorder: RecorderStatus | None = None
    """Recorders, where the program offers recordings."""


class FaceQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the face in one frame."""

    frame: int
    """0-based index in the source."""
    number: int
    """The data set's own number."""
    segment: int
    """Grows by one each time the face is found again."""
    found: bool
    """There is a face."""
    interocular_px: float | None
    """Distance between the eye centres, px of the frame."""
    eye_opening: float | None
    """Eye aspect ratio, about 0.3 open, below 0.2 closed."""
    sharpness: float | None
    """Variance of the Laplacian of the crop."""
    flags: tuple[FaceFlag, ...]
    """What speaks against the frame."""
    dropped: dict[str, int]
    """Frames lost immediately before this one, by reason."""


class FaceFrame(msgspec.Struct, frozen=True, kw_only=True):
    """An aligned face crop; the picture is the third part of the message."""

    frame: int
    """0-based index in the source."""
    number: int
    """The data set's own number."""
    segment: int
    """Grows by one each time the face is found again."""
    format: Literal["jpeg", "gray"]
    """``jpeg``: a JPEG file of one channel; ``gray``: height x width bytes, row by row, 0..255."""
    width: int
    """px."""
    height: int
    """px."""
    landmarks68: tuple[tuple[float, float], ...] | None
    """68 points (x, y), px of the crop."""
    flags: tuple[FaceFlag, ...]
    """What speaks against the frame."""
    pts_s: float | None
    """Time stamp in the file, s; null for a camera."""


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the program's log."""

    level: LogLevel
    """The same word is in the topic."""
    text: str
    """One line."""
    logger: str = ""
    """Where it comes from."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person must look at while the analysis goes on, e.g. a recording that stopped."""

    name: str
    """What it is about; the same word is in the topic."""
    text: str
    """What happened, where, and what to do; one line."""
    detail: dict[str, Any] = {}
    """Figures and names."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the stream for one who joins late (control command ``snapshot``).

    Subscribe first, then ask: a message of a topic with ``seq`` >= ``next_seq`` of that topic is newer than this.
    """

    t_snapshot_s: float
    """When this was the state, s."""
    session: str
    """Session that ``next_seq`` belongs to."""
    next_seq: dict[str, int]
    """``seq`` of the next message, by topic; 0 for topics that are not listed."""
    streams: tuple[StreamInfo, ...]
    """Sources that have begun."""
    ended: tuple[StreamEnd, ...]
    """Sources that have ended."""
    events: tuple[Event, ...]
    """The newest revision of each event that is not final, and is not retracted."""
    status: Status
    """As in the message ``status.``."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What every message carries besides its ``type`` and payload."""

    v: int
    """Version of the protocol."""
    topic: str
    """The topic again, as text."""
    session: str
    """Changes when the publisher starts anew; ``seq`` then begins at 0."""
    source: str
    """Name of the source, "" where the message belongs to none."""
    seq: int
    """Counts the messages of this topic: a jump means that messages were lost on the way to this subscriber."""
    t_capture_s: float | None
    """Capture time of the newest frame that the message depends on, s; null without one."""
    t_publish_s: float
    """When the message was sent, s."""
    clock: str
    """Identity of the clock of ``t_capture_s`` and ``t_publish_s``."""


class _Message(Envelope, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    raw: tuple[bytes, ...] = ()  # parts after the map; never in the map

    @property
    def type(self) -> str:
        """Return the type of the message; the payload is the attribute of that name."""
        return str(self.__struct_config__.tag)

    @property
    def payload(self) -> Any:
        """Return the payload."""
        return getattr(self, self.type)


class EventMessage(_Message, frozen=True, kw_only=True, tag="event"):
    """``event.<kind>.<source>.``: one revision of an event (onset, apex, offset or retracted, label, answer)."""

    event: Event


class ScoreMessage(_Message, frozen=True, kw_only=True, tag="score"):
    """``metric.score.<source>.``: the network's outputs for one pair of frames."""

    score: Score


class TraceMessage(_Message, frozen=True, kw_only=True, tag="trace"):
    """``metric.trace.<source>.``: smoothed score and threshold of one frame."""

    trace: Trace


class FaceMessage(_Message, frozen=True, kw_only=True, tag="face"):
    """``metric.face.<source>.``: how well the face was seen in one frame."""

    face: FaceQuality


class FrameMessage(_Message, frozen=True, kw_only=True, tag="frame"):
    """``frame.face.<source>.``: an aligned face crop, on the socket of frames, only while somebody subscribes."""

    frame: FaceFrame


class StatusMessage(_Message, frozen=True, kw_only=True, tag="status"):
    """``status.``: once a second."""

    status: Status


class LogMessage(_Message, frozen=True, kw_only=True, tag="log"):
    """``log.<level>.``: a line of the program's log."""

    log: LogEntry


class AlarmMessage(_Message, frozen=True, kw_only=True, tag="alarm"):
    """``alarm.<name>.``: something that a person must look at."""

    alarm: Alarm


class AnnotationMessage(_Message, frozen=True, kw_only=True, tag="annotation"):
    """``annotation.<source>.``: a remark of an operator."""

    annotation: Annotation


class AdjustmentMessage(_Message, frozen=True, kw_only=True, tag="adjustment"):
    """``adjustment.<source>.``: the causal threshold was changed."""

    adjustment: Adjustment


class StreamMessage(_Message, frozen=True, kw_only=True, tag="stream"):
    """``meta.stream.<source>.``: a source begins."""

    stream: StreamInfo


class EndMessage(_Message, frozen=True, kw_only=True, tag="end"):
    """``meta.end.<source>.``: a source has ended."""

    end: StreamEnd


class HelloMessage(_Message, frozen=True, kw_only=True, tag="hello"):
    """``meta.hello.``: who publishes, and where else."""

    hello: Hello


class OtherMessage(Envelope, frozen=True, kw_only=True):
    """A message of a type that this version does not know; ``fields`` is its whole map."""

    type: str
    fields: dict[str, Any]
    raw: tuple[bytes, ...] = ()

    @property
    def payload(self) -> Any:
        """Return what lies under the key named like the type, None without it."""
        return self.fields.get(self.type)


_Known: TypeAlias = (
    EventMessage
    | ScoreMessage
    | TraceMessage
    | FaceMessage
    | FrameMessage
    | StatusMessage
    | LogMessage
    | AlarmMessage
    | AnnotationMessage
    | AdjustmentMessage
    | StreamMessage
    | EndMessage
    | HelloMessage
)
Message: TypeAlias = _Known | OtherMessage

MESSAGES: dict[str, type[_Message]] = {
    "event": EventMessage,
    "score": ScoreMessage,
    "trace": TraceMessage,
    "face": FaceMessage,
    "frame": FrameMessage,
    "status": StatusMessage,
    "log": LogMessage,
    "alarm": AlarmMessage,
    "annotation": AnnotationMessage,
    "adjustment": AdjustmentMessage,
    "stream": StreamMessage,
    "end": EndMessage,
    "hello": HelloMessage,
}
"""Message types by the word in ``type``."""


class _Version(msgspec.Struct, frozen=True):
    v: int
    topic: str
    type: str


_encoder = msgspec.msgpack.Encoder()
_known: msgspec.msgpack.Decoder[_Known] = msgspec.msgpack.Decoder(_Known)
_version = msgspec.msgpack.Decoder(_Version)
_any = msgspec.msgpack.Decoder(dict[str, Any])


def topic_of(*words: str) -> str:
    """Return the topic of some words: ``topic_of("event", "onset", "cam0")`` is ``event.onset.cam0.``.

    A dot inside a word becomes ``_``: with it, ``event.label.a.`` would match the source ``a.b``.
    """
    return "".join(f"{word.replace('.', '_')}." for word in words)


@functools.cache
def clock_id() -> str:
    """Return the identity of this host's monotonic clock since its last start: equal in all its processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        boot = f"{platform.node()} {uuid.getnode()}"
    return f"monotonic-{hashlib.sha256(boot.encode()).hexdigest()[:12]}"


def encode(message: _Message) -> list[bytes]:
    """Return the parts of a message: topic, msgpack map, and its raw parts."""
    topic = message.topic.encode()
    if not message.raw:
        return [topic, _encoder.encode(message)]
    return [topic, _encoder.encode(msgspec.structs.replace(message, raw=())), *message.raw]


def decode(parts: Sequence[bytes]) -> Message:
    """Return the message that some parts hold; fields and types from a later version are tolerated.

    Raises
    ------
    ProtocolMismatch
        It is a ``meta.hello.`` of another version.
    WireError
        It is malformed, or of another version.
    """
    if len(parts) < 2:
        raise WireError(f"message of {len(parts)} parts: expected [topic][msgpack map], first part {_short(parts)}")
    raw = tuple(parts[2:])
    message: Message
    try:
        message = _known.decode(parts[1])
    except msgspec.ValidationError as error:
        message = _other(parts, error)
    except (ValueError, RecursionError) as error:
        raise WireError(f"message {_short(parts)}: cannot be understood ({error})") from error
    if message.v != PROTOCOL_VERSION:
        raise _mismatch(message.v, message.topic)
    if message.topic.encode() != parts[0]:
        raise WireError(f"message {_short(parts)}: names itself {message.topic[:60]!r}; expected its topic")
    return msgspec.structs.replace(message, raw=raw) if raw or message.raw else message


def _other(parts: Sequence[bytes], error: msgspec.ValidationError) -> OtherMessage:
    """Return a message that is none of the known types; raise what is wrong with it if it claims to be one."""
    try:
        version = _version.decode(parts[1])
        if version.v != PROTOCOL_VERSION:
            raise _mismatch(version.v, version.topic)
        if version.type in MESSAGES:
            raise WireError(f"message {_short(parts)}: cannot be understood ({error})") from error
        fields = _any.decode(parts[1])
        return msgspec.convert({**fields, "fields": fields, "raw": ()}, OtherMessage)
    except (ValueError, RecursionError) as second:
        raise WireError(f"message {_short(parts)}: cannot be understood ({second})") from second


def _mismatch(version: int, topic: str) -> WireError:
    text = f"protocol {version}, expected {PROTOCOL_VERSION}; update one side"
    return ProtocolMismatch(text) if topic == HELLO else WireError(text)


def _short(parts: Sequence[bytes]) -> str:
    return repr(parts[0][:60]) if parts else "none"
