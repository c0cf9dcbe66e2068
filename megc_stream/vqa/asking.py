"""Questions beside the pipeline: a served model takes its time, and no stage ever waits for it.

Worker threads ask; answers are collected whenever somebody looks. An event is finished in any case: by its answers, or
by the embedded ones where the deadline has passed, the queue is full, or the server is left alone.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from typing import Protocol

import msgspec

from megc_stream.clock import Clock
from megc_stream.records import Answer, Event
from megc_stream.settings import VqaSettings
from megc_stream.vqa.material import Material
from megc_stream.vqa.served import Breaker, ServedAnswerer, replaced

__all__ = ["Asker"]


class _Answerer(Protocol):
    breaker: Breaker
    counts: Counter[str]

    def answer(self, question: str, material: Material, embedded: Answer, deadline_s: float) -> Answer: ...
    def close(self) -> None: ...


class _Job(msgspec.Struct, eq=False):
    """An event whose embedded answers are being replaced; ``answers`` has None where one is still out, ``asked_s`` None
    where it was not asked for yet."""

    event: Event
    begun_s: float
    answers: list[Answer | None]
    asked_s: list[float | None]


class _Task(msgspec.Struct, eq=False):
    job: _Job
    index: int
    material: Material


class Asker:
    """Asks a served model about events, on threads of its own.

    Parameters
    ----------
    settings
        ``concurrency`` threads ask, ``timeout_s`` each; ``waiting`` questions wait at most; ``drain_s`` is for the end.
    clock
        Measures deadlines.
    answerer
        Asked instead of a :class:`megc_stream.vqa.served.ServedAnswerer` made from the settings.

    Raises
    ------
    UsageError
        The server's address is none.
    MissingExtraError
        The package openai is not installed.
    """

    def __init__(self, settings: VqaSettings, clock: Clock, answerer: _Answerer | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._answerer: _Answerer = answerer or ServedAnswerer(settings, clock)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._jobs: list[_Job] = []
        self._own: Counter[str] = Counter()
        self._closed = False
        self._threads = [
            # Daemons: a server that hangs must not keep the program from ending.
            threading.Thread(target=self._work, name=f"vqa-{number}", daemon=True)
            for number in range(settings.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def counts(self) -> Counter[str]:
        """Answers by how they came; see :attr:`megc_stream.vqa.served.ServedAnswerer.counts`; and "overdue", "full"."""
        return self._answerer.counts + self._own

    def submit(self, event: Event, material: Material) -> None:
        """Take an event to ask the questions of its embedded ``answers`` anew; returns at once, whatever happens.

        The finished event comes from :meth:`collect`: the next revision, ``final``, with ``run["late"]``.
        """
        count = len(event.answers)
        job = _Job(event, self._clock.now_s(), [None] * count, [None] * count)
        with self._changed:
            self._jobs.append(job)
        refusal = self._answerer.breaker.open_reason()
        for index, embedded in enumerate(event.answers):
            reason = refusal
            if not reason and self._tasks.qsize() >= self._settings.waiting:
                reason = f"not asked: {self._settings.waiting} questions were waiting already"
                self._own["full"] += 1
            elif not reason:
                self._tasks.put(_Task(job, index, material))
            else:
                self._own["not asked"] += 1
            if reason:
                job.answers[index] = replaced(embedded, reason)

    def collect(self) -> list[Event]:
        """Return the events that were finished since the last call, in the order in which they were submitted."""
        now_s = self._clock.now_s()
        with self._changed:
            done = [job for job in self._jobs if self._is_over(job, now_s)]
            self._jobs = [job for job in self._jobs if job not in done]
        return [self._finished(job, now_s) for job in done]

    def drain(self, timeout_s: float | None = None) -> list[Event]:
        """Wait until every event is finished, at most ``timeout_s`` (None: ``drain_s`` of the settings); return all.

        Those that are not finished by then get their embedded answers.
        """
        end_s = self._clock.now_s() + (self._settings.drain_s if timeout_s is None else timeout_s)
        with self._changed:
            while (now_s := self._clock.now_s()) < end_s and not all(self._is_over(job, now_s) for job in self._jobs):
                due = [asked_s + self._settings.timeout_s for job in self._jobs for asked_s in _out(job)]
                self._changed.wait(min([end_s, *(due_s for due_s in due if due_s > now_s)]) - now_s)
            jobs, self._jobs = self._jobs, []
        return [self._finished(job, now_s) for job in jobs]

    def close(self) -> None:
        """Let the threads end, without waiting for a question that is out; what was not collected is lost."""
        if self._closed:
            return
        self._closed = True
        while True:
            try:
                self._tasks.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._tasks.put(None)
        self._answerer.close()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            job = task.job
            embedded = job.event.answers[task.index]
            with self._changed:
                if job not in self._jobs:
                    continue  # drained
                asked_s = job.asked_s[task.index] = self._clock.now_s()
                self._changed.notify_all()
            deadline_s = asked_s + self._settings.timeout_s
            try:
                answer = self._answerer.answer(embedded.question, task.material, embedded, deadline_s)
            except Exception as error:  # noqa: BLE001  a bug here must not take the thread, and with it all answers
                answer = replaced(embedded, f"asking failed: {error!r}; please report this as a bug")
            with self._changed:
                job.answers[task.index] = answer
                self._changed.notify_all()

    def _is_over(self, job: _Job, now_s: float) -> bool:
        """Return whether all answers are there or overdue; the answerer may notice a deadline later than this."""
        return all(
            answer is not None or (asked_s is not None and now_s >= asked_s + self._settings.timeout_s)
            for answer, asked_s in zip(job.answers, job.asked_s, strict=True)
        )

    def _finished(self, job: _Job, now_s: float) -> Event:
        reasons = [
            "not asked before the end of the run" if asked_s is None else f"no answer within {now_s - asked_s:.3g} s"
            for asked_s in job.asked_s
        ]
        answers = [
            replaced(embedded, reason) if answer is None else answer
            for embedded, answer, reason in zip(job.event.answers, job.answers, reasons, strict=True)
        ]
        self._own["overdue"] += sum(answer is None for answer in job.answers)
        return msgspec.structs.replace(
            job.event,
            kind="answer",
            rev=job.event.rev + 1,
            final=True,
            answers=tuple(answers),
            run={**job.event.run, "late": True, "answers_s": round(now_s - job.begun_s, 3)},
        )


def _out(job: _Job) -> list[float]:
    """Return when each question was asked that has no answer yet."""
    return [
        asked_s
        for answer, asked_s in zip(job.answers, job.asked_s, strict=True)
        if answer is None and asked_s is not None
    ]
