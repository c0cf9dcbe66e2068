"""A graph of small stages in processes: no pictures, no models, but state that must survive.

Run as a program it is one stage: ``stub_graph.py SOURCE STAGE DIRECTORY OPTIONS``. A plan says at which frame a stage
kills itself, each entry once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from megc_stream.errors import UsageError
from megc_stream.pipeline import Sink
from megc_stream.pipeline.spool import SPOOL, Spool
from megc_stream.pipeline.worker import Place, run_publisher, run_reader, run_stage
from megc_stream.records import Adjustment, Annotation, Crop, Frame, Record, Score, StreamEnd, StreamInfo
from megc_stream.settings import PipelineSettings

STAGES = ("reader", "adder", "teller")
SETTINGS = {
    "queue_records": 8,
    "checkpoint_s": 0.5,
    "restart_after_s": 0.0,
    "restarts": 3,
    "start_s": 60.0,
    "silent_s": 5.0,
}
FPS = 100.0


class Options(msgspec.Struct):
    """What a stub graph is to do: ``kills`` by stage, frames at which it dies; ``fail`` names a stage that fails,
    ``late`` one that loads until there is a file "go", or a frame has been read, ``refuse`` has the reader fail to open
    its source."""

    frames: int = 1000
    kills: dict[str, list[int]] = {}
    always: str = ""
    fail: str = ""
    hang: str = ""
    live: bool = False
    late: str = ""
    refuse: bool = False
    clock: str = ""
    settings: dict[str, Any] = {}


class Doom:
    """Kills, fails or hangs this process at the frames of the plan."""

    def __init__(self, stage: str, directory: Path, options: Options) -> None:
        self._stage = stage
        self._directory = directory
        self._options = options

    def at(self, frame: int) -> None:
        if self._options.fail == self._stage and frame == 50:
            raise UsageError(f"{self._stage} has had enough")
        if self._options.always == self._stage and frame == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        for planned in self._options.kills.get(self._stage, ()):
            marker = self._directory / f"dead-{self._stage}-{planned}"
            if frame == planned and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGSTOP if self._options.hang == self._stage else signal.SIGKILL)


class StubSource:
    """Numbered frames without a medium."""

    assumed_fps = False
    warnings: tuple[str, ...] = ()
    late = 0

    def __init__(self, options: Options, directory: Path | None = None) -> None:
        self._directory = directory
        self.clock_fit = options.clock or None
        self.info = StreamInfo(source="x", subject="x", video="x", fps=FPS, width=8, height=8, live=options.live)
        self.options = options
        self.stopped = threading.Event()
        self.held = False
        self.end = StreamEnd(source="x", frames=0, reason="stopped")
        self._skipped_to = -1

    def frames(self) -> Iterator[Frame]:
        image = np.zeros((8, 8), np.uint8)
        for number in range(self._skipped_to + 1, self.options.frames):
            while self.held and not self.stopped.is_set():
                self.stopped.wait(0.01)
            if self.stopped.is_set():
                self.end = StreamEnd(source="x", frames=number, reason="stopped")
                return
            if number == 0 and self._directory is not None:
                (self._directory / "read").touch()
            if self.options.live:
                self.stopped.wait(1 / FPS)
            yield Frame(source="x", frame=number, number=number, image=image, t_capture_s=number)
        self.end = StreamEnd(source="x", frames=self.options.frames, reason="end")

    def skip(self, frame: int) -> None:
        self._skipped_to = frame

    def hold(self, reason: str | None) -> None:
        self.held = reason == "paused"
        if reason == "restart" and self._directory is not None:
            (self._directory / "held").touch()

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.stop()

    def __enter__(self) -> StubSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StubFace:
    """Stands for face analysis: counts in the pixels of the crop, so that its state shows."""

    region = None

    def __init__(self, doom: Doom | None = None) -> None:
        self._seen = 0
        self._doom = doom

    def process(self, frame: Frame) -> Crop:
        if self._doom is not None:
            self._doom.at(frame.frame)
        self._seen += 1
        image = np.full((2, 2), self._seen % 251, np.uint8)
        return Crop(
            source="x",
            frame=frame.frame,
            number=frame.number,
            t_capture_s=0,
            segment=0,
            image=image,
            dropped=frame.dropped,
        )

    def snapshot(self) -> bytes:
        return str(self._seen).encode()

    def restore(self, data: bytes) -> None:
        self._seen = int(data)


class Adder:
    """Scores are running sums: one message lost, doubled or out of turn changes all that follow."""

    def __init__(self, name: str, doom: Doom | None = None) -> None:
        self._name = name
        self._sum = 0
        self._doom = doom

    def process(self, record: Record) -> Iterable[Record]:
        if isinstance(record, Crop):
            if self._doom is not None:
                self._doom.at(record.frame)
            assert record.image is not None
            self._sum = (self._sum * 31 + int(record.image[0, 0]) + record.frame) % 1_000_003
            yield score(self._name, record.frame, self._sum)
        elif isinstance(record, Score):
            if self._doom is not None:
                self._doom.at(record.frame)
            assert record.spot is not None
            self._sum = (self._sum * 17 + int(record.spot)) % 1_000_003
            if record.frame % 7 == 0:
                yield score(self._name, record.frame, self._sum)
        elif isinstance(record, Annotation | Adjustment | StreamInfo):
            yield record

    def flush(self) -> Iterable[Record]:
        return [score(self._name, 10**6, self._sum)]

    def snapshot(self) -> bytes:
        return str(self._sum).encode()

    def restore(self, data: bytes) -> None:
        self._sum = int(data)


def score(name: str, frame: int, spot: float) -> Score:
    return Score(
        source="x", frame=frame, number=frame, frame_to=frame, t_capture_s=0, t_score_s=0, spot=spot, reason=name
    )


class Told(Sink):
    """Writes a line for each record of a source, first the stage that it comes from."""

    def __init__(self, path: Path, doom: Doom | None = None) -> None:
        self._file = path.open("w", buffering=1)
        self.close = self._file.close
        self._doom = doom

    def write(self, record: Record) -> None:
        if isinstance(record, Crop):
            if self._doom is not None:
                self._doom.at(record.frame)
            lost = f" {record.dropped}" if record.dropped else ""
            self._file.write(f"crop {record.frame}{lost}\n")
        elif isinstance(record, Score):
            assert record.spot is not None
            self._file.write(f"{record.reason} {record.frame} {record.spot:.0f}\n")
        elif isinstance(record, Annotation):
            self._file.write(f"annotation {record.text}\n")
        else:
            self._file.write(f"{type(record).__name__}\n")

    def note(self, text: str) -> None:
        self._file.write(f"note {text}\n")


class StubResults:
    """The publisher's results: one file a source."""

    def __init__(self, directory: Path, doom: Doom) -> None:
        self._directory = directory
        self._doom = doom
        self._notes: list[str] = []

    def open(self, sources: Mapping[str, Mapping[str, Any]]) -> Mapping[str, list[Sink]]:
        return {name: [Told(self._directory / f"told-{name}", self._doom)] for name in sources}

    def spool(self, source: str) -> Spool:
        return Spool(self._directory / f"{SPOOL}-{source}", "session", with_images=False)

    def rebuilt(self) -> None:
        pass

    def finish(self, source: str, late: int) -> bytes:
        return json.dumps(self._notes).encode()

    def tick(self) -> None:
        pass

    def malformed(self, count: int) -> None:
        self.log("warning", f"{count} malformed")

    def log(self, level: str, text: str) -> None:
        self._notes.append(text)

    def close(self, error: str) -> None:
        pass


