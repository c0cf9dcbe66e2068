"""Spot-then-recognise score (STRS) of the Micro-Expression Grand Challenge: found events against true ones.

Rules (the corrected ones; the challenge's published scorer differs in details):

- An interval is the set of its frames, onset and offset included. IoU is taken on these sets.
- Within a video, predictions and truths are matched one to one: pairs with IoU >= 0.5 are taken in order of falling IoU
  while both are free. Equal IoUs go by prediction, then by truth, each by (onset, offset, emotion).
- Every matched pair is a true positive (TP), every other prediction a false positive (FP), every other truth a false
  negative (FN), also in videos that only one side names. Counts are summed over all videos.
- Recognition is analysed on the TPs whose truth is negative, positive or surprise. Precision and recall of a class (0
  where undefined) are averaged over those of the three classes that occur among these TPs, as truth or as prediction;
  a prediction of any other emotion counts against the recall of its truth. F1_analysis is the harmonic mean of the two
  averages.
- STRS = F1_spot * F1_analysis, and 0 where there is no TP.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import msgspec

from megc_stream.errors import DataError

__all__ = [
    "ANALYSIS_EMOTIONS",
    "Comparison",
    "Interval",
    "Match",
    "SpottingScore",
    "StrsResult",
    "compare_with_truth",
    "evaluate_strs",
    "length_ceiling",
    "read_intervals",
    "spotting_score",
]

ANALYSIS_EMOTIONS = ("negative", "positive", "surprise")
_LEAST_IOU = 0.5
_COLUMNS = ("subject", "video", "onset", "offset", "emotion")


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
    """STRS and what it is made of; ``analysed`` is the number of TPs on which recognition was analysed."""

    strs: float
    spotting: SpottingScore
    analysed: int
    precision_analysis: float
    recall_analysis: float
    f1_analysis: float


def read_intervals(path: Path) -> list[Interval]:
    """Read a CSV table with the columns subject, video, onset, offset, emotion; further columns are passed over.

    Texts stay texts ("006" is not 6); emotions are put into lower case and may be empty.

    Raises
    ------
    DataError
        The file cannot be read, a column is missing, or a cell is malformed; names file, row and column.
    """
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or []
            for column in _COLUMNS:
                if column not in columns:
                    raise DataError(
                        f"{path}: column '{column}' is missing; got {', '.join(columns) or 'an empty file'}; "
                        f"expected at least {','.join(_COLUMNS)}"
                    )
            return [_interval(path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a CSV table of intervals") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a UTF-8 CSV table ({error})") from error


def compare_with_truth(found: Sequence[Interval], truth: Sequence[Interval]) -> Comparison:
    """Match found events with true ones by the rules of this module; emotions do not matter for a match."""
    matches: list[Match] = []
    missed: list[Interval] = []
    invented: list[Interval] = []
    for video in sorted({_video(interval) for interval in (*found, *truth)}):
        # Sorted, so that the order of the rows cannot matter.
        here = sorted(interval for interval in found if _video(interval) == video)
        true = sorted(interval for interval in truth if _video(interval) == video)
        pairs = sorted(
            (-_iou(a, b), i, j) for i, a in enumerate(here) for j, b in enumerate(true) if _iou(a, b) >= _LEAST_IOU
        )
        free_here, free_true = set(range(len(here))), set(range(len(true)))
        taken = []
        for negative_iou, i, j in pairs:
            if i in free_here and j in free_true:
                free_here.remove(i)
                free_true.remove(j)
                taken.append(Match(found=here[i], truth=true[j], iou=-negative_iou))
        matches += sorted(taken, key=lambda match: match.truth)
        missed += [true[j] for j in sorted(free_true)]
        invented += [here[i] for i in sorted(free_here)]
    return Comparison(found=tuple(matches), missed=tuple(missed), invented=tuple(invented))


def spotting_score(comparison: Comparison) -> SpottingScore:
    """Return the counts, precision, recall and F1 of a comparison."""
    tp, fp, fn = len(comparison.found), len(comparison.invented), len(comparison.missed)
    precision, recall = _share(tp, tp + fp), _share(tp, tp + fn)
    return SpottingScore(tp=tp, fp=fp, fn=fn, precision=precision, recall=recall, f1=_share(2 * tp, 2 * tp + fp + fn))


def evaluate_strs(pred: Sequence[Interval], truth: Sequence[Interval]) -> StrsResult:
    """Return the STRS of predictions by the rules of this module.

    Raises
    ------
    DataError
        Both sides hold intervals, but no (subject, video) in common.
    """
    videos_pred, videos_truth = sorted({_video(p) for p in pred}), sorted({_video(t) for t in truth})
    if videos_pred and videos_truth and not set(videos_pred) & set(videos_truth):
        raise DataError(
            f"predictions and truth share no (subject, video): got e.g. {videos_pred[0]}, expected e.g. "
            f"{videos_truth[0]}; name them alike, with --subject and --video of 'megc-stream run'"
        )
    comparison = compare_with_truth(pred, truth)
    spotting = spotting_score(comparison)
    labels = [
        (match.truth.emotion, match.found.emotion)
        for match in comparison.found
        if match.truth.emotion in ANALYSIS_EMOTIONS
    ]
    classes = [name for name in ANALYSIS_EMOTIONS if any(name in pair for pair in labels)]
    precisions, recalls = [], []
    for name in classes:
        right = sum(pair == (name, name) for pair in labels)
        precisions.append(_share(right, sum(predicted == name for _, predicted in labels)))
        recalls.append(_share(right, sum(true == name for true, _ in labels)))
    precision, recall = _share(sum(precisions), len(classes)), _share(sum(recalls), len(classes))
    f1_analysis = _share(2 * precision * recall, precision + recall)
    return StrsResult(
        strs=spotting.f1 * f1_analysis,
        spotting=spotting,
        analysed=len(labels),
        precision_analysis=precision,
        recall_analysis=recall,
        f1_analysis=f1_analysis,
    )


def length_ceiling(truth: Sequence[Interval], half_length_frames: int) -> float:
    """Return the best recall within reach of intervals of 2 ``half_length_frames`` + 1 frames, wherever they lie.

    The best IoU of lengths n and m is min(n, m) / max(n, m), with one inside the other; the truths for which it is at
    least 0.5 can be found. 0 without truth.
    """
    length = 2 * half_length_frames + 1
    within = sum(_LEAST_IOU * max(length, n) <= min(length, n) for n in map(_frames, truth))
    return _share(within, len(truth))


def _interval(path: Path, row: int, cells: dict[str | None, str | list[str] | None]) -> Interval:
    if None in cells:
        raise DataError(f"{path}, row {row}: more cells than columns; quote cells that contain a comma")
    texts: dict[str, str] = {}
    for column in _COLUMNS:
        cell = cells[column]
        if not isinstance(cell, str):
            raise DataError(f"{path}, row {row}, column {column}: the row ends before this cell; expected {_COLUMNS}")
        texts[column] = cell.strip()
    for column in ("subject", "video"):
        if not texts[column]:
            raise DataError(f"{path}, row {row}, column {column}: got an empty cell; expected a name")
    onset, offset = (_frame_number(path, row, column, texts[column]) for column in ("onset", "offset"))
    if offset < onset:
        raise DataError(f"{path}, row {row}, column offset: got {offset}; expected at least the onset, {onset}")
    return Interval(texts["subject"], texts["video"], onset, offset, texts["emotion"].lower())


def _frame_number(path: Path, row: int, column: str, text: str) -> int:
    # int() would take "1_000" and other scripts' digits as well.
    if not (text.isascii() and text.isdigit()):
        raise DataError(f"{path}, row {row}, column {column}: got '{text}'; expected a whole frame number, 0 or more")
    return int(text)


def _video(interval: Interval) -> tuple[str, str]:
    return interval.subject, interval.video


def _frames(interval: Interval) -> int:
    return interval.offset - interval.onset + 1


def _iou(a: Interval, b: Interval) -> float:
    shared = max(0, min(a.offset, b.offset) - max(a.onset, b.onset) + 1)
    return shared / (_frames(a) + _frames(b) - shared)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
