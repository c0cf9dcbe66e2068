"""What machine figures belong to: its processor, and how fast it is at the moment."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

__all__ = ["calibration_beside_ms", "calibration_ms", "processor", "stolen_s"]

_CALIBRATION_STEPS = 200_000
_SHARE = 100


def processor() -> str:
    """Return the model name of the processor, or its kind where the system does not tell."""
    if sys.platform == "linux":
        try:
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        except OSError:  # a sandbox without /proc
            text = ""
        names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def calibration_ms() -> float:
    """Return the median time of a fixed loop of plain Python, 200 000 additions, to compare machines and moments."""
    seconds = []
    for _ in range(15):
        begin_s = time.perf_counter()
        _add_up(_CALIBRATION_STEPS)
        seconds.append(time.perf_counter() - begin_s)
    return float(np.median(seconds)) * 1e3


def calibration_beside_ms() -> float:
    """Return what the loop of :func:`calibration_ms` would take now, in CPU time: from a hundredth of it.

    For the middle of a run. What slows it there are other programs, or other machines, that share a core's units and
    caches, the run's own other threads among them; waiting for a core does not count.
    """
    begin_s = time.thread_time()
    _add_up(_CALIBRATION_STEPS // _SHARE)
    return (time.thread_time() - begin_s) * _SHARE * 1e3


def _add_up(steps: int) -> int:
    total = 0
    for step in range(steps):
        total += step
    return total


def stolen_s() -> float | None:
    """Return the CPU time, of all cores since start, that a virtual machine's host gave to others; None where unknown.

    Programs that run at the same time inside the machine are no part of it.
    """
    if sys.platform != "linux":
        return None
    try:
        fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()
    except OSError:  # a sandbox without /proc
        return None
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None
