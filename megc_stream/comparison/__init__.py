"""Tables that compare spotters and models over data sets, with published results beside them."""

from megc_stream.comparison.corpus import Corpus, Expressions, read_corpus
from megc_stream.comparison.detections import Detections, merge_detections, read_detections
from megc_stream.comparison.markdown import format_markdown
from megc_stream.comparison.published import (
    PublishedResult,
    published_beside,
    published_results,
    published_sources,
    why_not_comparable,
)
from megc_stream.comparison.table import Contender, ModelFacts, Row, Table, build_table, format_json

__all__ = [
    "Contender",
    "Corpus",
    "Detections",
    "Expressions",
    "ModelFacts",
    "PublishedResult",
    "Row",
    "Table",
    "build_table",
    "format_json",
    "format_markdown",
    "merge_detections",
    "published_beside",
    "published_results",
    "published_sources",
    "read_corpus",
    "read_detections",
    "why_not_comparable",
]
