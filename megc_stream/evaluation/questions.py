"""What a question of the challenge's VQA and LVQA files asks for, told by its wording."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["COUNT_KINDS", "LVQA_KINDS", "VQA_KINDS", "QuestionKind", "kind_of", "normalised"]

QuestionKind = Literal[
    "coarse",
    "fine",
    "units_one",
    "units_several",
    "unit_shown",
    "unit_side",
    "combined_one",
    "combined_several",
    "analysis",
    "count_all",
    "count_micro",
    "count_macro",
    "unit_set",
    "event_type",
    "other",
]

COUNT_KINDS: tuple[QuestionKind, ...] = ("count_all", "count_micro", "count_macro")
LVQA_KINDS: tuple[QuestionKind, ...] = (*COUNT_KINDS, "unit_set", "event_type")
VQA_KINDS: tuple[QuestionKind, ...] = (
    *("coarse", "fine", "units_one", "units_several", "unit_shown", "unit_side"),
    *("combined_one", "combined_several", "analysis"),
)

_PATTERNS: tuple[tuple[QuestionKind, str], ...] = (
    ("coarse", r"what is the coarse expression class"),
    ("fine", r"what is the fine-grained expression class"),
    ("units_one", r"what is the action unit"),
    ("units_several", r"what are the action units"),
    ("unit_shown", r"is the action unit .+ shown on the face"),
    ("unit_side", r"is the action unit .+ located on the left or right face"),
    ("combined_one", r"what is the action unit present, and based on it, .*"),
    ("combined_several", r"what are the action units present, and based on them, .*"),
    ("analysis", r"(?:please )?(?:analy[sz]e|provide a \w+ analysis of) the (?:facial )?micro-expression .*"),
    ("count_all", r"how many expression events appear in this video"),
    ("count_micro", r"how many micro-expression events appear in this video"),
    ("count_macro", r"how many macro-expression events appear in this video"),
    ("unit_set", r"what distinct action units appear in this video"),
    ("event_type", r"what is the expression type of the .+ expression event in this video"),
)


def normalised(text: str) -> str:
    """Return the text in lower case, with single blanks, without blanks, quotes, and dots and such at its ends."""
    return re.sub(r"\s+", " ", text).strip(" \"'`.,;:!?*").casefold()


def kind_of(question: str) -> QuestionKind:
    """Return what a question asks for; "other" for wordings that the challenge does not use."""
    text = normalised(question)
    for kind, pattern in _PATTERNS:
        if re.fullmatch(pattern, text):
            return kind
    return "other"
