"""What training on recordings leaves behind: a record per fold, a table of all scores, a model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from megc_stream.evaluation.classification import classification_score
from megc_stream.training.scoring import ClipScore, Mode, pooled

__all__ = ["DataFacts", "FoldResult", "data_card", "summary"]

_MODES: dict[Mode, str] = {"video": "whole video", "causal": "causal"}
_SCOPES: dict[str, Callable[[ClipScore], bool]] = {
    "all recordings": lambda score: True,
    "recordings with micro-expressions": lambda score: bool(score.truth),
}


class FoldResult(msgspec.Struct, frozen=True, kw_only=True):
    """One trained network.

    Parameters
    ----------
    key
        Hash of everything that it depends on.
    fold, file, sha256
        Name of the fold, and the ONNX file with its checksum.
    training, test
        Persons; no person is in both.
    k_prime_s
        k', from the persons trained on.
    positives, negatives, named
        Pairs that the spotting head learned from, and events that the recognition head learned from.
    scores
        Per mode, of each recording of the persons to test on.
    recognised
        (true, predicted) class of the onset-apex pairs of the persons to test on.
    """

    key: str
    fold: str
    file: str
    sha256: str
    training: tuple[str, ...]
    test: tuple[str, ...]
    k_prime_s: float
    positives: int
    negatives: int
    named: int
    scores: dict[Mode, tuple[ClipScore, ...]]
    recognised: tuple[tuple[str, str], ...]


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was trained on, and how; ``settings`` are pairs of a name and a value."""

    data: tuple[str, ...]
    classes: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]


def summary(facts: DataFacts, folds: Sequence[FoldResult], final: FoldResult) -> dict[str, Any]:
    """Return the scores of each fold and of all folds pooled, as plain data for JSON."""
    every = {mode: [score for fold in folds for score in fold.scores[mode]] for mode in _MODES} if folds else {}
    return {
        "data": facts.data,
        "classes": facts.classes,
        "settings": dict(facts.settings),
        "folds": [
            {
                **_about(fold),
                "test": fold.test,
                "spotting": {mode: _scores(fold.scores[mode]) for mode in _MODES},
                "recognition_of_annotated": _recognition(fold.recognised),
            }
            for fold in folds
        ],
        "pooled": {
            mode: {scope: _scores([s for s in scores if kept(s)]) for scope, kept in _SCOPES.items()}
            for mode, scores in every.items()
        },
        "recognition_of_annotated": _recognition([pair for fold in folds for pair in fold.recognised]),
        "final": _about(final),
    }


def _about(result: FoldResult) -> dict[str, Any]:
    return {
        "fold": result.fold,
        "file": result.file,
        "sha256": result.sha256,
        "trained_on_subjects": len(result.training),
        "k_prime_s": result.k_prime_s,
        "positives": result.positives,
        "negatives": result.negatives,
        "named": result.named,
    }


def _scores(scores: Sequence[ClipScore]) -> dict[str, Any]:
    result, ceiling = pooled(scores)
    return {
        "recordings": len(scores),
        "events": result.spotting.tp + result.spotting.fn,
        **msgspec.structs.asdict(result.spotting),
        "length_ceiling": ceiling,
        "analysed": result.analysed,
        "f1_analysis": result.f1_analysis,
        "uf1": result.uf1,
        "uar": result.uar,
        "strs": result.strs,
    }


def _recognition(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return msgspec.structs.asdict(classification_score(pairs))


_CARD = """\
# {name}

MEAN (Liong, See and Chan 2023): it spots micro-expressions in pairs of aligned face crops 0.1 s apart and names them
{classes}. Trained on licensed recordings of people: the terms of the data sets decide what this file may be
used for and whether it may be passed on. It is not for decisions about people.

SHA-256 of `{file}`: `{sha256}`

## Trained on

{data}

{persons} subjects: {named_persons}. {positives} positive and {negatives} negative pairs; {named} named events.

| setting | value |
|---|---|
| k' | {k_prime_s:.4g} s, half the mean length of the micro-expressions |
{settings}

Macro-expressions are not read: their frames count as negative, found ones as false alarms, as in the published code.
Recordings without micro-expressions give negatives; the published code leaves them out.

## Leave one subject out

{leaving}

Each network was trained without the subject that it was tested on, for a fixed number of epochs (the last one is
kept), with k' from the subjects trained on; this file was trained on all subjects, so its own score is unknown. A
found interval counts where its IoU with an annotated one is at least 0.5. *Whole video* is the published
post-processing; *causal* decides from the past only. *Ceiling* is the share of the annotated events that intervals of
the fixed length 2k' can match at all; causal borders are refined and not bound by it. UF1 and UAR are those of the
emotions of the events that were found.

{table}

{recognition}
"""


def data_card(facts: DataFacts, folds: Sequence[FoldResult], final: FoldResult, expected_folds: int) -> str:
    """Return the model card of the network trained on all subjects, as Markdown."""
    recognised = classification_score([pair for fold in folds for pair in fold.recognised])
    return _CARD.format(
        name=final.file.removesuffix(".onnx"),
        file=final.file,
        sha256=final.sha256,
        classes=", ".join(facts.classes),
        data="\n".join(f"- {line}" for line in facts.data),
        persons=len(final.training),
        named_persons=", ".join(final.training),
        positives=final.positives,
        negatives=final.negatives,
        named=final.named,
        k_prime_s=final.k_prime_s,
        settings="\n".join(f"| {name} | {value} |" for name, value in facts.settings),
        leaving=f"{len(folds)} of {expected_folds} folds were trained.",
        table="\n".join(_table(folds)) if folds else "No fold was trained: there is no score.",
        recognition=(
            ""
            if recognised.uf1 is None or recognised.uar is None
            else f"Emotions of the annotated onset-apex pairs: UF1 {recognised.uf1:.2f}, UAR {recognised.uar:.2f} "
            f"({recognised.rows} events)."
        ),
    )


def _table(folds: Sequence[FoldResult]) -> list[str]:
    lines = [
        "| subject | mode | recordings | events | TP | FP | FN | F1 | ceiling | UF1 | UAR | STRS |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for mode, label in _MODES.items():
        every = [score for fold in folds for score in fold.scores[mode]]
        for scope, kept in _SCOPES.items():
            lines.append(_row(scope, label, [score for score in every if kept(score)]))
    for fold in folds:
        lines += [_row(fold.fold, label, fold.scores[mode]) for mode, label in _MODES.items()]
    return lines


def _row(subject: str, mode: str, scores: Sequence[ClipScore]) -> str:
    result, ceiling = pooled(scores)
    spot = result.spotting
    uf1, uar = ("-" if value is None else f"{value:.2f}" for value in (result.uf1, result.uar))
    return (
        f"| {subject} | {mode} | {len(scores)} | {spot.tp + spot.fn} | {spot.tp} | {spot.fp} | {spot.fn} | "
        f"{spot.f1:.2f} | {ceiling:.2f} | {uf1} | {uar} | {result.strs:.2f} |"
    )
