"""Spot-then-recognise score (STRS) of the Micro-Expression Grand Challenge: found events against true ones.

Rules (the corrected ones; the challenge's published evaluator differs, see :mod:`megc_stream.evaluation.compat`):

- An interval is the set of its frames, onset and offset included. IoU is taken on these sets.
- Within a video, predictions and truths are matched one to one: pairs with IoU >= 0.5 are taken in order of falling IoU
  while both are free. Equal IoUs go by prediction, then by truth, each by (onset, offset, emotion).
- Every matched pair is a true positive (TP), every other prediction a false positive (FP), every other truth a false
  negative (FN), also in videos that only one side names. Counts are summed over all videos.
- Recognition is analysed on the TPs whose truth is negative, positive or surprise. Precision and recall of a class (0
  where undefined) are averaged over those of the three classes that occur among these TPs, as truth or as prediction;
  a prediction of any other emotion counts against the recall of its truth. F1_analysis is the harmonic mean of the two
  averages.
- UF1 is the mean F1 = 2 TP / (2 TP + FP + FN) over the classes that occur as truth or as prediction, UAR the mean
  recall over the classes that occur as truth, both with the counts of all subjects pooled (See et al., MEGC 2019,
  "The Second Facial Micro-Expressions Grand Challenge", section III-C).
- STRS = F1_spot * F1_analysis (Liong et al. 2023, "Spot-then-recognize", Signal Processing: Image Communication 110),
  and 0 where there is no TP.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from megc_stream.errors import DataError
from megc_stream.evaluation.counts import confusion_of, corrected_scores, share

__all__ = [
    "Comparison",
    "Interval",
    "Match",
    "SpottingScore",
    "StrsResult",
    "check_shared_videos",
    "compare_with_truth",
    "evaluate_strs",
    "length_ceiling",
    "match_intervals",
    "shared_frames",
    "spotting_counts",
    "spotting_score",
]

_LEAST_IOU = 0.5


class Interval(msgspec.Struct, frozen=True, order=True):
    """One expression event: frames ``onset`` to ``offset``, both included, in the numbers of the data set.

    ``emotion`` is lower case, "" where unknown.
    """

    subject: str
    video: str
    onset: int
    offset: int
    emotion: str = ""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction and the truth that it was matched with; ``iou`` is 0.5 to 1."""

    found: Interval
    truth: Interval
    iou: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Found events against the truth: matched ones, truths missed, predictions invented; each by video and onset."""

    found: tuple[Match, ...]
    missed: tuple[Interval, ...]
    invented: tuple[Interval, ...]


class SpottingScore(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over all videos; precision TP / (TP + FP), recall TP / (TP + FN), F1 their harmonic mean; 0 without TP."""

    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    f1: float


class StrsResult(msgspec.Struct, frozen=True, kw_only=True):
    """STRS and what it is made of.

    ``analysed`` is the number of TPs on which recognition was analysed; without any, ``uf1`` and ``uar`` are None.
    """

    strs: float
    spotting: SpottingScore
    analysed: int
    precision_analysis: float
    recall_analysis: float
    f1_analysis: float
    uf1: float | None = None
    uar: float | None = None


def match_intervals(found: Sequence[Interval], truth: Sequence[Interval]) -> list[tuple[int, int, float]]:
    """Match found events with true ones by the rules of this module; emotions do not matter for a match.

    Returns
    -------
    list of (index in ``found``, index in ``truth``, IoU)
        Ordered by the true interval. Each index occurs at most once.
    """
    matches: list[tuple[int, int, float]] = []
    by_video = _by_video(truth)
    for video, here in _by_video(found).items():
        true = by_video.get(video, [])
        pairs = []
        for a, i in enumerate(here):
            for b, j in enumerate(true):
                iou = _iou(found[i], truth[j])
                if iou >= _LEAST_IOU:
                    pairs.append((-iou, a, b))
        free_here, free_true = set(range(len(here))), set(range(len(true)))
        for negative_iou, a, b in sorted(pairs):
            if a in free_here and b in free_true:
                free_here.remove(a)
                free_true.remove(b)
                matches.append((here[a], true[b], -negative_iou))
    return sorted(matches, key=lambda match: (truth[match[1]], match[1]))


