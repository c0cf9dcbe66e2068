from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megc_stream.errors import DataError
from megc_stream.evaluation import (
    Interval,
    compare_with_truth,
    evaluate_strs,
    length_ceiling,
    read_intervals,
    spotting_score,
)


def _at(onset: int, offset: int, emotion: str = "negative", video: str = "006_1") -> Interval:
    return Interval("006", video, onset, offset, emotion)


# --- matching --------------------------------------------------------------------------------------------------------


def test_iou_counts_both_borders() -> None:
    # 10..19 are 10 frames, 15..19 are 5 of them: IoU exactly 0.5. With offsets left out it would be 4/9.
    comparison = compare_with_truth([_at(15, 19)], [_at(10, 19)])
    assert [match.iou for match in comparison.found] == [0.5]
    assert compare_with_truth([_at(16, 19)], [_at(10, 19)]).found == ()


def test_a_truth_is_found_once() -> None:
    comparison = compare_with_truth([_at(10, 19), _at(11, 20)], [_at(10, 19)])
    assert [match.found for match in comparison.found] == [_at(10, 19)]
    assert comparison.invented == (_at(11, 20),)


def test_a_prediction_finds_one_truth() -> None:
    # Both truths lie in one prediction with IoU 0.5 each: the published scorer counts two, here it is one.
    comparison = compare_with_truth([_at(0, 9)], [_at(0, 4), _at(5, 9)])
    assert len(comparison.found) == 1
    assert len(comparison.missed) == 1


def test_the_better_iou_wins_whatever_the_order() -> None:
    early, late = _at(0, 9), _at(2, 11)
    for found in ([early, late], [late, early]):
        comparison = compare_with_truth(found, [_at(2, 12)])
        assert [match.found for match in comparison.found] == [late]
        assert comparison.invented == (early,)


def test_videos_are_kept_apart() -> None:
    comparison = compare_with_truth([_at(0, 9, video="006_2")], [_at(0, 9, video="006_1")])
    assert (len(comparison.found), len(comparison.missed), len(comparison.invented)) == (0, 1, 1)


# --- scores ----------------------------------------------------------------------------------------------------------


def test_hand_calculated_score() -> None:
    truth = [
        _at(0, 9, "negative"),
        _at(20, 29, "positive"),
        _at(40, 49, "surprise"),
        _at(60, 69, "negative"),
        _at(80, 89, "others"),
        _at(0, 9, "negative", video="006_3"),
    ]
    pred = [
        _at(0, 9, "negative"),
        _at(20, 29, "negative"),
        _at(40, 49, "surprise"),
        _at(80, 89, "positive"),
        _at(120, 129, "positive"),
        _at(0, 9, "negative", video="006_2"),
    ]
    result = evaluate_strs(pred, truth)
    # TP: 4; FP: 120 and the video without truth; FN: 60 and the video without predictions.
    assert (result.spotting.tp, result.spotting.fp, result.spotting.fn) == (4, 2, 2)
    assert result.spotting.f1 == pytest.approx(2 / 3)
    # Analysed: neg->neg, pos->neg, sur->sur. Precision neg 1/2, pos 0, sur 1; recall neg 1, pos 0, sur 1.
    assert result.analysed == 3
    assert result.precision_analysis == pytest.approx(1 / 2)
    assert result.recall_analysis == pytest.approx(2 / 3)
    assert result.f1_analysis == pytest.approx(4 / 7)
    assert result.strs == pytest.approx(2 / 3 * 4 / 7)


def test_classes_that_do_not_occur_are_not_averaged() -> None:
    intervals = [_at(0, 9, "negative"), _at(20, 29, "surprise")]
    assert evaluate_strs(intervals, intervals).strs == 1.0


def test_a_foreign_emotion_counts_against_recall_only() -> None:
    truth = [_at(0, 9, "negative"), _at(20, 29, "negative")]
    pred = [_at(0, 9, "negative"), _at(20, 29, "others")]
    result = evaluate_strs(pred, truth)
    assert (result.precision_analysis, result.recall_analysis) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("pred", "truth"), [([], []), ([], [_at(0, 9)]), ([_at(0, 9)], []), ([_at(50, 59)], [_at(0, 9)])]
)
def test_without_a_true_positive_the_score_is_zero(pred: list[Interval], truth: list[Interval]) -> None:
    result = evaluate_strs(pred, truth)
    assert (result.strs, result.spotting.f1, result.f1_analysis) == (0.0, 0.0, 0.0)
    assert (result.spotting.fp, result.spotting.fn) == (len(pred), len(truth))


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(DataError, match=r"share no \(subject, video\): got e\.g\. \('006', '006_2'\)"):
        evaluate_strs([_at(0, 9, video="006_2")], [_at(0, 9, video="006_1")])


# --- properties ------------------------------------------------------------------------------------------------------

