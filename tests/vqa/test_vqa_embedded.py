from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from megc_stream.evaluation.labels import parse_coarse, parse_fine, parse_units
from megc_stream.evaluation.tables import AnswerRow
from megc_stream.recognition.action_units import MeasuredUnit, RegionMotion
from megc_stream.submission.answer_file import check_answers
from megc_stream.vocabulary import ACTION_UNIT_NAMES, COARSE_OF_EMOTION
from megc_stream.vqa.embedded import EMOTION_WEIGHTS, EmbeddedAnswerer, verdict_of
from megc_stream.vqa.material import KnownEvent, Material
from megc_stream.vqa.prior import PriorAnswerer
from megc_stream.vqa.questions import FINE, kind_of, parse_question, worded_for

COMBINED_ONE = (
    "What is the action unit present, and based on it, what is the fine-grained expression and the coarse expression "
    "class?"
)
COMBINED_SEVERAL = (
    "What are the action units present, and based on them, what is the fine-grained expression and the coarse "
    "expression class?"
)
ANALYSIS = "Please analyse the micro-expression shown in this video in detail."
QUESTIONS = (
    "What is the coarse expression class?",
    "What is the fine-grained expression class?",
    "What is the action unit?",
    "What are the action units?",
    "Is the action unit lip corner puller shown on the face?",
    "Is the action unit dimpler located on the left or right face?",
    "Is the action unit jaw clencher shown on the face?",
    "Is the action unit lip stretcher located on the left or right face?",
    "Is the action unit chin raiser located on the left or right face?",
    COMBINED_ONE,
    COMBINED_SEVERAL,
    ANALYSIS,
    "How many expression events appear in this video?",
    "How many micro-expression events appear in this video?",
    "How many macro-expression events appear in this video?",
    "What distinct action units appear in this video?",
    "What is the expression type of the 2nd expression event in this video?",
    "What is the expression type of the thirty-third expression event in this video?",
)


def unit(number: int, left: float = 0.9, right: float = 0.9) -> MeasuredUnit:
    side = "both" if min(left, right) >= 0.5 else "left" if left > right else "right"
    motion = RegionMotion(region="mouth corner", side="left", direction="up", px=1.25, across_px=0.0, up_px=1.25)
    return MeasuredUnit(
        number=number,
        side=side,  # type: ignore[arg-type]
        confidence=max(left, right),
        left=left,
        right=right,
        motions=(motion,),
    )


def event(order: int = 1, kind: str = "micro", units: tuple[MeasuredUnit, ...] = ()) -> KnownEvent:
    return KnownEvent(
        order=order,
        type=kind,  # type: ignore[arg-type]
        onset=100 * order,
        apex=100 * order + 10,
        offset=100 * order + 20,
        units=units,
    )


def clip(*units: MeasuredUnit, emotion: str | None = None, dataset: str = "samm", **fields: Any) -> Material:
    """Material of one event with these units, most probable first; those below 0.5 are only considered."""
    seen = tuple(one for one in units if one.present)
    values: dict[str, Any] = {
        "images": tuple(np.zeros((128, 128), np.uint8) for _ in range(3)),
        "times_s": (0.0, 0.1, 0.2),
        "frames": (5, 15, 25),
        "apex": 1,
        "offset": 2,
        "units": seen,
        "considered": units,
        "probabilities": {emotion: 0.8} if emotion else {},
        "events": (event(units=seen),),
    }
    return Material(
        scope="event", source="c", subject="s", video="c", dataset=dataset, fps=100, emotion=emotion, **values | fields
    )


def video(*events: KnownEvent) -> Material:
    return Material(scope="video", source="c", subject="s", video="c", dataset="samm", fps=30, events=events)


def answer(question: str, material: Material) -> str:
    return EmbeddedAnswerer().answer(question, material).answer


SMILE = clip(unit(12), unit(6, 0.8, 0.8), unit(14, 0.2, 0.1), emotion="positive")
NOTHING = Material(scope="event", source="c", subject="s", video="c", fps=100, events=(event(),))
LONG = video(event(1, units=(unit(4), unit(7))), event(2, "macro", (unit(12), unit(4))), event(3))


@pytest.mark.parametrize("dataset", ["samm", "casme2", "casme3_test"])
@pytest.mark.parametrize(
    "material", [SMILE, NOTHING, LONG, clip(unit(14, 0.2, 0.9))], ids=["smile", "none", "long", "R14"]
)
def test_every_question_gets_an_answer_that_the_checker_accepts(material: Material, dataset: str) -> None:
    import msgspec

    material = msgspec.structs.replace(material, dataset=dataset)
    rows = []
    for number, question in enumerate(QUESTIONS, start=1):
        text = answer(question, material)
        rows.append(
            AnswerRow(
                video_id="v",
                question=question,
                answer=text,
                dataset=dataset,
                video="v",
                file="f",
                row=number,
                fields={"answer": text},
            )
        )
    assert [problem for problem in check_answers("f", rows) if problem.level == "error"] == []


