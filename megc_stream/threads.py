"""Threads that have time, and those that have not."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

__all__ = ["give_way"]

_NICER = 5


def give_way() -> None:
    """Lower the priority of this thread below those that work on the present frame; for work with time to spare.

    Linux only: elsewhere this would concern the whole process. A sandbox that forbids it is no reason to stop.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICER)
