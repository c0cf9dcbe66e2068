"""The recognition stage: scores and events in, a labelled last revision of every event out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from megc_stream.clock import Clock
from megc_stream.errors import UsageError
from megc_stream.packing import Unpacker, pack
from megc_stream.records import (
    Adjustment,
    Annotation,
    Crop,
    Event,
    Record,
    Score,
    StreamEnd,
    StreamInfo,
    Trace,
    frames_of,
)

__all__ = ["Recogniser", "most_frequent_class"]


def most_frequent_class(classes: Sequence[int]) -> int:
    """Return the most frequent class; of several, the one seen first.

    Raises
    ------
    UsageError
        ``classes`` is empty.

    References
    ----------
    Liong, See, Chan: Spot-then-recognize, Signal Processing: Image Communication 2023 (MEAN); post-processing of its
    code.
    """
    if not classes:
        raise UsageError("most_frequent_class: got no classes, expected at least one")
    # Counter keeps the order in which keys were first seen, and most_common is stable.
    return Counter(classes).most_common(1)[0][0]


class _State(msgspec.Struct, kw_only=True):
    info: StreamInfo | None = None
    probabilities: dict[int, tuple[float, ...]] = {}


class Recogniser:
    """Names the emotion of each event from MEAN's second head over the pairs in [peak - k', peak).

    A stage: ``process`` takes StreamInfo, Score, Trace, Event and StreamEnd and returns the events it adds. The class
    is the one most pairs vote for; ``probabilities`` are the means over the same pairs. An event without any scored
    pair there gets no emotion.

    Parameters
    ----------
    classes
        Names of the model's classes, in its order.
    kept_s
        Seconds of probabilities to keep; None keeps those of the whole video, whose events come at the end.
    clock
        Stamps ``run.t_event_s``.
    pass_crops
        Send the stream's description and every crop on, to a stage that answers questions; labels are not the last
        revision then.
    """

    def __init__(self, classes: Sequence[str], kept_s: float | None, clock: Clock, *, pass_crops: bool = False) -> None:
        self._pass_crops = pass_crops
        self._classes = tuple(classes)
        self._kept_s = kept_s
        self._clock = clock
        self._state = _State()
        self._unpack = Unpacker[_State](_State)

    def process(self, record: Record) -> Iterable[Record]:
        """Take one record of the spotter and return the label that follows from it, if any."""
        if isinstance(record, StreamInfo):
            self._state = _State(info=record)
            return [record] if self._pass_crops else []
        if isinstance(record, Crop):
            return [record] if self._pass_crops else []
        if isinstance(record, Annotation | Adjustment):
            return [record]
        if isinstance(record, Score):
            self._keep(record)
        elif isinstance(record, Event):
            return [self._label(record)] if record.kind == "offset" else []
        elif not isinstance(record, (Trace, StreamEnd)):
            raise UsageError(f"recogniser: got a {type(record).__name__} record; expected what the spotter sends")
        return []

    def flush(self) -> Iterable[Record]:
        """Nothing waits in this stage."""
        return []

    def snapshot(self) -> bytes:
        """Return all state as bytes."""
        return pack(self._state)

    def restore(self, data: bytes) -> None:
        """Take over the state of :meth:`snapshot`."""
        self._state = self._unpack(data)

    def _keep(self, score: Score) -> None:
        if score.recog:
            self._state.probabilities[score.frame] = score.recog
        if self._kept_s is not None and self._state.info is not None:
            oldest = score.frame - frames_of(self._kept_s, self._state.info.fps)
            while self._state.probabilities and (first := next(iter(self._state.probabilities))) < oldest:
                del self._state.probabilities[first]

    def _label(self, event: Event) -> Event:
        assert event.apex is not None
        peak = event.apex.frame
        pairs = [
            self._state.probabilities[frame]
            for frame in range(peak - event.k_prime, peak)
            if frame in self._state.probabilities
        ]
        run = {**event.run, "t_event_s": self._clock.now_s()}
        label = msgspec.structs.replace(event, kind="label", rev=event.rev + 1, final=not self._pass_crops, run=run)
        if not pairs:
            return label
        winner = most_frequent_class([int(np.argmax(pair)) for pair in pairs])
        means = np.mean(pairs, axis=0)
        return msgspec.structs.replace(
            label,
            emotion=self._classes[winner],
            probabilities={name: float(value) for name, value in zip(self._classes, means, strict=True)},
        )