def test_the_challenges_words() -> None:
    assert answer(QUESTIONS[0], SMILE) == "positive"
    assert answer(QUESTIONS[1], SMILE) == "happiness"
    assert answer(QUESTIONS[2], SMILE) == "lip corner puller"
    assert answer(QUESTIONS[3], SMILE) == "cheek raiser, lip corner puller"
    assert answer(QUESTIONS[4], SMILE) == "yes"
    assert answer(COMBINED_SEVERAL, SMILE) == (
        "The action units present are: cheek raiser, lip corner puller. Therefore, the fine-grained expression class "
        "is happiness, and the coarse expression class is positive."
    )
    assert answer(COMBINED_ONE, SMILE) == (
        "The action unit present is: lip corner puller. Therefore, the fine-grained expression class is happiness, and "
        "the coarse expression class is positive."
    )
    assert answer("is the Action Unit dimpler  shown on the face", SMILE) == "no"


def test_singular_and_plural_are_honoured() -> None:
    one = clip(unit(4), unit(9, 0.3, 0.3), emotion="negative")
    assert answer("What is the action unit?", one) == "brow lowerer"
    given = EmbeddedAnswerer().answer("What are the action units?", one)
    assert given.answer == "brow lowerer, nose wrinkler"
    assert "most probable" in given.evidence["remarks"][0]
    three = clip(unit(12), unit(25), unit(6))
    assert len(parse_units(answer("What are the action units?", three))) == 3
    several = EmbeddedAnswerer().answer("What is the action unit?", three)
    assert several.answer == "lip corner puller"
    assert "cheek raiser" in several.evidence["remarks"][0]


@pytest.mark.parametrize(("left", "right", "side"), [(0.9, 0.2, "left"), (0.1, 0.7, "right"), (0.3, 0.1, "left")])
def test_the_side_is_the_persons(left: float, right: float, side: str) -> None:
    material = clip(unit(14, left, right))
    assert answer("Is the action unit dimpler located on the left or right face?", material) == side


def test_the_analysis_is_the_combined_answer_and_the_sides() -> None:
    text = answer(ANALYSIS, clip(unit(14, 0.9, 0.1), emotion="negative"))
    assert text.startswith(
        "The action unit present is: dimpler. Therefore, the fine-grained expression class is contempt, and the coarse "
        "expression class is negative."
    )
    assert text.endswith(" The dimpler is seen on the left side of the face.")
    assert "px" not in text


@pytest.mark.parametrize(
    ("units", "emotion", "fine"),
    [
        ((12, 6), "positive", "happiness"),
        ((1, 2), "surprise", "surprise"),
        ((4, 7), "negative", "anger"),
        ((9,), "negative", "disgust"),
        ((10,), "negative", "disgust"),
        ((1, 4, 15), "negative", "sadness"),
        ((15, 17), "negative", "sadness"),
        ((14,), "negative", "contempt"),
        ((1, 2, 4, 20), "negative", "fear"),
        ((), "negative", "anger"),
    ],
)
def test_fine_classes_follow_from_units(units: tuple[int, ...], emotion: str, fine: str) -> None:
    assert verdict_of(clip(*map(unit, units), emotion=emotion)).fine == fine


def test_coarse_and_fine_agree_whatever_was_measured() -> None:
    rng = np.random.default_rng(0)
    numbers = list(ACTION_UNIT_NAMES)
    for _ in range(300):
        seen = [
            unit(int(number), *rng.random(2).tolist())
            for number in rng.choice(numbers, rng.integers(0, 4), replace=False)
        ]
        emotion = [None, "negative", "positive", "surprise", "others"][rng.integers(5)]
        dataset = ["samm", "casme2", "casme3", ""][rng.integers(4)]
        material = clip(*sorted(seen, key=lambda one: -one.confidence), emotion=emotion, dataset=dataset)
        coarse, fine = answer(QUESTIONS[0], material), answer(QUESTIONS[1], material)
        assert COARSE_OF_EMOTION[fine] == coarse
        for question in (COMBINED_ONE, COMBINED_SEVERAL, ANALYSIS):
            text = answer(question, material)
            assert (parse_coarse(text), parse_fine(text)) == (coarse, fine)


def test_without_a_class_of_the_recogniser_the_units_decide() -> None:
    verdict = verdict_of(clip(unit(12), unit(6)))
    assert (verdict.coarse, verdict.coarse_by) == ("positive", "action units")
    assert verdict_of(clip(emotion="others", probabilities={"others": 0.6, "surprise": 0.3})).coarse == "surprise"
    assert verdict_of(NOTHING).coarse_by == "usual"