def compare_with_truth(found: Sequence[Interval], truth: Sequence[Interval]) -> Comparison:
    """Match found events with true ones, see :func:`match_intervals`, and return what is left over as well."""
    matches = match_intervals(found, truth)
    matched_found, matched_truth = {i for i, _, _ in matches}, {j for _, j, _ in matches}
    return Comparison(
        found=tuple(Match(found=found[i], truth=truth[j], iou=iou) for i, j, iou in matches),
        missed=tuple(sorted(t for j, t in enumerate(truth) if j not in matched_truth)),
        invented=tuple(sorted(f for i, f in enumerate(found) if i not in matched_found)),
    )


def spotting_score(comparison: Comparison) -> SpottingScore:
    """Return the counts, precision, recall and F1 of a comparison."""
    return spotting_counts(len(comparison.found), len(comparison.invented), len(comparison.missed))


def spotting_counts(tp: int, fp: int, fn: int) -> SpottingScore:
    """Return precision, recall and F1 with the counts they come from."""
    precision, recall = share(tp, tp + fp), share(tp, tp + fn)
    return SpottingScore(tp=tp, fp=fp, fn=fn, precision=precision, recall=recall, f1=share(2 * tp, 2 * tp + fp + fn))


def check_shared_videos(
    pred: Sequence[Interval], truth: Sequence[Interval], where: str = "predictions and truth"
) -> None:
    """Refuse two sides that cannot belong together.

    Raises
    ------
    DataError
        Both sides hold intervals, but no (subject, video) in common.
    """
    videos_pred, videos_truth = sorted({_video(p) for p in pred}), sorted({_video(t) for t in truth})
    if videos_pred and videos_truth and not set(videos_pred) & set(videos_truth):
        raise DataError(
            f"{where} share no (subject, video): got e.g. {videos_pred[0]}, expected e.g. "
            f"{videos_truth[0]}; name them alike, with --subject and --video of 'megc-stream run'"
        )


def evaluate_strs(pred: Sequence[Interval], truth: Sequence[Interval]) -> StrsResult:
    """Return the STRS of predictions by the rules of this module.

    Raises
    ------
    DataError
        Both sides hold intervals, but no (subject, video) in common.
    """
    check_shared_videos(pred, truth)
    comparison = compare_with_truth(pred, truth)
    spotting = spotting_score(comparison)
    confusion = confusion_of([(match.truth.emotion, match.found.emotion) for match in comparison.found])
    scores = corrected_scores([spotting.tp, spotting.fp, spotting.fn], confusion)
    analysed = int(confusion.sum())
    return StrsResult(
        strs=float(scores["STRS"]),
        spotting=spotting,
        analysed=analysed,
        precision_analysis=float(scores["Precision analysis"]) if analysed else 0.0,
        recall_analysis=float(scores["Recall analysis"]) if analysed else 0.0,
        f1_analysis=float(scores["F1-score analysis"]),
        uf1=float(scores["UF1 analysis"]) if analysed else None,
        uar=float(scores["UAR analysis"]) if analysed else None,
    )


def length_ceiling(truth: Sequence[Interval], half_length_frames: int) -> float:
    """Return the best recall within reach of intervals of 2 ``half_length_frames`` + 1 frames, wherever they lie.

    The best IoU of lengths n and m is min(n, m) / max(n, m), with one inside the other; the truths for which it is at
    least 0.5 can be found. 0 without truth.
    """
    length = 2 * half_length_frames + 1
    within = sum(_LEAST_IOU * max(length, n) <= min(length, n) for n in (t.offset - t.onset + 1 for t in truth))
    return share(within, len(truth))


def shared_frames(a: Interval, b: Interval) -> tuple[int, int]:
    """Return the sizes of intersection and union of the frames of two intervals of one video, borders included."""
    shared = max(0, min(a.offset, b.offset) - max(a.onset, b.onset) + 1)
    return shared, (a.offset - a.onset + 1) + (b.offset - b.onset + 1) - shared


def _by_video(intervals: Sequence[Interval]) -> dict[tuple[str, str], list[int]]:
    """Return the indices of each video's intervals, sorted, so that the order of the rows cannot matter."""
    videos: dict[tuple[str, str], list[int]] = {}
    for index in sorted(range(len(intervals)), key=lambda index: intervals[index]):
        videos.setdefault(_video(intervals[index]), []).append(index)
    return videos


def _video(interval: Interval) -> tuple[str, str]:
    return interval.subject, interval.video


def _iou(a: Interval, b: Interval) -> float:
    shared, union = shared_frames(a, b)
    return shared / union
