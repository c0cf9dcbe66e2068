"""Everything that is said about predictions of one or several data sets: STRS by both rules, and what explains it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.evaluation.bootstrap import Confidence, bootstrap
from megc_stream.evaluation.compat import PublishedMatches, match_published
from megc_stream.evaluation.counts import (
    ANALYSIS_EMOTIONS,
    analysis_counts,
    class_scores,
    confusion_of,
    corrected_scores,
    published_scores,
)
from megc_stream.evaluation.detection import (
    ApexError,
    AveragePrecision,
    DurationSplit,
    apex_error,
    average_precision,
    split_by_duration,
)
from megc_stream.evaluation.strs import Interval, check_shared_videos, match_intervals
from megc_stream.evaluation.tables import IntervalRow, pair_names

__all__ = [
    "ClassRow",
    "Difference",
    "IntervalSet",
    "Mode",
    "StrReport",
    "StrScore",
    "SubjectRow",
    "evaluate_str",
    "report_set",
    "score_intervals",
]

Mode = Literal["corrected", "compat"]


class IntervalSet(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions and truth of one data set."""

    name: str
    pred: Sequence[IntervalRow]
    truth: Sequence[IntervalRow]


class StrScore(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of the published evaluator under its own names; None where undefined."""

    strs: float | None = msgspec.field(name="STRS")
    tp_spotting: int = msgspec.field(name="TP spotting")
    fp_spotting: int = msgspec.field(name="FP spotting")
    fn_spotting: int = msgspec.field(name="FN spotting")
    precision_spotting: float | None = msgspec.field(name="Precision spotting")
    recall_spotting: float | None = msgspec.field(name="Recall spotting")
    f1_spotting: float | None = msgspec.field(name="F1-score spotting")
    tp_analysis: int = msgspec.field(name="TP analysis")
    fp_analysis: int = msgspec.field(name="FP analysis")
    fn_analysis: int = msgspec.field(name="FN analysis")
    precision_analysis: float | None = msgspec.field(name="Precision analysis")
    recall_analysis: float | None = msgspec.field(name="Recall analysis")
    f1_analysis: float | None = msgspec.field(name="F1-score analysis")
    uf1_analysis: float | None = msgspec.field(name="UF1 analysis")
    uar_analysis: float | None = msgspec.field(name="UAR analysis")


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """One class: spotting of its truths, and recognition of those found; None where the class does not occur.

    ``truths`` of the class were annotated, ``found`` of them are TPs of spotting; ``named`` counts the analysed TPs
    that were given this class.
    """

    emotion: str
    truths: int
    found: int
    named: int
    precision: float | None
    recall: float | None
    f1: float | None


class SubjectRow(msgspec.Struct, frozen=True, kw_only=True):
    """One subject: counts of spotting and analysis, F1 of spotting, STRS (None where undefined)."""

    subject: str
    tp: int
    fp: int
    fn: int
    f1_spotting: float | None
    analysed: int
    right: int
    strs: float | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A number on which the two rules differ; ``difference`` is corrected minus published, None if one is undefined."""

    corrected: float | None
    published: float | None
    difference: float | None


class StrReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known about the predictions of a data set, or of several pooled.

    ``score``, ``confidence``, ``per_class`` and ``per_subject`` follow the rules of ``mode``; ``average_precision``,
    ``apex`` and ``duration`` always match one to one. ``differences`` has the numbers on which the rules differ,
    ``reasons`` says why, ``notes`` what the numbers rest on.
    """

    name: str
    mode: Mode
    score: StrScore
    confidence: Confidence
    per_class: tuple[ClassRow, ...]
    per_subject: tuple[SubjectRow, ...]
    average_precision: AveragePrecision
    apex: ApexError
    duration: DurationSplit | None
    differences: dict[str, Difference]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]


class _Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule counts: pairs of (prediction, truth), FPs and FNs, as indices."""

    matches: tuple[tuple[int, int], ...]
    invented: tuple[int, ...]
    missed: tuple[int, ...]


def score_intervals(pred: Sequence[Interval], truth: Sequence[Interval], mode: Mode) -> StrScore:
    """Return the numbers of the published evaluator, by its own rules (``compat``) or by the corrected ones.

    Where there is no TP, STRS is None in ``compat`` and 0 otherwise.

    Raises
    ------
    DataError
        Both sides hold intervals, but no (subject, video) in common.
    """
    check_shared_videos(pred, truth)
    counted = _count_published(match_published(pred, truth)) if mode == "compat" else _count_corrected(pred, truth)
    return _score(counted, pred, truth, mode)


def evaluate_str(
    sets: Sequence[IntervalSet], *, mode: Mode = "corrected", resamples: int = 1000, seed: int = 0
) -> tuple[StrReport, dict[str, StrReport]]:
    """Return the report over all sets pooled (TPs, FPs and FNs summed), and that of each set by name.

    Subjects and videos that differ in leading zeros only are the same (see :func:`pair_names`). In the pooled report of
    several sets, subjects are called NAME/SUBJECT.

    Raises
    ------
    DataError
        A set holds predictions and truth, but no (subject, video) in common.
    """
    paired = []
    for one in sets:
        named = msgspec.structs.replace(one, pred=pair_names(one.pred, one.truth))
        where = "predictions and truth" if len(sets) == 1 else f"{one.name}: predictions and truth"
        check_shared_videos([row.interval for row in named.pred], [row.interval for row in named.truth], where)
        paired.append(named)
    reports = {one.name: report_set(one, mode, resamples, seed) for one in paired}
    if len(paired) == 1:
        return reports[paired[0].name], reports
    pooled = IntervalSet(
        name="all",
        pred=[_within(one.name, row) for one in paired for row in one.pred],
        truth=[_within(one.name, row) for one in paired for row in one.truth],
    )
    return report_set(pooled, mode, resamples, seed), reports


def report_set(one: IntervalSet, mode: Mode, resamples: int, seed: int) -> StrReport:
    """Return the report of one set, also where predictions and truth share no video; see :func:`evaluate_str`."""
    pred, truth = [row.interval for row in one.pred], [row.interval for row in one.truth]
    published = match_published(pred, truth)
    by_mode: dict[Mode, _Counted] = {
        "corrected": _count_corrected(pred, truth),
        "compat": _count_published(published),
    }
    scores: dict[Mode, StrScore] = {name: _score(counted, pred, truth, name) for name, counted in by_mode.items()}
    counted = by_mode[mode]
    subjects = sorted({interval.subject for interval in (*pred, *truth)})
    spotting, confusion = _by_subject(counted, pred, truth, subjects)
    scorer = published_scores if mode == "compat" else corrected_scores
    ap = average_precision(one.pred, one.truth)
    apex = apex_error(one.pred, one.truth)
    duration = split_by_duration(one.pred, one.truth)
    differences = _differences(scores["corrected"], scores["compat"])
    return StrReport(
        name=one.name,
        mode=mode,
        score=scores[mode],
        confidence=bootstrap(spotting, confusion, scorer, resamples, seed),
        per_class=_class_rows(counted, pred, truth),
        per_subject=_subject_rows(subjects, spotting, confusion, scorer),
        average_precision=ap,
        apex=apex,
        duration=duration,
        differences=differences,
        reasons=_reasons(by_mode["corrected"], published, pred, truth, scores["compat"], differences),
        notes=_notes(one, ap, apex, duration, len(subjects)),
    )


def _count_corrected(pred: Sequence[Interval], truth: Sequence[Interval]) -> _Counted:
    matches = tuple((i, j) for i, j, _ in match_intervals(pred, truth))
    found, known = {i for i, _ in matches}, {j for _, j in matches}
    return _Counted(
        matches=matches,
        invented=tuple(i for i in range(len(pred)) if i not in found),
        missed=tuple(j for j in range(len(truth)) if j not in known),
    )


def _count_published(published: PublishedMatches) -> _Counted:
    return _Counted(matches=published.matches, invented=published.invented, missed=published.missed)


def _score(counted: _Counted, pred: Sequence[Interval], truth: Sequence[Interval], mode: Mode) -> StrScore:
    confusion = _confusion(counted, pred, truth)
    tp, fp, fn = len(counted.matches), len(counted.invented), len(counted.missed)
    tp_analysis, fp_analysis, fn_analysis = analysis_counts(confusion)
    if mode == "compat":
        values = published_scores([tp, fp, fn], confusion)
        fn_analysis = fp_analysis
    else:
        values = corrected_scores([tp, fp, fn], confusion)
    known = {name: None if math.isnan(value) else float(value) for name, value in values.items()}
    return StrScore(
        strs=known["STRS"],
        tp_spotting=tp,
        fp_spotting=fp,
        fn_spotting=fn,
        precision_spotting=known["Precision spotting"],
        recall_spotting=known["Recall spotting"],
        f1_spotting=known["F1-score spotting"],
        tp_analysis=tp_analysis,
        fp_analysis=fp_analysis,
        fn_analysis=fn_analysis,
        precision_analysis=known["Precision analysis"],
        recall_analysis=known["Recall analysis"],
        f1_analysis=known["F1-score analysis"],
        uf1_analysis=known["UF1 analysis"],
        uar_analysis=known["UAR analysis"],
    )


def _confusion(counted: _Counted, pred: Sequence[Interval], truth: Sequence[Interval]) -> NDArray[np.int64]:
    return confusion_of([(truth[j].emotion, pred[i].emotion) for i, j in counted.matches])


def _by_subject(
    counted: _Counted, pred: Sequence[Interval], truth: Sequence[Interval], subjects: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the counts of each subject: spotting (S, 3) and confusion (S, 3, 4)."""
    index = {subject: position for position, subject in enumerate(subjects)}
    spotting = np.zeros((len(subjects), 3), np.int64)
    pairs: list[list[tuple[str, str]]] = [[] for _ in subjects]
    for i, j in counted.matches:
        spotting[index[truth[j].subject], 0] += 1
        pairs[index[truth[j].subject]].append((truth[j].emotion, pred[i].emotion))
    for i in counted.invented:
        spotting[index[pred[i].subject], 1] += 1
    for j in counted.missed:
        spotting[index[truth[j].subject], 2] += 1
    return spotting, np.array([confusion_of(labels) for labels in pairs], np.int64).reshape(len(subjects), 3, 4)


def _class_rows(counted: _Counted, pred: Sequence[Interval], truth: Sequence[Interval]) -> tuple[ClassRow, ...]:
    confusion = _confusion(counted, pred, truth)
    scores = class_scores(confusion)
    found = [truth[j].emotion for _, j in counted.matches]
    rows = []
    for index, emotion in enumerate(ANALYSIS_EMOTIONS):
        precision, recall, f1 = (
            None if np.isnan(scores[name][index]) else float(scores[name][index])
            for name in ("precision", "recall", "f1")
        )
        rows.append(
            ClassRow(
                emotion=emotion,
                truths=sum(true.emotion == emotion for true in truth),
                found=found.count(emotion),
                named=int(confusion[:, index].sum()),
                precision=precision,
                recall=recall,
                f1=f1,
            )
        )
    return tuple(rows)


def _subject_rows(
    subjects: Sequence[str],
    spotting: NDArray[np.int64],
    confusion: NDArray[np.int64],
    scorer: Callable[[NDArray[np.int64], NDArray[np.int64]], dict[str, NDArray[np.float64]]],
) -> tuple[SubjectRow, ...]:
    scores = scorer(spotting, confusion)
    return tuple(
        SubjectRow(
            subject=subject,
            tp=int(spotting[s, 0]),
            fp=int(spotting[s, 1]),
            fn=int(spotting[s, 2]),
            f1_spotting=_known(scores["F1-score spotting"][s]),
            analysed=int(confusion[s].sum()),
            right=int(np.trace(confusion[s, :, :3])),
            strs=_known(scores["STRS"][s]),
        )
        for s, subject in enumerate(subjects)
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _differences(corrected: StrScore, published: StrScore) -> dict[str, Difference]:
    ours, theirs = msgspec.to_builtins(corrected), msgspec.to_builtins(published)
    found = {}
    for name, a in ours.items():
        b = theirs[name]
        if a is None and b is None:
            continue
        if a is None or b is None:
            found[name] = Difference(corrected=a, published=b, difference=None)
        elif abs(a - b) > 1e-12:
            found[name] = Difference(corrected=a, published=b, difference=a - b)
    return found


def _reasons(
    corrected: _Counted,
    matches: PublishedMatches,
    pred: Sequence[Interval],
    truth: Sequence[Interval],
    score: StrScore,
    differences: Mapping[str, Difference],
) -> tuple[str, ...]:
    """Say what makes the two rules differ on these intervals, in the order of the quirks; ``score`` is published."""
    if not differences:
        return ()
    published = "the published evaluator"
    reasons = []
    again = len(matches.matches) - len({i for i, _ in matches.matches})
    if again:
        reasons.append(f"{published} lets one prediction find several truths: {again} more TP")
    elif set(matches.matches) != set(corrected.matches):
        reasons.append(f"{published} matches in the order of rows, not by falling IoU")
    if matches.skipped_invented:
        count = len(matches.skipped_invented)
        reasons.append(f"{published} passes over predictions in videos without truth: {count} FP not counted")
    if matches.skipped_missed:
        count = len(matches.skipped_missed)
        reasons.append(f"{published} passes over subjects without predictions: {count} FN not counted")
    confusion = confusion_of([(truth[j].emotion, pred[i].emotion) for i, j in matches.matches])
    analysed = int(confusion.sum())
    if score.precision_analysis != score.recall_analysis:
        reasons.append(f"UAR of {published} is the mean precision of the classes")
    absent = [
        name
        for index, name in enumerate(ANALYSIS_EMOTIONS)
        if not confusion[index].sum() and not confusion[:, index].sum()
    ]
    if analysed and absent:
        reasons.append(f"{published} averages over classes that no TP has: {', '.join(absent)}")
    if analysed and np.any(np.diagonal(confusion) == analysed):
        reasons.append(f"all analysed TPs are of one class and named so: {published} counts that class as wrong")
    if score.strs is None:
        reasons.append(f"STRS of {published} is undefined where no analysed TP is right; corrected, it is 0")
    if "FN analysis" in differences:
        reasons.append(f"FN of the analysis repeat the FP in {published}: truths named otherwise are not counted")
    return tuple(reasons)


def _notes(
    one: IntervalSet, ap: AveragePrecision, apex: ApexError, duration: DurationSplit | None, subjects: int
) -> tuple[str, ...]:
    notes = []
    if not ap.ranked and one.pred:
        notes.append("AP: predictions have no column score, all count as confidence 1; AP is then precision x recall")
    if apex.n:
        how = (
            "the column apex of the predictions"
            if not apex.midpoints
            else "the middle of the found interval"
            if apex.midpoints == apex.n
            else f"the column apex, {apex.midpoints} times the middle of the found interval"
        )
        notes.append(f"apex: of {apex.n} TPs, by {how}")
        if apex.n_ms < apex.n:
            notes.append(f"apex: frame rate known for {apex.n_ms} of {apex.n} TPs (column fps)")
    else:
        notes.append("apex: no TP whose truth has one")
    if duration is None:
        notes.append("micro and macro: need a column type or fps")
    elif duration.unknown:
        notes.append(f"micro and macro: {duration.unknown} events have neither type nor fps and are left out")
    for side, rows in (("truths", one.truth), ("predictions", one.pred)):
        other = Counter(row.interval.emotion for row in rows)
        for emotion in ("", *ANALYSIS_EMOTIONS, "others", "other", "neutral"):
            del other[emotion]
        if other:
            notes.append(
                f"emotions: {other.total()} of {len(rows)} {side} are none of {', '.join(ANALYSIS_EMOTIONS)} or "
                f"others, e.g. '{other.most_common(1)[0][0][:40]}'; the analysis knows no finer ones"
            )
    if subjects < 2:
        notes.append("confidence intervals: need at least 2 subjects")
    return tuple(notes)


def _within(name: str, row: IntervalRow) -> IntervalRow:
    """Return the row with the set's name before its subject, so that pooled sets stay apart."""
    interval = msgspec.structs.replace(row.interval, subject=f"{name}/{row.interval.subject}")
    return msgspec.structs.replace(row, interval=interval)
