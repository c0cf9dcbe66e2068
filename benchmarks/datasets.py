"""Reading data sets: 500 rows of annotations, and opening a folder of 10,000 images.

    python benchmarks/datasets.py [--rounds 15]

Prints the median and the slowest of each; the modules are imported before. Asked for: 50 ms and 100 ms. The .xls goes
through a process of its own (a damaged one may abort the parser), whose start is part of its time.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "datasets"))

import corpora

from megc_stream.clock import MonotonicClock
from megc_stream.datasets import find_recording, open_recording, read_dataset
from megc_stream.settings import CaptureSettings

_ROWS = 500
_IMAGES = 10_000


def _measure(label: str, asked_ms: float | None, rounds: int, call: Callable[[], object]) -> None:
    call()
    times_ms = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        call()
        times_ms.append((time.perf_counter() - began_s) * 1e3)
    asked = "" if asked_ms is None else f" (asked for: {asked_ms:g} ms)"
    print(f"{label:58s} median {statistics.median(times_ms):6.1f} ms, slowest {max(times_ms):6.1f} ms{asked}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        samm = base / "samm"
        corpora.images(samm / "SAMM_longvideos" / "006_1", (f"006_1_{n:04d}.jpg" for n in range(1, 6)))
        corpora.samm_lv_sheet(
            samm / "SAMM_LongVideos_V3_Release.xlsx",
            [[6, f"006_1_{n}", 1, n + 1, n + 3, n + 9, 9, "Macro", "4+7", None] for n in range(1, _ROWS + 1)],
        )
        cas = base / "cas"
        corpora.images(cas / "part_A" / "spNO.1" / "a" / "color", (f"{n}.jpg" for n in range(1, 6)))
        events = [["spNO.1", "a", n, n + 3, n + 9, "L4+7", "Macro-expression", "IV"] for n in range(1, _ROWS + 1)]
        corpora.xls(cas / "CAS(ME)3_part_A_v2.xls", {"AU+Emotion": [corpora.CAS3_HEADER, *events]})
        long_video = base / "long"
        corpora.images(long_video / "SAMM_longvideos" / "007_1", (f"007_1_{n:05d}.jpg" for n in range(1, _IMAGES + 1)))

        def opened() -> None:
            recording = find_recording("samm-lv", long_video, "007_1")
            open_recording(recording, CaptureSettings(), clock=MonotonicClock()).close()

        _measure(f"{_ROWS} rows of .xlsx, read_dataset", 50, rounds, lambda: read_dataset("samm-lv", samm))
        _measure(f"{_ROWS} rows of .xls, read_dataset", None, rounds, lambda: read_dataset("cas-me-3", cas))
        find = lambda: find_recording("samm-lv", long_video, "007_1")  # noqa: E731
        _measure(f"{_IMAGES} images, find_recording", None, rounds, find)
        _measure(f"{_IMAGES} images, find_recording and open_recording", 100, rounds, opened)


if __name__ == "__main__":
    main()
