"""The event log ``events.jsonl``: every revision of every event, in an order that does not depend on timing."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

import msgspec

from megc_stream.errors import OutputError
from megc_stream.output._files import LineFile
from megc_stream.records import Event

__all__ = ["EventLog", "EventMerger"]


class EventMerger:
    """Orders the events of several stages by (decision_frame, event_number, rev), however their records interleave.

    Every stage has a watermark: the newest frame that it has processed. Having reached frame f, a stage pushes no more
    events decided before f (it may still push events decided at f). An event leaves once all watermarks are past its
    ``decision_frame``, so the order of the output is a function of the events alone.

    Late revisions (``run["late"]``), the answers of a served model, come whenever they come: such a revision leaves at
    once if the one before it has left, else right after it.

    Parameters
    ----------
    stages
        Names of all stages that push events; each must advance, or nothing leaves before :meth:`finish`.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._watermarks = dict.fromkeys(stages, -1)
        self._held: list[tuple[tuple[int, int, int], Event]] = []
        self._released_below = -1
        # By event_id: the newest revision that left, of events not final yet, and late revisions whose turn it is not.
        self._left: dict[str, int] = {}
        self._late: dict[str, list[Event]] = {}

    def push(self, event: Event) -> list[Event]:
        """Hold an event until its turn; return what may leave at once, which only a late revision may.

        Raises
        ------
        OutputError
            Every stage had already passed the event's ``decision_frame``: a stage broke its promise.
        """
        if event.run.get("late"):
            self._late.setdefault(event.event_id, []).append(event)
            return self._late_of(event.event_id)
        if event.decision_frame < self._released_below:
            raise OutputError(
                f"event {event.event_id} rev {event.rev}: decided at frame {event.decision_frame}, but every stage has "
                f"reported frame {self._released_below}; the log cannot keep its order: please report this as a bug"
            )
        heapq.heappush(self._held, ((event.decision_frame, event.event_number, event.rev), event))
        return []

    def advance(self, stage: str, frame: int) -> list[Event]:
        """Note that ``stage`` has processed ``frame``; return the events whose turn has come, in order.

        Raises
        ------
        OutputError
            The stage was not named at the start.
        """
        if stage not in self._watermarks:
            raise OutputError(f"stage '{stage}': unknown to the event log, which waits for {sorted(self._watermarks)}")
        self._watermarks[stage] = max(self._watermarks[stage], frame)
        self._released_below = min(self._watermarks.values())
        return self._release(self._released_below)

    def finish(self) -> list[Event]:
        """Return all events still held, in order: no stage will push any more."""
        released = self._release(None)
        left_over = [event for waiting in self._late.values() for event in waiting]
        self._late.clear()
        return released + sorted(left_over, key=lambda event: (event.decision_frame, event.event_number, event.rev))

    def _release(self, below: int | None) -> list[Event]:
        released = []
        while self._held and (below is None or self._held[0][0][0] < below):
            event = heapq.heappop(self._held)[1]
            released.append(event)
            self._note(event)
            released += self._late_of(event.event_id)
        return released

    def _late_of(self, event_id: str) -> list[Event]:
        """Return the late revisions of an event that follow on from what has left."""
        released = []
        waiting = self._late.get(event_id, [])
        while event_id in self._left and (
            following := next((event for event in waiting if event.rev == self._left[event_id] + 1), None)
        ):
            waiting.remove(following)
            released.append(following)
            self._note(following)
        if not waiting:
            self._late.pop(event_id, None)
        return released

    def _note(self, event: Event) -> None:
        if event.final:
            self._left.pop(event.event_id, None)
        else:
            self._left[event.event_id] = event.rev


class EventLog:
    """Writes events as JSON, one object a line: fields in the order of :class:`Event` (``run`` last), maps by key.

    A line is on its way to the disk when :meth:`write` returns.

    Raises
    ------
    OutputError
        The file cannot be created or written; the lines before stay whole.
    """

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path)
        self._encoder = msgspec.json.Encoder(order="deterministic")

    def write(self, event: Event) -> None:
        """Append one event."""
        self._file.write(self._encoder.encode(event) + b"\n")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()
