"""Writing the files of a table: whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from megc_stream.errors import OutputError

__all__ = ["write_whole", "writing"]


def write_whole(path: Path, text: str) -> None:
    """Replace a UTF-8 text file in one step; raises OutputError where it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    with writing(path):
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the system inside the block into an OutputError that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); change --out or free space"
        ) from error
