"""Hosting one stage between its links: the same code on a thread, in a process of its own, on another host.

Everything on a link is a numbered message: a :class:`Header`, then packed records. The reader numbers its messages 0,
1, 2, ...; every stage answers message n with exactly one message n, to the next stage and to the sinks. So whoever
receives knows what it has had before (a smaller number: passed over) and what is missing (a larger one). The number of
a message depends on the source alone, so a stage that is restored from a snapshot sends the same numbers again.

The reader puts a mark into the stream from time to time. Each stage stores its snapshot there and passes the mark on.
Every sender keeps what it has sent since the last mark that all have stored, and sends it again when told to.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from megc_stream.errors import MegcError, WireError
from megc_stream.packing import Unpacker, pack
from megc_stream.pipeline.stage import Stage
from megc_stream.records import Adjustment, Annotation, Crop, Event, Frame, Record, Score, StreamEnd, Trace
from megc_stream.wire import Aborted, Inlet, Outlet

if TYPE_CHECKING:  # a stage's process imports no more than its stage needs
    from megc_stream.capture import Source
    from megc_stream.face import FaceAnalyser

__all__ = ["Desk", "Header", "Insertion", "ReaderHost", "Sender", "StageHost", "unpack_header"]

_GAP_S = 1.0
"""How long a missing message may be on its way before it is reported."""
_WAIT_S = 0.005


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Goes before the records of a message: whose they are, their number, how far the stream is, how long it took.

    ``frame`` is the newest frame that the message depends on. ``costs`` are durations in seconds: of the stage, and
    ``capture``, the reader's wait for a frame with its decoding. ``state`` is "mark" for a message that asks for a
    snapshot, "jump" for one whose number follows on nothing (a live reader began anew), "end" for the last one,
    "failed" where a stage gave up. The reader's last message says what is known at the end: ``late`` counts the frames
    released more than 50 ms after their deadline, ``note`` is a sentence on the source ("" for none).
    """

    source: str
    stage: str
    n: int
    frame: int = -1
    costs: dict[str, float] = {}
    state: Literal["running", "mark", "jump", "end", "failed"] = "running"
    late: int = 0
    note: str = ""


unpack_header = Unpacker[Header](Header)


class Sender:
    """The sending side of a link that can go back: keeps what it sent since a mark.

    Parameters
    ----------
    connect
        Makes the outlet; called again for each :meth:`resend`, so that nothing old waits in its queue.
    keep
        Whether to keep anything at all: not where nobody can ask for it again.
    """

    def __init__(self, connect: Callable[[], Outlet], *, keep: bool) -> None:
        self._connect = connect
        self._outlet = connect()
        self._keep = keep
        self._kept: deque[tuple[int, Sequence[bytes]]] = deque()
        self._unsent: deque[Sequence[bytes]] = deque()

    def send(self, n: int, parts: Sequence[bytes]) -> None:
        """Send message ``n``; raises Aborted while the link is full and the stage has to look up."""
        self.put(n, parts)
        self.flush()

    def put(self, n: int, parts: Sequence[bytes]) -> None:
        """Take message ``n`` to be sent by the next :meth:`flush`."""
        if self._keep:
            self._kept.append((n, parts))
        self._unsent.append(parts)

    def flush(self) -> None:
        """Send what a broken-off :meth:`send` left."""
        while self._unsent:
            self._outlet.send_all(self._unsent[0])
            self._unsent.popleft()

    def resend(self, after: int) -> None:
        """Queue everything after message ``after`` once more, for a fresh connection."""
        self._outlet.close()
        self._outlet = self._connect()
        self._unsent = deque(parts for n, parts in self._kept if n > after)

    def trim(self, mark: int) -> None:
        """Forget the messages up to ``mark``."""
        while self._kept and self._kept[0][0] <= mark:
            self._kept.popleft()

    def close(self, linger_ms: int = 0) -> None:
        """Close the link."""
        self._outlet.close(linger_ms)


