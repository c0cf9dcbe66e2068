"""Decoding ahead of time, on other threads, bounded in bytes.

A picture that waits here costs memory, so the depth follows from the budget and the size of a picture. Decoders release
Python's lock: two threads use two cores. They give way to the threads that work on the present frame, where the system
has priorities for threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from megc_stream.threads import give_way

__all__ = ["depth_of", "map_ahead", "read_ahead"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_MOST = 256


def depth_of(budget_bytes: int, picture_bytes: int) -> int:
    """Return how many pictures of a size may wait: budget / size, at least 2 and at most 256."""
    return min(max(budget_bytes // max(picture_bytes, 1), 2), _MOST)


def map_ahead(decode: Callable[[_T], _R], items: Iterable[_T], threads: int, depth: int) -> Generator[_R, None, None]:
    """Yield ``decode(item)`` in the order of the items, computed by ``threads`` threads up to ``depth`` items ahead.

    Without threads each is computed when asked for. What ``decode`` raises is raised at the item's turn. Closing the
    generator waits for the items being decoded.
    """
    if not threads:
        yield from map(decode, items)
        return
    waiting: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="megc-decode", initializer=give_way) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(decode, item))
                if len(waiting) >= depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_ahead(items: Generator[_T, None, None], depth: int) -> Generator[_T, None, None]:
    """Yield what ``items`` yields, taken by one thread up to ``depth`` items ahead.

    What ``items`` raises is raised after the items before it. Closing the generator stops the thread after the item
    that it is about to take, and closes ``items``.
    """
    buffer: deque[_T] = deque()
    changed = threading.Condition()
    finished = leave = False
    error: BaseException | None = None

    def take() -> None:
        nonlocal finished, error
        try:
            give_way()
            for item in items:
                with changed:
                    changed.wait_for(lambda: leave or len(buffer) < depth)
                    if leave:
                        return
                    buffer.append(item)
                    changed.notify_all()
        except BaseException as raised:  # noqa: BLE001  whatever it is, the consumer has to see it
            error = raised
        finally:
            with changed:
                finished = True
                changed.notify_all()

    thread = threading.Thread(target=take, name="megc-decode", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: buffer or finished)
                if not buffer:
                    break
                item = buffer.popleft()
                changed.notify_all()
            yield item
        if error is not None:
            raise error
    finally:
        with changed:
            leave = True
            changed.notify_all()
        thread.join()
        items.close()
