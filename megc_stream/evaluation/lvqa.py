"""Scores of the challenge's task ME-LVQA (2026): counts of events, sets of action units, types of events."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from megc_stream.errors import DataError
from megc_stream.evaluation.answers import pair_answers, score_all
from megc_stream.evaluation.classification import classification_score
from megc_stream.evaluation.labels import parse_count, parse_event_type, parse_units
from megc_stream.evaluation.tables import AnswerRow
from megc_stream.vqa.questions import COUNT_KINDS, LVQA_KINDS, QuestionKind, kind_of, normalised

__all__ = ["LvqaReport", "LvqaScore", "evaluate_lvqa"]


class LvqaScore(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one data set or of all; None where no row has the question.

    - Counts: mean absolute error, and root of the mean squared error, in events; of all counts, and by kind. An answer
      without a number counts as 0.
    - Action units: mean over rows of F1 = 2 |A n B| / (|A| + |B|) and Jaccard index |A n B| / |A u B|; 1 where both
      sets are empty.
    - Event types: UF1 and UAR of micro- and macro-expression.

    ``unparsed`` answers have no number where one is asked for, or name no type.
    """

    rows: int
    mae_counts: float | None = msgspec.field(name="MAE counts")
    rmse_counts: float | None = msgspec.field(name="RMSE counts")
    mae_all: float | None = msgspec.field(name="MAE expressions")
    rmse_all: float | None = msgspec.field(name="RMSE expressions")
    mae_micro: float | None = msgspec.field(name="MAE micro-expressions")
    rmse_micro: float | None = msgspec.field(name="RMSE micro-expressions")
    mae_macro: float | None = msgspec.field(name="MAE macro-expressions")
    rmse_macro: float | None = msgspec.field(name="RMSE macro-expressions")
    f1_units: float | None = msgspec.field(name="F1 action units")
    jaccard_units: float | None = msgspec.field(name="Jaccard action units")
    uf1_types: float | None = msgspec.field(name="UF1 event types")
    uar_types: float | None = msgspec.field(name="UAR event types")
    unparsed: int


class LvqaReport(msgspec.Struct, frozen=True, kw_only=True):
    """Scores over all rows and by data set, each with the score of the prior answers."""

    score: LvqaScore
    prior: LvqaScore
    prior_source: str
    datasets: dict[str, tuple[LvqaScore, LvqaScore]]
    notes: tuple[str, ...]


def evaluate_lvqa(
    answers: Sequence[AnswerRow], truth: Sequence[AnswerRow], train: Sequence[AnswerRow] | None = None
) -> LvqaReport:
    """Return the scores of answers; rows of the truth without an answer count as answered with "".

    Raises
    ------
    DataError
        See :func:`megc_stream.evaluation.answers.pair_answers`; or the truth's count has no number.
    """
    for row in truth:
        if kind_of(row.question) in COUNT_KINDS and row.answer and parse_count(row.answer) is None:
            raise DataError(
                f"{row.file}, row {row.row}, field answer: got {row.answer[:60]!a}; expected a count of events"
            )
    paired = pair_answers(answers, truth, train)
    score, prior, datasets = score_all(paired, _score)
    notes = list(paired.notes)
    strange = sum(kind_of(row.question) not in LVQA_KINDS for row in truth)
    if strange:
        notes.append(f"{strange} questions are none of ME-LVQA and are not scored")
    return LvqaReport(score=score, prior=prior, prior_source=paired.prior_source, datasets=datasets, notes=tuple(notes))


def _score(rows: Sequence[AnswerRow], answers: Sequence[str]) -> LvqaScore:
    by_kind: dict[QuestionKind, list[tuple[str, str]]] = {}
    for row, answer in zip(rows, answers, strict=True):
        by_kind.setdefault(kind_of(row.question), []).append((row.answer, answer))
    errors = {
        kind: [float((parse_count(answer) or 0) - (parse_count(truth) or 0)) for truth, answer in by_kind.get(kind, [])]
        for kind in COUNT_KINDS
    }
    every = [error for kind in COUNT_KINDS for error in errors[kind]]
    sets = [(parse_units(truth), parse_units(answer)) for truth, answer in by_kind.get("unit_set", [])]
    types = classification_score(
        [
            (parse_event_type(truth) or normalised(truth), parse_event_type(answer))
            for truth, answer in by_kind.get("event_type", [])
        ]
    )
    counted = [answer for kind in COUNT_KINDS for _, answer in by_kind.get(kind, [])]
    return LvqaScore(
        rows=len(rows),
        mae_counts=_mae(every),
        rmse_counts=_rmse(every),
        mae_all=_mae(errors["count_all"]),
        rmse_all=_rmse(errors["count_all"]),
        mae_micro=_mae(errors["count_micro"]),
        rmse_micro=_rmse(errors["count_micro"]),
        mae_macro=_mae(errors["count_macro"]),
        rmse_macro=_rmse(errors["count_macro"]),
        f1_units=_mean([2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0 for a, b in sets]),
        jaccard_units=_mean([len(a & b) / len(a | b) if a or b else 1.0 for a, b in sets]),
        uf1_types=types.uf1,
        uar_types=types.uar,
        unparsed=types.unparsed + sum(parse_count(answer) is None for answer in counted),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _mae(errors: Sequence[float]) -> float | None:
    return _mean([abs(error) for error in errors])


def _rmse(errors: Sequence[float]) -> float | None:
    mean = _mean([error * error for error in errors])
    return None if mean is None else math.sqrt(mean)
