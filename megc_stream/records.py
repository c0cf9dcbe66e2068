"""The typed, frozen records that flow from stage to stage.

    StreamInfo, Frame..., StreamEnd -> Crop -> Score, Trace, Event(onset, apex, offset | retracted) -> Event(label)

Conventions. ``frame`` is the 0-based index in the source (increasing; a gap means lost frames), ``number`` the data
set's own number (equal to ``frame`` for plain videos and cameras). ``t_capture_s`` is on the host's monotonic clock:
the arrival of the frame when live, its deadline in replay. ``pts_s`` is the time stamp in the file, None for a camera.
Arrays are never written to after the record is made.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Adjustment",
    "Annotation",
    "Answer",
    "Crop",
    "EmotionName",
    "Event",
    "EventKind",
    "EventPoint",
    "FaceFlag",
    "Frame",
    "Record",
    "Region",
    "Score",
    "StreamEnd",
    "StreamInfo",
    "Trace",
    "frames_of",
]

EmotionName: TypeAlias = str
EventKind = Literal["onset", "apex", "offset", "retracted", "label", "answer"]
FaceFlag = Literal["lost", "found", "small", "turned", "blink", "blurred"]
Region: TypeAlias = tuple[int, int, int, int]
"""A part of a picture: x_low, y_low, x_high, y_high in px, the highs exclusive."""


def frames_of(duration_s: float, fps: float) -> int:
    """Return a duration in whole frames: max(1, floor(duration_s * fps + 0.5))."""
    return max(1, math.floor(duration_s * fps + 0.5))


class _Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="record"):
    """Base of all records; ``record`` on the wire is the class name in lower case."""


class StreamInfo(_Record, frozen=True, kw_only=True, tag="streaminfo"):
    """The first record of a stream: what the source is.

    ``fps`` is the nominal rate in frames per second, ``width``/``height`` are in px after rotation, ``frames`` is the
    expected count (None when unknown or live), ``live`` tells a camera from a file.
    """

    source: str
    subject: str
    video: str
    fps: float
    width: int
    height: int
    frames: int | None = None
    live: bool = False
    description: str = ""


class Frame(_Record, frozen=True, kw_only=True, tag="frame", eq=False):
    """One picture of a source.

    ``image`` is uint8: (H, W) grey, full range 0..255, or (H, W, 3) BGR where the source was opened in colour.
    ``dropped`` counts the frames lost immediately before this one, by reason; ``decode_s`` is what reading and decoding
    took, seconds. Where ``region`` is not None, the picture was decoded in part: ``image`` has its full size, but holds
    the picture only in that region, and nothing of meaning elsewhere; ``rest`` then returns all of it.
    """

    source: str
    frame: int
    number: int
    image: NDArray[np.uint8]
    t_capture_s: float
    pts_s: float | None = None
    t_device_s: float | None = None
    decode_s: float = 0.0
    dropped: dict[str, int] = {}
    region: Region | None = None
    rest: Any = None

    def whole(self) -> NDArray[np.uint8]:
        """Return the complete picture, decoded now where it was not before, and kept; safe from any thread."""
        image: NDArray[np.uint8] = self.image if self.rest is None else self.rest()
        return image


class Crop(_Record, frozen=True, kw_only=True, tag="crop", eq=False):
    """A face-aligned crop of one frame, or the fact that there is none.

    ``image`` (128, 128) uint8 grey, eye centres at (39, 36) and (89, 36); ``landmarks68`` (68, 2) float32 in crop px;
    ``similarity`` (2, 3) float64 maps frame px to crop px. All three are None while the face is lost. ``segment`` grows
    by one each time the face is found again: crops of different segments are never compared. ``interocular_px`` is the
    distance between the eye centres in the frame, ``eye_opening`` the eye aspect ratio (mean of both eyes; about 0.3
    open, below 0.2 closed) at the last key frame, ``sharpness`` the variance of the Laplacian of the crop.
    """

    source: str
    frame: int
    number: int
    t_capture_s: float
    segment: int
    image: NDArray[np.uint8] | None = None
    landmarks68: NDArray[np.float32] | None = None
    similarity: NDArray[np.float64] | None = None
    interocular_px: float | None = None
    eye_opening: float | None = None
    sharpness: float | None = None
    flags: tuple[FaceFlag, ...] = ()
    pts_s: float | None = None
    t_device_s: float | None = None
    dropped: dict[str, int] = {}


class Score(_Record, frozen=True, kw_only=True, tag="score"):
    """MEAN's outputs for the pair (frame, frame + k).

    ``frame``/``number`` belong to the first frame of the pair, ``frame_to`` is the second, whose ``t_capture_s`` this
    is; ``t_score_s`` is when the score was out, on the same clock. ``spot`` is None, with a ``reason``, where the
    pair could not be scored. ``recog`` holds class probabilities in the model's order.
    """

    source: str
    frame: int
    number: int
    frame_to: int
    t_capture_s: float
    t_score_s: float
    pts_s: float | None = None
    spot: float | None = None
    recog: tuple[float, ...] = ()
    reason: str = ""
    flags: tuple[FaceFlag, ...] = ()


class Trace(_Record, frozen=True, kw_only=True, tag="trace"):
    """The smoothed score at ``frame`` and the threshold it is held against.

    Both are known later than the score itself. ``threshold`` is None while there is too little of the past for one.
    """

    source: str
    frame: int
    smoothed: float
    threshold: float | None


class EventPoint(msgspec.Struct, frozen=True, kw_only=True):
    """An instant of an event: frame index, native number, and time in seconds (``pts_s`` of a file, else capture
    time)."""

    frame: int
    number: int
    t_s: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a question about an event, in the challenge's form, and what it rests on.

    ``by`` is "embedded" (measured by the pipeline) or "served" (a vision-language model); ``evidence`` says which
    regions moved how far (px), which probabilities, or which model, prompt and token counts. ``fallback`` says why the
    embedded answer stands where a served one was asked for.
    """

    question: str
    answer: str
    by: Literal["embedded", "served"]
    evidence: dict[str, Any] = {}
    fallback: str = ""


