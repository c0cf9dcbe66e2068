"""Scores of found events against annotations."""

from megc_stream.evaluation.strs import (
    ANALYSIS_EMOTIONS,
    Comparison,
    Interval,
    Match,
    SpottingScore,
    StrsResult,
    compare_with_truth,
    evaluate_strs,
    length_ceiling,
    read_intervals,
    spotting_score,
)

__all__ = [
    "ANALYSIS_EMOTIONS",
    "Comparison",
    "Interval",
    "Match",
    "SpottingScore",
    "StrsResult",
    "compare_with_truth",
    "evaluate_strs",
    "length_ceiling",
    "read_intervals",
    "spotting_score",
]
