"""Emotions and action units as the data sets write them."""

from __future__ import annotations

import re
from typing import Literal, cast

from megc_stream.datasets.records import ActionUnit
from megc_stream.vocabulary import COARSE_OF_EMOTION, CoarseClass

__all__ = ["Coarse", "coarse_emotion", "parse_action_units"]

Coarse = Literal[""] | CoarseClass
_Side = Literal["", "L", "R", "T", "B"]

_COARSE: dict[str, Coarse] = {"": "", **COARSE_OF_EMOTION}
_UNIT = re.compile(r"(?:AU)?\s*([LRTB])?\s*(?:AU)?\s*(\d{1,2})\s*([LR]?)[A-EXYZ]?", re.IGNORECASE)
_SEPARATORS = re.compile(r"\bor\b|\band\b|[+,;/&|\s?]+", re.IGNORECASE)
_NOTHING = frozenset({"", "none", "nan", "n/a", "na", "-", "0", "/", "?"})


def coarse_emotion(emotion: str) -> Coarse | None:
    """Return the challenge's class of an emotion, whatever its case; None where the emotion is unknown.

    Positive: happiness. Negative: anger, contempt, disgust, fear, repression, sadness. Surprise. Others.
    Of several emotions ("positive+surprise") the common class is returned, others where they have none.
    """
    classes = {_COARSE.get(part.strip().lower()) for part in re.split(r"[+,/&]", emotion)}
    return classes.pop() if len(classes) == 1 else None if None in classes else "others"


def parse_action_units(text: str) -> tuple[tuple[ActionUnit, ...], str]:
    """Read action units such as "12A+L14B or AU4+7?", "R12 + 45(k)", "4,7".

    Sides are kept; intensity letters, "?" and notes in brackets are not. A unit marked "(k)" goes with a blink and is
    left out. Both sides of an "or" count.

    Returns
    -------
    units
        In the order of the text, each once.
    unread
        The first part that names no action unit; "" where there is none.
    """
    if text.strip().lower() in _NOTHING:
        return (), ""
    text = re.sub(r"(?:AU)?\s*[LRTB]?\s*\d{1,2}\s*[A-E]?\s*\(k\)", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"\([^()]*\)", " ", text).replace("\uff0b", "+")
    # "AU 4" and "L 14" are one unit each.
    text = re.sub(r"\b(AU|[LRTB])\s+(?=[LRTB]?\s*\d)", r"\1", text, flags=re.IGNORECASE)
    units: dict[ActionUnit, None] = {}
    unread = ""
    for part in _SEPARATORS.split(text):
        if not part:
            continue
        match = _UNIT.fullmatch(part)
        if match is None or not int(match[2]):
            unread = unread or part
            continue
        side = cast(_Side, (match[1] or match[3] or "").upper())
        units[ActionUnit(int(match[2]), side)] = None
    return tuple(units), unread
