"""Tables that compare spotters, models and answerers over data sets, with published results beside them."""

from megc_stream.comparison.corpus import Corpus, Expressions, read_corpus
from megc_stream.comparison.detections import Detections, merge_detections, read_detections
from megc_stream.comparison.markdown import format_markdown
from megc_stream.comparison.published import (
    PublishedAnswers,
    PublishedResult,
    published_answers,
    published_beside,
    published_results,
    published_sources,
    why_not_comparable,
)
from megc_stream.comparison.table import Contender, ModelFacts, Row, Table, build_table, format_json
from megc_stream.comparison.vqa_markdown import format_vqa_markdown
from megc_stream.comparison.vqa_table import AnswerSet, VqaTable, build_vqa_table, format_vqa_json

__all__ = [
    "AnswerSet",
    "Contender",
    "Corpus",
    "Detections",
    "Expressions",
    "ModelFacts",
    "PublishedAnswers",
    "PublishedResult",
    "Row",
    "Table",
    "VqaTable",
    "build_table",
    "build_vqa_table",
    "format_json",
    "format_markdown",
    "format_vqa_json",
    "format_vqa_markdown",
    "merge_detections",
    "published_answers",
    "published_beside",
    "published_results",
    "published_sources",
    "read_corpus",
    "read_detections",
    "why_not_comparable",
]
