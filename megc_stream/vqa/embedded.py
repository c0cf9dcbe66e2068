"""Answers without a model server: from action units, the recogniser's classes and the list of events.

The coarse class is the recogniser's; where it has none, or is unsure and the action units clearly speak for another
one, it is theirs. Of the fine-grained classes that belong to the coarse class and that the data set knows, it is the
one for which the seen action units speak most, by :data:`EMOTION_WEIGHTS`. So the two always agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from megc_stream.recognition.action_units import MeasuredUnit
from megc_stream.records import Answer
from megc_stream.vocabulary import ACTION_UNIT_NAMES, COARSE_OF_EMOTION
from megc_stream.vqa.material import Material
from megc_stream.vqa.questions import COARSE, Question, QuestionKind, fine_labels, parse_question

__all__ = ["EMOTION_WEIGHTS", "EmbeddedAnswerer", "Verdict", "verdict_of"]

EMOTION_WEIGHTS: dict[str, dict[int, float]] = {
    "happiness": {12: 1.0, 6: 0.7, 25: 0.2},
    "surprise": {1: 0.7, 2: 0.7, 5: 0.5, 25: 0.4, 26: 0.6},
    "anger": {4: 0.8, 7: 0.7, 5: 0.3, 23: 0.7, 24: 0.5, 17: 0.1},
    "disgust": {9: 1.0, 10: 0.9, 4: 0.3, 7: 0.2, 17: 0.1},
    "sadness": {15: 0.9, 1: 0.6, 17: 0.4, 4: 0.3},
    "fear": {1: 0.4, 2: 0.4, 4: 0.3, 5: 0.6, 20: 1.0, 25: 0.2, 7: 0.1},
    "contempt": {14: 0.9, 12: 0.1},
    "repression": {14: 0.4, 15: 0.4, 17: 0.5, 24: 0.6, 12: 0.1},
}
"""How much each action unit speaks for an emotion: the combinations of EMFACS (Friesen and Ekman 1983; FACS
Investigator's Guide 2002), repression as annotated in CASME II (Yan et al. 2014); the numbers are set by hand."""

_UNSURE = 0.6
"""Share of the recogniser's class below which action units may overrule it, and by how much they have to speak more for
another class."""
_CLEARLY = 0.5

_ONE_SIDED_CONTEMPT = 0.6
"""What a dimpler or a lip corner puller on one side alone adds for contempt."""

# The most frequent class of each data set where nothing speaks for any (FIELD: label counts of the training file).
_USUAL = ("anger", "disgust", "happiness", "surprise")
_USUAL_CASME2 = ("disgust", "happiness", "surprise")
_USUAL_UNITS = (4, 7)
_NO_FACE = "no face was measured: the usual answer stands"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Coarse and fine-grained class of one event, which agree, and how they came about.

    ``coarse_by`` is "recogniser", "action units" or "usual"; ``fine_scores`` holds what the action units say for each
    class that was open.
    """

    coarse: str
    fine: str
    coarse_by: str
    fine_scores: dict[str, float]


def verdict_of(material: Material) -> Verdict:
    """Return the classes of the material's event, see :mod:`megc_stream.vqa.embedded`."""
    scores = {label: _speaks_for(label, material.units) for label in fine_labels(material.dataset)}
    coarse, coarse_by = _coarse(material, scores)
    open_ = {label: scores[label] for label in scores if COARSE_OF_EMOTION[label] == coarse}
    usual = _USUAL_CASME2 if material.dataset.casefold().startswith("casme2") else _USUAL
    # Nothing seen: the usual class comes first; of equal scores too.
    ranked = sorted(open_, key=lambda label: (-open_[label], label not in usual, label))
    return Verdict(
        coarse=coarse,
        fine=ranked[0],
        coarse_by=coarse_by,
        fine_scores={label: round(value, 3) for label, value in open_.items()},
    )


class EmbeddedAnswerer:
    """Answers every question of ME-VQA and ME-LVQA from what the pipeline measured; deterministic.

    Answers have the challenge's exact form. Questions in the singular get one action unit, in the plural at least two:
    where fewer were seen, the next most probable is named, and the evidence says so.
    """

    def answer(self, question: str, material: Material) -> Answer:
        """Return the answer, ``by`` "embedded", with its evidence.

        ``evidence`` holds, as far as the question rests on it: ``action_units`` (name, code, side, probabilities and
        the motions of regions in px), ``probabilities`` of the coarse classes, ``verdict``, ``frames`` of onset, apex
        and offset, ``events`` (type, frames, emotion, units), ``remarks``. A question that the challenge does not ask
        gets a sentence that says so.
        """
        asked = parse_question(question)
        text, evidence, remarks = _ANSWERS[asked.kind](asked, material)
        if remarks:
            evidence["remarks"] = remarks
        return Answer(question=question, answer=text, by="embedded", evidence=evidence)


_Answered = tuple[str, dict[str, Any], list[str]]


def _coarse_answer(_: Question, material: Material) -> _Answered:
    verdict = verdict_of(material)
    return verdict.coarse, _class_evidence(material, verdict), _class_remarks(verdict)


def _fine_answer(_: Question, material: Material) -> _Answered:
    verdict = verdict_of(material)
    evidence = {**_class_evidence(material, verdict), **_unit_evidence(material, material.units)}
    return verdict.fine, evidence, _class_remarks(verdict)


def _units_answer(asked: Question, material: Material) -> _Answered:
    units, remarks = _units_asked_for(asked, material)
    return _listed(_numbers(units)), _unit_evidence(material, units), remarks


def _shown_answer(asked: Question, material: Material) -> _Answered:
    unit = next((unit for unit in material.considered if unit.number == asked.unit), None)
    if unit is None:
        return "no", _unit_evidence(material, ()), [_not_measured(asked, material)]
    return "yes" if unit.present else "no", _unit_evidence(material, (unit,)), []


def _side_answer(asked: Question, material: Material) -> _Answered:
    unit = next((unit for unit in material.considered if unit.number == asked.unit), None)
    remarks = []
    if unit is not None and unit.left != unit.right:
        left, right = unit.left, unit.right
    else:
        # Not a unit with sides that is known here: the side on which the face moved more.
        left, right = (sum(move.px for move in material.motions if move.side == side) for side in ("left", "right"))
        remarks.append(_not_measured(asked, material) if unit is None else "the unit lies on the midline")
        remarks.append(f"regions that moved most: left {left:.2f} px, right {right:.2f} px in all")
    return "left" if left > right else "right", _unit_evidence(material, (unit,) if unit else ()), remarks


def _combined_answer(asked: Question, material: Material) -> _Answered:
    verdict = verdict_of(material)
    units, remarks = _units_asked_for(asked, material)
    evidence = {**_class_evidence(material, verdict), **_unit_evidence(material, units)}
    return _combined(units, verdict, bool(asked.several)), evidence, remarks + _class_remarks(verdict)


def _analysis_answer(asked: Question, material: Material) -> _Answered:
    verdict = verdict_of(material)
    units = material.units or material.considered[:1]
    evidence = {**_class_evidence(material, verdict), **_unit_evidence(material, units)}
    remarks = _class_remarks(verdict) + ([] if material.units else [_none_sure(material)])
    sentences = [_combined(units, verdict, len(units) > 1)]
    sentences += [
        f"The {unit.name} is seen on the {unit.side} side of the face."
        for unit in sorted(units, key=lambda unit: unit.number)
        if unit.side != "both"
    ]
    return " ".join(sentences), evidence, remarks


def _count_answer(asked: Question, material: Material) -> _Answered:
    wanted = {"count_micro": "micro", "count_macro": "macro"}.get(asked.kind)
    counted = [event for event in material.events if wanted in (None, event.type)]
    return str(len(counted)), _event_evidence(material), []


def _unit_set_answer(_: Question, material: Material) -> _Answered:
    numbers = {unit.number for event in material.events for unit in event.units}
    evidence = _event_evidence(material)
    if not material.events:
        return "none", evidence, ["no expression event was found"]
    if not numbers:
        return _listed(_USUAL_UNITS[:1]), evidence, ["no action unit was seen in any event: the usual answer stands"]
    return _listed(numbers), evidence, []


def _type_answer(asked: Question, material: Material) -> _Answered:
    count = len(material.events)
    evidence = _event_evidence(material)
    if asked.ordinal is not None and 1 <= asked.ordinal <= count:
        return f"{material.events[asked.ordinal - 1].type}-expression", evidence, []
    types = Counter(event.type for event in material.events)
    usual = "micro" if types["micro"] >= types["macro"] else "macro"
    which = f"event {asked.ordinal}" if asked.ordinal else "an event whose number cannot be read"
    remark = f"{which} was asked for, {count} were found: the more frequent type is named"
    return f"{usual}-expression", evidence, [remark]


def _other_answer(_: Question, material: Material) -> _Answered:
    if material.scope == "video":
        types = Counter(event.type for event in material.events)
        known = (
            f"{len(material.events)} expression events ({types['micro']} micro-expressions, "
            f"{types['macro']} macro-expressions)"
        )
        evidence = _event_evidence(material)
    else:
        verdict = verdict_of(material)
        seen = _listed(_numbers(material.units)) or "none"
        known = f"action units: {seen}; coarse expression class: {verdict.coarse}"
        evidence = {**_class_evidence(material, verdict), **_unit_evidence(material, material.units)}
    return f"This question cannot be answered from what was measured. Measured: {known}.", evidence, []


_ANSWERS: dict[QuestionKind, Callable[[Question, Material], _Answered]] = {
    "coarse": _coarse_answer,
    "fine": _fine_answer,
    "units_one": _units_answer,
    "units_several": _units_answer,
    "unit_shown": _shown_answer,
    "unit_side": _side_answer,
    "combined_one": _combined_answer,
    "combined_several": _combined_answer,
    "analysis": _analysis_answer,
    "count_all": _count_answer,
    "count_micro": _count_answer,
    "count_macro": _count_answer,
    "unit_set": _unit_set_answer,
    "event_type": _type_answer,
    "other": _other_answer,
}


def _speaks_for(label: str, units: Sequence[MeasuredUnit]) -> float:
    weights = EMOTION_WEIGHTS[label]
    score = sum(weights.get(unit.number, -0.2) * unit.confidence for unit in units)
    if label == "contempt" and any(unit.number in (12, 14) and unit.side != "both" for unit in units):
        score += _ONE_SIDED_CONTEMPT
    return score


def _coarse(material: Material, scores: dict[str, float]) -> tuple[str, str]:
    by_units = {
        label: max(value for fine, value in scores.items() if COARSE_OF_EMOTION[fine] == label) for label in COARSE
    }
    spoken_for = max(COARSE, key=lambda label: by_units[label])
    shares = dict.fromkeys(COARSE, 0.0)
    for emotion, probability in material.probabilities.items():
        if (label := COARSE_OF_EMOTION.get(emotion, "")) in shares:
            shares[label] += probability
    named = COARSE_OF_EMOTION.get(material.emotion or "", "")
    if named not in COARSE:
        if not any(shares.values()):
            return (spoken_for, "action units") if material.units else ("negative", "usual")
        named = max(COARSE, key=lambda label: shares[label])
    overruled = shares[named] < _UNSURE and by_units[spoken_for] - by_units[named] >= _CLEARLY
    return (spoken_for, "action units") if overruled and material.units else (named, "recogniser")


def _units_asked_for(asked: Question, material: Material) -> tuple[tuple[MeasuredUnit, ...], list[str]]:
    """Return the units to name: one for the singular, two or more for the plural."""
    if not material.considered:
        usual = _USUAL_UNITS[: 2 if asked.several else 1]
        return tuple(
            MeasuredUnit(number=number, side="both", confidence=0.0, left=0.0, right=0.0) for number in usual
        ), [_NO_FACE]
    if not asked.several:
        remarks = [] if material.units else [_none_sure(material)]
        if len(material.units) > 1:
            remarks.append(f"asked for one action unit; seen: {_listed(_numbers(material.units))}")
        return material.considered[:1], remarks
    units = material.units if len(material.units) > 1 else material.considered[:2]
    missing = len(units) - len(material.units)
    return units, (
        [f"asked for several action units; {missing} of those named is only the most probable"] if missing else []
    )


def _none_sure(material: Material) -> str:
    return "no action unit is more probable than not: the most probable is named" if material.considered else _NO_FACE


def _not_measured(asked: Question, material: Material) -> str:
    if not material.considered:
        return _NO_FACE
    name = asked.unit_text if asked.unit is None else ACTION_UNIT_NAMES[asked.unit]
    return f"the action unit '{name}' is not among those that can be measured"


def _combined(units: Sequence[MeasuredUnit], verdict: Verdict, several: bool) -> str:
    present = "units present are" if several else "unit present is"
    names = _listed(_numbers(units)) or _listed(_USUAL_UNITS[:1])
    return (
        f"The action {present}: {names}. Therefore, the fine-grained expression class is {verdict.fine}, "
        f"and the coarse expression class is {verdict.coarse}."
    )


def _numbers(units: Sequence[MeasuredUnit]) -> list[int]:
    return [unit.number for unit in units]


def _listed(numbers: Sequence[int] | set[int]) -> str:
    """Return the units' names by FACS number, as the annotations list them."""
    return ", ".join(ACTION_UNIT_NAMES[number] for number in sorted(numbers))


def _class_remarks(verdict: Verdict) -> list[str]:
    if verdict.coarse_by == "usual":
        return ["neither the recogniser nor action units say anything: the usual classes are named"]
    return (
        []
        if verdict.coarse_by == "recogniser"
        else ["the recogniser has no class or is unsure: the action units decide"]
    )


def _class_evidence(material: Material, verdict: Verdict) -> dict[str, Any]:
    return {
        "probabilities": {name: round(value, 3) for name, value in material.probabilities.items()},
        "verdict": msgspec.to_builtins(verdict),
    }


def _unit_evidence(material: Material, units: Sequence[MeasuredUnit]) -> dict[str, Any]:
    evidence: dict[str, Any] = {
        "action_units": [
            {
                "name": unit.name,
                "code": unit.code,
                "side": unit.side,
                "confidence": round(unit.confidence, 3),
                "left": round(unit.left, 3),
                "right": round(unit.right, 3),
                "motions": [msgspec.to_builtins(motion) for motion in unit.motions],
            }
            for unit in units
        ]
    }
    if material.images:
        evidence["frames"] = {name: material.frames[getattr(material, name)] for name in ("onset", "apex", "offset")}
    return evidence


def _event_evidence(material: Material) -> dict[str, Any]:
    return {
        "events": [
            {
                "order": event.order,
                "type": event.type,
                "onset": event.onset,
                "apex": event.apex,
                "offset": event.offset,
                "emotion": event.emotion,
                "action_units": [unit.code for unit in event.units],
            }
            for event in material.events
        ]
    }
