from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from fake_server import FakeServer, answer, hanging, huge, serving, status
from made_material import QUESTIONS, embedded, make_material

from megc_stream.clock import ManualClock, MonotonicClock
from megc_stream.errors import UsageError, WireError
from megc_stream.records import Answer
from megc_stream.settings import VqaSettings
from megc_stream.vqa.prompts import load_prompts
from megc_stream.vqa.served import Breaker, ServedAnswerer
from megc_stream.vqa.server import Completion, ServedModel

COARSE, UNITS = QUESTIONS
ANALYSIS = "Please analyse the micro-expression shown in this video in detail."
MATERIAL = make_material()


class Scripted:
    """A client whose replies are given: texts, or errors to raise."""

    def __init__(self, *replies: str | Exception, finish_reason: str = "stop") -> None:
        self.replies = list(replies)
        self.finish_reason = finish_reason
        self.offered: Sequence[ServedModel] = (ServedModel(id="tiny"), ServedModel(id="adapter", parent="tiny"))
        self.asked: list[tuple[str, Sequence[Mapping[str, Any]], Any, Any]] = []

    def models(self, deadline_s: float) -> Sequence[ServedModel]:
        return self.offered

    def complete(
        self, model: str, messages: Sequence[Mapping[str, Any]], form: Any, deadline_s: float, extra: Any = None
    ) -> Completion:
        self.asked.append((model, messages, form, extra))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Completion(
            text=reply,
            finish_reason=self.finish_reason,
            model=model,
            prompt_tokens=100,
            completion_tokens=5,
            attempts=1,
        )

    def close(self) -> None:
        pass


def _answerer(client: Scripted, clock: Any = None, **settings: Any) -> ServedAnswerer:
    values = {"answerer": "http://127.0.0.1:9/v1"} | settings
    return ServedAnswerer(VqaSettings(**values), clock or ManualClock(), client)


def _ask(client: Scripted, question: str = COARSE, **settings: Any) -> Answer:
    return _answerer(client, **settings).answer(question, MATERIAL, embedded(question))


def test_a_served_answer_says_what_it_rests_on() -> None:
    client = Scripted('{"coarse": "negative"}')
    answer = _ask(client, seed=3)
    assert (answer.question, answer.answer, answer.by, answer.fallback) == (COARSE, "negative", "served", "")
    assert answer.evidence == {
        "model": "tiny",
        "lora": None,
        "prompt": "megc-1",
        "prompt_sha256": load_prompts("megc-1").sha256,
        "inputs": ["oao", "flow"],
        "eyes_redacted": False,
        "seed": 3,
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "attempts": 1,
        "repaired": "",
        "embedded": "positive",
    }
    (model, messages, form, extra) = client.asked[0]
    assert model == "tiny"
    assert form["json_schema"]["schema"]["properties"]["coarse"]["enum"] == ["negative", "positive", "surprise"]
    assert extra is None
    parts = [part["type"] for part in messages[-1]["content"]]
    assert parts.count("image_url") == 4


def test_a_lora_adapter_is_asked_by_its_name() -> None:
    client = Scripted('{"coarse": "negative"}')
    answer = _ask(client, model="adapter")
    assert client.asked[0][0] == "adapter"
    assert (answer.evidence["model"], answer.evidence["lora"]) == ("tiny", "adapter")


def test_free_text_has_no_form() -> None:
    client = Scripted("The brows\n were lowered.\x1b[2J ")
    answer = _ask(client, ANALYSIS)
    assert answer.answer == "The brows were lowered.[2J"
    assert client.asked[0][2] is None


def test_a_video_comes_with_the_wish_for_all_its_frames() -> None:
    client = Scripted('{"coarse": "negative"}')
    _ask(client, inputs=("video",))
    assert client.asked[0][3]["media_io_kwargs"]["video"]["num_frames"] == -1


def test_nothing_but_crops_flow_and_words_is_sent() -> None:
    client = Scripted('{"coarse": "negative"}', '{"coarse": "negative"}')
    answerer = _answerer(client, redact_eyes=True)
    clear = _answerer(client)
    for one in (answerer, clear):
        assert one.answer(COARSE, MATERIAL, embedded()).by == "served"
    (_, redacted, _, _), (_, plain, _, _) = client.asked
    assert str(redacted) != str(plain)
    for messages in (redacted, plain):
        assert not any(name in str(messages) for name in ("clip.mkv", "006"))


def test_an_answer_of_the_wrong_form_is_repaired_once() -> None:
    client = Scripted("It looks negative to me.", '{"coarse": "negative"}')
    answerer = _answerer(client)
    answer = answerer.answer(COARSE, MATERIAL, embedded())
    assert answer.answer == "negative"
    assert "not a JSON object" in answer.evidence["repaired"]
    assert answerer.counts == {"served": 1, "repaired": 1}
    again = client.asked[1][1]
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert again[2]["content"] == "It looks negative to me."
    assert "not a JSON object" in again[3]["content"]


