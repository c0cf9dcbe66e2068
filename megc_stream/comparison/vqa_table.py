"""The table of answers: {zero-shot, LoRA} x {video, oao, flow}, what needs no model beside them, and published results.

Rows that were not measured are there, and say why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from megc_stream.comparison.published import PublishedAnswers, published_answers, published_sources
from megc_stream.errors import DataError
from megc_stream.evaluation import AnswerRow, LvqaScore, VqaScore, evaluate_lvqa, evaluate_vqa
from megc_stream.evaluation.answers import prior_answers
from megc_stream.evaluation.text_scores import text_signatures
from megc_stream.output.run_record import Environment
from megc_stream.vqa.questions import LVQA_KINDS, kind_of

__all__ = ["PRIOR", "AnswerSet", "VqaRow", "VqaTable", "build_vqa_table", "format_vqa_json", "prior_set"]

PRIOR = "prior only"

_FORMAT = 1
_TEST_CLIPS = frozenset([f"SAMM-{n}" for n in range(1, 8)] + [f"CAS-{n}" for n in range(1, 18)])


class AnswerSet(msgspec.Struct, frozen=True, kw_only=True):
    """What one answerer said to all questions, or why it was not asked.

    Parameters
    ----------
    answerer
        "zero-shot", "LoRA", "embedded", "prior only", or another name.
    shown
        The media it was shown, "oao+flow" for example; "" where it is shown none.
    model
        Name on the server, or what else identifies it.
    answers
        None where it was not measured; then ``reason`` says why.
    replaced, repaired
        Answers that the embedded answerer gave in its place, and those that were of the form at the second attempt
        only; None where that is not known.
    seen
        Whether it was trained on persons that it is tested on.
    """

    answerer: str
    shown: str = ""
    model: str = ""
    answers: tuple[AnswerRow, ...] | None = None
    reason: str = ""
    replaced: int | None = None
    repaired: int | None = None
    seen: bool = False


class VqaRow(msgspec.Struct, frozen=True, kw_only=True):
    """One answerer on one data set, or on all of them; the fields of :class:`AnswerSet`, and its scores.

    ``short`` are the scores of ME-VQA, ``long`` those of ME-LVQA; None where there are no such questions or it was not
    measured. ``replaced``, ``repaired`` and ``notes`` (of questions without answer) stand in the row of all data sets.
    """

    answerer: str
    shown: str
    model: str
    tested_on: str
    reason: str
    replaced: int | None
    repaired: int | None
    seen: bool
    short: VqaScore | None = None
    long: LvqaScore | None = None
    notes: tuple[str, ...] = ()


class VqaTable(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in ``table.json``.

    ``clips`` counts the clips asked about by data set; ``prior_source`` says where the prior answers were counted;
    ``not_comparable`` why the published results cannot be held against ours, "" where nothing known speaks against it.
    """

    format: int
    short_questions: int
    long_questions: int
    clips: dict[str, int]
    rows: tuple[VqaRow, ...]
    published: tuple[PublishedAnswers, ...]
    not_comparable: str
    sources: dict[str, str]
    prior_source: str
    signatures: dict[str, str]
    command: str
    environment: Environment
    settings: dict[str, Any]
    training: dict[str, Any] | None


def prior_set(truth: Sequence[AnswerRow], train: Sequence[AnswerRow] | None) -> tuple[AnswerSet, str]:
    """Return the most frequent answer to each kind of question, and where it was counted."""
    answers, source = prior_answers(truth, train)
    rows = tuple(msgspec.structs.replace(row, answer=answer) for row, answer in zip(truth, answers, strict=True))
    return AnswerSet(answerer=PRIOR, answers=rows), source


