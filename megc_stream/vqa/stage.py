"""The question stage: what is asked of every event, answered when its label comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from megc_stream.clock import Clock
from megc_stream.errors import UsageError
from megc_stream.packing import Unpacker, pack
from megc_stream.records import Answer, Crop, Event, Record, StreamInfo
from megc_stream.settings import Settings
from megc_stream.vqa.embedded import EmbeddedAnswerer
from megc_stream.vqa.gathering import CropMemory, known_event, solver_of
from megc_stream.vqa.material import Material, material_of_event, with_strongest_apex
from megc_stream.vqa.questions import LVQA_KINDS, kind_of, worded_for

__all__ = ["Answerer", "LateAnswers", "VqaStage"]

_RESTARTED = "the question stage was started again while the server was being asked"


class Answerer(Protocol):
    """Answers questions about material."""

    def answer(self, question: str, material: Material) -> Answer:
        """Return the answer to one question."""
        ...


class LateAnswers(Protocol):
    """Finishes events beside the pipeline, see :class:`megc_stream.vqa.asking.Asker`."""

    def submit(self, event: Event, material: Material) -> None:
        """Take an event whose embedded answers are to be replaced; return at once."""
        ...

    def collect(self) -> list[Event]:
        """Return the events finished since the last call."""
        ...

    def drain(self, timeout_s: float | None = None) -> list[Event]:
        """Wait for all that are still out, and return them."""
        ...


class _State(msgspec.Struct, kw_only=True):
    info: StreamInfo | None = None
    memory: CropMemory
    out: dict[str, Event] = {}
    """Events handed to ``late`` that have not come back, as they were then, by event_id."""


class VqaStage:
    """Answers the questions of the settings about every labelled event.

    A stage: ``process`` takes whatever the recogniser sends, crops among it; a label gives an ``answer`` revision with
    ``aus`` and ``answers``. Questions about action units are put in the singular or the plural as the number seen is.
    Without ``late`` that is the last revision. With it the event is handed over, and its last revision, made beside the
    pipeline and marked ``run["late"]``, comes out of a later call; nothing here waits for it but ``flush``.

    Parameters
    ----------
    settings
        ``vqa.questions``, ``flow`` and ``spotting`` are used.
    clock
        Stamps ``run.t_event_s``.
    late
        Who asks the served model; None leaves it at the embedded answers.
    dataset
        Whose fine-grained classes are answered, e.g. "samm"; "" allows all.
    answerer
        Who answers at once; :class:`EmbeddedAnswerer` without it.

    Raises
    ------
    UsageError
        A question is one about a whole video.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        late: LateAnswers | None = None,
        *,
        dataset: str = "",
        answerer: Answerer | None = None,
    ) -> None:
        for question in settings.vqa.questions:
            if kind_of(question) in LVQA_KINDS:
                raise UsageError(
                    f"question '{question}': is about a whole video, not one event; ask it with 'megc-stream vqa ask'"
                )
        self._settings = settings
        self._clock = clock
        self._late = late
        self._dataset = dataset
        self._answerer: Answerer = answerer or EmbeddedAnswerer()
        self._solver = solver_of(settings.flow)
        self._state = self._fresh(None)
        self._abandoned: list[Event] = []
        self._unpack = Unpacker[_State](_State)

    def process(self, record: Record) -> Iterable[Record]:
        """Take one record and return the answers that follow from it, and those that have arrived meanwhile."""
        if isinstance(record, StreamInfo):
            self._state = self._fresh(record)
        elif isinstance(record, Crop):
            self._state.memory.add(record)
        elif isinstance(record, Event) and record.kind == "label":
            return [*self._finished(), self._answered(record)]
        return list(self._finished())

    def flush(self) -> Iterable[Record]:
        """Wait for the answers that are still out."""
        yield from self._finished()
        if self._late is not None:
            for event in self._late.drain():
                self._state.out.pop(event.event_id, None)
                yield event

    def snapshot(self) -> bytes:
        """Return all state as bytes; answers that are out are not part of it."""
        return pack(self._state)

    def restore(self, data: bytes) -> None:
        """Take over the state of :meth:`snapshot`; events that were out then are finished by their embedded answers."""
        self._state = self._unpack(data)
        self._abandoned = list(self._state.out.values())
        self._state.out = {}

    def _fresh(self, info: StreamInfo | None) -> _State:
        fps = 30.0 if info is None else info.fps
        return _State(info=info, memory=CropMemory(kept_s=CropMemory.span_s(self._settings), fps=fps))

    def _answered(self, label: Event) -> Event:
        info = self._state.info
        if info is None:
            raise UsageError(f"vqa: event {label.event_id} came before the StreamInfo record; expected that first")
        crops = self._state.memory.crops
        known = with_strongest_apex(crops, known_event(label, label.event_number), self._solver)
        material = material_of_event(info, crops, known, self._solver, self._dataset)
        event = msgspec.structs.replace(
            label,
            kind="answer",
            rev=label.rev + 1,
            final=self._late is None,
            aus=tuple(unit.code for unit in sorted(material.units, key=lambda unit: unit.number)),
            answers=tuple(
                self._answerer.answer(worded_for(question, len(material.units)), material)
                for question in self._settings.vqa.questions
            ),
            run={**label.run, "t_event_s": self._clock.now_s()},
        )
        if self._late is not None:
            self._state.out[event.event_id] = event
            self._late.submit(event, material)
        return event

    def _finished(self) -> Iterator[Event]:
        abandoned, self._abandoned = self._abandoned, []
        for event in abandoned:
            yield msgspec.structs.replace(
                event,
                rev=event.rev + 1,
                final=True,
                answers=tuple(msgspec.structs.replace(answer, fallback=_RESTARTED) for answer in event.answers),
                run={**event.run, "t_event_s": self._clock.now_s(), "late": True},
            )
        if self._late is not None:
            for event in self._late.collect():
                self._state.out.pop(event.event_id, None)
                yield event
