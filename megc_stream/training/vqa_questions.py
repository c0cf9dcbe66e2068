"""Questions with their true answers, from the annotations of a data set, in the challenge's exact words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megc_stream.datasets import Annotation
from megc_stream.vocabulary import ACTION_UNIT_NAMES
from megc_stream.vqa.questions import COARSE, fine_labels

__all__ = ["ANALYSIS_QUESTIONS", "dataset_name", "event_questions", "video_questions"]

ANALYSIS_QUESTIONS = (
    "Please analyse the micro-expression shown in this video in detail.",
    "Provide a detailed analysis of the micro-expression observed in this clip.",
    "Provide a comprehensive analysis of the facial micro-expression shown in this clip.",
)

_NAMES = {"samm-lv": "samm", "casme-ii": "casme2", "cas-me-3": "casme3"}
_SYNONYMS = {"happy": "happiness", "sad": "sadness"}
_TYPE_QUESTIONS = 2


def dataset_name(layout: str) -> str:
    """Return what the challenge's files call a data set ("samm"), which decides its fine-grained classes."""
    return _NAMES.get(layout, layout)


def event_questions(event: Annotation, layout: str, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return (question, answer) of one annotated expression: every template that its annotation can answer.

    Coarse and fine-grained class; its action units, in the singular or the plural as their number is; one that is shown
    and one that is not; the side of each that is on one side; the combined question; one of the wordings of the
    analysis. Where a unit has no name in the challenge's list, those about all units are left out.

    Parameters
    ----------
    event
        As annotated.
    layout
        Of the data set, which knows its own fine-grained classes.
    rng
        Draws the units to ask for, and the wording of the analysis.
    """
    fine = _SYNONYMS.get(event.emotion, event.emotion)
    known_fine = fine in fine_labels(dataset_name(layout))
    coarse = event.coarse if event.coarse in COARSE else ""
    numbers = sorted({unit.number for unit in event.action_units})
    named = [ACTION_UNIT_NAMES[number] for number in numbers if number in ACTION_UNIT_NAMES]
    units = named if len(named) == len(numbers) else []
    asked: list[tuple[str, str]] = []
    if coarse:
        asked.append(("What is the coarse expression class?", coarse))
    if known_fine:
        asked.append(("What is the fine-grained expression class?", fine))
    if units:
        question = "What is the action unit?" if len(units) == 1 else "What are the action units?"
        asked.append((question, ", ".join(units)))
    if named:
        others = [name for name in ACTION_UNIT_NAMES.values() if name not in named]
        for name, answer in ((str(rng.choice(named)), "yes"), (str(rng.choice(others)), "no")):
            asked.append((f"Is the action unit {name} shown on the face?", answer))
    for name, side in _one_sided(event):
        asked.append((f"Is the action unit {name} located on the left or right face?", side))
    if units and known_fine and coarse:
        one = len(units) == 1
        question = (
            "What is the action unit present, and based on it, "
            if one
            else ("What are the action units present, and based on them, ")
        )
        combined = _combined(units, fine, coarse)
        asked.append((f"{question}what is the fine-grained expression and the coarse expression class?", combined))
        asked.append((str(rng.choice(ANALYSIS_QUESTIONS)), _analysis(event, combined)))
    return asked


def video_questions(events: Sequence[Annotation], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return (question, answer) of a whole video: the three counts, the set of action units, the types of two events.

    Parameters
    ----------
    events
        All annotated expressions of the video.
    rng
        Draws the events whose type is asked for.
    """
    ordered = sorted(events, key=lambda event: (event.onset, event.offset))
    micro = sum(event.type == "micro" for event in ordered)
    asked = [
        ("How many expression events appear in this video?", str(len(ordered))),
        ("How many micro-expression events appear in this video?", str(micro)),
        ("How many macro-expression events appear in this video?", str(len(ordered) - micro)),
    ]
    numbers = {unit.number for event in ordered for unit in event.action_units}
    if numbers and numbers <= ACTION_UNIT_NAMES.keys():
        names = ", ".join(ACTION_UNIT_NAMES[number] for number in sorted(numbers))
        asked.append(("What distinct action units appear in this video?", names))
    for index in sorted(rng.permutation(len(ordered))[:_TYPE_QUESTIONS].tolist()):
        question = f"What is the expression type of the {_ordinal(index + 1)} expression event in this video?"
        asked.append((question, f"{ordered[index].type}-expression"))
    return asked


def _one_sided(event: Annotation) -> list[tuple[str, str]]:
    """Return name and side of the units that are annotated on one side of the face alone."""
    sides: dict[int, set[str]] = {}
    for unit in event.action_units:
        sides.setdefault(unit.number, set()).add(unit.side)
    words = {"L": "left", "R": "right"}
    return [
        (ACTION_UNIT_NAMES[number], words[next(iter(seen))])
        for number, seen in sorted(sides.items())
        if number in ACTION_UNIT_NAMES and len(seen) == 1 and seen <= words.keys()
    ]


def _combined(units: Sequence[str], fine: str, coarse: str) -> str:
    present = "unit present is" if len(units) == 1 else "units present are"
    return (
        f"The action {present}: {', '.join(units)}. Therefore, the fine-grained expression class is {fine}, and the "
        f"coarse expression class is {coarse}."
    )


def _analysis(event: Annotation, combined: str) -> str:
    """Return the combined answer, and in further sentences which units show on one side of the face."""
    sides = [f"The {name} is seen on the {side} side of the face." for name, side in _one_sided(event)]
    return " ".join([combined, *sides])


def _ordinal(number: int) -> str:
    last = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{last}"
