"""The files that the challenge wants handed in: written from results, and checked."""

from megc_stream.submission.answer_file import (
    check_answer_file,
    check_answers,
    fill_answers,
    format_answer_file,
    suggested_name,
)
from megc_stream.submission.problems import Problem
from megc_stream.submission.str_file import Collected, StrRow, check_str_file, collect_runs, format_str_file
from megc_stream.submission.videos import KNOWN, VideoList, read_videos

__all__ = [
    "KNOWN",
    "Collected",
    "Problem",
    "StrRow",
    "VideoList",
    "check_answer_file",
    "check_answers",
    "check_str_file",
    "collect_runs",
    "fill_answers",
    "format_answer_file",
    "format_str_file",
    "read_videos",
    "suggested_name",
]
