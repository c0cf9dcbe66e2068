from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from made_material import QUESTIONS, embedded, make_event, make_material

from megc_stream.clock import ManualClock, MonotonicClock
from megc_stream.records import Answer, Event
from megc_stream.settings import VqaSettings
from megc_stream.vqa.asking import Asker
from megc_stream.vqa.material import Material
from megc_stream.vqa.served import Breaker

MATERIAL = make_material()
_LONG_S = 20.0


class Answering:
    """An answerer that answers, waits until it is told to go on, or fails."""

    def __init__(self, clock: Any, failures: int = 100) -> None:
        self.breaker = Breaker(failures, 1000.0, clock)
        self.counts: Counter[str] = Counter()
        self.go_on = threading.Event()
        self.go_on.set()
        self.begun = threading.Semaphore(0)
        self.problem: Exception | None = None
        self.asked: list[str] = []
        self.closed = False

    def answer(self, question: str, material: Material, embedded: Answer, deadline_s: float) -> Answer:
        self.asked.append(question)
        self.begun.release()
        assert self.go_on.wait(_LONG_S)
        if self.problem is not None:
            raise self.problem
        self.counts["served"] += 1
        return Answer(question=question, answer=f"served {question}", by="served", evidence={"model": "tiny"})

    def close(self) -> None:
        self.closed = True


MakeAsker = Callable[..., tuple[Asker, Answering]]


@pytest.fixture
def make_asker() -> Iterator[MakeAsker]:
    made: list[tuple[Asker, Answering]] = []

    def make(clock: Any = None, **settings: Any) -> tuple[Asker, Answering]:
        clock = clock or MonotonicClock()
        answering = Answering(clock)
        asker = Asker(VqaSettings(answerer="http://127.0.0.1:9/v1", **settings), clock, answering)
        made.append((asker, answering))
        return asker, answering

    yield make
    for asker, answering in made:
        answering.go_on.set()
        asker.close()
        for thread in asker._threads:
            thread.join(_LONG_S)
            assert not thread.is_alive()


def _words(event: Event) -> list[tuple[str, str]]:
    return [(answer.by, answer.fallback) for answer in event.answers]


def test_a_finished_event_is_the_next_and_last_revision(make_asker: MakeAsker) -> None:
    asker, answering = make_asker()
    event = make_event(rev=4)
    asker.submit(event, MATERIAL)
    (finished,) = asker.drain()
    assert (finished.event_id, finished.rev, finished.kind, finished.final) == ("clip-1", 5, "answer", True)
    assert finished.decision_frame == event.decision_frame
    assert [answer.answer for answer in finished.answers] == [f"served {question}" for question in QUESTIONS]
    assert finished.run["late"] is True
    assert finished.run["t_event_s"] == 1.5
    assert finished.run["answers_s"] >= 0
    assert asker.drain() == asker.collect() == []
    assert asker.counts == {"served": 2}
    assert sorted(answering.asked) == sorted(QUESTIONS)


def test_an_event_without_questions_is_finished_at_once(make_asker: MakeAsker) -> None:
    asker, _ = make_asker()
    asker.submit(make_event(questions=()), MATERIAL)
    assert [event.answers for event in asker.collect()] == [()]


def test_submitting_never_waits_and_a_full_queue_falls_back(make_asker: MakeAsker) -> None:
    asker, answering = make_asker(concurrency=1, waiting=2)
    answering.go_on.clear()
    asker.submit(make_event(1), MATERIAL)
    assert answering.begun.acquire(timeout=_LONG_S)  # the one is out, the other waits
    asker.submit(make_event(2), MATERIAL)
    asker.submit(make_event(3), MATERIAL)
    # Nothing of the third has a place; it need not wait for the others.
    (third,) = asker.collect()
    full = ("embedded", "not asked: 2 questions were waiting already")
    assert third.event_number == 3
    assert third.final
    assert _words(third) == [full, full]
    answering.go_on.set()
    first, second = asker.drain()
    assert _words(first) == [("served", ""), ("served", "")]
    assert _words(second) == [("served", ""), full]
    assert asker.counts == {"served": 3, "full": 3}


def test_an_open_breaker_falls_back_at_once(make_asker: MakeAsker) -> None:
    asker, answering = make_asker()
    for _ in range(100):
        answering.breaker.failure("it hangs")
    asker.submit(make_event(), MATERIAL)
    (event,) = asker.collect()
    assert [answer.fallback for answer in event.answers] == [
        "not asked: left alone after 100 failures in a row, the last: it hangs"
    ] * 2
    assert answering.asked == []
    assert asker.counts == {"not asked": 2}


def test_an_event_whose_answers_are_overdue_is_finished_without_them(make_asker: MakeAsker) -> None:
    clock = ManualClock()
    asker, answering = make_asker(clock, concurrency=2, timeout_s=5.0)
    answering.go_on.clear()
    asker.submit(make_event(), MATERIAL)
    for _ in QUESTIONS:
        assert answering.begun.acquire(timeout=_LONG_S)
    assert asker.collect() == []
    clock.advance_s(5)
    (event,) = asker.collect()
    assert _words(event) == [("embedded", "no answer within 5 s")] * 2
    assert event.final
    assert asker.counts == {"overdue": 2}
    # An answer that comes later still has nowhere to go.
    answering.go_on.set()
    assert asker.collect() == []


def test_drain_waits_no_longer_than_told(make_asker: MakeAsker) -> None:
    asker, answering = make_asker(concurrency=1)
    answering.go_on.clear()
    asker.submit(make_event(1), MATERIAL)
    asker.submit(make_event(2), MATERIAL)
    assert answering.begun.acquire(timeout=_LONG_S)
    first, second = asker.drain(0.02)
    assert [answer.by for answer in (*first.answers, *second.answers)] == ["embedded"] * 4
    assert first.answers[0].fallback.startswith("no answer within 0.0")
    assert first.answers[1].fallback == "not asked before the end of the run"
    # What was waiting is not asked any more.
    answering.go_on.set()
    asker.submit(make_event(3), MATERIAL)
    assert [event.event_number for event in asker.drain()] == [3]
    assert len(answering.asked) == 3


def test_drain_ends_at_the_deadline_of_a_question_that_hangs(make_asker: MakeAsker) -> None:
    asker, answering = make_asker(concurrency=2, timeout_s=0.05)
    answering.go_on.clear()
    asker.submit(make_event(), MATERIAL)
    (event,) = asker.drain()
    assert {answer.by for answer in event.answers} == {"embedded"}


def test_a_bug_in_asking_costs_one_answer_and_no_thread(make_asker: MakeAsker) -> None:
    asker, answering = make_asker(concurrency=1)
    answering.problem = ZeroDivisionError("oops")
    asker.submit(make_event(questions=QUESTIONS[:1]), MATERIAL)
    (event,) = asker.drain()
    assert event.answers[0].answer == embedded().answer
    assert "please report this as a bug" in event.answers[0].fallback
    answering.problem = None
    asker.submit(make_event(2), MATERIAL)
    assert {answer.by for answer in asker.drain()[0].answers} == {"served"}


def test_closing_does_not_wait_and_can_be_done_twice(make_asker: MakeAsker) -> None:
    asker, answering = make_asker(waiting=1)
    answering.go_on.clear()
    asker.submit(make_event(), MATERIAL)
    asker.close()
    asker.close()
    assert answering.closed
