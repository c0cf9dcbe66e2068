"""What one would answer without looking: the most frequent answer to each kind of question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from megc_stream.records import Answer
from megc_stream.vqa.questions import kind_of, normalised

if TYPE_CHECKING:
    from megc_stream.vqa.material import Material

__all__ = ["PriorAnswerer", "count_answers", "most_frequent", "question_type"]


def question_type(question: str) -> str:
    """Return what questions are counted by: their kind, or their wording where that is no kind of the challenge."""
    kind = kind_of(question)
    return f"other: {normalised(question)}" if kind == "other" else kind


def count_answers(rows: Iterable[tuple[str, str]]) -> defaultdict[str, Counter[str]]:
    """Return how often each answer was given to each type of question, from (question, answer)."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in rows:
        counts[question_type(question)][answer] += 1
    return counts


def most_frequent(counts: Counter[str]) -> str:
    """Return the most frequent answer, of several the first by the alphabet; "" for none."""
    return min(counts, key=lambda answer: (-counts[answer], answer), default="")


class PriorAnswerer:
    """Answers every question with the most frequent answer to its kind; the least that looking has to beat.

    Parameters
    ----------
    rows
        (question, answer) to count, e.g. of a training file.
    """

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        self._counts = count_answers(rows)

    def answer(self, question: str, material: Material | None = None) -> Answer:
        """Return the most frequent answer; "" to a question of a kind that was never seen. Nothing is looked at."""
        counts = self._counts[question_type(question)]
        text = most_frequent(counts)
        return Answer(
            question=question,
            answer=text,
            by="embedded",
            evidence={"prior_only": True, "count": counts[text], "of": counts.total()},
        )
