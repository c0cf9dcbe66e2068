"""Scores of the challenge's task ME-VQA: classes by UF1 and UAR, wording by BLEU and ROUGE-1, priors beside them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from megc_stream.evaluation.answers import AnswerPair, pair_answers, score_all
from megc_stream.evaluation.classification import classification_score
from megc_stream.evaluation.labels import parse_coarse, parse_fine
from megc_stream.evaluation.tables import AnswerRow
from megc_stream.evaluation.text_scores import row_text_scores, text_scores, text_signatures
from megc_stream.vqa.questions import kind_of, normalised

__all__ = ["QuestionScore", "VqaReport", "VqaScore", "evaluate_vqa"]


class VqaScore(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one data set or of all, 0..1; None where no row has the question.

    UF1 and UAR are taken over the rows with exactly the coarse or fine-grained class question, BLEU and ROUGE-1 over
    all rows (:mod:`megc_stream.evaluation.text_scores`). ``unparsed`` answers to class questions name no class.
    """

    rows: int
    uf1_coarse: float | None = msgspec.field(name="UF1 Coarse")
    uar_coarse: float | None = msgspec.field(name="UAR Coarse")
    uf1_fine: float | None = msgspec.field(name="UF1 Fine-Grained")
    uar_fine: float | None = msgspec.field(name="UAR Fine-Grained")
    bleu_corpus: float | None = msgspec.field(name="BLEU corpus")
    bleu_sentence: float | None = msgspec.field(name="BLEU sentence")
    rouge1_recall: float | None = msgspec.field(name="ROUGE-1 recall")
    rouge1_f1: float | None = msgspec.field(name="ROUGE-1 F1")
    unparsed: int


class QuestionScore(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of question: share of answers that are the truth but for case and punctuation, and its wording."""

    kind: str
    rows: int
    exact: float
    bleu_sentence: float
    rouge1_recall: float
    prior_exact: float


class VqaReport(msgspec.Struct, frozen=True, kw_only=True):
    """Scores over all rows and by data set, each with the score of the prior answers."""

    score: VqaScore
    prior: VqaScore
    prior_source: str
    datasets: dict[str, tuple[VqaScore, VqaScore]]
    by_question: tuple[QuestionScore, ...]
    signatures: dict[str, str]
    notes: tuple[str, ...]


def evaluate_vqa(
    answers: Sequence[AnswerRow], truth: Sequence[AnswerRow], train: Sequence[AnswerRow] | None = None
) -> VqaReport:
    """Return the scores of answers; rows of the truth without an answer count as answered with "".

    Raises
    ------
    DataError
        See :func:`megc_stream.evaluation.answers.pair_answers`.
    """
    paired = pair_answers(answers, truth, train)
    score, prior, datasets = score_all(paired, _score)
    return VqaReport(
        score=score,
        prior=prior,
        prior_source=paired.prior_source,
        datasets=datasets,
        by_question=_by_question(paired.rows),
        signatures=text_signatures(),
        notes=paired.notes,
    )


def _score(rows: Sequence[AnswerRow], answers: Sequence[str]) -> VqaScore:
    truths = [row.answer for row in rows]
    kinds = [kind_of(row.question) for row in rows]
    coarse, fine = (
        classification_score(
            [
                (parse(truth) or normalised(truth), parse(answer))
                for kind, truth, answer in zip(kinds, truths, answers, strict=True)
                if kind == wanted
            ]
        )
        for wanted, parse in (("coarse", parse_coarse), ("fine", parse_fine))
    )
    text = text_scores(answers, truths, row_text_scores(answers, truths))
    return VqaScore(
        rows=len(rows),
        uf1_coarse=coarse.uf1,
        uar_coarse=coarse.uar,
        uf1_fine=fine.uf1,
        uar_fine=fine.uar,
        bleu_corpus=text.bleu_corpus,
        bleu_sentence=text.bleu_sentence,
        rouge1_recall=text.rouge1_recall,
        rouge1_f1=text.rouge1_f1,
        unparsed=coarse.unparsed + fine.unparsed,
    )


def _by_question(rows: Sequence[AnswerPair]) -> tuple[QuestionScore, ...]:
    by_kind: dict[str, list[AnswerPair]] = {}
    for pair in rows:
        by_kind.setdefault(kind_of(pair.truth.question), []).append(pair)
    scores = []
    for kind, pairs in sorted(by_kind.items()):
        text = row_text_scores([pair.answer for pair in pairs], [pair.truth.answer for pair in pairs])
        scores.append(
            QuestionScore(
                kind=kind,
                rows=len(pairs),
                exact=sum(_same(pair.answer, pair.truth.answer) for pair in pairs) / len(pairs),
                bleu_sentence=sum(row.bleu_sentence for row in text) / len(pairs),
                rouge1_recall=sum(row.rouge1_recall for row in text) / len(pairs),
                prior_exact=sum(_same(pair.prior, pair.truth.answer) for pair in pairs) / len(pairs),
            )
        )
    return tuple(scores)


def _same(answer: str, truth: str) -> bool:
    return normalised(answer) == normalised(truth)
