"""How well events are located beyond STRS: average precision, the apex, and micro- apart from macro-expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Literal

import msgspec

from megc_stream.evaluation.strs import SpottingScore, match_intervals, shared_frames, spotting_counts
from megc_stream.evaluation.tables import IntervalRow

__all__ = [
    "AP_IOUS",
    "ApexError",
    "AveragePrecision",
    "DurationSplit",
    "apex_error",
    "average_precision",
    "split_by_duration",
]

AP_IOUS = tuple(Fraction(step, 20) for step in range(10, 20))
_MACRO_S = 0.5


class AveragePrecision(msgspec.Struct, frozen=True, kw_only=True):
    """Average precision: ``mean`` over IoU 0.5, 0.55, ..., 0.95, and at each; None without truth.

    ``ranked`` tells whether the predictions had confidences; without, all rank alike and AP is precision x recall.
    """

    mean: float | None
    by_iou: dict[str, float | None]
    ranked: bool


class ApexError(msgspec.Struct, frozen=True, kw_only=True):
    """Mean absolute distance of found and true apex over TPs; None where no TP has what is needed.

    ``frames`` covers ``n`` TPs whose truth has an apex, ``ms`` those ``n_ms`` of them whose frame rate is known.
    ``midpoints`` of them have no predicted apex: the middle of the found interval stands in for it.
    """

    frames: float | None
    ms: float | None
    n: int
    n_ms: int
    midpoints: int


class DurationSplit(msgspec.Struct, frozen=True, kw_only=True):
    """Spotting by type; ``by`` says where types come from, ``unknown`` counts events that have none."""

    micro: SpottingScore
    macro: SpottingScore
    by: Literal["type", "duration", "type or duration"]
    unknown: int


def average_precision(pred: Sequence[IntervalRow], truth: Sequence[IntervalRow]) -> AveragePrecision:
    """Return the average precision of predictions ranked by confidence, emotions left aside.

    At each IoU, predictions of falling confidence take free truths of their video, the best IoU first; equal
    confidences enter together, so that the order of rows cannot matter. AP is the area under the curve of precision
    over recall, precision being made non-increasing (all points, as in ActivityNet: Caba Heilbron et al., CVPR 2015).
    A prediction without confidence counts as 1.
    """
    ranked = any(row.score is not None for row in pred)
    videos: dict[tuple[str, str], list[int]] = {}
    for j, row in enumerate(truth):
        videos.setdefault((row.interval.subject, row.interval.video), []).append(j)
    pairs: list[tuple[float, int, int, int, int]] = []  # falling confidence, prediction, truth, shared, union
    for i, row in enumerate(pred):
        for j in videos.get((row.interval.subject, row.interval.video), ()):
            shared, union = shared_frames(row.interval, truth[j].interval)
            if 2 * shared >= union:
                pairs.append((-_confidence(row), i, j, shared, union))
    # Ties by content, not by row: the greedy choice must not depend on the order of the file.
    pairs.sort(key=lambda p: (p[0], -p[3] / p[4], pred[p[1]].interval, truth[p[2]].interval))
    by_confidence = sorted(_confidence(row) for row in pred)
    values = {
        f"{float(iou):g}": _average_precision(pairs, by_confidence, len(truth), iou) if truth else None
        for iou in AP_IOUS
    }
    known = [value for value in values.values() if value is not None]
    return AveragePrecision(mean=sum(known) / len(known) if known else None, by_iou=values, ranked=ranked)


def apex_error(pred: Sequence[IntervalRow], truth: Sequence[IntervalRow]) -> ApexError:
    """Return the mean absolute error of the apex over the matched events."""
    rates = _rates(truth, pred)
    frames: list[float] = []
    ms: list[float] = []
    midpoints = 0
    for i, j, _ in match_intervals([row.interval for row in pred], [row.interval for row in truth]):
        true, found = truth[j], pred[i]
        if true.apex is None:
            continue
        midpoints += found.apex is None
        apex = found.apex if found.apex is not None else (found.interval.onset + found.interval.offset) / 2
        frames.append(abs(apex - true.apex))
        fps = true.fps or rates.get((true.interval.subject, true.interval.video))
        if fps is not None:
            ms.append(frames[-1] / fps * 1000)
    return ApexError(
        frames=sum(frames) / len(frames) if frames else None,
        ms=sum(ms) / len(ms) if ms else None,
        n=len(frames),
        n_ms=len(ms),
        midpoints=midpoints,
    )


def split_by_duration(pred: Sequence[IntervalRow], truth: Sequence[IntervalRow]) -> DurationSplit | None:
    """Return spotting of micro- and of macro-expressions; None where no event has a type.

    An event's type is that of its row, else macro if (offset - onset) / fps exceeds 0.5 s. A TP or FN counts for the
    type of the truth, an FP for its own.
    """
    rates = _rates(truth, pred)
    tp = {"micro": 0, "macro": 0, "": 0}
    fp, fn = dict(tp), dict(tp)
    matches = match_intervals([row.interval for row in pred], [row.interval for row in truth])
    found, known = {i for i, _, _ in matches}, {j for _, j, _ in matches}
    for j, row in enumerate(truth):
        (tp if j in known else fn)[_type(row, rates)] += 1
    for i, row in enumerate(pred):
        if i not in found:
            fp[_type(row, rates)] += 1
    unknown = tp[""] + fp[""] + fn[""]
    rows = (*pred, *truth)
    if unknown == len(rows) - len(matches):
        return None
    typed = [bool(row.type) for row in rows]
    return DurationSplit(
        micro=spotting_counts(tp["micro"], fp["micro"], fn["micro"]),
        macro=spotting_counts(tp["macro"], fp["macro"], fn["macro"]),
        by="type" if all(typed) else "type or duration" if any(typed) else "duration",
        unknown=unknown,
    )


def _average_precision(
    pairs: Sequence[tuple[float, int, int, int, int]], confidences: Sequence[float], truths: int, iou: Fraction
) -> float:
    taken_pred: set[int] = set()
    taken_truth: set[int] = set()
    points: list[tuple[float, float]] = []  # recall, precision
    remaining = len(confidences)
    for confidence, group in groupby(
        (p for p in pairs if p[3] * iou.denominator >= p[4] * iou.numerator), key=lambda p: -p[0]
    ):
        for _, i, j, _, _ in group:
            if i not in taken_pred and j not in taken_truth:
                taken_pred.add(i)
                taken_truth.add(j)
        while remaining and confidences[remaining - 1] >= confidence:
            remaining -= 1
        points.append((len(taken_truth) / truths, len(taken_pred) / (len(confidences) - remaining)))
    area, best = 0.0, 0.0
    for index in range(len(points) - 1, -1, -1):
        recall, precision = points[index]
        best = max(best, precision)
        area += (recall - (points[index - 1][0] if index else 0.0)) * best
    return area


def _confidence(row: IntervalRow) -> float:
    return 1.0 if row.score is None else row.score


def _rates(truth: Sequence[IntervalRow], pred: Sequence[IntervalRow]) -> dict[tuple[str, str], float]:
    """Return the frame rate of each video, as the truth says or else as the predictions do."""
    rates: dict[tuple[str, str], float] = {}
    for row in (*truth, *pred):
        if row.fps is not None:
            rates.setdefault((row.interval.subject, row.interval.video), row.fps)
    return rates


def _type(row: IntervalRow, rates: Mapping[tuple[str, str], float]) -> str:
    if row.type:
        return row.type
    fps = row.fps or rates.get((row.interval.subject, row.interval.video))
    if fps is None:
        return ""
    return "macro" if (row.interval.offset - row.interval.onset) / fps > _MACRO_S else "micro"