def test_an_unsure_recogniser_is_overruled_by_clear_units() -> None:
    smile, frown = (unit(12), unit(6)), (unit(4),)
    sure, unsure = {"negative": 0.7, "positive": 0.3}, {"negative": 0.46, "positive": 0.44, "surprise": 0.1}
    for units, probabilities, coarse in (
        (smile, sure, "negative"),
        (smile, unsure, "positive"),
        (frown, unsure, "negative"),
    ):
        assert verdict_of(clip(*units, emotion="negative", probabilities=probabilities)).coarse == coarse


def test_every_fine_class_can_be_reached() -> None:
    assert set(EMOTION_WEIGHTS) == {label for labels in FINE.values() for label in labels}


def test_long_videos() -> None:
    assert [answer(question, LONG) for question in QUESTIONS[12:18]] == [
        *("3", "2", "1"),
        "brow lowerer, lid tightener, lip corner puller",
        "macro-expression",
        "micro-expression",
    ]
    beyond = EmbeddedAnswerer().answer(QUESTIONS[17], LONG)
    assert "event 33 was asked for, 3 were found" in beyond.evidence["remarks"][0]
    assert answer("How many expression events appear in this video?", video()) == "0"
    assert answer("What distinct action units appear in this video?", video()) == "none"


def test_the_evidence_stands_beside_the_text() -> None:
    evidence = EmbeddedAnswerer().answer(COMBINED_SEVERAL, SMILE).evidence
    assert evidence["frames"] == {"onset": 5, "apex": 15, "offset": 25}
    assert evidence["probabilities"] == {"positive": 0.8}
    assert evidence["verdict"]["coarse_by"] == "recogniser"
    [_, smile] = sorted(evidence["action_units"], key=lambda one: one["confidence"])
    assert (smile["name"], smile["code"], smile["side"]) == ("lip corner puller", "12", "both")
    assert smile["motions"][0]["px"] == 1.25
    assert len(EmbeddedAnswerer().answer(QUESTIONS[12], LONG).evidence["events"]) == 3


def test_what_was_not_measured_is_said() -> None:
    no_face = EmbeddedAnswerer().answer("What are the action units?", NOTHING)
    assert "no face was measured" in no_face.evidence["remarks"][0]
    foreign = EmbeddedAnswerer().answer("Is the action unit jaw clencher shown on the face?", SMILE)
    assert (foreign.answer, "cannot" in foreign.evidence["remarks"][0]) == ("no", False)
    assert "jaw clencher" in foreign.evidence["remarks"][0]


@pytest.mark.parametrize("material", [SMILE, LONG, NOTHING])
def test_other_questions_get_an_honest_answer(material: Material) -> None:
    given = EmbeddedAnswerer().answer("How old is this person?", material)
    assert given.answer.startswith("This question cannot be answered from what was measured.")
    assert given.by == "embedded"


@pytest.mark.parametrize(
    ("question", "number", "ordinal", "several"),
    [
        ("Is the action unit lip corner puller shown on the face?", 12, None, None),
        ("Is the action unit AU12 (lip corner puller) shown on the face?", 12, None, None),
        ("Is the action unit eyebrow wiggler shown on the face?", None, None, None),
        ("Is the action unit Dimpler located on the left or right face?", 14, None, None),
        ("What is the expression type of the first expression event in this video?", None, 1, None),
        ("What is the expression type of the 33rd expression event in this video?", None, 33, None),
        ("What is the expression type of the twelfth expression event in this video?", None, 12, None),
        ("What is the expression type of the twentieth expression event in this video?", None, 20, None),
        ("What is the expression type of the twenty-first expression event in this video?", None, 21, None),
        ("What is the expression type of the forty ninth expression event in this video?", None, 49, None),
        ("What is the expression type of the last expression event in this video?", None, None, None),
        ("What is the expression type of the 0th expression event in this video?", None, None, None),
        ("What is the action unit?", None, None, False),
        (COMBINED_SEVERAL, None, None, True),
    ],
)
def test_questions_are_taken_apart(
    question: str, number: int | None, ordinal: int | None, several: bool | None
) -> None:
    asked = parse_question(question)
    assert (asked.unit, asked.ordinal, asked.several) == (number, ordinal, several)
    assert asked.kind == kind_of(question) != "other"


def test_questions_are_worded_for_the_number_of_units() -> None:
    for one, several in (("What is the action unit?", "What are the action units?"), (COMBINED_ONE, COMBINED_SEVERAL)):
        for question in (one, several):
            assert [worded_for(question, units) for units in range(4)] == [one, one, several, several]
    assert worded_for(ANALYSIS, 3) == ANALYSIS


def test_the_prior_looks_at_nothing() -> None:
    rows = [("What is the coarse expression class?", label) for label in ("negative", "positive", "negative")]
    prior = PriorAnswerer(rows)
    given = prior.answer("what is the coarse expression class", SMILE)
    assert given.answer == "negative"
    assert given.evidence == {"prior_only": True, "count": 2, "of": 3}
    assert prior.answer("What is the fine-grained expression class?").answer == ""
