"""Progress of a run or of any count: a bar on a terminal, a plain line every few seconds otherwise."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from megc_stream.cli.console import note
from megc_stream.pipeline.stage import Sink
from megc_stream.records import Answer, Crop, Event, Record, StreamInfo

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["CountProgress", "RunProgress"]

_PLAIN_EVERY_S = 5.0


class CountProgress:
    """Shows how many of ``total`` are done. Context manager; ``update`` takes the count so far."""

    def __init__(self, label: str, unit: str = "frames") -> None:
        self._label = label
        self._unit = unit
        self._bar = _bar(label) if sys.stderr.isatty() else None
        self._began_s = self._said_s = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int | None) -> None:
        """Show ``done`` of ``total`` (None when unknown)."""
        now_s = time.monotonic()
        speed = f"{done / max(now_s - self._began_s, 1e-3):.0f} {self._unit}/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, speed=speed)
        elif now_s - self._said_s >= _PLAIN_EVERY_S:
            self._said_s = now_s
            note(f"{self._label}: {done}{f' of {total}' if total else ''} {self._unit}, {speed}")

    def by_steps(self, prefix: str = "") -> Callable[[str, int, int], None]:
        """Return a callback (step, done, total) that names each step of the work once and counts within it."""
        current = ""

        def show(step: str, done: int, total: int) -> None:
            nonlocal current
            if step != current:
                current = step
                self.line(f"{prefix}{step}: {total}" + (f", {done} there already" if done else ""))
            self(done, total)

        return show

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            note(text)


def _bar(label: str) -> Progress:
    """Return a bar with one task."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(label, total=None, speed="")
    return bar


class RunProgress(Sink):
    """A sink that shows how far a run is, the frames of all its sources together, and each event as it is decided."""

    def __init__(self, progress: CountProgress, max_seconds: float | None = None) -> None:
        self._progress = progress
        self._max_seconds = max_seconds
        self._total: int | None = 0
        self._done = 0
        # Of live sources, the time of their first frame: theirs is the host's clock, which begins anywhere.
        self._zero_s: dict[str, float | None] = {}

    def write(self, record: Record) -> None:
        """Count crops; tell of labelled events and of answers."""
        match record:
            case StreamInfo():
                frames = record.frames
                if self._max_seconds is not None and frames is not None:
                    frames = min(frames, math.ceil(self._max_seconds * record.fps))
                self._total = None if self._total is None or frames is None else self._total + frames
                if record.live:
                    self._zero_s[record.source] = None
            case Crop():
                if self._zero_s.get(record.source, 0.0) is None:
                    self._zero_s[record.source] = record.t_capture_s
                self._done += 1
                self._progress(self._done, self._total)
            case Event(kind="label"):
                self._progress.line(describe(record, self._zero_s.get(record.source) or 0.0))
            case Event(kind="answer", final=True):
                for answer in record.answers:
                    self._progress.line(describe_answer(record, answer, self._zero_s.get(record.source) or 0.0))


def describe(event: Event, zero_s: float = 0.0) -> str:
    """Return one line about a finished event, with its time since ``zero_s``."""
    assert event.offset is not None
    share = event.probabilities.get(event.emotion or "", 0.0)
    named = f"{event.emotion} ({share:.0%})" if event.emotion else "no emotion named"
    return (
        f"{event.onset.t_s - zero_s:8.2f} s  {event.offset.t_s - event.onset.t_s:5.2f} s long  "
        f"{event.type}-expression, {named}, frames {event.onset.number}-{event.offset.number}"
    )


def describe_answer(event: Event, answer: Answer, zero_s: float = 0.0) -> str:
    """Return one line about an answer: what was asked of which event, what the answer is, and whose it is."""
    whose = "measured"
    if answer.by == "served":
        whose = f"written by {answer.evidence.get('lora') or answer.evidence.get('model')}"
    elif answer.fallback:
        whose = f"measured, for want of the model: {answer.fallback}"
    return f"{event.onset.t_s - zero_s:8.2f} s  {answer.question} {answer.answer} ({whose})"
