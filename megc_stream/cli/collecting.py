"""Python's garbage collector during a run."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["what_is_loaded_left_alone"]


@contextmanager
def what_is_loaded_left_alone() -> Iterator[None]:
    """Keep the collector from looking at what exists by now: modules, types, compiled kernels.

    They are hundreds of thousands of objects that stay until the end, and a full collection, which comes every ten
    seconds or so, stops all threads for 60 to 200 ms: longer than anything else in a run at 200 frames per second.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