def build_vqa_table(
    sets: Iterable[AnswerSet],
    truth: Sequence[AnswerRow],
    train: Sequence[AnswerRow] | None,
    *,
    command: str,
    environment: Environment,
    settings: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
) -> VqaTable:
    """Score all answerers, the prior-only one among them.

    Parameters
    ----------
    sets
        The answerers, in the order of the rows.
    truth
        The questions with their true answers, of ME-VQA, of ME-LVQA or of both.
    train
        Where the prior answers are counted; None counts them in the truth, leaving each video out.
    command, environment, settings, training
        How the table came about; ``training`` is what ``train.json`` says of the adapter.

    Raises
    ------
    DataError
        A true answer is empty, or an answerer answered none of the questions.
    """
    prior, prior_source = prior_set(truth, train)
    short = [row for row in truth if kind_of(row.question) not in LVQA_KINDS]
    long = [row for row in truth if kind_of(row.question) in LVQA_KINDS]
    rows: list[VqaRow] = []
    for one in (*sets, prior):
        rows += _rows(one, short, long)
    clips: dict[str, set[str]] = {}
    for row in truth:
        clips.setdefault(row.dataset, set()).add(row.video)
    published = published_answers() if short else ()
    used = {one.source for one in published}
    return VqaTable(
        format=_FORMAT,
        short_questions=len(short),
        long_questions=len(long),
        clips={name: len(videos) for name, videos in sorted(clips.items())},
        rows=tuple(rows),
        published=published,
        not_comparable=_why_not_comparable({row.video for row in short}),
        sources={name: text for name, text in published_sources().items() if name in used},
        prior_source=prior_source,
        signatures=text_signatures(),
        command=command,
        environment=environment,
        settings=dict(settings),
        training=None if training is None else dict(training),
    )


def format_vqa_json(table: VqaTable) -> str:
    """Return ``table.json``."""
    return json.dumps(msgspec.to_builtins(table), indent=2, ensure_ascii=False) + "\n"


def _rows(one: AnswerSet, short: Sequence[AnswerRow], long: Sequence[AnswerRow]) -> list[VqaRow]:
    def row(tested_on: str, **scores: Any) -> VqaRow:
        return VqaRow(
            answerer=one.answerer,
            shown=one.shown,
            model=one.model,
            tested_on=tested_on,
            reason=one.reason,
            # Counted over all data sets.
            replaced=one.replaced if tested_on == "all" else None,
            repaired=one.repaired if tested_on == "all" else None,
            seen=one.seen,
            **scores,
        )

    if one.answers is None:
        return [row("all")]
    name = f"answers of {one.answerer}{f' ({one.shown})' if one.shown else ''}"
    try:
        of_short = evaluate_vqa(_answers_to(one.answers, short), short) if short else None
        of_long = evaluate_lvqa(_answers_to(one.answers, long), long) if long else None
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    notes = tuple(dict.fromkeys((*(of_short.notes if of_short else ()), *(of_long.notes if of_long else ()))))
    rows = [
        row("all", short=of_short and of_short.score, long=of_long and of_long.score, notes=notes),
    ]
    datasets = sorted({*(of_short.datasets if of_short else ()), *(of_long.datasets if of_long else ())})
    if len(datasets) > 1:
        for dataset in datasets:
            in_short = of_short.datasets.get(dataset) if of_short else None
            in_long = of_long.datasets.get(dataset) if of_long else None
            rows.append(row(dataset, short=in_short and in_short[0], long=in_long and in_long[0]))
    return rows


def _answers_to(answers: Sequence[AnswerRow], questions: Sequence[AnswerRow]) -> list[AnswerRow]:
    """Return the answers that are about questions of this task: those of the other are no surplus."""
    task = {kind_of(row.question) in LVQA_KINDS for row in questions}
    return [answer for answer in answers if (kind_of(answer.question) in LVQA_KINDS) in task]


def _why_not_comparable(videos: set[str]) -> str:
    if videos == _TEST_CLIPS:
        return ""
    return "another test set: theirs are the 24 clips of MEGC2025, whose answers are not public"