class StageHost:
    """One stage, its inlet, and its links to the next stage (None for the last one) and to the sinks.

    Parameters
    ----------
    source, name
        Whose stage it is.
    keep
        Gets number and snapshot at each mark.
    tolerant
        Count messages that cannot be understood and pass over them, instead of raising: the link comes from another
        process, and what is missing is sent again.
    """

    def __init__(
        self,
        source: str,
        name: str,
        stage: Stage,
        inlet: Inlet,
        following: Sender | None,
        sinks: Sender,
        keep: Callable[[int, bytes], None] = lambda n, snapshot: None,
        *,
        tolerant: bool = False,
    ) -> None:
        self.following = following
        self.sinks = sinks
        self.n = -1
        """Number of the last message taken."""
        self.idle = False
        """Whether it waits for a message."""
        self.ended = False
        self.gap = False
        """Whether a message is missing and has to be sent again."""
        self.malformed = 0
        """Messages that could not be understood."""
        self._tolerant = tolerant
        self._source = source
        self._name = name
        self._stage = stage
        self._inlet = inlet
        self._keep = keep
        self._unpack = Unpacker[Record](Record)
        self._missing_since_s: float | None = None

    def restore(self, n: int, snapshot: bytes | None) -> None:
        """Go on after message ``n`` from a snapshot, before the first :meth:`run`."""
        self.n = n
        if snapshot is not None:
            self._stage.restore(snapshot)

    def run(self) -> None:
        """Take messages until the end of the stream.

        Raises
        ------
        Aborted
            The abort flag of a link was set; may be called again.
        MegcError
            Whatever the stage raises.
        """
        self._flush()
        while not self.ended:
            self.idle = True
            parts = self._inlet.receive()
            self.idle = False
            try:
                header = unpack_header(parts[0])
                records = [self._unpack(part) for part in parts[1:]] if self._is_next(header) else None
            except WireError:
                if not self._tolerant:
                    raise
                self.malformed += 1
                continue
            if records is not None:
                self._take(header, parts, records)
        self._flush()

    def _flush(self) -> None:
        if self.following is not None:
            self.following.flush()
        self.sinks.flush()

    def _is_next(self, header: Header) -> bool:
        if header.n == self.n + 1 or (header.state == "jump" and header.n > self.n):
            self._missing_since_s = None
            self.gap = False
            return True
        if header.n > self.n:
            # Left over from before a restart, or one is lost: what is missing may be on its way already.
            now_s = time.monotonic()
            if self._missing_since_s is None:
                self._missing_since_s = now_s
            self.gap = now_s - self._missing_since_s > _GAP_S
        return False

    def _take(self, header: Header, parts: Sequence[bytes], records: Sequence[Record]) -> None:
        begin_s = time.perf_counter()
        onwards: list[bytes] = []
        told: list[bytes] = []
        for part, record in zip(parts[1:], records, strict=True):
            self._hand_on(self._stage.process(record), onwards, told)
            if isinstance(record, StreamEnd):
                self._hand_on(self._stage.flush(), onwards, told)
                onwards.append(part)
        costs = {self._name: time.perf_counter() - begin_s} if len(parts) > 1 else {}
        head = pack(
            Header(self._source, self._name, header.n, header.frame, costs, header.state)
            if costs
            else msgspec.structs.replace(header, stage=self._name, costs={})
        )
        if header.state == "mark":
            self._keep(header.n, self._stage.snapshot())
        if self.following is not None:
            self.following.put(header.n, [head, *onwards])
        self.sinks.put(header.n, [head, *told])
        self.n = header.n
        self.ended = header.state == "end"
        self._flush()

    def _hand_on(self, results: Iterable[Record], onwards: list[bytes], told: list[bytes]) -> None:
        for record in results:
            packed = pack(record)
            onwards.append(packed)
            if isinstance(record, Score | Trace | Event):
                told.append(packed)

    def close(self, linger_ms: int = 0) -> None:
        """Close all links."""
        self._inlet.close()
        for sender in (self.following, self.sinks):
            if sender is not None:
                sender.close(linger_ms)


class Insertion(msgspec.Struct, frozen=True):
    """A remark or an adjustment on its way into the stream: before ``frame``, or before the next one (None)."""

    id: int
    record: Annotation | Adjustment
    frame: int | None = None


class Desk:
    """Where others leave what the reader puts into the stream before its next frame; any thread may call."""

    def __init__(self, placed: Callable[[int, int], None] = lambda number, frame: None) -> None:
        self._waiting: deque[Insertion] = deque()
        self._placed = placed

    def leave(self, insertion: Insertion) -> None:
        """Leave a record."""
        self._waiting.append(insertion)

    def take(self, crop: Crop) -> list[Annotation | Adjustment]:
        """Return what belongs before ``crop``, stamped with its frame and time."""
        if not self._waiting:
            return []
        taken = []
        for _ in range(len(self._waiting)):
            insertion = self._waiting.popleft()
            if insertion.frame is not None and insertion.frame > crop.frame:
                self._waiting.append(insertion)
                continue
            self._placed(insertion.id, crop.frame)
            taken.append(
                msgspec.structs.replace(
                    insertion.record, source=crop.source, frame=crop.frame, t_capture_s=crop.t_capture_s
                )
            )
        return taken


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """The reader's snapshot: the last frame it has read, how many came before, and the state of the face analysis."""

    frame: int
    face: bytes


