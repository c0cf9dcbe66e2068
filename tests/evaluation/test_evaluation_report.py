from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megc_stream.errors import DataError
from megc_stream.evaluation import Interval, IntervalRow, IntervalSet, evaluate_str, evaluate_strs
from megc_stream.evaluation.bootstrap import bootstrap
from megc_stream.evaluation.counts import corrected_scores, published_scores
from megc_stream.evaluation.detection import AP_IOUS, apex_error, average_precision, split_by_duration


def _row(onset: int, offset: int, emotion: str = "negative", subject: str = "s0", **more: object) -> IntervalRow:
    return IntervalRow(interval=Interval(subject, "v0", onset, offset, emotion), row=2, **more)  # type: ignore[arg-type]


@st.composite
def _rows(draw: st.DrawFn, most: int = 8) -> list[IntervalRow]:
    rows = []
    for _ in range(draw(st.integers(1, most))):
        onset = draw(st.integers(0, 60))
        rows.append(
            _row(
                onset,
                onset + draw(st.integers(0, 30)),
                draw(st.sampled_from(["negative", "positive", "surprise", "others"])),
                draw(st.sampled_from(["s0", "s1"])),
                score=draw(st.sampled_from([0.1, 0.5, 0.9])),
            )
        )
    return rows


def _set(pred: list[IntervalRow], truth: list[IntervalRow], name: str = "all") -> IntervalSet:
    return IntervalSet(name=name, pred=pred, truth=truth)


# --- pooling and differences -----------------------------------------------------------------------------------------


def test_sets_are_pooled_by_their_counts_and_kept_apart() -> None:
    # The same subject and video in both sets: pooled, they must not be mistaken for one another.
    samm = _set([_row(0, 9)], [_row(0, 9), _row(50, 59, "surprise")], "samm")
    cas = _set([_row(50, 59, "surprise"), _row(0, 9)], [_row(50, 59, "surprise")], "cas")
    pooled, by_set = evaluate_str([samm, cas])
    assert list(by_set) == ["samm", "cas"]
    assert (pooled.score.tp_spotting, pooled.score.fp_spotting, pooled.score.fn_spotting) == (2, 1, 1)
    assert pooled.score.f1_analysis == 1.0
    assert [row.subject for row in pooled.per_subject] == ["cas/s0", "samm/s0"]
    assert [row.subject for row in by_set["cas"].per_subject] == ["s0"]
    only, _ = evaluate_str([samm])
    assert only.score == by_set["samm"].score


def test_the_report_says_where_the_rules_differ() -> None:
    truth = [_row(0, 4), _row(5, 9), _row(40, 49, subject="s1")]
    report, _ = evaluate_str([_set([_row(0, 9)], truth)])
    assert report.differences["TP spotting"].difference == -1
    assert report.differences["FN spotting"].published == 0
    text = " ".join(report.reasons)
    for said in ("several truths: 1 more TP", "subjects without predictions: 1 FN", "one class", "positive, surprise"):
        assert said in text


def test_where_the_rules_agree_nothing_is_said() -> None:
    rows = [_row(20 * n, 20 * n + 9, emotion) for n, emotion in enumerate(("negative", "positive", "surprise"))]
    report, _ = evaluate_str([_set(rows, rows)])
    assert (report.differences, report.reasons) == ({}, ())


def test_names_that_differ_in_leading_zeros_are_the_same() -> None:
    pred = [msgspec.structs.replace(_row(0, 9), interval=Interval("17", "v0", 0, 9, "negative"))]
    truth = [msgspec.structs.replace(_row(0, 9), interval=Interval("017", "v0", 0, 9, "negative"))]
    assert evaluate_str([_set(pred, truth)])[0].score.tp_spotting == 1


def test_sets_without_a_common_video_are_named() -> None:
    with pytest.raises(DataError, match=r"cas: predictions and truth share no \(subject, video\)"):
        evaluate_str([_set([_row(0, 9)], [_row(0, 9)], "samm"), _set([_row(0, 9, subject="x")], [_row(0, 9)], "cas")])