def told(path: Path) -> dict[str, list[str]]:
    """Return what was written, by stage: the order is that of each stage, not that between stages."""
    lines: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        lines.setdefault(line.partition(" ")[0], []).append(line)
    return lines


class Nursery:
    """A process that has imported everything and forks on request: its children start quickly.

    It writes what became of a child into a file of the child's number in ``directory``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process = subprocess.Popen(
            [sys.executable, __file__, "nursery", str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def fork(self, *arguments: str) -> Child:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
        self._process.stdin.flush()
        return Child(self.directory, int(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Child:
    """A process of the nursery, as far as a coordinator needs to know it."""

    stdin = None

    def __init__(self, directory: Path, pid: int) -> None:
        self.pid = pid
        self._file = directory / str(pid)

    def poll(self) -> int | None:
        return int(self._file.read_text()) if self._file.exists() else None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        deadline_s = time.monotonic() + 30
        while self.poll() is None:
            assert time.monotonic() < deadline_s, f"process {self.pid} does not end"
            threading.Event().wait(0.005)


def nurse(directory: Path) -> None:
    """Fork for each line of stdin, until its end."""
    while True:
        ready, _, _ = select.select([0], [], [], 0.01)
        if ready:
            line = os.read(0, 65536)
            if not line:
                return
            pid = os.fork()
            if pid == 0:
                os.setsid()
                source, stage, folder, told = json.loads(line)
                code = 1
                try:
                    run(source, stage, Path(folder), msgspec.json.decode(told, type=Options))
                    code = 0
                except SystemExit as leaving:
                    code = int(leaving.code or 0)
                finally:
                    os._exit(code)
            os.write(1, f"{pid}\n".encode())
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                part = directory / f"{ended[0]}.part"
                part.write_text(str(os.waitstatus_to_exitcode(ended[1])))
                part.rename(directory / str(ended[0]))


def launcher(nursery: Nursery, directory: Path, options: Options, started: list[tuple[str, Child]]) -> Any:
    """Return what starts the process of a stage for a coordinator, and notes it in ``started``."""

    def launch(source: str, stage: str) -> Child:
        process = nursery.fork(source, stage, str(directory), msgspec.json.encode(options).decode())
        started.append((stage, process))
        return process

    return launch


def popen(directory: Path, options: Options) -> Any:
    """Return what starts a real child, with a pipe that is its lifeline."""

    def launch(source: str, stage: str) -> subprocess.Popen[bytes]:
        told = msgspec.json.encode(options).decode()
        return subprocess.Popen(
            [sys.executable, __file__, source, stage, str(directory), told],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    return launch


def open_stub(options: Options, directory: Path) -> StubSource:
    if options.refuse:
        raise UsageError("there is no such source")
    return StubSource(options, directory)


def load(stage: str, directory: Path, options: Options, doom: Doom) -> Adder:
    """Make a stage; a late one says by a file "early" that a frame was read before it was ready."""
    while options.late == stage and not (directory / "go").exists():
        if (directory / "read").exists():
            (directory / "early").touch()
            break
        threading.Event().wait(0.005)
    return Adder(stage, doom)


def run(source: str, stage: str, directory: Path, options: Options, lifeline: int | None = None) -> None:
    """Be one stage."""
    doom = Doom(stage, directory, options)
    following = {"reader": "adder", "adder": "teller"}.get(stage)
    place = Place(
        source=source,
        stage=stage,
        coordinator=f"ipc://{directory}/c",
        inlet=f"ipc://{directory}/{source}{stage}",
        following=None if following is None else f"ipc://{directory}/{source}{following}",
        sinks=f"ipc://{directory}/publisher",
        settings=PipelineSettings(**{**SETTINGS, **options.settings}),
        lifeline=lifeline,
    )
    try:
        if stage == "publisher":
            sources = json.loads((directory / "sources").read_text())
            run_publisher(
                place, lambda context, post: StubResults(directory, doom), {name: list(STAGES) for name in sources}
            )
        elif stage == "reader":
            run_reader(place, lambda: (open_stub(options, directory), StubFace(doom)))  # type: ignore[arg-type,return-value]
        else:
            run_stage(place, lambda: load(stage, directory, options, doom))
    except UsageError:
        sys.exit(2)


if __name__ == "__main__":
    if sys.argv[1] == "nursery":
        nurse(Path(sys.argv[2]))
    else:
        run(sys.argv[1], sys.argv[2], Path(sys.argv[3]), msgspec.json.decode(sys.argv[4], type=Options), lifeline=0)
