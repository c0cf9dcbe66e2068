"""OpenCV's messages on stderr."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

__all__ = ["quiet_opencv"]


class _Blocks:
    """How many blocks are quiet now, in all threads, and the level before the first: OpenCV has one for all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.level = 0


_blocks = _Blocks()


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Hold back OpenCV's log inside the ``with`` block: what it says there is said by an error or a count instead.

    Several threads may be in such blocks at the same time; the last to leave brings the log back.
    """
    with _blocks.lock:
        if _blocks.count == 0:
            _blocks.level = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        _blocks.count += 1
    try:
        yield
    finally:
        with _blocks.lock:
            _blocks.count -= 1
            if _blocks.count == 0:
                cv2.utils.logging.setLogLevel(_blocks.level)