@pytest.mark.parametrize(
    "text",
    ["", "negative", "{}", '{"coarse": "sad"}', '{"coarse": "negative", "more": 1}', '{"coarse": "neg', "x" * 5000],
)
def test_after_two_answers_of_the_wrong_form_the_embedded_one_stands(text: str) -> None:
    client = Scripted(text, text)
    answerer = _answerer(client)
    answer = answerer.answer(COARSE, MATERIAL, embedded())
    assert (answer.answer, answer.by) == ("positive", "embedded")
    assert "asked twice" in answer.fallback
    assert len(answer.fallback) < 400
    assert answerer.counts == {"malformed": 1}
    # The server is well.
    assert answerer.breaker.open_reason() == ""


def test_one_unit_named_twice_is_no_answer_in_the_plural() -> None:
    text = '{"action_units": ["dimpler", "dimpler"]}'
    assert "different names" in _ask(Scripted(text, text), UNITS).fallback


def test_an_answer_cut_off_is_of_the_wrong_form() -> None:
    client = Scripted("The brows", "The brows", finish_reason="length")
    answer = _ask(client, ANALYSIS)
    assert "cut off after 512 tokens" in answer.fallback


def test_failures_in_a_row_leave_the_server_alone_for_a_while() -> None:
    clock = ManualClock()
    gone = WireError("cannot be reached")
    client = Scripted(gone, gone, gone, '{"coarse": "negative"}', '{"coarse": "negative"}')
    answerer = _answerer(client, clock, breaker_failures=2, breaker_pause_s=10.0)
    answers = [answerer.answer(COARSE, MATERIAL, embedded()) for _ in range(3)]
    assert [answer.fallback.partition(":")[0] for answer in answers] == ["cannot be reached"] * 2 + ["not asked"]
    assert len(client.asked) == 2
    clock.advance_s(10)
    assert answerer.answer(COARSE, MATERIAL, embedded()).fallback == "cannot be reached"
    assert answerer.answer(COARSE, MATERIAL, embedded()).fallback.startswith("not asked: left alone after 3 failures")
    clock.advance_s(10)
    assert answerer.answer(COARSE, MATERIAL, embedded()).answer == "negative"
    assert answerer.answer(COARSE, MATERIAL, embedded()).answer == "negative"
    assert answerer.counts == {"served": 2, "failed": 3, "not asked": 2, "repaired": 0}


def test_one_question_alone_tries_a_server_that_was_left_alone() -> None:
    clock = ManualClock()
    breaker = Breaker(1, 5.0, clock)
    assert breaker.refusal() == ""
    breaker.failure("it hangs")
    assert breaker.refusal() == "not asked: left alone after 1 failures in a row, the last: it hangs"
    clock.advance_s(5)
    assert breaker.open_reason() == ""
    assert breaker.refusal() == ""
    assert breaker.refusal() != ""
    assert breaker.open_reason() != ""
    breaker.success()
    assert breaker.refusal() == ""


def test_material_that_cannot_be_shown_is_not_the_servers_fault() -> None:
    client = Scripted()
    answerer = _answerer(client, breaker_failures=1)
    answer = answerer.answer(COARSE, make_material(images=(), times_s=(), frames=()), embedded())
    assert answer.by == "embedded"
    assert answer.fallback
    assert answerer.breaker.open_reason() == ""
    assert client.asked == []


@pytest.mark.parametrize(
    ("offered", "wanted", "message"),
    [
        ((), None, "serves no model; choose one"),
        ((ServedModel(id="a"), ServedModel(id="b")), None, "serves a, b; choose one"),
        ((ServedModel(id="a"), ServedModel(id="b", parent="a")), "c", "no model 'c'; expected one of: a, b"),
    ],
)
def test_the_model_must_be_there(offered: tuple[ServedModel, ...], wanted: str | None, message: str) -> None:
    client = Scripted()
    client.offered = offered
    answerer = _answerer(client, model=wanted)
    with pytest.raises(UsageError, match=message):
        answerer.check()
    assert message in answerer.answer(COARSE, MATERIAL, embedded()).fallback


def test_the_only_model_is_taken() -> None:
    assert _answerer(Scripted()).check() == "tiny"
    assert _answerer(Scripted(), model="adapter").check() == "adapter"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    pytest.importorskip("openai", reason="needs the extra 'vqa'")
    with serving() as server:
        yield server


def test_against_a_server_that_does_what_it_likes(fake: FakeServer) -> None:
    clock = MonotonicClock()
    settings = VqaSettings(answerer=fake.address, timeout_s=2.0, retries=0, breaker_failures=100)
    answerer = ServedAnswerer(settings, clock)
    fake.script = [
        answer({"coarse": "surprise"}),
        status(500, "out of memory"),
        answer('{"coarse": "neg', "length"),
        answer({"coarse": "negative"}),
        huge(10_000_000),
        answer("nonsense"),
        answer("nonsense"),
        hanging,
    ]
    answers = [answerer.answer(COARSE, MATERIAL, embedded()) for _ in range(6)]
    answerer.close()
    assert [one.answer for one in answers] == ["surprise", "positive", "negative", *["positive"] * 3]
    assert [one.by == "served" for one in answers] == [True, False, True, False, False, False]
    for one, reason in zip(
        answers,
        ("", "answered 500 (out of memory)", "", "longer than 1 MiB", "asked twice", "no answer within 2 s"),
        strict=True,
    ):
        assert reason in one.fallback
    assert answerer.counts == {"served": 2, "repaired": 1, "failed": 3, "malformed": 1}
    assert fake.listed == 1
