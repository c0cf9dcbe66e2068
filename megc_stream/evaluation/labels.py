"""Labels of the challenge, and how they are read out of an answer in words.

An answer names a class if, in lower case and without punctuation around it, it is that label; else by the words
"coarse expression class is X" or "fine-grained expression class is X"; else by the first label that occurs in it as a
word. An answer that names none is wrong for every class.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from megc_stream.vocabulary import ACTION_UNIT_NAMES, COARSE_OF_EMOTION
from megc_stream.vqa.questions import COARSE, EVENT_TYPES, FINE, fine_labels, normalised

__all__ = [
    "COARSE",
    "COARSE_OF",
    "EVENT_TYPES",
    "FINE",
    "fine_labels",
    "parse_coarse",
    "parse_count",
    "parse_event_type",
    "parse_fine",
    "parse_units",
]

COARSE_OF: dict[str, str] = {**COARSE_OF_EMOTION, "neutral": "neutral"}
"""The challenge's mapping of emotions to its three classes; "others" and "neutral" are none of them."""

_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NO_UNITS = ("", "none", "no", "no action unit", "no action units", "nothing")


def parse_coarse(answer: str) -> str:
    """Return the coarse class that an answer names by the rules of this module; "" for none."""
    return _parse(answer, COARSE, "coarse expression class is")


def parse_fine(answer: str) -> str:
    """Return the fine-grained class that an answer names by the rules of this module; "" for none."""
    return _parse(answer, fine_labels(""), "fine-grained expression class is")


def parse_event_type(answer: str) -> str:
    """Return "micro-expression" or "macro-expression" by the first "micro" or "macro" of an answer; "" for none."""
    match = re.search(r"\b(micro|macro)", normalised(answer))
    return f"{match[1]}-expression" if match else ""


def parse_count(answer: str) -> int | None:
    """Return the first whole number of an answer, in up to 6 digits or as a word up to twenty; None for none."""
    for word in re.findall(r"[0-9]+|[a-z]+", answer.casefold()):
        if word.isdigit():
            return int(word) if len(word) <= 6 else None
        if word in _NUMBER_WORDS:
            return _NUMBER_WORDS.index(word)
    return None


def parse_units(answer: str) -> frozenset[str]:
    """Return the action units that an answer lists.

    Names are separated by commas, semicolons, line ends or "and"; words up to a colon are an introduction; "AU4" and
    "4" stand for the name of that number, a name after a number for itself. Unknown names are kept: they are wrong.
    """
    listed = answer.rpartition(":")[2]
    units = set()
    for part in re.split(r"[,;\n]|\band\b", listed):
        name = normalised(part)
        numbered = re.fullmatch(r"(?:au *)?([0-9]{1,2})(?:[ (]+([a-z ]+)\)?)?", name)
        if numbered:
            name = numbered[2] or ACTION_UNIT_NAMES.get(int(numbered[1]), name)
        name = normalised(name.replace("-", " "))
        if name not in _NO_UNITS:
            units.add(name)
    return frozenset(units)


def _parse(answer: str, labels: Collection[str], phrase: str) -> str:
    text = normalised(answer)
    if text in labels:
        return text
    names = "|".join(labels)
    match = re.search(rf"\b{phrase} ({names})\b", text) or re.search(rf"\b({names})\b", text)
    return match[1] if match else ""
