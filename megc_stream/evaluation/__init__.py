"""Scores of found events and of given answers against annotations."""

from megc_stream.evaluation.counts import ANALYSIS_EMOTIONS
from megc_stream.evaluation.lvqa import LvqaReport, LvqaScore, evaluate_lvqa
from megc_stream.evaluation.str_report import IntervalSet, StrReport, StrScore, evaluate_str, score_intervals
from megc_stream.evaluation.strs import (
    Comparison,
    Interval,
    Match,
    SpottingScore,
    StrsResult,
    compare_with_truth,
    evaluate_strs,
    length_ceiling,
    match_intervals,
    spotting_score,
)
from megc_stream.evaluation.tables import AnswerRow, IntervalRow, read_answers, read_interval_rows, read_intervals
from megc_stream.evaluation.vqa import VqaReport, VqaScore, evaluate_vqa

__all__ = [
    "ANALYSIS_EMOTIONS",
    "AnswerRow",
    "Comparison",
    "Interval",
    "IntervalRow",
    "IntervalSet",
    "LvqaReport",
    "LvqaScore",
    "Match",
    "SpottingScore",
    "StrReport",
    "StrScore",
    "StrsResult",
    "VqaReport",
    "VqaScore",
    "compare_with_truth",
    "evaluate_lvqa",
    "evaluate_str",
    "evaluate_strs",
    "evaluate_vqa",
    "length_ceiling",
    "match_intervals",
    "read_answers",
    "read_interval_rows",
    "read_intervals",
    "score_intervals",
    "spotting_score",
]