def test_classes_and_subjects_add_up() -> None:
    truth = [_row(0, 9), _row(20, 29, "positive"), _row(40, 49, "surprise", "s1"), _row(60, 69, "others", "s1")]
    pred = [_row(0, 9), _row(20, 29, "negative"), _row(60, 69, "negative", "s1")]
    report, _ = evaluate_str([_set(pred, truth)])
    negative, positive, surprise = report.per_class
    assert (negative.truths, negative.found, negative.named, negative.precision, negative.recall) == (1, 1, 2, 0.5, 1.0)
    assert (positive.precision, positive.recall, positive.f1) == (None, 0.0, 0.0)
    assert (surprise.truths, surprise.found, surprise.f1) == (1, 0, None)
    first, second = report.per_subject
    assert (first.tp, first.fp, first.fn, first.analysed, first.right) == (2, 0, 0, 2, 1)
    assert (second.tp, second.fn, second.analysed, second.strs) == (1, 1, 0, 0.0)


@settings(max_examples=50, deadline=None)
@given(_rows(), _rows())
def test_reports_are_finite_and_agree_with_the_library(pred: list[IntervalRow], truth: list[IntervalRow]) -> None:
    truth = [*truth, msgspec.structs.replace(pred[0], interval=msgspec.structs.replace(pred[0].interval))]
    for mode in ("corrected", "compat"):
        report, _ = evaluate_str([_set(pred, truth)], mode=mode, resamples=20)  # type: ignore[arg-type]
        for value in msgspec.to_builtins(report.score).values():
            assert value is None or math.isfinite(value)
        score = report.score
        assert sum(row.tp for row in report.per_subject) == score.tp_spotting
        assert sum(row.fp for row in report.per_subject) == score.fp_spotting
    result = evaluate_strs([row.interval for row in pred], [row.interval for row in truth])
    corrected, _ = evaluate_str([_set(pred, truth)], resamples=0)
    assert corrected.score.strs == result.strs
    assert corrected.score.uf1_analysis == result.uf1


# --- UF1 and UAR -----------------------------------------------------------------------------------------------------


