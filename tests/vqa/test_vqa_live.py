"""Against a real vLLM server with a tiny model: what is asked and how, not how well it is answered."""

from __future__ import annotations

from typing import Any

import pytest
from live_server import MODEL
from made_material import QUESTIONS, embedded, make_event, make_material

from megc_stream.clock import MonotonicClock
from megc_stream.errors import UsageError
from megc_stream.records import Answer
from megc_stream.settings import VqaSettings
from megc_stream.vqa.asking import Asker
from megc_stream.vqa.forms import structured_answer
from megc_stream.vqa.questions import fine_labels, kind_of
from megc_stream.vqa.served import ServedAnswerer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
pytest.importorskip("openai", reason="needs the extra 'vqa'")

ANALYSIS = "Please analyse the micro-expression shown in this video in detail."
FORMED = (
    *QUESTIONS,
    "What is the fine-grained expression class?",
    "What is the action unit?",
    "Is the action unit brow lowerer shown on the face?",
    "Is the action unit brow lowerer located on the left or right face?",
    "What is the action unit present, and based on it, what is the fine-grained expression and the coarse expression "
    "class?",
    "What are the action units present, and based on them, what is the fine-grained expression and the coarse "
    "expression class?",
)
ABOUT_VIDEOS = (
    "How many expression events appear in this video?",
    "What distinct action units appear in this video?",
    "What is the expression type of the 2nd expression event in this video?",
)
MATERIAL = make_material()


def _settings(address: str, **fields: Any) -> VqaSettings:
    return VqaSettings(**{"answerer": address, "timeout_s": 120.0, "retries": 0} | fields)


def _ask(address: str, question: str = QUESTIONS[0], material: Any = MATERIAL, **fields: Any) -> Answer:
    answerer = ServedAnswerer(_settings(address, **fields), MonotonicClock())
    try:
        return answerer.answer(question, material, embedded(question))
    finally:
        answerer.close()


@pytest.mark.parametrize("question", FORMED)
def test_answers_have_the_form_of_the_question(vllm_server: str, question: str) -> None:
    answer = _ask(vllm_server, question)
    if "units" in question and answer.by == "embedded":
        # Random weights may name one unit twice, which no schema forbids.
        assert "different names (asked twice)" in answer.fallback
        return
    assert (answer.by, answer.fallback) == ("served", "")
    # Raises where a word is in no list.
    structured_answer(kind_of(question), answer.answer, fine_labels("samm"))
    assert answer.evidence["model"] == MODEL
    assert answer.evidence["prompt_tokens"] > 4 * 64
    assert answer.evidence["completion_tokens"] > 0


@pytest.mark.parametrize("question", ABOUT_VIDEOS)
def test_answers_about_videos_have_the_form_of_the_question(vllm_server: str, question: str) -> None:
    answer = _ask(vllm_server, question, make_material(scope="video", flow=None), inputs=("video",), max_tokens=1024)
    assert (answer.by, answer.fallback) == ("served", "")
    structured_answer(kind_of(question), answer.answer, fine_labels("samm"))


def test_free_text_is_taken_as_it_is_or_replaced_where_it_never_ends(vllm_server: str) -> None:
    answer = _ask(vllm_server, ANALYSIS, max_tokens=32)
    assert answer.answer
    assert answer.by == "served" or "cut off after 32 tokens" in answer.fallback


def test_the_same_question_has_the_same_answer(vllm_server: str) -> None:
    answers = [_ask(vllm_server, FORMED[2], seed=5) for _ in range(3)]
    assert answers[0].by == "served"
    assert answers.count(answers[0]) == 3


def test_each_input_reaches_the_model(vllm_server: str) -> None:
    def tokens(*inputs: str) -> int:
        answer = _ask(vllm_server, inputs=inputs)
        assert (answer.by, answer.fallback) == ("served", "")
        return int(answer.evidence["prompt_tokens"])

    # A picture of 224 x 224 px is 64 tokens.
    assert tokens("oao", "flow") > tokens("flow") + 3 * 64
    assert tokens("oao", "flow") > tokens("oao") + 64
    assert tokens("video", "oao", "flow") > tokens("oao", "flow") + 20


def test_all_frames_of_a_video_are_seen(vllm_server: str) -> None:
    """Two pictures of a video share their tokens; a server that samples as it likes would see two pictures of it."""
    counts = [_ask(vllm_server, material=make_material(count=count), inputs=("video",)) for count in (2, 16)]
    assert "video_frames" not in counts[0].evidence
    few, many = (answer.evidence["prompt_tokens"] for answer in counts)
    # Seven pairs of frames more, 64 tokens each.
    assert many - few >= 7 * 64


def test_redacted_eyes_are_seen_as_such(vllm_server: str) -> None:
    assert _ask(vllm_server, redact_eyes=True).evidence["eyes_redacted"] is True


def test_a_wrong_model_names_the_right_one(vllm_server: str) -> None:
    answerer = ServedAnswerer(_settings(vllm_server, model="qwen"), MonotonicClock())
    with pytest.raises(UsageError, match=rf"no model 'qwen'; expected one of: {MODEL}"):
        answerer.check()
    answerer.close()


def test_a_prompt_that_is_too_long_falls_back_with_the_servers_words(vllm_server: str) -> None:
    answer = _ask(vllm_server, "Why? " * 7000)
    assert answer.by == "embedded"
    assert "answered 400" in answer.fallback


def test_events_are_finished_beside_the_pipeline(vllm_server: str) -> None:
    asker = Asker(_settings(vllm_server, concurrency=3), MonotonicClock())
    for number in (1, 2, 3):
        asker.submit(make_event(number, questions=(QUESTIONS[0], FORMED[2])), make_material(number))
    events = asker.drain()
    asker.close()
    assert [event.event_number for event in events] == [1, 2, 3]
    assert all(event.final and event.run["late"] for event in events)
    assert {answer.by for event in events for answer in event.answers} == {"served"}
    assert asker.counts["served"] == 6
