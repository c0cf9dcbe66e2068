"""Answers of a served vision-language model, with the embedded answer wherever it gives none.

A question goes out with the prompts and media of :mod:`megc_stream.vqa.prompts`. An answer of the wrong form is asked
for once more, with what is wrong said; after that, and after any failure, the embedded answer stands, its ``fallback``
says why, and it is counted. After some failures in a row the server is left alone for a while.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from megc_stream.clock import Clock
from megc_stream.errors import DataError, MegcError, UsageError
from megc_stream.records import Answer
from megc_stream.settings import VqaSettings
from megc_stream.vqa.forms import plain_answer
from megc_stream.vqa.material import Material
from megc_stream.vqa.media import redact_eyes, video_request
from megc_stream.vqa.prompts import Prompt, build_messages, repair_message
from megc_stream.vqa.questions import fine_labels, kind_of
from megc_stream.vqa.server import Completion, ServedModel, Server

__all__ = ["Breaker", "ServedAnswerer", "replaced"]

_LONGEST_ANSWER = 4000
_LONGEST_REASON = 300


class _Client(Protocol):
    def models(self, deadline_s: float) -> Sequence[ServedModel]: ...
    def complete(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        response_format: Mapping[str, Any] | None,
        deadline_s: float,
        extra: Mapping[str, Any] | None = None,
    ) -> Completion: ...
    def close(self) -> None: ...


class Breaker:
    """Says when a server that fails is left alone: after ``failures`` in a row, for ``pause_s`` seconds.

    After the pause one question tries the server; its success closes the breaker, its failure begins another pause.
    Safe to use from several threads.
    """

    def __init__(self, failures: int, pause_s: float, clock: Clock) -> None:
        self._most = failures
        self._pause_s = pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_again_s = 0.0
        self._trying = False
        self._problem = ""

    def refusal(self) -> str:
        """Return "" where a question may be asked, which must then be followed by :meth:`success` or :meth:`failure`;
        else why not."""
        with self._lock:
            if self._failures < self._most:
                return ""
            if self._clock.now_s() >= self._closed_again_s and not self._trying:
                self._trying = True
                return ""
            return self._reason()

    def open_reason(self) -> str:
        """Return why no question is asked now, "" where one may be; asks for nothing."""
        with self._lock:
            waits = self._clock.now_s() < self._closed_again_s or self._trying
            return self._reason() if self._failures >= self._most and waits else ""

    def success(self) -> None:
        """Note that the server answered."""
        with self._lock:
            self._failures, self._trying = 0, False

    def failure(self, problem: str) -> None:
        """Note that it did not."""
        with self._lock:
            self._failures += 1
            self._trying = False
            self._problem = problem
            self._closed_again_s = self._clock.now_s() + self._pause_s

    def _reason(self) -> str:
        return f"not asked: left alone after {self._failures} failures in a row, the last: {self._problem}"


def replaced(embedded: Answer, reason: str) -> Answer:
    """Return the embedded answer as the one that stands where a served one was asked for."""
    short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
    return msgspec.structs.replace(embedded, fallback=short)


class ServedAnswerer:
    """Answers questions by asking a model server; safe to use from several threads.

    Parameters
    ----------
    settings
        Address, model, inputs, deadlines; ``answerer`` is the address.
    clock
        Measures deadlines.
    server
        Asked instead of the one at the address.

    Raises
    ------
    UsageError
        The address is none.
    MissingExtraError
        The package openai is not installed.
    """

    def __init__(self, settings: VqaSettings, clock: Clock, server: _Client | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._server: _Client = server or Server(settings, clock)
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_pause_s, clock)
        self.counts: Counter[str] = Counter()
        """Answers by how they came: "served", "repaired" (of these), "malformed", "failed", "not asked"."""
        self._lock = threading.Lock()
        self._served: tuple[str, str | None] | None = None
        self._redacted: tuple[Material, Material] | None = None

    def check(self) -> str:
        """Return the name of the model that will answer, having asked the server for it.

        Raises
        ------
        UsageError
            There is no such model, or several and none was named; the message names those served.
        WireError
            The server cannot be reached.
        """
        model, lora = self._model(self._clock.now_s() + self._settings.timeout_s)
        return lora or model

    def answer(self, question: str, material: Material, embedded: Answer, deadline_s: float | None = None) -> Answer:
        """Return the model's answer, or the embedded one with the reason in ``fallback``.

        Parameters
        ----------
        question
            Any question of the challenge, or another.
        material
            What is shown.
        embedded
            The answer that stands where the model gives none.
        deadline_s
            On the clock handed in; None takes ``timeout_s`` from now.
        """
        if refusal := self.breaker.open_reason():
            return self._replaced(embedded, refusal, "not asked")
        if deadline_s is None:
            deadline_s = self._clock.now_s() + self._settings.timeout_s
        try:
            prompt = self._prompt(question, material)
        except MegcError as error:
            # Nothing was asked: the server is not to blame.
            return self._replaced(embedded, str(error), "failed")
        if refusal := self.breaker.refusal():
            return self._replaced(embedded, refusal, "not asked")
        try:
            answer = self._ask(question, prompt, material, embedded, deadline_s)
        except DataError as error:
            # The server is well; what the model wrote, twice, is not an answer.
            self.breaker.success()
            return self._replaced(embedded, str(error), "malformed")
        except MegcError as error:
            self.breaker.failure(str(error))
            return self._replaced(embedded, str(error), "failed")
        except BaseException:
            self.breaker.failure("the question was given up")
            raise
        self.breaker.success()
        with self._lock:
            self.counts["served"] += 1
            self.counts["repaired"] += bool(answer.evidence["repaired"])
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _replaced(self, embedded: Answer, reason: str, count: str) -> Answer:
        with self._lock:
            self.counts[count] += 1
        return replaced(embedded, reason)

    def _prompt(self, question: str, material: Material) -> Prompt:
        settings = self._settings
        return build_messages(question, kind_of(question), settings.inputs, self._shown(material), settings.prompts)

    def _ask(self, question: str, prompt: Prompt, material: Material, embedded: Answer, deadline_s: float) -> Answer:
        model, lora = self._model(deadline_s)
        kind, fine = kind_of(question), fine_labels(material.dataset)
        extra = video_request() if "video" in self._settings.inputs else None
        messages = prompt.messages
        repaired = ""
        while True:
            reply = self._server.complete(lora or model, messages, prompt.response_format, deadline_s, extra)
            try:
                return Answer(
                    question=question,
                    answer=self._read(reply, kind, fine),
                    by="served",
                    evidence=self._evidence(model, lora, prompt, reply, embedded, repaired),
                )
            except DataError as error:
                if repaired:
                    raise DataError(f"{model}: {error} (asked twice)") from error
                repaired = str(error)
                again = repair_message(repaired, self._settings.prompts)
                messages = [*prompt.messages, {"role": "assistant", "content": reply.text[:_LONGEST_ANSWER]}, again]

    def _read(self, reply: Completion, kind: Any, fine: Sequence[str]) -> str:
        if reply.finish_reason == "length":
            raise DataError(f"answer: cut off after {self._settings.max_tokens} tokens; expected a shorter one")
        if len(reply.text) > _LONGEST_ANSWER:
            raise DataError(f"answer: {len(reply.text)} characters; expected at most {_LONGEST_ANSWER}")
        return "".join(c for c in plain_answer(kind, reply.text, fine) if c.isprintable())

    def _evidence(
        self, model: str, lora: str | None, prompt: Prompt, reply: Completion, embedded: Answer, repaired: str
    ) -> dict[str, Any]:
        return {
            "model": model,
            "lora": lora,
            "prompt": prompt.prompt_id,
            "prompt_sha256": prompt.prompt_sha256,
            "inputs": list(self._settings.inputs),
            **({} if reply.extra_taken else {"video_frames": "as the server samples them"}),
            "eyes_redacted": self._settings.redact_eyes,
            "seed": self._settings.seed,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "attempts": reply.attempts,
            "repaired": repaired,
            "embedded": embedded.answer,
        }

    def _shown(self, material: Material) -> Material:
        """Return what may be sent; the eyes are blacked out once for all questions about an event."""
        if not self._settings.redact_eyes:
            return material
        with self._lock:
            if self._redacted is None or self._redacted[0] is not material:
                self._redacted = material, redact_eyes(material)
            return self._redacted[1]

    def _model(self, deadline_s: float) -> tuple[str, str | None]:
        """Return (base model, LoRA adapter or None), asked of the server once."""
        with self._lock:
            if self._served is not None:
                return self._served
        offered = self._server.models(deadline_s)
        names = ", ".join(model.id for model in offered)
        wanted = self._settings.model
        bases = [model for model in offered if model.parent is None]
        if wanted is None and len(bases) != 1:
            raise UsageError(
                f"{self._settings.answerer}: serves {names or 'no model'}; choose one with --model (vqa.model)"
            )
        chosen = next((model for model in offered if wanted in (None, model.id)), None)
        if wanted is None:
            chosen = bases[0]
        if chosen is None:
            raise UsageError(
                f"{self._settings.answerer}: serves no model '{wanted}'; expected one of: {names or 'it serves none'}"
            )
        found = (chosen.id, None) if chosen.parent is None else (chosen.parent, chosen.id)
        with self._lock:
            self._served = found
        return found
