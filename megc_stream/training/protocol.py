"""The published protocol of MEAN (Liong, See and Chan 2023, with its code): k', pseudo-labels, 5:1 sampling."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from megc_stream.datasets.labels import coarse_emotion
from megc_stream.errors import DataError
from megc_stream.records import frames_of
from megc_stream.training.augmentation import Augmentation, changer
from megc_stream.training.pairs import TrueEvent
from megc_stream.training.recordings import RecordingPairs
from megc_stream.training.train import Examples, Lesson

__all__ = ["class_of", "half_length_s", "pseudo_labels", "recognition_lesson", "spotting_lesson"]

_NEGATIVES_PER_POSITIVE = 5
# Of five negatives, where there are synthetic ones.
_SYNTHETIC_NEGATIVES = 1


def half_length_s(recordings: Sequence[RecordingPairs]) -> float:
    """Return k', half the mean length of the micro-expressions, seconds: mean of (offset - onset + 1) / 2 frames.

    Raises
    ------
    DataError
        There is no micro-expression.
    """
    lengths = [(event.offset - event.onset + 1) / one.fps for one in recordings for event in one.events]
    if not lengths:
        raise DataError("training recordings: no annotated micro-expression; expected some in at least 2 subjects")
    return float(np.mean(lengths)) / 2


def pseudo_labels(frames: NDArray[np.int64], k_prime: int, events: Sequence[TrueEvent]) -> NDArray[np.bool_]:
    """Return which pairs (i, i + k) are positive: {i, ..., i + k' - 1} and a micro-expression share a frame.

    The published rule: the intersection over union of ``arange(i, i + k')`` and ``arange(onset, offset + 1)`` is above
    0 for some micro-expression of the video. k, the distance of the frames of the pair, does not enter. Frames of
    macro-expressions are negative, as in the published code, which reads micro-expressions only.
    """
    positive = np.zeros(len(frames), np.bool_)
    for event in events:
        positive |= (frames <= event.offset) & (frames + k_prime - 1 >= event.onset)
    return positive


def spotting_lesson(
    recordings: Sequence[RecordingPairs],
    k_prime_s: float,
    seed: int,
    augment: Collection[Augmentation] = (),
    epoch_pairs: int | None = None,
) -> Lesson:
    """Return what the spotting head learns: all positive pairs and five times as many negative ones, labels 1 and 0.

    The negatives are drawn once, by ``seed``, as in the published code; every epoch takes all pairs in a new order, or
    as many as ``epoch_pairs`` says, drawn anew: at 200 frames per second neighbours differ little.
    Recordings without micro-expressions give negatives (the published code leaves them out). Where there are
    synthetic negatives, one of five is one of them, as far as they go.

    Raises
    ------
    DataError
        There is no positive or no negative pair.
    """
    parts = [part for one in recordings for part in _parts(one, k_prime_s)]
    labels = [label for _, label, _ in parts]
    positives = [np.flatnonzero(label) for label in labels]
    count = sum(map(len, positives))
    recorded = _pool([np.flatnonzero(~label) if not synthetic else _none() for _, label, synthetic in parts])
    rendered = _pool([np.flatnonzero(~label) if synthetic else _none() for _, label, synthetic in parts])
    if not count or not len(recorded):
        raise DataError(
            f"training recordings: {count} positive and {len(recorded)} negative pairs; expected some of each: "
            "recordings in which a face is found, with annotated micro-expressions"
        )
    rng = np.random.default_rng(seed)
    synthetic = _sample(rendered, _SYNTHETIC_NEGATIVES * count, rng)
    drawn = np.concatenate([_sample(recorded, _NEGATIVES_PER_POSITIVE * count - len(synthetic), rng), synthetic])
    features, wanted = [], []
    for number, (source, label, _) in enumerate(parts):
        rows = np.sort(np.concatenate([positives[number], drawn[drawn[:, 0] == number, 1]]))
        features.append(source[rows])
        wanted.append(label[rows].astype(np.float32))
    fit = Examples(np.concatenate(features), np.concatenate(wanted))
    return Lesson(fit, lambda rng: rng.permutation(len(fit.wanted))[:epoch_pairs], change=changer(augment))


def class_of(emotion: str, classes: Sequence[str]) -> int | None:
    """Return the class of an annotated emotion: its own name, else the challenge's class of it; None for neither."""
    for name in (emotion, coarse_emotion(emotion) or ""):
        if name in classes:
            return classes.index(name)
    return None


def recognition_lesson(
    recordings: Sequence[RecordingPairs], classes: Sequence[str], augment: Collection[Augmentation] = ()
) -> Lesson | None:
    """Return what the recognition head learns: the pairs (onset, apex) of events of one of the classes.

    An epoch takes all of them. None where there is no such event: the head keeps its initial weights, as in the
    published code.
    """
    features, wanted = [], []
    for one in recordings:
        for row, index in enumerate(one.apex_events.tolist()):
            label = class_of(one.events[index].emotion, classes)
            if label is not None:
                features.append(one.apex_features[row])
                wanted.append(label)
    if not wanted:
        return None
    fit = Examples(np.stack(features), np.array(wanted, np.int64))
    return Lesson(fit, lambda rng: rng.permutation(len(fit.wanted)), change=changer(augment))


def _parts(one: RecordingPairs, k_prime_s: float) -> list[tuple[NDArray[np.float16], NDArray[np.bool_], bool]]:
    """Return features, labels, and whether they are synthetic, of the pairs of the full and of lower rates."""
    k_prime = frames_of(k_prime_s, one.fps)
    return [
        (features, pseudo_labels(frames, k_prime, one.events), one.synthetic)
        for frames, features in ((one.frames, one.features), (one.rate_frames, one.rate_features))
    ]


def _none() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


def _pool(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return (N, 2): number of the part, and row of the part."""
    return np.concatenate([np.column_stack([np.full(len(row), number), row]) for number, row in enumerate(rows)])


def _sample(pool: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return up to ``count`` rows of the pool, each at most once."""
    return pool[rng.permutation(len(pool))[:count]]
