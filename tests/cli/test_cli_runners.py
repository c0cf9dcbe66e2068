"""The same clip in all three runners, at several speeds, with the CPU busy and a stage killed: the same event log."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from outcome import Command

from megc_stream.cli import processes
from megc_stream.cli.graph import nodes_of
from megc_stream.settings import Settings, load_settings
from megc_stream.wire import Control

BASE = [sys.executable, "-m", "megc_stream"]
LIMIT_S = 300
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="processes are linked by ipc://"),
    pytest.mark.timeout(400),  # seven processes on a machine that is kept busy
]


def events_of(folder: Path) -> list[str]:
    """Return the lines of the event log without what depends on time and load."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [json.dumps({key: value for key, value in json.loads(line).items() if key != "run"}) for line in lines]


@pytest.fixture(scope="module")
def alone(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one process at full speed."""
    folder = tmp_path_factory.mktemp("alone") / "r"
    subprocess.run([*BASE, "run", str(clip), "--out", str(folder)], check=True, capture_output=True, timeout=LIMIT_S)
    assert len(events_of(folder)) >= 4
    return folder


@pytest.fixture
def busy() -> Iterator[None]:
    """Another program that takes all the CPU it gets."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    process.kill()
    process.wait()


def finish(process: subprocess.Popen[str]) -> str:
    try:
        _, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return err


def stage_of(parent: int, stage: str) -> int | None:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"stage" in words and stage.encode() in words:
                    return int(entry.name)
        except OSError:
            continue
    return None


def wait_for_results(spool: Path, process: subprocess.Popen[str], least: int = 20_000) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not (spool.exists() and spool.stat().st_size > least):
        assert time.monotonic() < deadline_s
        assert process.poll() is None, "the run ended early"
        threading.Event().wait(0.02)


@pytest.mark.usefixtures("busy")
def test_one_process_at_its_own_pace(clip: Path, alone: Path, tmp_path: Path, command: Command) -> None:
    done = command("run", clip, "--out", tmp_path / "r", "--speed", "2x")
    assert done.code == 0, done.err
    assert events_of(tmp_path / "r") == events_of(alone)


@pytest.mark.usefixtures("busy")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the stage to kill in /proc")
def test_a_process_for_each_stage_and_one_of_them_killed(clip: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    process = subprocess.Popen(
        [*BASE, "run", str(clip), "--out", str(out), "--runner", "processes"], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for_results(out / ".spool", process)
        spotter = stage_of(process.pid, "spotter")
        assert spotter is not None
        os.kill(spotter, signal.SIGKILL)
        err = finish(process)
    finally:
        process.kill()
        process.wait()
    assert "stage spotter died (signal SIGKILL) and is started again" in err
    assert events_of(out) == events_of(alone)
    assert {file.name for file in out.iterdir()} == {file.name for file in alone.iterdir()}
    assert any("stage spotter died" in note for note in json.loads((out / "run.json").read_text())["notes"])


@pytest.mark.usefixtures("busy")
def test_stages_started_by_hand_over_tcp(clip: Path, alone: Path, tmp_path: Path) -> None:
    ports = free_ports(4)
    config = tmp_path / "graph.toml"
    config.write_text(
        f"""
[pipeline]
runner = "hosts"
coordinator = "tcp://127.0.0.1:{ports[0]}"
publisher = "tcp://127.0.0.1:{ports[1]}"
[[sources]]
name = "cam0"
source = "{clip}"
video = "{clip.stem}"
links = {{ spotter = "tcp://127.0.0.1:{ports[2]}", recogniser = "tcp://127.0.0.1:{ports[3]}" }}
[output]
folder = "{tmp_path / "r"}"
"""
    )
    processes = [
        subprocess.Popen([*BASE, *words, "--config", str(config)], stderr=subprocess.PIPE, text=True)
        for words in (["run"], *(["stage", name] for name in ("reader", "spotter", "recogniser", "publisher")))
    ]
    try:
        for process in processes:
            finish(process)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert events_of(tmp_path / "r" / "cam0") == events_of(alone)


@pytest.mark.parametrize("runner", ["embedded", "processes"])
def test_several_cameras_in_one_graph(clip: Path, tmp_path: Path, command: Command, runner: str) -> None:
    shutil.copy(clip, tmp_path / "other.mkv")
    config = tmp_path / "lab.toml"
    config.write_text(
        f"""
[capture]
max_seconds = 1
[[sources]]
name = "left"
source = "{clip}"
[[sources]]
name = "right"
source = "other.mkv"
subject = "s02"
capture = {{ max_seconds = 2 }}
"""
    )
    done = command("run", config, "--out", "lab", "--json", "summary.json", "--runner", runner)
    assert done.code == 0, done.err
    assert [Path(line) for line in done.out.splitlines()] == [Path("lab", n, "report.html") for n in ("left", "right")]
    frames = {
        name: json.loads(Path("lab", name, "run.json").read_text())["counts"]["frames"] for name in ("left", "right")
    }
    assert frames == {"left": 50, "right": 100}
    assert json.loads(Path("lab", "right", "run.json").read_text())["source"]["subject"] == "s02"
    assert [one["source"] for one in json.loads(Path("summary.json").read_text())["sources"]] == ["left", "right"]


def test_a_stage_is_told_exactly_the_settings_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a file, of variables and of flags; tables in tables; what a source leaves out is the common one's."""
    config = tmp_path / "lab.toml"
    config.write_text(
        """
subject = "s01"
[capture]
speed = 1.0
camera = { exposure_s = 0.004, features = { Second = 2 } }
[face]
key_interval_s = 0.3
[model]
providers = ["cuda", "cpu"]
[[sources]]
name = "left"
source = "0"
links = { spotter = "tcp://127.0.0.1:5610" }
[[sources]]
name = "right"
source = "1"
subject = "s02"
capture = { fps = 100, speed = 0.0, camera = { gain = 3.0 } }
face = { face_index = 1 }
"""
    )
    monkeypatch.setenv("MEGC_CAPTURE__CAMERA__FEATURES", '{"First": 1}')
    monkeypatch.setenv("megc_spotting__p", "0.7")
    settings = load_settings(config, {"capture": {"max_seconds": 9}, "output": {"folder": tmp_path}})
    told: list[tuple[dict[str, str], io.BytesIO]] = []

    def popen(words: list[str], *, env: dict[str, str], **_: object) -> SimpleNamespace:
        told.append((env, io.BytesIO()))
        return SimpleNamespace(stdin=told[-1][1])

    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    processes._launch(settings, tmp_path, "left", "reader")
    [(variables, pipe)] = told
    for name in [name for name in os.environ if name not in variables]:
        monkeypatch.delenv(name)
    heard = Settings(**json.loads(pipe.getvalue())["settings"])
    assert heard == settings
    assert nodes_of(heard) == nodes_of(settings)
    left, right = (node.settings for node in nodes_of(heard))
    assert (left.capture.speed, left.capture.max_seconds, left.face.key_interval_s) == (1.0, 9.0, 0.3)
    assert (right.capture.speed, right.capture.max_seconds, right.face.key_interval_s) == (0.0, 9.0, 0.3)
    assert (left.subject, right.subject, right.capture.fps, right.face.face_index) == ("s01", "s02", 100.0, 1)
    assert (right.capture.camera.exposure_s, right.capture.camera.gain) == (0.004, 3.0)
    assert list(right.capture.camera.features) == list(settings.capture.camera.features), "set in this order"
    assert heard.spotting.p == 0.7
    assert heard.model.providers == ("cuda", "cpu")


def test_wrong_graphs_are_one_line_each(clip: Path, tmp_path: Path, command: Command) -> None:
    left = f'[[sources]]\nname = "left"\nsource = "{clip}"\n'
    for text, words in [
        (left + left, "'left' is taken"),
        (f'source = "x"\n{left}', "leave one of them out"),
        ('[[sources]]\nname = "a b"\nsource = "x"\n', "sources.0.name"),
        (f'[pipeline]\nrunner = "hosts"\n{left}', "pipeline.publisher is missing"),
        ("", "no source"),
    ]:
        (tmp_path / "g.toml").write_text(text)
        done = command("run", "g.toml")
        assert done.code == 2, done.err
        assert words in done.err
    done = command("stage", "spotter", "--config", "g.toml")
    assert done.code == 2
    assert "stages are started for 'hosts'" in done.err
    assert command("stage", "spotter").code == 2


@pytest.mark.parametrize("runner", ["embedded", "processes"])
def test_a_running_analysis_takes_commands(clip: Path, tmp_path: Path, runner: str) -> None:
    endpoint = f"ipc://{tmp_path}/control"
    process = subprocess.Popen(
        [
            *(*BASE, "run", str(clip), "--out", str(tmp_path / "r")),
            *("--runner", runner, "--control", endpoint, "--speed", "1x"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with Control(endpoint, timeout_s=60) as control:
            control.annotate("subject coughs")
            control.set_threshold(deviations=4.5)
            control.pause()
            assert control.snapshot()["paused"]
            control.start(source=clip.stem if control.status()["sources"] else "")
            control.shutdown()
        err = finish(process)
    finally:
        process.kill()
        process.wait()
    assert "stopped early" in err
    if (tmp_path / "r" / "annotations.csv").exists():  # unless the end came before the first frame
        with (tmp_path / "r" / "annotations.csv").open() as stream:
            [row] = csv.DictReader(stream)
        assert row["text"] == "subject coughs"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None,
    reason="two hosts are two network namespaces: needs Linux, root and iproute2",
)
def test_two_hosts_whose_link_is_cut(clip: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "cut_link.py"
    probe = subprocess.run(["ip", "netns", "add", "megc-probe"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", "megc-probe"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"network namespaces cannot be made here: {probe.stderr.strip()}")
    done = subprocess.run(
        [sys.executable, str(script), str(clip), "--cut", "5"],
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
