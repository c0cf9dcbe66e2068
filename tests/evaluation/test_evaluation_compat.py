from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from megc_stream.evaluation import Interval, score_intervals


def _at(onset: int, offset: int, emotion: str = "negative", video: str = "v0", subject: str = "s0") -> Interval:
    return Interval(subject, video, onset, offset, emotion)


def test_all_published_cases_are_reproduced(shared: Path) -> None:
    cases = json.loads((shared / "golden/pipeline/strs.json").read_text())
    assert len(cases) == 40
    for case in cases:
        pred, truth = ([Interval(*row) for row in case[side]] for side in ("prediction", "ground_truth"))
        score = msgspec.to_builtins(score_intervals(pred, truth, "compat"))
        assert list(score) == list(case["result"])
        for name, value in case["result"].items():
            assert score[name] == (None if value is None else pytest.approx(value, abs=1e-12)), name


def test_quirk_1_one_prediction_finds_several_truths() -> None:
    pred, truth = [_at(0, 9)], [_at(0, 4), _at(5, 9)]
    published, corrected = (score_intervals(pred, truth, mode) for mode in ("compat", "corrected"))
    assert (published.tp_spotting, published.fp_spotting, published.fn_spotting) == (2, 0, 0)
    assert (corrected.tp_spotting, corrected.fp_spotting, corrected.fn_spotting) == (1, 0, 1)


def test_quirk_2_videos_without_truth_and_subjects_without_prediction_are_passed_over() -> None:
    pred = [_at(0, 9), _at(0, 9, video="v1")]
    truth = [_at(0, 9), _at(50, 59, video="v2"), _at(0, 9, subject="s1")]
    published, corrected = (score_intervals(pred, truth, mode) for mode in ("compat", "corrected"))
    # A video of a subject with predictions counts, although the video itself has none.
    assert (published.tp_spotting, published.fp_spotting, published.fn_spotting) == (1, 0, 1)
    assert (corrected.tp_spotting, corrected.fp_spotting, corrected.fn_spotting) == (1, 1, 2)


def test_quirk_3_uar_is_the_mean_precision() -> None:
    emotions = ("negative", "negative", "positive", "surprise")
    truth = [_at(20 * n, 20 * n + 9, emotion) for n, emotion in enumerate(emotions)]
    pred = [_at(20 * n, 20 * n + 9, emotion) for n, emotion in enumerate(("negative", "positive", *emotions[2:]))]
    published, corrected = (score_intervals(pred, truth, mode) for mode in ("compat", "corrected"))
    assert published.uar_analysis == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert corrected.uar_analysis == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert published.uf1_analysis == corrected.uf1_analysis == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_quirk_4_absent_classes_are_averaged() -> None:
    both = [_at(0, 9, "negative"), _at(20, 29, "surprise")]
    assert score_intervals(both, both, "compat").f1_analysis == pytest.approx(2 / 3)
    assert score_intervals(both, both, "corrected").strs == 1.0


def test_quirk_5_a_single_class_all_right_is_undefined() -> None:
    both = [_at(0, 9), _at(20, 29)]
    published = score_intervals(both, both, "compat")
    assert (published.strs, published.f1_analysis, published.uf1_analysis) == (None, None, 0.0)
    assert published.tp_analysis == 2
    assert score_intervals(both, both, "corrected").strs == 1.0


@pytest.mark.parametrize("pred", [[], [_at(50, 59)]])
def test_quirk_6_without_a_true_positive_the_score_is_undefined(pred: list[Interval]) -> None:
    assert score_intervals(pred, [_at(0, 9)], "compat").strs is None
    corrected = score_intervals(pred, [_at(0, 9)], "corrected")
    assert (corrected.strs, corrected.uar_analysis) == (0.0, None)
    assert corrected.precision_spotting == (0.0 if pred else None)


def test_quirk_7_false_negatives_of_the_analysis_repeat_the_false_positives() -> None:
    truth = [_at(0, 9), _at(20, 29), _at(40, 49, "others")]
    pred = [_at(0, 9), _at(20, 29, "others"), _at(40, 49, "positive")]
    published, corrected = (score_intervals(pred, truth, mode) for mode in ("compat", "corrected"))
    assert (published.tp_analysis, published.fp_analysis, published.fn_analysis) == (1, 0, 0)
    assert (corrected.tp_analysis, corrected.fp_analysis, corrected.fn_analysis) == (1, 0, 1)


def test_predictions_are_matched_in_the_order_of_rows() -> None:
    early, late = _at(0, 9, "positive"), _at(2, 11)
    for pred, right in (([early, late], 0), ([late, early], 1)):
        score = score_intervals(pred, [_at(2, 12)], "compat")
        assert (score.tp_spotting, score.fp_spotting, score.tp_analysis) == (1, 1, right)