_EMOTIONS = st.sampled_from(["negative", "positive", "surprise"])


@st.composite
def _intervals(draw: st.DrawFn) -> Interval:
    onset = draw(st.integers(0, 60))
    return _at(onset, onset + draw(st.integers(0, 30)), draw(_EMOTIONS), draw(st.sampled_from(["006_1", "006_2"])))


_LISTS = st.lists(_intervals(), max_size=8)


@given(st.lists(_intervals(), min_size=1, max_size=8))
def test_a_perfect_prediction_scores_one(truth: list[Interval]) -> None:
    assert evaluate_strs(truth, truth).strs == 1.0


@given(_LISTS, _LISTS, st.randoms())
def test_the_order_of_rows_does_not_matter(pred: list[Interval], truth: list[Interval], random: st.DataObject) -> None:
    shuffled = [list(pred), list(truth)]
    for rows in shuffled:
        random.shuffle(rows)  # type: ignore[attr-defined]
    assert compare_with_truth(*shuffled) == compare_with_truth(pred, truth)


@given(_LISTS, _LISTS)
def test_everything_is_counted_once(pred: list[Interval], truth: list[Interval]) -> None:
    score = spotting_score(compare_with_truth(pred, truth))
    assert score.tp + score.fp == len(pred)
    assert score.tp + score.fn == len(truth)
    assert 0 <= score.f1 <= 1


@given(_LISTS, _LISTS, _EMOTIONS)
def test_a_wrong_prediction_never_raises_the_score(pred: list[Interval], truth: list[Interval], emotion: str) -> None:
    # Frames beyond all others: it can match nothing.
    wrong = _at(1000, 1010, emotion)
    before = compare_with_truth(pred, truth)
    after = compare_with_truth([*pred, wrong], truth)
    assert after.found == before.found
    assert spotting_score(after).f1 <= spotting_score(before).f1
    assert spotting_score(after).recall == spotting_score(before).recall


@given(_LISTS, _LISTS)
def test_precision_and_recall_swap_with_the_sides(pred: list[Interval], truth: list[Interval]) -> None:
    one, other = (spotting_score(compare_with_truth(*sides)) for sides in ((pred, truth), (truth, pred)))
    if one.tp == other.tp:  # ties among overlapping truths may be broken otherwise
        assert (one.precision, one.recall, one.f1) == (other.recall, other.precision, other.f1)


# --- fixed length ----------------------------------------------------------------------------------------------------


def test_ceiling_of_intervals_of_fixed_length() -> None:
    # 11 frames reach IoU 0.5 with 6 to 22 frames (5.5 <= n <= 22).
    truth = [_at(0, n - 1) for n in (5, 6, 11, 22, 23)]
    assert length_ceiling(truth, 5) == 3 / 5
    assert length_ceiling([], 5) == 0.0


@given(st.lists(_intervals(), min_size=1, max_size=8), st.integers(1, 20))
def test_no_placement_beats_the_ceiling(truth: list[Interval], half: int) -> None:
    centred = [_at((t.onset + t.offset) // 2 - half, (t.onset + t.offset) // 2 + half, video=t.video) for t in truth]
    assert spotting_score(compare_with_truth(centred, truth)).recall <= length_ceiling(truth, half)


# --- tables ----------------------------------------------------------------------------------------------------------


def test_texts_stay_texts_and_further_columns_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(
        "subject,video,fps,onset,apex,offset,emotion,aus,amplitude_iod\n"
        '006,006_1,200,10,20,30,Negative,"4,7",0.01\n'
        "006,006_1,200,50,60,70,,,0.02\n",
        encoding="utf-8-sig",
    )
    assert read_intervals(path) == [_at(10, 30, "negative"), _at(50, 70, "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"column 'subject' is missing; got an empty file"),
        ("subject,video,onset,offset\n", r"column 'emotion' is missing; got subject, video, onset, offset"),
        ("1,2.5,9,negative", r"row 2, column onset: got '2\.5'; expected a whole frame number"),
        ("1,-2,9,negative", r"row 2, column onset: got '-2'"),
        ("1,5,x,negative", r"row 2, column offset: got 'x'"),
        ("1,5,4,negative", r"row 2, column offset: got 4; expected at least the onset, 5"),
        (",5,9,negative", r"row 2, column video: got an empty cell"),
        ("1,5,9", r"row 2, column emotion: the row ends before this cell"),
        ("1,5,9,negative,more", r"row 2: more cells than columns"),
        ('1,5,9,"nega', r"not a UTF-8 CSV table"),
    ],
)
def test_malformed_tables_are_data_errors(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pred.csv"
    if text and not text.startswith("subject"):
        text = f"subject,video,onset,offset,emotion\n006,{text}"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_intervals(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_other_files_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_intervals(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="not a UTF-8 CSV table"):
        read_intervals(binary)
