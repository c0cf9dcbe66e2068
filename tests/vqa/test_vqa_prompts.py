"""Prompts and forms: what is asked, which answers are allowed, and the way to the challenge's words and back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from megc_stream.errors import DataError, UsageError
from megc_stream.evaluation.tables import AnswerRow
from megc_stream.recognition.action_units import MeasuredUnit
from megc_stream.submission.answer_file import check_answers
from megc_stream.vocabulary import ACTION_UNIT_NAMES
from megc_stream.vqa import prompts as prompts_module
from megc_stream.vqa.forms import answer_schema, plain_answer, structured_answer
from megc_stream.vqa.material import KnownEvent, Material
from megc_stream.vqa.prompts import build_messages, load_prompts, repair_message
from megc_stream.vqa.questions import FINE, LVQA_KINDS, VQA_KINDS, kind_of

FINE_SAMM = FINE["samm"]

# A question of every kind, a true answer in the challenge's words, and the object that stands for it.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("What is the coarse expression class?", "negative", {"coarse": "negative"}),
    ("What is the fine-grained expression class?", "contempt", {"fine": "contempt"}),
    ("What is the action unit?", "dimpler", {"action_unit": "dimpler"}),
    (
        "What are the action units?",
        "brow lowerer, lid tightener",
        {"action_units": ["brow lowerer", "lid tightener"]},
    ),
    ("Is the action unit dimpler shown on the face?", "yes", {"shown": "yes"}),
    ("Is the action unit dimpler located on the left or right face?", "left", {"side": "left"}),
    (
        "What is the action unit present, and based on it, what is the fine-grained expression and the coarse "
        "expression class?",
        "The action unit present is: lip corner puller. Therefore, the fine-grained expression class is happiness, and "
        "the coarse expression class is positive.",
        {"action_unit": "lip corner puller", "fine": "happiness"},
    ),
    (
        "What are the action units present, and based on them, what is the fine-grained expression and the coarse "
        "expression class?",
        "The action units present are: brow lowerer, nose wrinkler. Therefore, the fine-grained expression class is "
        "disgust, and the coarse expression class is negative.",
        {"action_units": ["brow lowerer", "nose wrinkler"], "fine": "disgust"},
    ),
    ("How many expression events appear in this video?", "7", {"count": 7}),
    ("How many micro-expression events appear in this video?", "0", {"count": 0}),
    ("How many macro-expression events appear in this video?", "12", {"count": 12}),
    (
        "What distinct action units appear in this video?",
        "brow lowerer, dimpler",
        {"action_units": ["brow lowerer", "dimpler"]},
    ),
    (
        "What is the expression type of the third expression event in this video?",
        "macro-expression",
        {"type": "macro-expression"},
    ),
]
FREE = "Please analyse the micro-expression shown in this video in detail."


def material(**changes: Any) -> Material:
    known = Material(
        scope="event",
        source="clip",
        subject="s1",
        video="clip",
        dataset="samm",
        fps=200.0,
        images=tuple(np.full((128, 128), 40 * n, np.uint8) for n in range(5)),
        times_s=tuple(n / 200 for n in range(5)),
        frames=tuple(range(5)),
        apex=2,
        offset=4,
        flow=np.full((128, 128, 2), 0.3, np.float32),
    )
    return msgspec.structs.replace(known, **changes)


def texts_of(messages: list[dict[str, Any]]) -> str:
    return "\n".join(part["text"] for part in messages[1]["content"] if part["type"] == "text")


def test_every_kind_has_a_case() -> None:
    assert {kind_of(question) for question, _, _ in CASES} == {*VQA_KINDS, *LVQA_KINDS} - {"analysis"}


@pytest.mark.parametrize(("question", "answer", "values"), CASES)
def test_answer_there_and_back(question: str, answer: str, values: dict[str, Any]) -> None:
    kind = kind_of(question)
    text = structured_answer(kind, answer, FINE_SAMM)
    assert json.loads(text) == values
    assert plain_answer(kind, text, FINE_SAMM) == answer
    assert plain_answer(kind, f"```json\n{json.dumps(values, indent=1)}\n```", FINE_SAMM) == answer
    row = AnswerRow(
        video_id="samm_1", question=question, answer=answer, dataset="samm", video="1", file="f", row=1,
        fields={"answer": answer},
    )  # fmt: skip
    assert check_answers("f", [row]) == []


@pytest.mark.parametrize(("question", "answer", "values"), CASES)
def test_schema_is_bounded_and_closed(question: str, answer: str, values: dict[str, Any]) -> None:
    schema = answer_schema(kind_of(question), FINE_SAMM)
    assert schema is not None
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"]) == list(values)
    for one in schema["properties"].values():
        items = one.get("items", one)
        assert items.get("enum") or (items["type"] == "integer" and items["maximum"] < 10_000)
        assert one["type"] != "array" or one["maxItems"] <= len(ACTION_UNIT_NAMES)


def test_singular_and_plural_are_honoured() -> None:
    assert answer_schema("units_one", FINE_SAMM)["properties"].keys() == {"action_unit"}
    assert answer_schema("units_several", FINE_SAMM)["properties"]["action_units"]["minItems"] == 2
    assert answer_schema("unit_set", FINE_SAMM)["properties"]["action_units"]["minItems"] == 0


def test_units_come_once_and_in_order() -> None:
    text = '{"action_units": ["dimpler", "brow lowerer", "dimpler"]}'
    assert plain_answer("units_several", text, FINE_SAMM) == "brow lowerer, dimpler"
    assert plain_answer("unit_set", '{"action_units": []}', FINE_SAMM) == "none"


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("coarse", "negative", "not a JSON object"),
        ("coarse", '{"coarse": "neg', "not a JSON object"),
        ("coarse", '{"coarse": "sad"}', "expected one of negative, positive, surprise"),
        ("coarse", '{"coarse": "negative", "why": "x"}', "nothing else"),
        ("coarse", '{"class": "negative"}', "expected an object with coarse"),
        ("coarse", '["negative"]', "not a JSON object"),
        ("coarse", '{"coarse": ["negative"]}', "expected one of"),
        ("fine", '{"fine": "repression"}', "expected one of anger"),
        ("units_one", '{"action_unit": "wink"}', "expected one of inner brow raiser"),
        ("units_several", '{"action_units": ["dimpler"]}', "a list of 2 to"),
        ("units_several", '{"action_units": "dimpler"}', "a list of 2 to"),
        ("units_several", '{"action_units": ["dimpler", "wink"]}', "got 'wink'"),
        ("count_all", '{"count": -1}', "a whole number"),
        ("count_all", '{"count": 1.5}', "a whole number"),
        ("count_all", '{"count": true}', "a whole number"),
        ("count_all", '{"count": "3"}', "a whole number"),
        ("analysis", "  \n ", "expected a sentence"),
        ("coarse", "{" * 100_000, "not a JSON object"),
    ],
)
def test_wrong_form_is_said(kind: Any, text: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        plain_answer(kind, text, FINE_SAMM)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_free_text_is_put_on_one_line() -> None:
    assert plain_answer("analysis", " The brows\n\tare  lowered. ", FINE_SAMM) == "The brows are lowered."
    assert structured_answer("analysis", "The brows are lowered.", FINE_SAMM) == "The brows are lowered."


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("fine", "repression"),
        ("units_one", "AU14"),
        ("units_several", "dimpler"),
        ("combined_one", "happiness"),
        ("count_all", "many"),
    ],
)
def test_true_answer_that_has_no_object_is_refused(kind: Any, answer: str) -> None:
    with pytest.raises(DataError, match="answer"):
        structured_answer(kind, answer, FINE_SAMM)


def test_prompt_names_its_file_and_its_checksum() -> None:
    path = Path(prompts_module.__file__).with_name("prompts") / "megc-1.toml"
    made = build_messages("What is the coarse expression class?", "coarse", ("oao",), material())
    assert made.prompt_id == "megc-1"
    assert made.prompt_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    # Shipped versions never change: answers and adapters name them.
    assert made.prompt_sha256 == "b996e0bda8855b347f45cf223f60cc352e93dd3c031e003647c4f505c195537f"


@pytest.mark.parametrize("question", [question for question, _, _ in CASES] + [FREE, "Who is this?"])
def test_question_stands_in_the_prompt(question: str) -> None:
    kind = kind_of(question)
    made = build_messages(question, kind, ("oao",), material())
    last = made.messages[1]["content"][-1]["text"]
    assert last.startswith(f"{question}\n")
    assert "$" not in texts_of(made.messages)
    if made.response_format is None:
        assert kind in ("analysis", "other")
    else:
        assert made.response_format["type"] == "json_schema"
        assert made.response_format["json_schema"]["schema"] == answer_schema(kind, FINE_SAMM)
    messages, response_format, prompt_id, sha256 = made
    assert (messages, response_format, prompt_id, sha256) == made


def test_media_in_their_order_each_after_what_it_is() -> None:
    made = build_messages("What is the coarse expression class?", "coarse", ("video", "oao", "flow"), material())
    content = made.messages[1]["content"]
    assert [part["type"] for part in content] == [
        *("text", "video_url"), *("text", "image_url") * 3, *("text", "image_url"), "text",
    ]  # fmt: skip
    said = texts_of(made.messages)
    assert "5 frames in 20 ms" in said
    assert "apex, 10 ms after the onset" in said and "offset, 20 ms after the onset" in said
    assert "full colour is a motion of 0.5 px or more" in said and "red to the right" in said


def test_classes_are_those_of_the_data_set() -> None:
    question = "What is the fine-grained expression class?"
    for dataset, expected in (("casme2", FINE["casme2"]), ("casme3_test", FINE["casme3"])):
        made = build_messages(question, "fine", ("oao",), material(dataset=dataset))
        assert made.response_format["json_schema"]["schema"]["properties"]["fine"]["enum"] == list(expected)
        assert ", ".join(expected) in texts_of(made.messages)


def test_long_video_is_told_with_its_events() -> None:
    unit = MeasuredUnit(number=14, side="left", confidence=0.9, left=0.9, right=0.2)
    events = (
        KnownEvent(order=1, type="micro", onset=10, apex=20, offset=50, units=(unit,)),
        KnownEvent(order=2, type="macro", onset=100, apex=200, offset=300),
    )
    long = material(scope="video", images=(), flow=None, events=events)
    made = build_messages("How many expression events appear in this video?", "count_all", ("oao",), long)
    said = texts_of(made.messages)
    assert "1. micro-expression, 200 ms: dimpler\n2. macro-expression, 1000 ms\n" in said
    assert len(made.messages[1]["content"]) == 2
    # It has no onset and apex to show, but frames.
    seen = material(scope="video", flow=None, events=events)
    made = build_messages(
        "How many expression events appear in this video?", "count_all", ("video", "oao", "flow"), seen
    )
    assert [part["type"] for part in made.messages[1]["content"]] == ["text", "text", "video_url", "text"]
    none = build_messages("How many expression events appear in this video?", "count_all", (), material(scope="video"))
    assert "No expression was measured" in texts_of(none.messages)


def test_repair_says_what_was_wrong() -> None:
    message = repair_message("answer, coarse: got 'sad'")
    assert message["role"] == "user" and "got 'sad'" in message["content"]


def test_prompts_of_one_s_own(tmp_path: Path) -> None:
    shipped = Path(prompts_module.__file__).with_name("prompts") / "megc-1.toml"
    mine = tmp_path / "mine-3.toml"
    mine.write_text(shipped.read_text(encoding="utf-8").replace("You are an expert", "You are a student"))
    made = build_messages("What is the coarse expression class?", "coarse", ("oao",), material(), str(mine))
    assert made.prompt_id == "mine-3" and made.messages[0]["content"].startswith("You are a student")
    with pytest.raises(UsageError, match="expected megc-1"):
        load_prompts("megc-0")
    with pytest.raises(DataError, match="cannot be read"):
        load_prompts(str(tmp_path / "absent.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text('system = "x"\n')
    with pytest.raises(DataError, match="not a prompt file"):
        load_prompts(str(broken))
    broken.with_name("less.toml").write_text('system = "x"\n[inputs]\n[answers]\n[repair]\n')
    with pytest.raises(DataError, match=r"'video' is missing from \[inputs\]"):
        load_prompts(str(broken.with_name("less.toml")))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(shipped.read_text(encoding="utf-8").replace("$coarse.", "$course."))
    with pytest.raises(DataError, match="cannot be filled in"):
        build_messages("What is the coarse expression class?", "coarse", ("oao",), material(), str(wrong))
