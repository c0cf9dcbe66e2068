"""The index of a recording: where messages of certain times lie, so that long files are entered anywhere at once.

A file beside the recording, ``NAME.index``: magic (8), identity of the recording (32), then marks of 32 bytes: offset
(uint64), arrival ``t_s`` (float64), messages before it (uint64), CRC-32 of these 24 bytes (uint32), four zero bytes;
little-endian. Nothing depends on it: what is missing or damaged is found by reading the recording.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["IndexWriter", "Mark", "index_path", "read_index", "write_index"]

_MAGIC = b"\x89MEGCI1\n"
_MARK = struct.Struct("<QdQ")
_SIZE = 32
_EVERY_BYTES = 1 << 16


class Mark(NamedTuple):
    """A message of the recording: where it begins, when it arrived, how many came before it."""

    offset: int
    t_s: float
    messages: int


def index_path(recording: Path) -> Path:
    """Return where the index of a recording lies."""
    return recording.with_name(f"{recording.name}.index")


def _head(recorder: str) -> bytes:
    return _MAGIC + recorder.encode()[:32].ljust(32)


def _pack(mark: Mark) -> bytes:
    packed = _MARK.pack(*mark)
    return packed + zlib.crc32(packed).to_bytes(4, "little") + bytes(4)


class IndexWriter:
    """Adds a mark about every 64 KiB of the recording, each handed to the system at once.

    An index that cannot be written is given up in silence: the recording matters, and the index can be made again.
    """

    def __init__(self, recording: Path, recorder: str, *, fresh: bool) -> None:
        self._next_offset = 0
        self._file = None
        path = index_path(recording)
        with contextlib.suppress(OSError):
            self._file = path.open("wb" if fresh else "ab", buffering=0)
            if self._file.tell() == 0:
                self._write(_head(recorder))

    def add(self, offset: int, t_s: float, messages: int) -> None:
        """Note that a message which arrived at ``t_s`` begins at ``offset``, after so many others."""
        if offset >= self._next_offset:
            self._next_offset = offset + _EVERY_BYTES
            self._write(_pack(Mark(offset, t_s, messages)))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._file is not None:
            try:
                whole = self._file.write(data) == len(data)
            except OSError:
                whole = False
            if not whole:
                self.close()


def read_index(recording: Path, recorder: str) -> list[Mark] | None:
    """Return the marks of an index, in order; None where it is missing, damaged or belongs to another recording.

    A mark cut off at the end (the writer died) is left out.
    """
    try:
        data = index_path(recording).read_bytes()
    except OSError:
        return None
    head = _head(recorder)
    if data[: len(head)] != head:
        return None
    marks: list[Mark] = []
    for at in range(len(head), len(data) - _SIZE + 1, _SIZE):
        packed = data[at : at + _MARK.size]
        if data[at + _MARK.size : at + _SIZE] != zlib.crc32(packed).to_bytes(4, "little") + bytes(4):
            return None
        mark = Mark._make(_MARK.unpack(packed))
        if marks and not (mark.offset > marks[-1].offset and mark.t_s >= marks[-1].t_s):
            return None
        marks.append(mark)
    return marks


def write_index(recording: Path, recorder: str, messages: Iterable[tuple[int, float]]) -> None:
    """Make the index of a recording from the offset and arrival of every message, in order.

    Where the folder cannot be written, the recording stays without one.
    """
    path = index_path(recording)
    fresh = path.with_name(f"{path.name}.new")
    marks, next_offset = [_head(recorder)], 0
    for count, (offset, t_s) in enumerate(messages):
        if offset >= next_offset:
            next_offset = offset + _EVERY_BYTES
            marks.append(_pack(Mark(offset, t_s, count)))
    with contextlib.suppress(OSError):
        fresh.write_bytes(b"".join(marks))
        fresh.replace(path)
