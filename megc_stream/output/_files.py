"""Writing files so that a full or failing disk is reported as :class:`OutputError` and spares what is already there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from megc_stream.errors import OutputError

__all__ = ["LineFile", "append_whole", "write_text", "writing"]


@contextlib.contextmanager
def writing(path: Path, elsewhere: str = "choose another folder with --out") -> Iterator[None]:
    """Turn an :class:`OSError` of the block into an :class:`OutputError` that names ``path`` and says what to do."""
    try:
        yield
    except PermissionError as error:
        raise OutputError(f"{path}: no permission to write; change its rights or {elsewhere}") from error
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free space or {elsewhere}"
        ) from error


class LineFile:
    """A file of whole lines: every line is handed to the system at once, and a line that does not fit is taken back.

    Raises
    ------
    OutputError
        The file cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            # Unbuffered: nothing waits in the process, so its end cannot lose a line that was reported as written.
            self._file = path.open("wb", buffering=0)
        self._size = 0

    def write(self, line: bytes) -> None:
        """Append ``line``, which ends in a newline."""
        with writing(self._path):
            self._size = append_whole(self._file, line, self._size)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with writing(self._path):
            self._file.close()


def append_whole(file: FileIO | BinaryIO, data: bytes, size: int) -> int:
    """Append ``data`` to an unbuffered file of ``size`` bytes and return its new size; what does not fit is taken back.

    Raises
    ------
    OSError
        The system does not take it; the file then ends where it did.
    """
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
            file.seek(size)
        raise
    return size + len(data)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file.

    Raises
    ------
    OutputError
        The file cannot be written; a partial one is removed.
    """
    with writing(path):
        try:
            path.write_text(text, encoding="utf-8", newline="\n")
        except OSError:
            if path.is_file():
                with contextlib.suppress(OSError):
                    path.unlink()
            raise