def test_uf1_and_uar_are_those_of_the_challenge() -> None:
    # True rows: negative 2 of 3 right, positive 0 of 1, surprise absent.
    confusion = np.array([[2, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    scores = corrected_scores([4, 0, 0], confusion)
    assert scores["UF1 analysis"] == pytest.approx((4 / 6 + 0) / 2)
    assert scores["UAR analysis"] == pytest.approx((2 / 3 + 0) / 2)
    published = published_scores([4, 0, 0], confusion)
    assert published["UAR analysis"] == pytest.approx((2 / 3 + 0 + 0) / 3)


# --- bootstrap -------------------------------------------------------------------------------------------------------


def test_intervals_agree_with_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(3)
    spotting, confusion = rng.integers(0, 6, (12, 3)), rng.integers(0, 4, (12, 3, 4))
    found = bootstrap(spotting, confusion, corrected_scores, 1500, 1)
    plain = []
    for _ in range(1500):
        drawn = rng.integers(0, 12, 12)
        plain.append(corrected_scores(spotting[drawn].sum(0), confusion[drawn].sum(0))["STRS"])
    assert found.intervals["STRS"] == pytest.approx(np.percentile(plain, [2.5, 97.5]), abs=0.03)
    assert found.intervals["STRS"] == bootstrap(spotting, confusion, corrected_scores, 1500, 1).intervals["STRS"]
    assert found.intervals["STRS"] != bootstrap(spotting, confusion, corrected_scores, 1500, 2).intervals["STRS"]


def test_a_single_subject_has_no_interval() -> None:
    report, _ = evaluate_str([_set([_row(0, 9)], [_row(0, 9)])])
    assert set(report.confidence.intervals.values()) == {None}
    assert any("at least 2 subjects" in note for note in report.notes)


def test_undefined_resamples_are_counted() -> None:
    rows = [_row(0, 9, subject=f"s{n}") for n in range(4)]
    report, _ = evaluate_str([_set(rows, rows)], mode="compat")
    assert report.confidence.undefined["STRS"] == 1.0
    assert report.confidence.intervals["STRS"] is None
    assert report.confidence.intervals["F1-score spotting"] == (1.0, 1.0)


# --- average precision -----------------------------------------------------------------------------------------------


def _plain_ap(pred: list[IntervalRow], truth: list[IntervalRow], iou: float) -> float:
    """Average precision of predictions with different confidences, as textbooks have it."""
    taken: set[int] = set()
    hits = []
    for row in sorted(pred, key=lambda row: -(row.score or 0)):
        best, which = 0.0, -1
        for j, true in enumerate(truth):
            a, b = row.interval, true.interval
            if (a.subject, a.video) != (b.subject, b.video) or j in taken:
                continue
            frames = [set(range(x.onset, x.offset + 1)) for x in (a, b)]
            overlap = len(frames[0] & frames[1]) / len(frames[0] | frames[1])
            if overlap > best:
                best, which = overlap, j
        hit = best >= iou - 1e-12
        hits.append(hit)
        if hit:
            taken.add(which)
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return sum(max(precision[n:]) for n, hit in enumerate(hits) if hit) / len(truth)


@settings(max_examples=100, deadline=None)
@given(_rows(), _rows())
def test_average_precision_agrees_with_a_plain_one(pred: list[IntervalRow], truth: list[IntervalRow]) -> None:
    pred = [msgspec.structs.replace(row, score=1 - n / 100) for n, row in enumerate(pred)]
    # Truths at equal IoU are a free choice: keep one truth a video and frame range.
    truth = [row for n, row in enumerate(truth) if all(row.interval.onset > o.interval.offset for o in truth[:n])][:2]
    if not truth:
        return
    found = average_precision(pred, truth)
    for iou in AP_IOUS:
        assert found.by_iou[f"{float(iou):g}"] == pytest.approx(_plain_ap(pred, truth, float(iou)))


@settings(max_examples=50, deadline=None)
@given(_rows(), _rows(), st.randoms())
def test_average_precision_does_not_depend_on_the_order_of_rows(
    pred: list[IntervalRow], truth: list[IntervalRow], random: object
) -> None:
    before = average_precision(pred, truth)
    random.shuffle(pred)  # type: ignore[attr-defined]
    random.shuffle(truth)  # type: ignore[attr-defined]
    assert average_precision(pred, truth) == before


def test_average_precision_without_confidences_is_precision_times_recall() -> None:
    found = average_precision([_row(0, 9), _row(100, 109)], [_row(0, 9), _row(20, 29), _row(40, 49)])
    assert found.by_iou["0.5"] == pytest.approx(1 / 2 * 1 / 3)
    assert not found.ranked
    assert average_precision([_row(0, 9)], []).mean is None
    assert average_precision([], [_row(0, 9)]).mean == 0.0


# --- apex and duration -----------------------------------------------------------------------------------------------


def test_apex_error_by_column_or_midpoint() -> None:
    truth = [_row(0, 10, apex=4, fps=100.0), _row(20, 30, apex=26), _row(40, 50)]
    pred = [_row(0, 10, apex=2), _row(20, 31), _row(40, 50, apex=45)]
    found = apex_error(pred, truth)
    assert (found.n, found.n_ms, found.midpoints) == (2, 2, 1)
    assert found.frames == pytest.approx((2 + 0.5) / 2)
    assert found.ms == pytest.approx((20 + 5) / 2)
    assert apex_error(pred, [_row(0, 10)]).frames is None


def test_expressions_are_split_at_half_a_second() -> None:
    # At 100 fps: 50 frames on are micro, 51 macro.
    truth = [_row(0, 50, fps=100.0), _row(100, 151, fps=100.0), _row(300, 340, fps=100.0)]
    pred = [_row(0, 50), _row(100, 151), _row(500, 600), _row(700, 740)]
    split = split_by_duration(pred, truth)
    assert split is not None
    assert split.by == "duration"
    assert (split.micro.tp, split.micro.fp, split.micro.fn) == (1, 1, 1)
    assert (split.macro.tp, split.macro.fp, split.macro.fn) == (1, 1, 0)
    typed = split_by_duration([_row(0, 50, type="macro")], [_row(0, 50, type="micro")])
    assert typed is not None
    assert (typed.by, typed.micro.tp, typed.macro.fp) == ("type", 1, 0)
    assert split_by_duration([_row(0, 9)], [_row(0, 9)]) is None


def test_emotions_that_the_analysis_does_not_know_are_named() -> None:
    rows = [_row(0, 9, "happiness"), _row(20, 29, "others"), _row(40, 49, "")]
    notes = evaluate_str([_set(rows, rows)])[0].notes
    assert [note.split(" are ")[0] for note in notes if "happiness" in note] == [
        "emotions: 1 of 3 truths",
        "emotions: 1 of 3 predictions",
    ]
    known = [_row(0, 9, "surprise"), _row(20, 29, "others")]
    assert not any("emotions" in note for note in evaluate_str([_set(known, known)])[0].notes)
