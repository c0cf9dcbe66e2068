"""From the messages of all stages to the sinks: each message once, in the order of its stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from megc_stream.errors import WireError
from megc_stream.packing import Unpacker
from megc_stream.pipeline.hosting import Header, unpack_header
from megc_stream.pipeline.stage import Sink
from megc_stream.records import Event, Record

__all__ = ["Feed"]


class Feed:
    """Hands messages on to the sinks of their source.

    Parameters
    ----------
    sinks
        By source.
    stages
        Names of all stages of each source, the reader first.
    tolerant
        Count messages that cannot be understood and pass over them, instead of raising: they come from another
        process, and what is missing is sent again.
    """

    def __init__(
        self, sinks: Mapping[str, Sequence[Sink]], stages: Mapping[str, Sequence[str]], *, tolerant: bool = False
    ) -> None:
        self.sinks = sinks
        self.malformed = 0
        """Messages that could not be understood."""
        self._tolerant = tolerant
        self.taken = {(source, stage): -1 for source, names in stages.items() for stage in names}
        """Number of the last message of each stage."""
        self.marks: dict[str, int] = dict.fromkeys(stages, -1)
        """By source, the newest mark that came from all its stages."""
        self.late = dict.fromkeys(stages, 0)
        """By source, frames released more than 50 ms after their deadline."""
        self.gaps: set[tuple[str, str]] = set()
        """Stages of which a message is missing."""
        self.running = set(self.taken)
        self._stages = stages
        self._marks = dict.fromkeys(self.taken, -1)
        self._unpack = Unpacker[Record](Record)
        self._had: set[tuple[str, int]] = set()

    def take(self, parts: Sequence[bytes]) -> tuple[Header, list[Record]] | None:
        """Take a message; return it opened, or None where it is not the next one of its stage."""
        try:
            header = unpack_header(parts[0])
            records = [self._unpack(part) for part in parts[1:]]
        except WireError:
            if not self._tolerant:
                raise
            self.malformed += 1
            return None
        key = (header.source, header.stage)
        if key not in self.taken:
            return None
        expected = self.taken[key] + 1
        if header.n < expected:
            if header.state == "end":
                self.running.discard(key)
            self._late_answers(header, records)
            return None
        if header.n > expected and header.state not in ("jump", "failed"):
            self.gaps.add(key)
            return None
        self.gaps.discard(key)
        self.taken[key] = header.n
        self._deliver(header, records)
        if header.state == "mark":
            self._marks[key] = header.n
            self.marks[header.source] = min(self._marks[header.source, stage] for stage in self._stages[header.source])
        elif header.state in ("end", "failed"):
            self.late[header.source] += header.late
            self.running.discard(key)
        return header, records

    def ended(self, source: str) -> bool:
        """Return whether every stage of a source has come to its end."""
        return all((source, stage) not in self.running for stage in self._stages[source])

    def _deliver(self, header: Header, records: Sequence[Record]) -> None:
        sinks = self.sinks[header.source]
        for record in records:
            if isinstance(record, Event) and record.run.get("late"):
                self._had.add((record.event_id, record.rev))
            for sink in sinks:
                sink.write(record)
        for sink in sinks:
            if header.frame >= 0:
                sink.advance(header.stage, header.frame)
            for what, duration_s in header.costs.items():
                sink.observe(what, duration_s)
            if header.note:
                sink.note(header.note)

    def _late_answers(self, header: Header, records: Sequence[Record]) -> None:
        """Deliver the answers of a served model in a message that was had before: they come whenever they come."""
        for record in records:
            if isinstance(record, Event) and record.run.get("late") and (record.event_id, record.rev) not in self._had:
                self._had.add((record.event_id, record.rev))
                for sink in self.sinks[header.source]:
                    sink.write(record)