class Annotation(_Record, frozen=True, kw_only=True, tag="annotation"):
    """A remark of an operator, placed in the stream before ``frame``; stages pass it on."""

    source: str
    frame: int
    t_capture_s: float
    text: str
    author: str = ""


class Adjustment(_Record, frozen=True, kw_only=True, tag="adjustment"):
    """A change of the causal threshold while the stream runs, in force from ``frame`` on; None leaves a value as it
    is. It travels in the stream, so that the same frames get the new threshold however the stages are hosted."""

    source: str
    frame: int
    t_capture_s: float
    deviations: float | None = None
    least_threshold: float | None = None
    author: str = ""


class Event(_Record, frozen=True, kw_only=True, tag="event"):
    """One revision of one expression event: onset -> apex -> offset | retracted, then label, then answer.

    All revisions share ``event_id`` (source and onset order) and grow ``rev``; the last has ``final``. Points not yet
    known are None. ``decision_frame`` is the newest frame that the revision depends on; (decision_frame, event_number,
    rev) orders the log. ``k`` and ``k_prime`` are in frames, ``lookahead_s`` is the algorithmic delay from apex to
    decision in this mode. ``run`` holds whatever depends on the wall clock or load, and only that.
    """

    event_id: str
    event_number: int
    rev: int
    kind: EventKind
    final: bool
    source: str
    subject: str
    video: str
    decision_frame: int
    onset: EventPoint
    apex: EventPoint | None = None
    offset: EventPoint | None = None
    type: Literal["micro", "macro"] | None = None
    emotion: EmotionName | None = None
    probabilities: dict[EmotionName, float] = {}
    aus: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    score: float
    threshold: float
    model: str
    model_sha256: str
    k: int
    k_prime: int
    lookahead_s: float
    flags: tuple[str, ...] = ()
    run: dict[str, Any] = {}


class StreamEnd(_Record, frozen=True, kw_only=True, tag="streamend"):
    """The last record of a stream.

    ``frames`` were delivered; ``reason`` is "end", "stopped" or "damaged", ``message`` says what was lost in the last
    case. ``dropped`` counts, by reason, frames lost after the last delivered one.
    """

    source: str
    frames: int
    reason: Literal["end", "stopped", "damaged"]
    message: str = ""
    dropped: dict[str, int] = {}


Record: TypeAlias = StreamInfo | Frame | Crop | Score | Trace | Event | Annotation | Adjustment | StreamEnd
