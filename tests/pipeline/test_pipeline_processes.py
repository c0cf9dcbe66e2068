"""Stages in processes of their own: what dies comes back, and nothing is lost, doubled or out of turn."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import stub_graph
import zmq
from stub_graph import STAGES, Adder, Nursery, Options, StubFace, StubSource, Told, told

from megc_stream.errors import UsageError, WireError
from megc_stream.pipeline import Chain, run_chains
from megc_stream.pipeline import coordinator as coordinator_module
from megc_stream.pipeline.coordinator import Coordinator
from megc_stream.settings import PipelineSettings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are linked by ipc://")


class Graph:
    """A stub graph in a folder, its coordinator, and the processes started so far."""

    def __init__(
        self, directory: Path, options: Options, sources: tuple[str, ...] = ("",), nursery: Nursery | None = None
    ) -> None:
        self.directory = directory
        self.started: list[tuple[str, stub_graph.Child]] = []
        (directory / "sources").write_text(json.dumps(sources))
        self._context = zmq.Context()
        self.coordinator = Coordinator(
            self._context,
            f"ipc://{directory}/c",
            dict.fromkeys(sources, STAGES),
            PipelineSettings(**{**stub_graph.SETTINGS, **options.settings}),
            launch=stub_graph.popen(directory, options)
            if nursery is None
            else stub_graph.launcher(nursery, directory, options, self.started),
            on_info=lambda source, info, warnings: {"info": msgspec.to_builtins(info)},
            tell=self._told,
        )
        self.lines: list[str] = []
        self.on_line: Callable[[str], None] = lambda line: None

    def _told(self, line: str) -> None:
        self.lines.append(line)
        self.on_line(line)

    @property
    def killed(self) -> set[str]:
        """The stages whose process was killed."""
        return {stage for stage, process in self.started if process.poll() == -signal.SIGKILL}

    def run(self) -> dict[str, list[str]]:
        try:
            return {source: json.loads(notes) for source, notes in self.coordinator.run().items()}
        finally:
            self.close()

    def close(self) -> None:
        for _, process in self.started:
            process.kill()
            process.wait()
        self._context.destroy(0)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


@pytest.fixture
def graph(tmp_path: Path, nursery: Nursery) -> Iterator[Callable[..., Graph]]:
    made: list[Graph] = []

    def make(options: Options, sources: tuple[str, ...] = ("",)) -> Graph:
        directory = tmp_path / f"g{len(made)}"
        directory.mkdir()
        made.append(Graph(directory, options, sources, nursery))
        return made[-1]

    yield make
    for one in made:
        one.close()


def undisturbed(directory: Path, frames: int) -> dict[str, list[str]]:
    """Return what the same stages say as threads of one process."""
    source, sink = StubSource(Options(frames=frames)), Told(directory / "embedded")
    chain = Chain(
        name="",
        source=source,  # type: ignore[arg-type]
        face=StubFace(),  # type: ignore[arg-type]
        stages=[(name, Adder(name)) for name in STAGES[1:]],
        sinks=[sink],
    )
    run_chains([chain], PipelineSettings(queue_records=8))
    sink.close()
    return told(directory / "embedded")


@pytest.mark.parametrize("stage", [*STAGES, "publisher"])
def test_a_killed_stage_comes_back_and_the_results_are_the_same(
    graph: Callable[..., Graph], tmp_path: Path, stage: str
) -> None:
    # Before the first mark, on one, shortly before the next, at the very end.
    made = graph(Options(frames=1000, kills={stage: [0, 49, 50, 640, 999]}))
    [notes] = made.run().values()
    assert made.coordinator.restarts == {stage: 5}
    assert told(made.directory / "told-") == undisturbed(tmp_path, 1000)
    assert sum(stage in note for note in notes) >= 1


def test_all_stages_are_killed_at_random_moments(graph: Callable[..., Graph], tmp_path: Path) -> None:
    frames = 5000
    made = graph(Options(frames=frames, settings={"checkpoint_s": 2.0, "restarts": 1000}))
    chance = random.Random(7)
    over = threading.Event()
    kills: list[str] = []

    def kill() -> None:
        while not over.wait(chance.uniform(0.02, 0.4)) and len(kills) < 12:
            stage = chance.choice([*STAGES, "publisher"])
            pids = [pid for name, pid in running_stages(made) if name == stage]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                kills.append(stage)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        made.run()
    finally:
        over.set()
        killer.join()
    assert len(kills) > 3
    assert told(made.directory / "told-") == undisturbed(tmp_path, frames)


def test_two_sources_have_a_chain_each_and_share_the_publisher(graph: Callable[..., Graph], tmp_path: Path) -> None:
    made = graph(Options(frames=500, kills={"publisher": [300], "adder": [200]}), ("left", "right"))
    made.run()
    assert made.coordinator.restarts["publisher"] == 1
    expected = undisturbed(tmp_path, 500)
    assert told(made.directory / "told-left") == expected
    assert told(made.directory / "told-right") == expected


def test_a_hung_stage_is_killed_and_comes_back(graph: Callable[..., Graph], tmp_path: Path) -> None:
    made = graph(Options(frames=500, kills={"adder": [123]}, hang="adder", settings={"silent_s": 1.5}))
    [notes] = made.run().values()
    assert any("said nothing for 1.5 s" in note for note in notes)
    assert told(made.directory / "told-") == undisturbed(tmp_path, 500)


def test_what_is_known_of_the_source_at_its_end_reaches_the_results_once(graph: Callable[..., Graph]) -> None:
    # The publisher dies at the last frame, and is told everything anew from its spool.
    made = graph(Options(frames=200, clock="2 ppm fast", kills={"publisher": [199], "teller": [199]}))
    made.run()
    assert told(made.directory / "told-")["note"] == ["note 2 ppm fast"]


def test_a_stage_that_dies_again_and_again_ends_the_run(graph: Callable[..., Graph]) -> None:
    made = graph(Options(always="teller"))
    with pytest.raises(WireError, match="stage teller: died 4 times without any progress between, the last time by"):
        made.run()


def test_a_stage_that_fails_ends_the_run_with_its_error(graph: Callable[..., Graph]) -> None:
    for stage in (*STAGES, "publisher"):
        with pytest.raises(UsageError, match=f"{stage} has had enough"):
            graph(Options(fail=stage)).run()


def test_a_stage_that_nobody_starts_is_named(graph: Callable[..., Graph]) -> None:
    with zmq.Context() as context:
        coordinator = Coordinator(
            context,
            "inproc://c",
            {"cam0": STAGES},
            PipelineSettings(start_s=0.3),
            launch=None,
            on_info=lambda source, info, warnings: {},
        )
        with pytest.raises(WireError, match=r"stage publisher: said nothing for 0.3 s; start it with 'megc-stream"):
            coordinator.run()


def test_who_is_waited_for_is_told_and_stopping_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_module, "_TELL_EVERY_S", 0.0)
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            coordinator.stop()

    with zmq.Context() as context:
        coordinator = Coordinator(
            context,
            "inproc://c",
            {"cam0": STAGES},
            PipelineSettings(start_s=60),
            launch=None,
            on_info=lambda source, info, warnings: {},
            tell=tell,
        )
        with pytest.raises(WireError, match="stopped before all its stages had started"):
            coordinator.run()
    assert len(lines) == 3
    assert lines[0].startswith("waiting for stage publisher, stage reader of cam0, ")


def test_stopping_finishes_what_was_read(graph: Callable[..., Graph], tmp_path: Path) -> None:
    made = graph(Options(frames=10_000_000))
    file = made.directory / "told-"

    def stop() -> None:
        wait_until(lambda: file.exists() and file.stat().st_size > 2000, None)
        made.coordinator.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    made.run()
    stopper.join()
    lines = told(made.directory / "told-")
    frames = len(lines["crop"])
    assert 0 < frames < 10_000_000
    assert lines == undisturbed(tmp_path, frames)


def test_stages_end_when_their_supervisor_dies(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        "from test_pipeline_processes import Graph, Options; "
        "path, options = Path(sys.argv[2]), Options(frames=10_000_000); "
        "Graph(path, options).run()"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)])
    try:
        wait_until(lambda: (tmp_path / "told-").exists(), supervisor)
        stages = children_of(supervisor.pid)
        assert len(stages) == 4
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait(10)
        wait_until(lambda: not any(map(is_running, stages)), None)
    finally:
        supervisor.kill()
        supervisor.wait()


def test_a_live_source_goes_on_with_a_gap_after_its_reader_died(graph: Callable[..., Graph]) -> None:
    made = graph(Options(frames=150, live=True, kills={"reader": [100]}))
    made.run()
    crops = told(made.directory / "told-")["crop"]
    frames = [int(line.split()[1]) for line in crops]
    assert frames == sorted(set(frames))
    [gap] = [line for line in crops if "restart" in line]
    # The stub counts from 0 again, as a camera does: all its frames come after those from before.
    assert len(frames) - crops.index(gap) == 150
    assert frames[crops.index(gap)] > frames[crops.index(gap) - 1] + 1


def test_a_live_source_begins_when_all_stages_are_ready(
    graph: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_module, "_TELL_EVERY_S", 0.0)
    made = graph(Options(frames=20, live=True, late="teller"))
    loading = "waiting for stage teller to get ready"

    def on_line(line: str) -> None:
        if made.lines.count(loading) == 40:  # several beats of all the others
            (made.directory / "go").touch()

    made.on_line = on_line
    made.run()
    assert loading in made.lines
    assert not (made.directory / "early").exists()
    assert len(told(made.directory / "told-")["crop"]) == 20
    assert not (made.directory / "held").exists()  # never told to drop frames


def test_who_waits_for_its_begin_leaves_by_itself_and_who_loads_is_killed_at_once(
    graph: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_module, "_TELL_EVERY_S", 0.0)
    monkeypatch.setattr(coordinator_module, "_QUIT_S", 3600.0)
    made = graph(Options(late="teller"))
    made.on_line = lambda line: made.coordinator.stop() if line == "waiting for stage teller to get ready" else None
    with pytest.raises(WireError, match="stopped before all its stages had started"):
        made.run()
    assert made.killed == {"teller"}


def test_a_source_that_cannot_be_opened_ends_the_run_and_kills_nobody_who_waits(
    graph: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_module, "_QUIT_S", 3600.0)
    made = graph(Options(refuse=True))
    with pytest.raises(UsageError, match="there is no such source"):
        made.run()
    assert "reader" not in made.killed


def test_a_live_source_loses_nothing_when_another_stage_dies(graph: Callable[..., Graph], tmp_path: Path) -> None:
    made = graph(Options(frames=200, live=True, kills={"adder": [83], "publisher": [150]}))
    made.run()
    assert told(made.directory / "told-") == undisturbed(tmp_path, 200)


def test_messages_that_mean_nothing_are_counted(graph: Callable[..., Graph], tmp_path: Path) -> None:
    made = graph(Options(frames=300))
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(made.coordinator.endpoint)
        for message in (b"", b"\xff\xff", b"\x81\xa4type\xa4beat", b"x" * 1000):
            socket.send(message)
        notes = made.run()
    assert made.coordinator.malformed == 4
    assert "4 malformed" in notes[""], "the publisher knows, for the status"
    assert told(made.directory / "told-") == undisturbed(tmp_path, 300)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any] | None, limit_s: float = 60) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        assert process is None or process.poll() is None, "the program ended"
        threading.Event().wait(0.05)


def running_stages(made: Graph) -> list[tuple[str, int]]:
    return [(stage, process.pid) for stage, process in list(made.started) if is_running(process.pid)]


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
