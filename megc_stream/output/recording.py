"""Recordings: published messages in a file that survives the death of its writer at any byte.

    magic  record  record  ...           one record = marker (4) | length (4) | CRC-32 (4) | payload (length bytes)

Integers are little-endian; the checksum covers length and payload; the payload is a msgpack map, told apart by its key
``record``. The marker begins with 0xC1, a byte that msgpack never uses, so a reader finds the next record after
damage. Beside the file lies an index (:mod:`megc_stream.output.recording_index`) that can be made again at any time.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, TypeAlias

import msgspec

from megc_stream.clock import Clock, MonotonicClock
from megc_stream.errors import DataError, OutputError, UsageError
from megc_stream.output._files import append_whole, writing
from megc_stream.output.recording_index import IndexWriter, read_index, write_index
from megc_stream.packing import UNREADABLE

if sys.platform != "win32":
    import fcntl

__all__ = [
    "FORMAT_VERSION",
    "MAGIC",
    "Damage",
    "Entry",
    "Fsync",
    "Payload",
    "RecordedMessage",
    "RecordingEnd",
    "RecordingHeader",
    "RecordingJoin",
    "RecordingLoss",
    "RecordingReader",
    "RecordingWriter",
    "parse_fsync",
]

FORMAT_VERSION = 1
MAGIC = b"\x89MEGCR1\n"
_MARKER = b"\xc1REC"
_HEAD = struct.Struct("<4sII")
_CHUNK = 1 << 20
_ELSEWHERE = "record into another folder"
# Far above the largest wire message; a length beyond it is damage.
_LARGEST = 1 << 28

Fsync: TypeAlias = Literal["always", "never"] | float
"""When messages are forced onto the disk: every message, never, or every so many seconds."""


class _Payload(msgspec.Struct, frozen=True, kw_only=True, tag_field="record"):
    """Base of what a record may hold."""


class RecordingHeader(_Payload, frozen=True, kw_only=True, tag="header"):
    """The first record.

    ``version`` of the file format; ``recorder`` identifies the recording (32 hex digits, also its name towards the
    publisher); ``session`` and ``schema`` of the stream that was joined first, ``endpoint`` where, ``numbering`` what
    the numbers ``n`` belong to; ``began_unix_s`` is the zero of all ``t_s`` in the file; ``unix_minus_clock_s`` leads
    from times in the messages to Unix time; ``topics`` are the prefixes asked for (empty: everything).
    """

    version: int = FORMAT_VERSION
    recorder: str
    session: str
    schema: str
    numbering: str = ""
    endpoint: str = ""
    began_unix_s: float
    unix_minus_clock_s: float = 0.0
    software: str = ""
    topics: tuple[str, ...] = ()


class RecordingJoin(_Payload, frozen=True, kw_only=True, tag="joined"):
    """The recorder joined: from here on, numbers belong to ``numbering`` and begin with ``next_n``."""

    t_s: float
    session: str
    schema: str
    numbering: str = ""
    next_n: int
    why: str
    unix_minus_clock_s: float = 0.0


class RecordedMessage(_Payload, frozen=True, kw_only=True, tag="message"):
    """One published message.

    ``n`` is its number in the session, ``after`` that of the message it follows in the recording, so a break in
    the chain shows a loss; ``t_s`` is the time of arrival in seconds since ``began_unix_s``; ``parts`` are the parts
    of the wire message, byte for byte.
    """

    n: int
    after: int
    t_s: float
    parts: tuple[bytes, ...]


class RecordingLoss(_Payload, frozen=True, kw_only=True, tag="lost"):
    """Messages from ``first_n`` to ``last_n`` of the session are missing, and why."""

    t_s: float
    first_n: int
    last_n: int
    why: str


class RecordingEnd(_Payload, frozen=True, kw_only=True, tag="end"):
    """The recorder ended in good order: "over" (the stream was), "stopped" (by the user), or what went wrong."""

    t_s: float
    messages: int
    why: str


Payload: TypeAlias = RecordingHeader | RecordingJoin | RecordedMessage | RecordingLoss | RecordingEnd


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that are no valid record: from ``offset``, ``length`` of them. ``torn``: a record cut off by the end."""

    offset: int
    length: int
    torn: bool = False
    why: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at ``offset`` of a recording."""

    offset: int
    item: Payload | Damage


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Payload] = msgspec.msgpack.Decoder(Payload)


def parse_fsync(text: str) -> Fsync:
    """Return the policy named by ``text``: "always", "never", or a number of milliseconds.

    Raises
    ------
    UsageError
        It is neither.
    """
    if text == "always":
        return "always"
    if text == "never":
        return "never"
    try:
        interval_s = float(text) / 1000
    except ValueError:
        interval_s = math.nan
    if not 0 < interval_s < math.inf:
        raise UsageError(f"fsync '{text}': expected always, never or a number of milliseconds > 0 such as 500")
    return interval_s


def _framed(payload: Payload) -> bytes:
    packed = _encoder.encode(payload)
    size = len(packed)
    return _HEAD.pack(_MARKER, size, _checksum(size, packed)) + packed


def _checksum(size: int, packed: bytes) -> int:
    return zlib.crc32(packed, zlib.crc32(size.to_bytes(4, "little")))


class RecordingWriter:
    """Appends messages to a recording; belongs to one thread.

    A message is handed to the system when :meth:`append` returns, so the death of this process cannot take it back.
    :meth:`sync` forces it onto the disk as the policy says; what it returns may be acknowledged. A record that does
    not fit on the disk is taken back, so the file stays valid.

    Parameters
    ----------
    path
        The file; made anew with ``header``, or continued where ``header`` is None: then a record torn at the end is cut
        off first, and ``header``, ``numbering`` and ``last_n`` tell where the recording stands.
    fsync
        See :data:`Fsync`.
    overwrite
        Replace a file that is already there.
    clock
        Measures times of arrival and the interval of ``fsync``.

    Raises
    ------
    UsageError
        The file is there already, or is being written by another process.
    OutputError
        It cannot be created or written.
    DataError
        It cannot be continued: not a recording.
    """

    def __init__(
        self,
        path: Path,
        header: RecordingHeader | None,
        *,
        fsync: Fsync = 0.5,
        overwrite: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.path = path
        self.messages = 0
        self.last_n = -1
        self.numbering = ""
        self.durable_n = -1
        """Number of the last message that is as safe as the policy makes it."""
        self._fsync = fsync
        self._clock = clock or MonotonicClock()
        self._index: IndexWriter | None = None
        began_s = self._clock.now_s()
        if header is not None:
            self._file = _create(path, overwrite)
            self.header, self._zero_s, self._size = header, began_s, 0
            self.numbering = header.numbering
        else:
            self._file = _continue(path)
            try:
                self.header, elapsed_s = self._take_stock()
            except BaseException:
                self._file.close()
                raise
            self._zero_s = began_s - elapsed_s
        self._synced_s = began_s
        try:
            if header is not None:
                self._write(MAGIC)
                self.note(header)
            self._index = IndexWriter(path, self.header.recorder, fresh=header is not None)
            self.sync(force=True)
            if header is not None and self._fsync != "never":
                _sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    def _take_stock(self) -> tuple[RecordingHeader, float]:
        """Find out where an existing file ends; cut off a torn record. Return header and time since the beginning."""
        header: RecordingHeader | None = None
        t_s, torn_at = 0.0, None
        marks: list[tuple[int, float]] = []
        with RecordingReader(self.path) as reader:
            for entry in reader.entries():
                match entry.item:
                    case RecordingHeader():
                        header = header or entry.item
                        self.numbering = entry.item.numbering
                    case RecordingJoin():
                        self.numbering, self.last_n, t_s = entry.item.numbering, entry.item.next_n - 1, entry.item.t_s
                    case RecordedMessage():
                        self.messages += 1
                        self.last_n, t_s = entry.item.n, entry.item.t_s
                        marks.append((entry.offset, t_s))
                    case RecordingLoss():
                        self.last_n, t_s = entry.item.last_n, entry.item.t_s
                    case RecordingEnd():
                        t_s = entry.item.t_s
                    case Damage(torn=True):
                        torn_at = entry.offset
        if header is None:
            raise DataError(f"{self.path}: its header is damaged, it cannot be continued; record into a new file")
        with writing(self.path, _ELSEWHERE):
            if torn_at is not None:
                self._file.truncate(torn_at)
            self._size = self._file.seek(0, os.SEEK_END)
        write_index(self.path, header.recorder, marks)
        self.durable_n = self.last_n
        # The pause counts: t_s goes on in wall-clock time, never back.
        return header, max(t_s, time.time() - header.began_unix_s)

    def now_s(self) -> float:
        """Return the seconds since the recording began."""
        return self._clock.now_s() - self._zero_s

    def append(self, n: int, after: int, parts: tuple[bytes, ...]) -> None:
        """Write one message.

        Raises
        ------
        OutputError
            The disk is full or fails; the file is as before the call.
        """
        t_s = self.now_s()
        offset = self._size
        self.note(RecordedMessage(n=n, after=after, t_s=t_s, parts=parts))
        if self._index is not None:
            self._index.add(offset, t_s, self.messages)
        self.messages += 1
        self.last_n = n

    def note(self, payload: Payload) -> None:
        """Write any record; see :meth:`append`."""
        self._write(_framed(payload))
        if isinstance(payload, RecordingJoin):
            self.numbering, self.last_n = payload.numbering, payload.next_n - 1
            self.durable_n = self.last_n
        elif isinstance(payload, RecordingLoss):
            self.last_n = payload.last_n

    def due_in_s(self) -> float:
        """Return how long the next :meth:`sync` can wait, seconds; infinite where nothing waits for it."""
        if self.last_n == self.durable_n:
            return math.inf
        return 0.0 if isinstance(self._fsync, str) else self._synced_s + self._fsync - self._clock.now_s()

    def sync(self, *, force: bool = False) -> int:
        """Make what was written as safe as the policy says, if it is time or ``force``; return ``durable_n``.

        Raises
        ------
        OutputError
            The disk fails.
        """
        if force or self.due_in_s() <= 0:
            if self._fsync != "never":
                with writing(self.path, _ELSEWHERE):
                    os.fsync(self._file.fileno())
            self._synced_s = self._clock.now_s()
            self.durable_n = self.last_n
        return self.durable_n

    def close(self, why: str = "stopped") -> None:
        """Write why the recording ends, as far as there is room, and close; a second call does nothing."""
        if self._file.closed:
            return
        try:
            # Where the disk is full, the file stays valid without this record.
            with contextlib.suppress(OutputError):
                self.note(RecordingEnd(t_s=self.now_s(), messages=self.messages, why=why))
            self.sync(force=True)
        finally:
            if self._index is not None:
                self._index.close()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close("stopped" if error is None else "failed")

    def _write(self, data: bytes) -> None:
        with writing(self.path, _ELSEWHERE):
            self._size = append_whole(self._file, data, self._size)


def _create(path: Path, overwrite: bool) -> BinaryIO:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; expected a file such as {path / 'session.megc'}")
    with writing(path, _ELSEWHERE):
        try:
            if overwrite and path.exists():
                # Whoever writes it keeps it: only a recording that nobody writes is replaced.
                _lock(path.open("rb+", buffering=0), path).close()
                path.unlink()
            file = path.open("xb", buffering=0)
        except FileExistsError as error:
            raise UsageError(f"{path}: is there already; choose another name, --append or --overwrite") from error
    return _lock(file, path)


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file safe, where the system can."""
    if sys.platform != "win32":
        with writing(folder, _ELSEWHERE):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _continue(path: Path) -> BinaryIO:
    with writing(path, _ELSEWHERE):
        return _lock(path.open("rb+", buffering=0), path)


