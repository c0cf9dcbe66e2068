"""From counts to scores, by the corrected rules and by those of the published evaluator.

All functions work on arrays with any leading axes, so that a bootstrap costs one call. ``spotting`` has TP, FP and FN
along its last axis; ``confusion`` (..., 3, 4) counts the analysed TPs by true class (rows) and predicted class
(columns; the fourth is any other emotion). Scores go by the names of the published evaluator; NaN where undefined.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ANALYSIS_EMOTIONS",
    "analysis_counts",
    "class_scores",
    "confusion_of",
    "corrected_scores",
    "published_scores",
    "share",
]

ANALYSIS_EMOTIONS = ("negative", "positive", "surprise")


def share(part: float, whole: float) -> float:
    """Return ``part`` / ``whole``, 0 where ``whole`` is 0."""
    return part / whole if whole > 0 else 0.0


def confusion_of(labels: Iterable[tuple[str, str]]) -> NDArray[np.int64]:
    """Return the (3, 4) confusion of (true, predicted) emotions; pairs whose truth is no class are left out."""
    confusion = np.zeros((3, 4), np.int64)
    for true, predicted in labels:
        if true in ANALYSIS_EMOTIONS:
            column = ANALYSIS_EMOTIONS.index(predicted) if predicted in ANALYSIS_EMOTIONS else 3
            confusion[ANALYSIS_EMOTIONS.index(true), column] += 1
    return confusion


def analysis_counts(confusion: ArrayLike) -> tuple[int, int, int]:
    """Return TP, FP and FN of the analysis: right ones, wrong predictions of a class, truths named otherwise."""
    cells = np.asarray(confusion)
    right, true, predicted = _margins(cells)
    return int(right.sum()), int((predicted - right).sum()), int((true - right).sum())


def class_scores(confusion: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Return precision, recall and F1 of each class, (..., 3); NaN where the class does not occur on that side."""
    right, true, predicted = _margins(np.asarray(confusion))
    return {
        "precision": _ratio(right, predicted, np.nan),
        "recall": _ratio(right, true, np.nan),
        "f1": _ratio(2 * right, true + predicted, np.nan),
    }


def corrected_scores(spotting: ArrayLike, confusion: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Return the scores by the rules of :mod:`megc_stream.evaluation.strs`.

    Precision, recall, UF1 and UAR of the analysis are NaN where nothing was analysed, precision of spotting where
    nothing was predicted, its recall where there is no truth. The F1 scores and STRS are 0 there.
    """
    counts = np.asarray(spotting, np.float64)
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    right, true, predicted = _margins(np.asarray(confusion))
    occurs, occurs_true = true + predicted > 0, true > 0
    precision = _ratio((_ratio(right, predicted, 0.0) * occurs).sum(-1), occurs.sum(-1), np.nan)
    recall = _ratio((_ratio(right, true, 0.0) * occurs).sum(-1), occurs.sum(-1), np.nan)
    f1_spotting = _ratio(2 * tp, 2 * tp + fp + fn, 0.0)
    f1_analysis = np.nan_to_num(_ratio(2 * precision * recall, precision + recall, 0.0))
    return {
        "STRS": f1_spotting * f1_analysis,
        "Precision spotting": _ratio(tp, tp + fp, np.nan),
        "Recall spotting": _ratio(tp, tp + fn, np.nan),
        "F1-score spotting": f1_spotting,
        "Precision analysis": precision,
        "Recall analysis": recall,
        "F1-score analysis": f1_analysis,
        "UF1 analysis": _ratio((_ratio(2 * right, true + predicted, 0.0)).sum(-1), occurs.sum(-1), np.nan),
        "UAR analysis": _ratio((_ratio(right, true, 0.0)).sum(-1), occurs_true.sum(-1), np.nan),
    }


def published_scores(spotting: ArrayLike, confusion: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Return the scores by the rules of the published evaluator; see :mod:`megc_stream.evaluation.compat`.

    All three classes are averaged whether they occur or not, a class that all analysed TPs have on both sides counts
    as wrong, "UAR" is the mean precision, and F1 of the analysis is NaN where precision and recall are both 0.
    """
    counts = np.asarray(spotting, np.float64)
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    right, true, predicted = _margins(np.asarray(confusion))
    total = true.sum(-1, keepdims=True)
    # scikit-learn's confusion matrix is 1x1 there; the evaluator's way out sets all its counts to 0.
    seen = ~((total > 0) & (true == total) & (predicted == total))
    precision = _ratio(right * seen, predicted, 0.0)
    recall = _ratio(right * seen, true, 0.0)
    f1 = _ratio(2 * precision * recall, precision + recall, 0.0)
    spotting_precision, spotting_recall = _ratio(tp, tp + fp, 0.0), _ratio(tp, tp + fn, 0.0)
    f1_spotting = _ratio(2 * spotting_precision * spotting_recall, spotting_precision + spotting_recall, 0.0)
    mean_precision, mean_recall = precision.mean(-1), recall.mean(-1)
    f1_analysis = _ratio(2 * mean_precision * mean_recall, mean_precision + mean_recall, np.nan)
    return {
        "STRS": f1_spotting * f1_analysis,
        "Precision spotting": spotting_precision,
        "Recall spotting": spotting_recall,
        "F1-score spotting": f1_spotting,
        "Precision analysis": mean_precision,
        "Recall analysis": mean_recall,
        "F1-score analysis": f1_analysis,
        "UF1 analysis": f1.mean(-1),
        "UAR analysis": mean_precision,
    }


def _margins(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Return right, true and predicted counts of each class, (..., 3)."""
    cells = confusion.astype(np.float64)
    right = np.diagonal(cells[..., :3], axis1=-2, axis2=-1)
    return right, cells.sum(-1), cells[..., :3].sum(-2)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], undefined: float) -> NDArray[np.float64]:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    result: NDArray[np.float64] = np.divide(part, whole, out=np.full(np.shape(whole), undefined), where=whole != 0)
    return result
