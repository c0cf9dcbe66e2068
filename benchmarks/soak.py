"""Memory over a long run: ``megc-stream run`` with everything open, a fast and a slow subscriber, and a recorder.

    python benchmarks/soak.py SOURCE OUT [--minutes 30] [--fps 200] [--vqa]

SOURCE is a live source or a long file, replayed at its own rate. Samples the resident memory of the run and of the
recorder every 5 s and prints the growth after the first minute of scores. With ``PYLON_CAMEMU=1`` and
``pylon:0`` the emulated camera serves a folder of pictures for as long as wanted (docs/cameras.md).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from megc_stream.errors import WireError
from megc_stream.wire import Subscriber

EVERY_S = 5.0
SETTLED_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--fps", type=float, default=200.0)
    parser.add_argument("--vqa", action="store_true")
    parser.add_argument("--config", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    ends = {name: f"ipc://{given.out.resolve()}/{name}" for name in ("events", "frames", "control", "recordings")}
    tool = [sys.executable, "-m", "megc_stream"]
    config = [] if given.config is None else ["--config", str(given.config)]
    run = subprocess.Popen(
        [
            *tool,
            *["run", given.source, "--fps", str(given.fps), "--speed", "native", *config],
            *["--out", str(given.out / "results"), "--overwrite", "--publish", ends["events"]],
            *["--publish-frames", ends["frames"], "--control", ends["control"], "--recordings", ends["recordings"]],
            *(["--vqa", "embedded"] if given.vqa else []),
        ],
        env={**os.environ, "MEGC_CAPTURE__MAX_SECONDS": str(given.minutes * 60)},
        stdout=subprocess.DEVNULL,
        stderr=(given.out / "run.log").open("wb"),
    )
    recorder = subprocess.Popen(
        [*tool, "record", ends["recordings"], str(given.out / "session.megc"), "--direct", "--overwrite"],
        stdout=subprocess.DEVNULL,
        stderr=(given.out / "record.log").open("wb"),
    )
    leave = threading.Event()
    counts = {"fast": 0, "slow": 0}
    readers = [
        threading.Thread(target=read, args=(ends["events"], ("",), 0.0, "fast", counts, leave)),
        threading.Thread(target=read, args=(ends["frames"], ("frame.",), 0.5, "slow", counts, leave)),
    ]
    for reader in readers:
        reader.start()
    samples: dict[str, list[tuple[float, float]]] = {"run": [], "recorder": []}
    begin_s = time.monotonic()
    while run.poll() is None and time.monotonic() - begin_s < given.minutes * 60 + 300:
        leave.wait(EVERY_S)
        if counts["fast"]:
            for name, process in (("run", run), ("recorder", recorder)):
                resident_mb = resident(process.pid)
                if resident_mb:  # nothing is left of a process that has just ended
                    samples[name].append((time.monotonic(), resident_mb))
    leave.set()
    for process in (run, recorder):
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
    for reader in readers:
        reader.join(10)
    return report(given.out, samples, counts, run.returncode)


def report(out: Path, samples: dict[str, list[tuple[float, float]]], counts: dict[str, int], code: int) -> int:
    record = json.loads((out / "results" / "run.json").read_text())
    print(f"exit code {code}; {record['counts']['frames']} frames, {record['counts']['scores']} scores, ", end="")
    print(f"{record['counts']['events']} events; dropped {record['dropped']}; messages read {counts}")
    for name, series in samples.items():
        settled = [(t_s, mb) for t_s, mb in series if t_s - series[0][0] >= SETTLED_S]
        if len(settled) < 2:
            print(f"{name}: too short")
            continue
        times, sizes = np.array(settled).T
        slope = np.polyfit(times - times[0], sizes, 1)[0] * 60
        minutes = (times[-1] - times[0]) / 60
        print(
            f"{name}: {sizes[0]:.1f} MB after {SETTLED_S:g} s, {sizes[-1]:.1f} MB at the end {minutes:.1f} min later, "
            f"growth {sizes[-1] - sizes[0]:+.1f} MB, highest {sizes.max():.1f}, trend {slope:+.3f} MB/min"
        )
    return code


def read(
    endpoint: str, topics: tuple[str, ...], pause_s: float, name: str, counts: dict[str, int], leave: threading.Event
) -> None:
    """Read until told to leave, ``pause_s`` after each message."""
    try:
        with Subscriber(endpoint, topics) as subscriber:
            while not leave.is_set():
                counts[name] += subscriber.receive(0.5) is not None
                leave.wait(pause_s)
    except WireError as error:
        print(f"{name}: {error}", file=sys.stderr)


def resident(pid: int) -> float | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
