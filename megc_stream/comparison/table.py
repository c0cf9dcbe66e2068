"""The table itself: every contender scored on every data set by both rules, and the published results beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from megc_stream.comparison.corpus import Corpus, Expressions
from megc_stream.comparison.detections import Detections
from megc_stream.comparison.published import (
    PublishedResult,
    published_beside,
    published_sets,
    published_sources,
    why_not_comparable,
)
from megc_stream.evaluation import IntervalSet, StrScore, length_ceiling
from megc_stream.evaluation.bootstrap import Confidence
from megc_stream.evaluation.detection import ApexError, AveragePrecision

# evaluate_str refuses sides that share no video, for misnamed files; here both sides come from one reader, and
# detections in the wrong videos alone are a result.
from megc_stream.evaluation.str_report import StrReport, report_set
from megc_stream.output.run_record import Environment

__all__ = [
    "Beside",
    "Contender",
    "DataSetFacts",
    "ModelFacts",
    "Row",
    "Table",
    "build_table",
    "format_json",
    "pooled_name",
]

_FORMAT = 1


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One model file: what it says of itself; ``trained_on`` in full, as stated."""

    name: str
    sha256: str
    classes: tuple[str, ...]
    k_s: float
    k_prime_s: float
    trained_on: str


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One way to spot and name: a mode of spotting with a model, and what it found.

    Parameters
    ----------
    spotting
        "causal" or "video".
    model
        Name of the model.
    trained_on
        In a few words.
    seen
        Names of the data sets tested on whose persons the model was trained on.
    sha256
        Checksums of the model files, of which there are several where one subject was left out in turn.
    detections
        By name of the data set tested on.
    """

    spotting: str
    model: str
    trained_on: str
    seen: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    detections: dict[str, Detections]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One contender on one data set, or on all of them pooled (TP, FP and FN summed).

    Parameters
    ----------
    spotting, model, trained_on, sha256
        Of the contender.
    tested_on
        Name of the data set, or of all joined by " + ".
    seen
        Whether the model was trained on the tested persons: then this is no test on new ones.
    corrected, compat
        The scores by the corrected rules and by those of the published evaluator.
    confidence, confidence_compat
        95 % intervals of both, over subjects.
    average_precision, apex
        Corrected rules.
    length_ceiling
        Best recall within reach of intervals of 2k' + 1 frames; causal spotting refines borders and may exceed it.
    failed
        Recordings without a complete run, as subject/video; their truths count as missed.
    dropped
        Detections left out because they were named others or neutral.
    reasons
        Why the two rules differ here.
    """

    spotting: str
    model: str
    trained_on: str
    tested_on: str
    seen: bool
    sha256: tuple[str, ...]
    corrected: StrScore
    compat: StrScore
    confidence: Confidence
    confidence_compat: Confidence
    average_precision: AveragePrecision
    apex: ApexError
    length_ceiling: float
    failed: tuple[str, ...]
    dropped: int
    reasons: tuple[str, ...]


class DataSetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One data set tested on; ``elsewhere`` counts annotated expressions whose recording is absent."""

    name: str
    title: str
    layout: str
    root: str
    subjects: int
    annotated_subjects: int
    videos: int
    truths: int
    classes: dict[str, int]
    micro: int
    macro: int
    elsewhere: int


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A published result shown beside the rows of ``beside``; ``not_comparable`` says why, "" where it may be."""

    beside: str
    test_set: str
    result: PublishedResult
    not_comparable: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in ``table.json``; nothing in it depends on when or how fast it was made.

    ``training`` has the options of the training, None where nothing was trained.
    """

    format: int
    command: str
    environment: Environment
    settings: dict[str, Any]
    training: dict[str, Any] | None
    expressions: Expressions
    resamples: int
    seed: int
    models: tuple[ModelFacts, ...]
    data_sets: tuple[DataSetFacts, ...]
    rows: tuple[Row, ...]
    published: tuple[Beside, ...]
    sources: dict[str, str]


def build_table(
    corpora: Sequence[Corpus],
    contenders: Sequence[Contender],
    models: Sequence[ModelFacts],
    *,
    command: str,
    environment: Environment,
    settings: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Table:
    """Score every contender on every data set that it was tested on.

    Parameters
    ----------
    corpora
        At least one, all with the same ``expressions``.
    contenders
        In the order of the rows.
    models
        All models that took part.
    command
        What makes this table, without the options that have no bearing on it.
    environment, settings, training
        Kept in the table.
    resamples, seed
        Of the confidence intervals.
    """
    rows = [
        _row(contender, [corpus], resamples, seed)
        for corpus in corpora
        for contender in contenders
        if corpus.name in contender.detections
    ]
    if len(corpora) > 1:
        rows += [
            _row(contender, corpora, resamples, seed)
            for contender in contenders
            if all(corpus.name in contender.detections for corpus in corpora)
        ]
    beside = tuple(
        Beside(
            beside=corpus.name,
            test_set=corpus.name if result.set == corpus.layout else published_sets()[result.set].title,
            result=result,
            not_comparable=why_not_comparable(result, corpus),
        )
        for corpus in corpora
        for result in published_beside(corpus)
    )
    used = {one.result.source for one in beside}
    return Table(
        format=_FORMAT,
        command=command,
        environment=environment,
        settings=dict(settings),
        training=None if training is None else dict(training),
        expressions=corpora[0].expressions,
        resamples=resamples,
        seed=seed,
        models=tuple(models),
        data_sets=tuple(_facts(corpus) for corpus in corpora),
        rows=tuple(rows),
        published=beside,
        sources={name: text for name, text in published_sources().items() if name in used},
    )


def format_json(table: Table) -> str:
    """Return ``table.json``: keys sorted, undefined values null."""
    return json.dumps(msgspec.to_builtins(table), indent=2, sort_keys=True, allow_nan=False) + "\n"


def pooled_name(names: Sequence[str]) -> str:
    """Return how the table calls several data sets pooled."""
    return " + ".join(names)


def _row(contender: Contender, corpora: Sequence[Corpus], resamples: int, seed: int) -> Row:
    found = [contender.detections[corpus.name] for corpus in corpora]
    one = _interval_set(corpora, found)
    corrected: StrReport = report_set(one, "corrected", resamples, seed)
    compat: StrReport = report_set(one, "compat", resamples, seed)
    return Row(
        spotting=contender.spotting,
        model=contender.model,
        trained_on=contender.trained_on,
        tested_on=one.name,
        seen=any(corpus.name in contender.seen for corpus in corpora),
        sha256=contender.sha256,
        corrected=corrected.score,
        compat=compat.score,
        confidence=corrected.confidence,
        confidence_compat=compat.confidence,
        average_precision=corrected.average_precision,
        apex=corrected.apex,
        length_ceiling=_ceiling(corpora, found),
        failed=tuple(
            "/".join((corpus.name, *key) if len(corpora) > 1 else key)
            for corpus, detections in zip(corpora, found, strict=True)
            for key in detections.failed
        ),
        dropped=sum(detections.dropped for detections in found),
        reasons=corrected.reasons,
    )


def _interval_set(corpora: Sequence[Corpus], found: Sequence[Detections]) -> IntervalSet:
    if len(corpora) == 1:
        return IntervalSet(name=corpora[0].name, pred=found[0].rows, truth=corpora[0].truths)

    def within(name: str, rows: Sequence[Any]) -> list[Any]:
        # Subjects of two sets may have the same name.
        return [
            msgspec.structs.replace(
                row, interval=msgspec.structs.replace(row.interval, subject=f"{name}/{row.interval.subject}")
            )
            for row in rows
        ]

    return IntervalSet(
        name=pooled_name([corpus.name for corpus in corpora]),
        pred=[row for corpus, one in zip(corpora, found, strict=True) for row in within(corpus.name, one.rows)],
        truth=[row for corpus in corpora for row in within(corpus.name, corpus.truths)],
    )


def _ceiling(corpora: Sequence[Corpus], found: Sequence[Detections]) -> float:
    """Return the share of truths that intervals of 2k' + 1 frames can match; none in a recording that failed."""
    within, truths = 0.0, 0
    for corpus, detections in zip(corpora, found, strict=True):
        for row in corpus.truths:
            k_prime = detections.k_prime.get((row.interval.subject, row.interval.video))
            within += length_ceiling([row.interval], k_prime) if k_prime is not None else 0.0
            truths += 1
    return within / truths


def _facts(corpus: Corpus) -> DataSetFacts:
    return DataSetFacts(
        name=corpus.name,
        title=corpus.title,
        layout=corpus.layout,
        root=str(corpus.root),
        subjects=len(corpus.subjects),
        annotated_subjects=len({row.interval.subject for row in corpus.truths}),
        videos=len(corpus.recordings),
        truths=len(corpus.truths),
        classes=corpus.classes,
        micro=corpus.micro,
        macro=corpus.macro,
        elsewhere=corpus.elsewhere,
    )
