from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator

import cv2
import pytest

from megc_stream.capture.ahead import depth_of, map_ahead, read_ahead
from megc_stream.capture.opencv_log import quiet_opencv
from megc_stream.errors import CaptureError


def test_depth_follows_the_budget() -> None:
    assert depth_of(64 * 2**20, 2040 * 1088) == 30
    assert depth_of(1, 2040 * 1088) == 2
    assert depth_of(2**30, 100) == 256


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_keep_their_order_and_errors_their_place(threads: int) -> None:
    def decode(item: int) -> int:
        if item == 7:
            raise CaptureError("seven")
        return item * item

    results = map_ahead(decode, range(20), threads, depth=4)
    assert [next(results) for _ in range(7)] == [item * item for item in range(7)]
    with pytest.raises(CaptureError, match="seven"):
        next(results)


def test_no_more_than_depth_items_are_decoded_ahead() -> None:
    asked: list[int] = []
    results = map_ahead(lambda item: item, (asked.append(item) or item for item in range(100)), 2, depth=5)
    for expected in range(10):
        assert next(results) == expected
        assert len(asked) == expected + 5
    results.close()
    assert len(asked) == 14


def test_decoding_uses_several_threads() -> None:
    together = threading.Barrier(2, timeout=20)
    assert list(map_ahead(lambda item: together.wait() >= 0, range(4), 2, depth=4)) == [True] * 4


class Numbers:
    """Yields 0, 1, ...; notes what was taken and whether it was closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.taken = 0
        self.closed = False
        self._count, self._error = count, error

    def run(self) -> Generator[int, None, None]:
        try:
            for number in range(self._count):
                self.taken += 1
                yield number
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_decoding_ahead_gives_way_to_the_present_frame() -> None:
    def niceness(_: object = None) -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)

    def items() -> Generator[int, None, None]:
        yield niceness()

    wanted = min(niceness() + 5, 19)
    assert list(map_ahead(niceness, [1, 2], 2, 2)) == [wanted, wanted]
    assert list(read_ahead(items(), 2)) == [wanted]
    assert list(map_ahead(niceness, [1], 0, 2)) == [niceness()]


def test_reading_ahead_keeps_order_and_ends() -> None:
    numbers = Numbers(50)
    assert list(read_ahead(numbers.run(), 4)) == list(range(50))
    assert numbers.closed


def test_reading_ahead_raises_after_the_items_before() -> None:
    ahead = read_ahead(Numbers(5, CaptureError("cut")).run(), 8)
    assert [next(ahead) for _ in range(5)] == list(range(5))
    with pytest.raises(CaptureError, match="cut"):
        next(ahead)


def test_breaking_off_stops_the_thread_and_closes_the_medium() -> None:
    numbers = Numbers(10**9)
    ahead = read_ahead(numbers.run(), 4)
    assert next(ahead) == 0
    ahead.close()
    assert numbers.closed
    assert numbers.taken <= 6
    assert not any(thread.name.startswith("megc-decode") for thread in threading.enumerate())


def test_opencv_stays_quiet_until_the_last_of_several_threads_is_done() -> None:
    before = cv2.utils.logging.getLogLevel()
    first, second = quiet_opencv(), quiet_opencv()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
    second.__exit__(None, None, None)
    assert cv2.utils.logging.getLogLevel() == before
