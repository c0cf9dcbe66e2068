"""The form of an answer: a JSON schema for the server to hold a model to, the way to the challenge's words and back.

A model answers class, unit, count and type questions with a small JSON object, whose strings are of fixed lists;
:func:`plain_answer` makes the challenge's exact answer of it, :func:`structured_answer` the object of a true answer, to
train on. The coarse class beside a fine-grained one is derived, not asked for, so that the two agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from megc_stream.errors import DataError
from megc_stream.vocabulary import ACTION_UNIT_NAMES, COARSE_OF_EMOTION
from megc_stream.vqa.questions import COARSE, EVENT_TYPES, QuestionKind

__all__ = ["answer_schema", "plain_answer", "structured_answer"]

_UNITS = tuple(ACTION_UNIT_NAMES.values())
_MOST_UNITS = 10
_MOST_EVENTS = 999
_COMBINED = re.compile(
    r"The action (?:unit present is|units present are): (.+)\. Therefore, the fine-grained expression class is (.+), "
    r"and the coarse expression class is .+\."
)
_SHOWN = 80

# The fields of the object by kind of question; all of them are required, and there are no others.
_FIELDS: dict[QuestionKind, tuple[str, ...]] = {
    "coarse": ("coarse",),
    "fine": ("fine",),
    "units_one": ("action_unit",),
    "units_several": ("action_units",),
    "unit_shown": ("shown",),
    "unit_side": ("side",),
    "combined_one": ("action_unit", "fine"),
    "combined_several": ("action_units", "fine"),
    "count_all": ("count",),
    "count_micro": ("count",),
    "count_macro": ("count",),
    "unit_set": ("action_units",),
    "event_type": ("type",),
}


def answer_schema(kind: QuestionKind, fine: Sequence[str]) -> dict[str, Any] | None:
    """Return the JSON schema of the answer to a kind of question; None where it is free text.

    Parameters
    ----------
    kind
        From :func:`megc_stream.vqa.questions.kind_of`.
    fine
        The fine-grained classes that may be answered.
    """
    fields = _FIELDS.get(kind)
    if fields is None:
        return None
    return {
        "type": "object",
        "properties": {field: _property(field, kind, fine) for field in fields},
        "required": list(fields),
        "additionalProperties": False,
    }


def plain_answer(kind: QuestionKind, text: str, fine: Sequence[str]) -> str:
    """Return the challenge's answer of what a model wrote; free text is only put on one line.

    Units are listed in the order of their FACS numbers, each once.

    Raises
    ------
    DataError
        The text is not the JSON object of :func:`answer_schema`; says what is wrong.
    """
    fields = _FIELDS.get(kind)
    if fields is None:
        answer = " ".join(text.split())
        if not answer:
            raise DataError("answer: got no text; expected a sentence")
        return answer
    values = _object(text, fields)
    for field in fields:
        _check(field, values[field], kind, fine)
    if "count" in values:
        return str(values["count"])
    units = _listed(values)
    if kind in ("combined_one", "combined_several"):
        verb = "unit present is" if kind == "combined_one" else "units present are"
        return (
            f"The action {verb}: {units}. Therefore, the fine-grained expression class is {values['fine']}, "
            f"and the coarse expression class is {COARSE_OF_EMOTION[values['fine']]}."
        )
    return units or ("none" if kind == "unit_set" else str(values[fields[0]]))


def structured_answer(kind: QuestionKind, answer: str, fine: Sequence[str]) -> str:
    """Return the JSON object that stands for the challenge's answer; free text as it is.

    Raises
    ------
    DataError
        The answer is not of the kind's form, or names what is in no list.
    """
    fields = _FIELDS.get(kind)
    if fields is None:
        return answer
    values: dict[str, Any] = {}
    if kind in ("combined_one", "combined_several"):
        match = _COMBINED.fullmatch(answer)
        if match is None:
            raise DataError(
                f"answer '{answer[:_SHOWN]}': expected 'The action unit present is: A. Therefore, the fine-grained "
                "expression class is F, and the coarse expression class is C.'"
            )
        units, values["fine"] = match[1], match[2]
    else:
        units = answer
    if "action_unit" in fields:
        values["action_unit"] = units
    elif "action_units" in fields:
        values["action_units"] = [] if units in ("", "none") else [name.strip() for name in units.split(",")]
    elif "count" in fields:
        values["count"] = int(answer) if re.fullmatch("[0-9]{1,3}", answer) else answer
    else:
        values[fields[0]] = answer
    for field in fields:
        _check(field, values[field], kind, fine)
    return json.dumps({field: values[field] for field in fields}, separators=(",", ":"))


def _property(field: str, kind: QuestionKind, fine: Sequence[str]) -> dict[str, Any]:
    if field == "count":
        return {"type": "integer", "minimum": 0, "maximum": _MOST_EVENTS}
    choices = {"type": "string", "enum": list(_choices(field, fine))}
    if field != "action_units":
        return choices
    least, most = _sizes(kind)
    return {"type": "array", "items": choices, "minItems": least, "maxItems": most}


def _choices(field: str, fine: Sequence[str]) -> Sequence[str]:
    return {
        "coarse": COARSE,
        "fine": tuple(fine),
        "action_unit": _UNITS,
        "action_units": _UNITS,
        "shown": ("yes", "no"),
        "side": ("left", "right"),
        "type": EVENT_TYPES,
    }[field]


def _sizes(kind: QuestionKind) -> tuple[int, int]:
    return (0, len(_UNITS)) if kind == "unit_set" else (2, _MOST_UNITS)


def _object(text: str, fields: Sequence[str]) -> dict[str, Any]:
    # Servers that do not enforce the schema let a model put the object into a block of code.
    inner = text[text.find("{") : text.rfind("}") + 1]
    try:
        values = msgspec.json.decode(inner)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"answer '{_short(text)}': not a JSON object ({error})") from error
    if not isinstance(values, dict) or set(values) != set(fields):
        raise DataError(f"answer '{_short(text)}': expected an object with {' and '.join(fields)} and nothing else")
    return values


def _check(field: str, value: Any, kind: QuestionKind, fine: Sequence[str]) -> None:
    if field == "count":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_EVENTS:
            raise DataError(f"answer, count: got {_short(value)}; expected a whole number from 0 to {_MOST_EVENTS}")
        return
    choices = _choices(field, fine)
    if field != "action_units":
        if value not in choices:
            raise DataError(f"answer, {field}: got '{_short(value)}'; expected one of {', '.join(choices)}")
        return
    least, most = _sizes(kind)
    # A schema cannot ask for different names, and each is listed once.
    if not isinstance(value, list) or not least <= len(set(map(str, value))) <= most:
        raise DataError(
            f"answer, action_units: got {_short(value)}; expected a list of {least} to {most} different names"
        )
    for name in value:
        if name not in choices:
            raise DataError(f"answer, action_units: got '{_short(name)}'; expected names out of {', '.join(choices)}")


def _listed(values: dict[str, Any]) -> str:
    named = values.get("action_units") or [values.get("action_unit")]
    return ", ".join(name for name in _UNITS if name in named)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
