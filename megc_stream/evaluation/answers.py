"""Answers beside their truth: rows matched, and what one would answer without looking at the video."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from megc_stream.errors import DataError
from megc_stream.evaluation.tables import AnswerRow
from megc_stream.vqa.prior import count_answers, most_frequent, question_type
from megc_stream.vqa.questions import normalised

__all__ = ["AnswerPair", "PairedAnswers", "match_answers", "pair_answers", "prior_answers", "score_all"]

ScoreT = TypeVar("ScoreT")


class AnswerPair(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the truth, what was answered, and the prior answer; "" where there is none."""

    truth: AnswerRow
    answer: str
    prior: str


class PairedAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of the truth; ``prior_source`` says where the prior answers come from, ``notes`` what did not match."""

    rows: tuple[AnswerPair, ...]
    prior_source: str
    notes: tuple[str, ...]


def match_answers(answers: Sequence[AnswerRow], rows: Sequence[AnswerRow]) -> tuple[list[str | None], int]:
    """Return the answer to each row, None where there is none, and the number of answers that belong to no row.

    Matched by (video_id, question), rows that are alike in their order; the question's case and blanks do not matter.
    """
    waiting: defaultdict[tuple[str, str], deque[str]] = defaultdict(deque)
    for row in answers:
        waiting[row.video_id, normalised(row.question)].append(row.answer)
    found: list[str | None] = []
    for row in rows:
        queue = waiting[row.video_id, normalised(row.question)]
        found.append(queue.popleft() if queue else None)
    return found, sum(map(len, waiting.values()))


def pair_answers(
    answers: Sequence[AnswerRow], truth: Sequence[AnswerRow], train: Sequence[AnswerRow] | None = None
) -> PairedAnswers:
    """Match answers with truth by (video_id, question), rows that are alike in their order.

    Raises
    ------
    DataError
        A row of the truth has an empty answer, or no row matches.
    """
    for row in (*truth, *(train or ())):
        if not row.answer:
            raise DataError(
                f"{row.file}, row {row.row}, field answer: the truth has none; "
                "expected a file with answers, not one to be answered"
            )
    found, extra = match_answers(answers, truth)
    missing = found.count(None)
    if missing == len(truth):
        raise DataError(
            f"answers and truth share no (video_id, question): got e.g. {_shown(answers)}, "
            f"expected e.g. {_shown(truth)}"
        )
    notes = []
    if missing:
        notes.append(f"{missing} of {len(truth)} questions have no answer and count as wrong")
    if extra:
        notes.append(f"{extra} answers belong to no question of the truth and are left out")
    priors, source = prior_answers(truth, train)
    return PairedAnswers(
        rows=tuple(
            AnswerPair(truth=row, answer=answer or "", prior=prior)
            for row, answer, prior in zip(truth, found, priors, strict=True)
        ),
        prior_source=source,
        notes=tuple(notes),
    )


def score_all(
    paired: PairedAnswers, score: Callable[[Sequence[AnswerRow], Sequence[str]], ScoreT]
) -> tuple[ScoreT, ScoreT, dict[str, tuple[ScoreT, ScoreT]]]:
    """Return ``score(truth rows, answers)`` of the answers, of the prior answers, and both by data set."""

    def both(pairs: Sequence[AnswerPair]) -> tuple[ScoreT, ScoreT]:
        rows = [pair.truth for pair in pairs]
        return score(rows, [pair.answer for pair in pairs]), score(rows, [pair.prior for pair in pairs])

    datasets = sorted({pair.truth.dataset for pair in paired.rows})
    by_set = {name: both([pair for pair in paired.rows if pair.truth.dataset == name]) for name in datasets}
    # One data set is all: nothing to score again.
    return *(both(paired.rows) if len(by_set) > 1 else by_set[datasets[0]]), by_set


def prior_answers(truth: Sequence[AnswerRow], train: Sequence[AnswerRow] | None = None) -> tuple[list[str], str]:
    """Return the most frequent answer to each row's kind of question, and where it was counted.

    Counted in ``train``; without it, in the truth itself, without the rows of the same video. Equally frequent answers
    go by the alphabet; "" where no such question was seen.
    """
    if train is not None:
        counts = _count(train)
        return [most_frequent(counts[question_type(row.question)]) for row in truth], "training file"
    counts = _count(truth)
    by_video: defaultdict[tuple[str, str], list[AnswerRow]] = defaultdict(list)
    for row in truth:
        by_video[row.dataset, row.video].append(row)
    chosen: dict[tuple[str, str, str], str] = {}
    for (dataset, video), rows in by_video.items():
        own = _count(rows)
        for kind, mine in own.items():
            chosen[dataset, video, kind] = most_frequent(counts[kind] - mine)
    priors = [chosen[row.dataset, row.video, question_type(row.question)] for row in truth]
    return priors, "truth, leaving each video out"


def _count(rows: Sequence[AnswerRow]) -> defaultdict[str, Counter[str]]:
    return count_answers((row.question, row.answer) for row in rows)


def _shown(rows: Sequence[AnswerRow]) -> str:
    return f"({rows[0].video_id[:60]!a}, {rows[0].question[:60]!a})" if rows else "no row"
