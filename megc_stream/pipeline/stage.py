"""What a stage is, and what takes the records of all stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from megc_stream.records import Record

__all__ = ["Sink", "Stage"]


class Stage(Protocol):
    """A plain object that turns records into records: no threads, no sockets, no clock but the one handed in.

    The runner calls ``process`` for each record in order, and ``flush`` once after the StreamEnd. What ``snapshot``
    returns lets an equal stage go on from there by ``restore``.
    """

    def process(self, record: Record) -> Iterable[Record]:
        """Take one record; return what follows from it, in order."""
        ...

    def flush(self) -> Iterable[Record]:
        """Return what was still open at the end of the stream."""
        ...

    def snapshot(self) -> bytes:
        """Return all state."""
        ...

    def restore(self, data: bytes) -> None:
        """Take over the state of a snapshot."""
        ...


class Sink(Protocol):
    """Takes the records of all stages, on one thread; what a subclass leaves out does nothing."""

    def write(self, record: Record) -> None:
        """Take one record."""
        return

    def advance(self, stage: str, frame: int) -> None:
        """Note that ``stage`` has handled ``frame`` and will send no event decided before it."""
        return

    def observe(self, stage: str, duration_s: float) -> None:
        """Note how long ``stage`` worked on one record, seconds."""
        return

    def note(self, text: str) -> None:
        """Take a sentence on the source that is known at its end."""
        return

    def tick(self) -> None:
        """Do what is due by the clock; called at least every 100 ms."""
        return
