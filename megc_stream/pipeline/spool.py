"""The publisher's memory on disk: the messages it has taken, without pixels, so that it can be built again.

A record is its length, a CRC-32 and a msgpack list of the parts of one message. A write goes to the system at once;
what a killed process left half written is cut off.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from megc_stream.errors import OutputError
from megc_stream.packing import pack
from megc_stream.pipeline.hosting import Header
from megc_stream.records import Crop, Record

__all__ = ["SPOOL", "Spool"]

SPOOL = ".spool"
"""Name of the file in the folder of a source's results."""

_HEAD = struct.Struct("<II")
_NO_PIXELS = np.zeros((0, 0), np.uint8)


class Spool:
    """A file of messages; an existing one of the same ``session`` is gone on with, any other is replaced.

    Parameters
    ----------
    path
        Its file; the folder exists.
    session
        Identity of the run.
    with_images
        Keep the crops' pixels: only where the user asked for pixels on the disk.

    Raises
    ------
    OutputError
        The file cannot be opened or written.
    """

    def __init__(self, path: Path, session: str, *, with_images: bool) -> None:
        self._path = path
        self._with_images = with_images
        self._decoder = msgspec.msgpack.Decoder(list[bytes])
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            if next(self._records(), [b""])[0] != session.encode():
                os.ftruncate(self._file, 0)
                os.lseek(self._file, 0, os.SEEK_SET)
                self._write([session.encode()])
        except OSError as error:
            raise self._error(error) from error

    @staticmethod
    def belongs(path: Path, session: str) -> bool:
        """Return whether there is a spool of this session."""
        try:
            with path.open("rb") as file:
                length, _ = _HEAD.unpack(file.read(_HEAD.size))
                return bool(msgspec.msgpack.decode(file.read(length)) == [session.encode()])
        except (OSError, struct.error, msgspec.DecodeError):
            return False

    def messages(self) -> Iterator[list[bytes]]:
        """Yield what was spooled before, and go on after the last whole record."""
        records = self._records()
        next(records, None)
        yield from records

    def add(self, header: Header, records: Sequence[Record], parts: Sequence[bytes]) -> None:
        """Append a message; returns when the system has it."""
        if not self._with_images and any(isinstance(record, Crop) for record in records):
            parts = [parts[0], *(pack(_without_pixels(record)) for record in records)]
        try:
            self._write(parts)
        except OSError as error:
            raise self._error(error) from error

    def remove(self) -> None:
        """Delete the file: its source has ended and the results are complete."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _records(self) -> Iterator[list[bytes]]:
        data = self._path.read_bytes()
        position = 0
        while position + _HEAD.size <= len(data):
            length, checksum = _HEAD.unpack_from(data, position)
            body = data[position + _HEAD.size : position + _HEAD.size + length]
            if len(body) < length or zlib.crc32(body) != checksum:
                break
            position += _HEAD.size + length
            yield self._decoder.decode(body)
        os.ftruncate(self._file, position)
        os.lseek(self._file, position, os.SEEK_SET)

    def _write(self, parts: Sequence[bytes]) -> None:
        body = msgspec.msgpack.encode(parts)
        rest = memoryview(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: cannot be written ({error.strerror}); free space or change --out")


def _without_pixels(record: Record) -> Record:
    """Return a crop that says that there was a face without showing it."""
    if isinstance(record, Crop) and record.image is not None:
        return msgspec.structs.replace(record, image=_NO_PIXELS, landmarks68=None, similarity=None)
    return record
