"""What a question of the challenge's VQA and LVQA files asks for, told by its wording."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from megc_stream.vocabulary import ACTION_UNIT_NAMES

__all__ = [
    "COARSE",
    "COUNT_KINDS",
    "EVENT_TYPES",
    "FINE",
    "LVQA_KINDS",
    "VQA_KINDS",
    "Question",
    "QuestionKind",
    "fine_labels",
    "kind_of",
    "normalised",
    "parse_question",
    "worded_for",
]

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

COARSE = ("negative", "positive", "surprise")

FINE: dict[str, tuple[str, ...]] = {
    "samm": ("anger", "happiness", "surprise", "contempt", "disgust", "fear", "sadness"),
    "casme2": ("disgust", "happiness", "repression", "surprise"),
    "casme3": ("happiness", "surprise", "fear", "disgust", "anger", "sadness"),
}
"""Fine-grained classes by data set, as the question files use them."""

EVENT_TYPES = ("micro-expression", "macro-expression")

_OTHER_NUMBER: dict[QuestionKind, str] = {
    "units_one": "What are the action units?",
    "units_several": "What is the action unit?",
    "combined_one": (
        "What are the action units present, and based on them, what is the fine-grained expression and the coarse "
        "expression class?"
    ),
    "combined_several": (
        "What is the action unit present, and based on it, what is the fine-grained expression and the coarse "
        "expression class?"
    ),
}

_PATTERNS: tuple[tuple[QuestionKind, str], ...] = (
    ("coarse", r"what is the coarse expression class"),
    ("fine", r"what is the fine-grained expression class"),
    ("units_one", r"what is the action unit"),
    ("units_several", r"what are the action units"),
    ("unit_shown", r"is the action unit (?P<unit>.+) shown on the face"),
    ("unit_side", r"is the action unit (?P<unit>.+) located on the left or right face"),
    ("combined_one", r"what is the action unit present, and based on it, .*"),
    ("combined_several", r"what are the action units present, and based on them, .*"),
    ("analysis", r"(?:please )?(?:analy[sz]e|provide a \w+ analysis of) the (?:facial )?micro-expression .*"),
    ("count_all", r"how many expression events appear in this video"),
    ("count_micro", r"how many micro-expression events appear in this video"),
    ("count_macro", r"how many macro-expression events appear in this video"),
    ("unit_set", r"what distinct action units appear in this video"),
    ("event_type", r"what is the expression type of the (?P<ordinal>.+) expression event in this video"),
)

_NUMBERS = {name: number for number, name in ACTION_UNIT_NAMES.items()}
_ONES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_TEENS = (
    *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth"),
    *("sixteenth", "seventeenth", "eighteenth", "nineteenth"),
)
_TENS = ("twent", "thirt", "fort", "fift", "sixt", "sevent", "eight", "ninet")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question taken apart.

    ``unit`` is the FACS number of the action unit that it names, None where it names none or one that is not in
    :data:`megc_stream.vocabulary.ACTION_UNIT_NAMES`; ``unit_text`` is its name as written. ``ordinal`` counts events
    from 1, None where none is asked for or the number cannot be read. ``several`` is True for wordings in the plural,
    False in the singular, None where the wording says nothing about how many action units there are.
    """

    text: str
    kind: QuestionKind
    unit: int | None = None
    unit_text: str = ""
    ordinal: int | None = None
    several: bool | None = None


def normalised(text: str) -> str:
    """Return the text in lower case, with single blanks, without blanks, quotes, and dots and such at its ends."""
    return re.sub(r"\s+", " ", text).strip(" \"'`.,;:!?*").casefold()


def kind_of(question: str) -> QuestionKind:
    """Return what a question asks for; "other" for wordings that the challenge does not use."""
    return _matched(question)[0]


def parse_question(question: str) -> Question:
    """Return what a question asks for, and about what."""
    kind, match = _matched(question)
    named = match.groupdict() if match else {}
    unit_text = named.get("unit") or ""
    return Question(
        text=question,
        kind=kind,
        unit=_unit_number(unit_text),
        unit_text=unit_text,
        ordinal=_ordinal(named.get("ordinal") or ""),
        several={"units_one": False, "combined_one": False, "units_several": True, "combined_several": True}.get(kind),
    )


def worded_for(question: str, units: int) -> str:
    """Return a question about action units in the singular for one or none, in the plural for several; others as is.

    The challenge words its questions by the number of annotated units; where nobody has annotated anything, the number
    of units seen stands in.
    """
    asked = parse_question(question)
    if asked.several is None or asked.several == (units > 1):
        return question
    return _OTHER_NUMBER[asked.kind]


def fine_labels(dataset: str) -> tuple[str, ...]:
    """Return the fine-grained classes of a data set ("samm", "casme3_test", ...); all of them where it is unknown."""
    name = dataset.casefold()
    if name.startswith("samm"):
        return FINE["samm"]
    if name.startswith("casme2"):
        return FINE["casme2"]
    if name.startswith("cas"):
        return FINE["casme3"]
    return tuple(sorted({label for labels in FINE.values() for label in labels}))


def _matched(question: str) -> tuple[QuestionKind, re.Match[str] | None]:
    text = normalised(question)
    for kind, pattern in _PATTERNS:
        if match := re.fullmatch(pattern, text):
            return kind, match
    return "other", None


def _unit_number(name: str) -> int | None:
    """Return the number of a unit named "lip corner puller", "AU12", "12" or "AU12 (lip corner puller)"."""
    text = normalised(name.replace("-", " "))
    numbered = re.match(r"(?:au *)?([0-9]{1,2})\b", text)
    number = int(numbered[1]) if numbered else _NUMBERS.get(text)
    return number if number in ACTION_UNIT_NAMES else None


def _ordinal(text: str) -> int | None:
    """Return 21 for "21st", "21" and "twenty-first"; up to 99 in words."""
    if digits := re.fullmatch(r"([0-9]{1,6})(?:st|nd|rd|th)?", text):
        return int(digits[1]) or None
    if text in _ONES:
        return _ONES.index(text) + 1
    if text in _TEENS:
        return _TEENS.index(text) + 10
    for place, stem in enumerate(_TENS, start=2):
        if text == f"{stem}ieth":
            return 10 * place
        if (rest := text.removeprefix(f"{stem}y").lstrip(" -")) in _ONES and text != rest:
            return 10 * place + _ONES.index(rest) + 1
    return None