class ReaderHost:
    """The first stage: source and face analysis, and its links to the next stage and to the sinks.

    Parameters
    ----------
    name
        Whose reader it is: the name of the source in the graph.
    mark_every
        Frames between two marks; None sets none.
    keep
        Gets number and snapshot at each mark.
    most_kept
        Messages sent and not yet covered by a mark that all have stored, before the reader waits.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        face: FaceAnalyser,
        following: Sender,
        sinks: Sender,
        abort: threading.Event,
        desk: Desk,
        *,
        mark_every: int | None = None,
        keep: Callable[[int, bytes], None] = lambda n, snapshot: None,
    ) -> None:
        self.following = following
        self.sinks = sinks
        self.n = -1
        self.frame = -1
        self.idle = False
        self.ended = False
        self.gap = False
        self.stored = -1
        """Newest mark that all have stored; whoever runs the reader moves it."""
        self.error: MegcError | None = None
        """What ended the source early; what was read is still analysed."""
        self._name = name
        self._source = source
        self._face = face
        self._abort = abort
        self._desk = desk
        self._mark_every = mark_every
        self._keep = keep
        self._jump = False
        self._missed = 0
        self._shift: int | None = None
        self._messages = self._read()

    def restore(self, n: int, snapshot: bytes | None) -> None:
        """Go on after mark ``n``, before the first :meth:`run`: what came before is read over, not analysed."""
        self.n = self.stored = n
        if snapshot is not None:
            place = msgspec.msgpack.decode(snapshot, type=_Place)
            self.frame = place.frame
            self._face.restore(place.face)
            self._source.skip(place.frame)

    def jump(self, n: int, frame: int, missed: int) -> None:
        """Go on with a live source after message ``n`` and ``frame``, of which the last ``missed`` did not come."""
        self.n = self.stored = n
        self.frame = frame
        self._missed = missed
        self._jump = True

    def run(self) -> None:
        """Read until the end of the source; as :meth:`StageHost.run`."""
        self._flush()
        while not self.ended:
            self._wait_for_marks()
            header, parts = next(self._messages)
            if header.state == "end" and self._abort.is_set():
                # The source was stopped because the pipeline comes down: that is no end of the stream.
                self._messages = iter([(header, parts)])
                raise Aborted("the pipeline was stopped")
            message = [pack(header), *parts]
            self.n, self.frame = header.n, header.frame
            self.ended = header.state == "end"
            self.following.put(header.n, message)
            self.sinks.put(header.n, message)
            self._flush()

    def _flush(self) -> None:
        self.following.flush()
        self.sinks.flush()

    def _wait_for_marks(self) -> None:
        if self._mark_every is None:
            return
        while self.n - self.stored > 4 * (self._mark_every + 1):
            if self._abort.is_set():
                raise Aborted("the reader was stopped while it waited for the others to store their snapshots")
            time.sleep(_WAIT_S)
        for sender in (self.following, self.sinks):
            sender.trim(self.stored)

    def _read(self) -> Iterator[tuple[Header, list[bytes]]]:
        """Yield the messages of the source, in order."""
        n = self.n
        if n < 0:
            n += 1
            yield Header(self._name, "reader", n), [pack(self._source.info)]
        elif self._jump:
            n += 1
            yield Header(self._name, "reader", n, self.frame, state="jump"), []
        frames = self._source.frames()
        since_mark = 0
        last = self.frame
        looked_at = None
        while (taken := self._next_frame(frames)) is not None:
            frame, wait_s = taken
            begin_s = time.perf_counter()
            crop = self._face.process(frame)
            region = self._face.region
            if region != looked_at:
                self._source.look_at(region)
                looked_at = region
            last = crop.frame
            n += 1
            records = [*self._desk.take(crop), crop]
            packed = [pack(record) for record in records]
            costs = {"capture": wait_s, "reader": time.perf_counter() - begin_s}
            if frame.decode_s > 0:
                costs["decode"] = frame.decode_s
            yield Header(self._name, "reader", n, last, costs), packed
            since_mark += 1
            if since_mark == self._mark_every:
                since_mark = 0
                n += 1
                self._keep(n, msgspec.msgpack.encode(_Place(last, self._face.snapshot())))
                yield Header(self._name, "reader", n, last, state="mark"), []
        note = "" if self._source.clock_fit is None else str(self._source.clock_fit)
        end = Header(self._name, "reader", n + 1, last, state="end", late=self._source.late, note=note)
        yield end, [pack(self._source.end)]

    def _next_frame(self, frames: Iterator[Frame]) -> tuple[Frame, float] | None:
        begin_s = time.perf_counter()
        try:
            frame = next(frames, None)
        except MegcError as error:
            self.error = error
            return None
        if frame is None:
            return None
        if self._jump:
            # The camera counts from 0 again: go on with the numbers from before, after the frames that were missed.
            if self._shift is None:
                self._shift = self.frame + 1 - frame.frame
                frame = msgspec.structs.replace(frame, dropped={**frame.dropped, "restart": self._missed})
            frame = msgspec.structs.replace(frame, frame=frame.frame + self._shift, number=frame.number + self._shift)
        return frame, time.perf_counter() - begin_s

    def close(self, linger_ms: int = 0) -> None:
        """Close the links."""
        self.following.close(linger_ms)
        self.sinks.close(linger_ms)
