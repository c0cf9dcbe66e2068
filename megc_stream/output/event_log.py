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

    Parameters
    ----------
    stages
        Names of all stages that push events; each must advance, or nothing leaves before :meth:`finish`.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._watermarks = dict.fromkeys(stages, -1)
        self._held: list[tuple[tuple[int, int, int], Event]] = []
        self._released_below = -1

    def push(self, event: Event) -> None:
        """Hold an event until its turn.

        Raises
        ------
        OutputError
            Every stage had already passed the event's ``decision_frame``: a stage broke its promise.
        """
        if event.decision_frame < self._released_below:
            raise OutputError(
                f"event {event.event_id} rev {event.rev}: decided at frame {event.decision_frame}, but every stage has "
                f"reported frame {self._released_below}; the log cannot keep its order: please report this as a bug"
            )
        heapq.heappush(self._held, ((event.decision_frame, event.event_number, event.rev), event))

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
        return self._release(None)

    def _release(self, below: int | None) -> list[Event]:
        released = []
        while self._held and (below is None or self._held[0][0][0] < below):
            released.append(heapq.heappop(self._held)[1])
        return released


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
