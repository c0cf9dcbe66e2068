"""UF1 and UAR of named classes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from megc_stream.evaluation.counts import share

__all__ = ["ClassificationScore", "classification_score"]


class ClassificationScore(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of ``rows`` answers that name a class; None without rows. ``unparsed`` of them name none."""

    rows: int
    uf1: float | None
    uar: float | None
    accuracy: float | None
    unparsed: int


def classification_score(pairs: Sequence[tuple[str, str]]) -> ClassificationScore:
    """Return the scores of (true, predicted) labels; a predicted "" is none, and wrong.

    UF1 is the mean over classes of F1 = 2 TP / (2 TP + FP + FN), over the classes that occur as truth or as prediction;
    UAR the mean recall TP / (TP + FN) over the classes that occur as truth (See et al., MEGC 2019, section III-C).
    """
    true, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    f1, recalls = [], []
    for name in sorted({*true, *predicted} - {""}):
        right = sum(pair == (name, name) for pair in pairs)
        f1.append(share(2 * right, true.count(name) + predicted.count(name)))
        if name in true:
            recalls.append(share(right, true.count(name)))
    return ClassificationScore(
        rows=len(pairs),
        uf1=sum(f1) / len(f1) if pairs else None,
        uar=sum(recalls) / len(recalls) if pairs else None,
        accuracy=sum(a == b for a, b in pairs) / len(pairs) if pairs else None,
        unparsed=predicted.count(""),
    )
