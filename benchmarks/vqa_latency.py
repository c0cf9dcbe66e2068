"""Does a model server that hangs slow the spotter down? Capture-to-score times with questions off, embedded, hanging.

    python benchmarks/vqa_latency.py [--fps 100] [--seconds 20] [--rounds 3]

A synthetic clip is paced at its own rate, with the stages as threads of one process, which is where they could disturb
each other most: without questions; with the embedded answers; and with a server that takes every question and never
answers, so that all its threads hang from the first event on. The rounds take turns, so that whatever else the machine
does meets all three. The first 2 s of each round are left out. "late" counts frames released more than 50 ms after
their deadline: where they are many, the machine is too slow for the rate, and the figures are of its queues.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from megc_stream.cli.analysis import analyse
from megc_stream.pipeline import Sink
from megc_stream.records import Event, Record, Score
from megc_stream.settings import load_settings
from megc_stream.synthesis import synth_clip

_LEFT_OUT_S = 2.0
_MODELS = b'{"data": [{"id": "hanging", "parent": null}]}'


class _Watch(Sink):
    """Keeps the times from capture to score, and counts the events that questions were asked about."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.events = 0
        self._first_s: float | None = None

    def write(self, record: Record) -> None:
        if isinstance(record, Event):
            self.events += record.kind == "label"
        elif isinstance(record, Score) and record.spot is not None:
            if self._first_s is None:
                self._first_s = record.t_score_s
            if record.t_score_s - self._first_s >= _LEFT_OUT_S:
                self.times_s.append(record.t_score_s - record.t_capture_s)


@contextmanager
def _hanging() -> Iterator[tuple[str, list[socket.socket]]]:
    """Serve the list of models, and take every question without a word; yields the address and who is waiting."""
    waiting: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            while request := connection.recv(1 << 16):
                if not request.startswith(b"GET"):
                    waiting.append(connection)
                    return
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                connection.sendall(head % len(_MODELS) + _MODELS)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", waiting
        for connection in waiting:
            connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fps", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder, _hanging() as (address, waiting):
        clip = Path(folder) / "clip.mkv"
        synth_clip(
            clip, None, fps=options.fps, seconds=options.seconds, events=max(1, int(options.seconds / 3)), seed=0
        )
        ways: dict[str, str | None] = {"off": None, "embedded": "embedded", "hanging": address}
        times_s: dict[str, list[list[float]]] = {way: [] for way in ways}
        late: dict[str, int] = dict.fromkeys(ways, 0)
        for number in range(options.rounds):
            for way, answerer in ways.items():
                watch = _Watch()
                settings = load_settings(
                    overrides={
                        "source": str(clip),
                        "capture": {"speed": 1.0},
                        # Four threads that hang for longer than the clip lasts, and a breaker that never opens.
                        "vqa": {
                            "answerer": answerer,
                            "concurrency": 4,
                            "timeout_s": 600,
                            "breaker_failures": 1000,
                            "drain_s": 0,
                        },
                        "output": {"folder": Path(folder) / f"{way}-{number}"},
                    }
                )
                before = len(waiting)
                analysis = analyse(settings, sinks=[watch])
                times_s[way].append(watch.times_s)
                late[way] += json.loads((Path(analysis.folder) / "run.json").read_text())["late"]
                hung = f", {len(waiting) - before} questions hanging" if way == "hanging" else ""
                print(f"round {number + 1}, {way}: {watch.events} events{hung}, {_shown(watch.times_s)}")
        print(f"{options.fps:g} frames per second, {options.rounds} rounds of {options.seconds:g} s")
        for way, rounds in times_s.items():
            together = [time_s for one in rounds for time_s in one]
            p99s = ", ".join(f"{np.percentile(one, 99) * 1e3:.2f}" for one in rounds)
            by_round = f"p99 by round {p99s} (median {_median_p99(rounds):.2f}) ms"
            print(f"{way:9s} {_shown(together)}; {by_round}; {late[way]} late")


def _shown(times_s: list[float]) -> str:
    p50, p99 = np.percentile(times_s, [50, 99]) * 1e3
    return f"{len(times_s)} scores, p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {max(times_s) * 1e3:.2f} ms"


def _median_p99(rounds: list[list[float]]) -> float:
    return statistics.median(float(np.percentile(one, 99)) * 1e3 for one in rounds)


if __name__ == "__main__":
    main()