def _lock(file: BinaryIO, path: Path) -> BinaryIO:
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise UsageError(f"{path}: is being recorded by another process; choose another file") from error
    return file


class RecordingReader:
    """Reads a recording, whole, unfinished or damaged.

    Parameters
    ----------
    path
        The file; it may still be growing, and is read as far as it goes when a pass begins.

    Raises
    ------
    DataError
        The file cannot be opened, or holds no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror}); expected a recording (.megc)") from error
        try:
            first = next((e.item for e in self.entries() if not isinstance(e.item, Damage)), None)
        except BaseException:
            self._file.close()
            raise
        if first is None:
            size = self.size
            self._file.close()
            raise DataError(f"{path}: holds no record of a recording in its {size} bytes; expected a file of 'record'")
        self.header: RecordingHeader | None = first if isinstance(first, RecordingHeader) else None
        """The header; None where it is damaged."""

    @property
    def size(self) -> int:
        """Length of the file now, bytes."""
        return os.fstat(self._file.fileno()).st_size

    def entries(self, offset: int = 0) -> Iterator[Entry]:
        """Yield what the file holds, in order, from ``offset`` (0, or that of a record): payloads and damage."""
        size = self.size
        position = offset
        if offset == 0:
            if self._bytes(0, len(MAGIC)) == MAGIC:
                position = len(MAGIC)
            elif size < len(MAGIC):
                yield Entry(offset=0, item=Damage(offset=0, length=size, torn=True, why="magic cut off"))
                return
        while position < size:
            packed = self._packed(position, size)
            if packed is None:
                following = self._next_valid(position + 1, size)
                torn = following == size and self._is_torn(position, size)
                why = "cut off by the end of the file" if torn else "no record with a right checksum"
                yield _damaged(position, following, torn, why)
                position = following
                continue
            end = position + _HEAD.size + len(packed)
            try:
                yield Entry(offset=position, item=_decoder.decode(packed))
            except UNREADABLE as error:
                yield _damaged(position, end, False, f"checksum right, content unknown: {error}")
            position = end

    def items(self, start_s: float = 0.0) -> Iterator[Payload]:
        """Yield what was recorded from ``start_s`` on (seconds since the beginning), after something before; no damage.

        The index takes a later start there at once; without a usable one the file is read through, and the index is
        made again.
        """
        for entry in self.entries(self._offset_before(start_s) if start_s > 0 else 0):
            if not isinstance(entry.item, Damage):
                yield entry.item

    def messages(self, start_s: float = 0.0) -> Iterator[RecordedMessage]:
        """Yield the messages that arrived at or after ``start_s``; see :meth:`items`."""
        return (item for item in self.items(start_s) if isinstance(item, RecordedMessage) and item.t_s >= start_s)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _offset_before(self, start_s: float) -> int:
        marks = read_index(self.path, self._recorder())
        if marks is None:
            return self.rebuild_index(start_s)
        for mark in reversed(marks[: bisect.bisect_left(marks, start_s, key=lambda mark: mark.t_s)]):
            entry = next(self.entries(mark.offset), None)
            if entry is not None and isinstance(entry.item, RecordedMessage) and entry.item.t_s == mark.t_s:
                return mark.offset
            # A damaged record at the mark is no fault of the index; a sound one of another time is.
            if entry is None or not isinstance(entry.item, Damage):
                return self.rebuild_index(start_s)
        return 0

    def rebuild_index(self, start_s: float = 0.0) -> int:
        """Make the index again by reading the whole file; return the offset of the first message from ``start_s`` on.

        Where the folder cannot be written, the recording stays without an index.
        """
        found: int | None = None
        size = self.size

        def marks() -> Iterator[tuple[int, float]]:
            nonlocal found
            for entry in self.entries():
                if isinstance(entry.item, RecordedMessage):
                    yield entry.offset, entry.item.t_s
                    if found is None and entry.item.t_s >= start_s:
                        found = entry.offset

        write_index(self.path, self._recorder(), marks())
        return size if found is None else found

    def _recorder(self) -> str:
        return "" if self.header is None else self.header.recorder

    def _bytes(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def _packed(self, offset: int, size: int) -> bytes | None:
        """Return the payload of the record at ``offset``, or None where there is no valid one."""
        head = self._bytes(offset, _HEAD.size)
        if len(head) < _HEAD.size:
            return None
        marker, length, checksum = _HEAD.unpack(head)
        if marker != _MARKER or length > min(_LARGEST, size - offset - _HEAD.size):
            return None
        packed = self._file.read(length)
        return packed if len(packed) == length and _checksum(length, packed) == checksum else None

    def _next_valid(self, offset: int, size: int) -> int:
        """Return where the next valid record begins, ``size`` if there is none."""
        while offset < size:
            chunk = self._bytes(offset, _CHUNK)
            at = chunk.find(_MARKER)
            if at < 0:
                # The marker may lie across the border of two chunks.
                offset += max(1, len(chunk) - len(_MARKER) + 1)
            elif self._packed(offset + at, size) is not None:
                return offset + at
            else:
                offset += at + 1
        return size

    def _is_torn(self, offset: int, size: int) -> bool:
        """Return whether the bytes from ``offset`` are the beginning of a record that the end of the file cuts off."""
        head = self._bytes(offset, _HEAD.size)
        if len(head) < _HEAD.size:
            return _MARKER.startswith(head[:4])
        marker, length, _ = _HEAD.unpack(head)
        return bool(marker == _MARKER and length > size - offset - _HEAD.size)


def _damaged(start: int, end: int, torn: bool, why: str) -> Entry:
    return Entry(offset=start, item=Damage(offset=start, length=end - start, torn=torn, why=why))
