"""What the network is asked to answer for a pair of crops, from what is known about the planted events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import DataError
from megc_stream.training.corpus import ClipPairs
from megc_stream.training.pairs import CLASSES
from megc_stream.training.train import Examples, Lesson

__all__ = ["recognition_labels", "spotting_targets", "synthetic_lessons"]

_FULL_MOTION_PX = 0.25
_LEAST_MOTION_PX = 0.1


def spotting_targets(pairs: ClipPairs) -> NDArray[np.float32]:
    """Return the score each pair should get, (N,) in [0, 1].

    With d the planted displacement of the event at its strongest point, the target is
    ``min(1, |d(i + k) - d(i)| / 0.25 px)``: 1 where the pair shows motion of an event well above the flow's noise, 0
    outside events, and less where a pair lies astride the apex or at the edges and shows next to nothing. The features
    are min-max scaled, so a pair without motion looks like noise whether it belongs to an event or not; asking for 1
    there would only raise the score of noise. Strong and weak events get the same target, because the published
    threshold is relative to the highest peak of the video.

    The motion of a symmetric event is symmetric about its middle, so the box-filtered score peaks at the middle in
    terms of the pair's middle ``i + k/2``, k/2 before it in terms of ``i``.
    """
    return np.minimum(1.0, np.abs(pairs.motion_px) / _FULL_MOTION_PX).astype(np.float32)


def recognition_labels(pairs: ClipPairs) -> NDArray[np.int64]:
    """Return the class of each pair that shows the rise of an event by 0.1 px or more, -1 for all others, (N,).

    The emotion of an interval is voted over the pairs of [peak - k', peak), which is the rise; the fall moves the other
    way and never votes.
    """
    emotions = np.array([CLASSES.index(event.emotion) for event in pairs.events] or [-1], np.int64)
    rising = (pairs.event >= 0) & (pairs.motion_px >= _LEAST_MOTION_PX)
    return np.where(rising, emotions[np.maximum(pairs.event, 0)], -1)


def synthetic_lessons(
    training: Sequence[ClipPairs], validation: Sequence[ClipPairs], seed: int, epoch_pairs: int, validation_pairs: int
) -> tuple[Lesson, Lesson]:
    """Return what spotting and recognition head learn from clips of planted events.

    Each epoch draws ``epoch_pairs`` pairs anew, equally many of each case, so that rare and frequent cases weigh the
    same: pairs with and without motion, and the classes. ``validation_pairs`` pairs of other persons, drawn once by
    ``seed`` and as evenly, choose the epoch.

    Raises
    ------
    DataError
        The training or the validation clips hold no pair of one of the cases.
    """
    rng = np.random.default_rng(seed)
    fit, check = _AllPairs(training, "training"), _AllPairs(validation, "validation")
    lessons = []
    for head in ("spot", "recog"):
        rows = check.draw(head, validation_pairs, rng)
        wanted = {"spot": fit.target, "recog": fit.label}[head]
        checked = {"spot": check.target, "recog": check.label}[head]
        lessons.append(
            Lesson(
                Examples(fit.features, wanted),
                lambda rng, head=head: fit.draw(head, epoch_pairs, rng),  # type: ignore[misc]
                check=Examples(check.features[rows], checked[rows]),
            )
        )
    return lessons[0], lessons[1]


class _AllPairs:
    """All pairs of some clips, with their targets and the rows of each case."""

    def __init__(self, clips: Sequence[ClipPairs], what: str) -> None:
        if not clips:
            raise DataError(f"{what} clips: none; expected at least one")
        self.features = np.concatenate([clip.features for clip in clips])
        self.target = np.concatenate([spotting_targets(clip) for clip in clips])
        self.label = np.concatenate([recognition_labels(clip) for clip in clips])
        self._cases = {
            "spot": [np.flatnonzero(self.target >= 0.5), np.flatnonzero(self.target < 0.5)],
            "recog": [np.flatnonzero(self.label == number) for number in range(len(CLASSES))],
        }
        for head, cases in self._cases.items():
            sizes = [case.size for case in cases]
            if 0 in sizes:
                raise DataError(
                    f"{what} clips: {sizes} pairs of the cases of the {head} head; expected some of each (with and "
                    f"without motion, {len(CLASSES)} classes); plan more clips or events"
                )

    def draw(self, head: str, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``count`` rows in random order, equally many of each case, repeated where a case has too few."""
        share = -(-count // len(self._cases[head]))
        rows = [np.resize(rng.permutation(case), share) for case in self._cases[head]]
        return np.asarray(rng.permutation(np.concatenate(rows))[:count], np.int64)
