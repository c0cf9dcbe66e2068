"""BLEU and ROUGE-1 of answers in words, each in the two variants that participants of the challenge use.

The official scorer is not public. All variants compare in lower case and lie in 0..1.

- ``bleu_corpus``: BLEU-4 over all rows together, without smoothing (Papineni et al. 2002, section 2.3), by sacrebleu
  with the signature of :func:`text_signatures`.
- ``bleu_sentence``: mean over rows of the sentence BLEU up to 4-grams, equal weights, words split at blanks, smoothing
  method 1 of Chen and Cherry (2014) with epsilon 0.1, by nltk. An exact answer of n < 4 words scores 0.1^((4 - n) / 4).
- ``rouge1_recall``, ``rouge1_f1``: mean over rows of recall and F1 of the words of the truth (Lin 2004, section 2),
  Porter stemmer, by rouge-score.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import msgspec

__all__ = ["RowTextScores", "TextScores", "row_text_scores", "text_scores", "text_signatures"]


class RowTextScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one row, 0..1."""

    bleu_sentence: float
    rouge1_recall: float
    rouge1_f1: float


class TextScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of several rows, 0..1; None without rows."""

    bleu_corpus: float | None
    bleu_sentence: float | None
    rouge1_recall: float | None
    rouge1_f1: float | None


def text_signatures() -> dict[str, str]:
    """Return how each score is computed: sacrebleu's signature, package versions and options."""
    nltk, rouge = importlib.metadata.version("nltk"), importlib.metadata.version("rouge-score")
    bleu = _corpus_bleu()
    bleu.corpus_score(["a"], [["a"]])  # sacrebleu tells its signature only once it has scored
    return {
        "BLEU corpus": f"sacrebleu {bleu.get_signature()}",
        "BLEU sentence": f"nltk {nltk} sentence_bleu|weights:1/4,1/4,1/4,1/4|smooth:method1|tok:blank|case:lc|mean",
        "ROUGE-1 recall": f"rouge-score {rouge} rouge1|recall|stemmer:yes|mean",
        "ROUGE-1 F1": f"rouge-score {rouge} rouge1|fmeasure|stemmer:yes|mean",
    }


def row_text_scores(answers: Sequence[str], truths: Sequence[str]) -> list[RowTextScores]:
    """Return the scores of each answer against its truth."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from rouge_score.rouge_scorer import RougeScorer

    smoothing = SmoothingFunction().method1
    rouge = RougeScorer(["rouge1"], use_stemmer=True)
    scores: dict[tuple[str, str], RowTextScores] = {}
    rows = []
    for pair in zip(answers, truths, strict=True):
        # Most answers of a file are the same few words.
        if pair not in scores:
            answer, truth = (text.strip().lower() for text in pair)
            words = rouge.score(truth, answer)["rouge1"]
            scores[pair] = RowTextScores(
                bleu_sentence=float(sentence_bleu([truth.split()], answer.split(), smoothing_function=smoothing)),
                rouge1_recall=float(words.recall),
                rouge1_f1=float(words.fmeasure),
            )
        rows.append(scores[pair])
    return rows


def text_scores(answers: Sequence[str], truths: Sequence[str], rows: Sequence[RowTextScores]) -> TextScores:
    """Return the scores of several rows; ``rows`` are theirs by :func:`row_text_scores`."""
    if not rows:
        return TextScores(bleu_corpus=None, bleu_sentence=None, rouge1_recall=None, rouge1_f1=None)
    corpus = _corpus_bleu().corpus_score(list(answers), [list(truths)]).score / 100
    return TextScores(
        bleu_corpus=float(corpus),
        bleu_sentence=sum(row.bleu_sentence for row in rows) / len(rows),
        rouge1_recall=sum(row.rouge1_recall for row in rows) / len(rows),
        rouge1_f1=sum(row.rouge1_f1 for row in rows) / len(rows),
    )


def _corpus_bleu() -> Any:
    from sacrebleu import BLEU

    return BLEU(lowercase=True, smooth_method="none")
