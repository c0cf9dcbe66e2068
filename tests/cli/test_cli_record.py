from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from outcome import Command

from megc_stream.output.recording import RecordedMessage, RecordingReader
from megc_stream.records import Event, EventPoint
from megc_stream.settings import WireSettings
from megc_stream.wire import Publisher
from megc_stream.wire.protocol import topic_of
from megc_stream.wire.tap import Tap


def event(number: int) -> Event:
    points = [EventPoint(frame=frame, number=frame, t_s=frame / 50) for frame in (10, 20, 30)]
    return Event(
        event_id=f"cam0-{number}",
        event_number=number,
        rev=0,
        kind="label",
        final=True,
        source="cam0",
        subject="s",
        video="v",
        decision_frame=40,
        onset=points[0],
        apex=points[1],
        offset=points[2],
        type="micro",
        emotion="surprise",
        score=1.0,
        threshold=0.5,
        model="m",
        model_sha256="0",
        k=1,
        k_prime=2,
        lookahead_s=0.1,
    )


class Station:
    """A publisher with a tap, on a thread of its own: as soon as a recorder is there, publishes and ends."""

    def __init__(self, folder: Path, count: int, *, hold: bool = False) -> None:
        self.events, self.recordings = f"ipc://{folder}/events", f"ipc://{folder}/recordings"
        self.leave = threading.Event()
        self._count = count
        self._hold = hold
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with (
            zmq.Context() as context,
            Publisher(context, WireSettings(publish=self.events)) as publisher,
        ):
            # The address is told a little later, as in a run that is starting.
            tap: Tap | None = None
            sent = 0
            while not self.leave.is_set() and (self._hold or sent < self._count):
                publisher.serve()
                if publisher.next_seq and tap is None:
                    tap = Tap.of(publisher, context, self.recordings)
                if tap is not None:
                    tap.serve()
                    if tap.status.clients and sent < self._count:
                        publisher.publish(topic_of("event", "label", "cam0"), "event", "cam0", event(sent))
                        sent += 1
                        continue
                self.leave.wait(0.005)
            if tap is not None:
                tap.close()

    def end(self) -> None:
        self.leave.set()
        self._thread.join(30)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    made: list[Station] = []

    def start(count: int, **options: bool) -> Station:
        made.append(Station(tmp_path, count, **options))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def recording(command: Command, station: Callable[..., Station]) -> str:
    done = command("record", station(20).events, "a.megc", "--fsync", "always", "--topics", "event.")
    assert done.code == 0, done.err
    return "a.megc"


def test_record_info_and_export(command: Command, recording: str, tmp_path: Path) -> None:
    told = command("play", recording, "--info")
    assert told.code == 0, told.err
    assert "20 messages" in told.out
    assert "ended: over" in told.out
    info = json.loads(command("play", recording, "--info", "--json", "-").out)
    assert info["messages"] == info["topics"]["event.label.cam0."]["messages"] == 20
    assert (info["lost"], info["damage"], info["indexed"]) == (0, [], True)
    for suffix in ("jsonl", "csv", "parquet", "eaf", "vtt"):
        done = command("export", recording, f"e.{suffix}")
        assert done.code == 0, done.err
        assert done.out == f"e.{suffix}\n"
        assert "20 " in done.err
        assert (tmp_path / f"e.{suffix}").stat().st_size > 100
    assert command("export", recording, "e.vtt").code == 2
    assert command("export", recording, "e.vtt", "--overwrite").code == 0
    assert command("export", recording, "e.docx").code == 2


def test_record_tells_what_it_did(command: Command, station: Callable[..., Station], tmp_path: Path) -> None:
    done = command("record", station(5).events, "a.megc", "--json", "-", "--topics", "event.label.")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told == {"file": "a.megc", "messages": 5, "lost": 0, "sessions": 1, "why": "over"}
    assert "5 messages recorded; the stream is over" in done.err
    assert (tmp_path / "a.megc.index").is_file()


def test_wrong_use_of_record_and_play(command: Command, recording: str, tmp_path: Path) -> None:
    nobody = f"ipc://{tmp_path}/nobody"
    for arguments, code, text in (
        (["record", nobody, recording], 2, "is there already"),
        (["record", nobody, recording, "--append", "--overwrite"], 2, "contradict"),
        (["record", nobody, "b.megc", "--fsync", "maybe"], 2, "expected always, never or a number"),
        (["record", nobody, "b.megc", "--timeout", "0.2"], 1, "no publisher answered"),
        (["record", nobody, "b.megc", "--direct", "--timeout", "0.2"], 1, "no publisher answered"),
        (["play", recording], 2, "say --publish ENDPOINT"),
        (["play", recording, "--publish", f"{nobody}2", "--wait", "--timeout", "0.2"], 1, "nobody subscribed"),
        (["play", recording, "--publish", nobody, "--speed", "fast"], 2, "expected native, max"),
        (["play", "gone.megc", "--info"], 1, "cannot be opened"),
        (["export", "gone.megc", "e.csv"], 1, "cannot be opened"),
    ):
        done = command(*arguments)
        assert (done.code, text in done.err) == (code, True), done
    assert not (tmp_path / "b.megc").exists()


def test_a_publisher_without_recordings_is_named(command: Command, tmp_path: Path) -> None:
    done = threading.Event()

    def publish() -> None:
        with zmq.Context() as context, Publisher(context, WireSettings(publish=f"ipc://{tmp_path}/e")) as publisher:
            while not done.is_set():
                publisher.serve()
                done.wait(0.005)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        told = command("record", f"ipc://{tmp_path}/e", "a.megc", "--timeout", "0.6")
    finally:
        done.set()
        thread.join(20)
    assert told.code == 1
    assert "no socket 'recordings'" in told.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_ends_a_recording_cleanly_and_append_goes_on(
    command: Command, station: Callable[..., Station], tmp_path: Path
) -> None:
    running = station(30, hold=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "megc_stream", "record", running.recordings, "a.megc", "--direct", "--timeout", "60"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Without a subscriber the station offers its recordings only after the first message.
    try:
        told = command("subscribe", running.events, "--topic", "event.", "--count", "1", "--timeout", "20")
        assert told.code == 0, told.err
        for _ in range(2000):
            path = tmp_path / "a.megc"
            if path.exists() and _count(path) == 30:
                break
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 0, err
    assert out == "a.megc\n"
    assert "30 messages recorded; stopped" in err
    running.end()
    done = command("record", station(7).events, "a.megc", "--append", "--topics", "event.")
    assert done.code == 0, done.err
    assert "7 messages recorded" in done.err
    assert _count(tmp_path / "a.megc") == 37


def _count(path: Path) -> int:
    with RecordingReader(path) as reader:
        return sum(isinstance(entry.item, RecordedMessage) for entry in reader.entries())


def test_play_to_subscribe(command: Command, recording: str, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/play"
    process = subprocess.Popen(
        [sys.executable, "-m", "megc_stream", "play", recording, "--publish", endpoint, "--speed", "max", "--wait"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = command("subscribe", endpoint, "--topic", "event.", "--count", "20", "--timeout", "30")
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert told.code == 0, told.err
    assert [json.loads(line)["event"]["event_number"] for line in told.out.splitlines()] == list(range(20))
    assert process.returncode == 0, err
    assert "20 messages played" in err


def test_the_recording_of_a_run_holds_its_event_log(command: Command, clip: Path, tmp_path: Path) -> None:
    events, tap = f"ipc://{tmp_path}/events", f"ipc://{tmp_path}/tap"
    process = subprocess.Popen(
        [sys.executable, "-m", "megc_stream", "record", tap, "a.megc", "--direct", "--timeout", "100"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        # Not at full speed, so that there are some status messages.
        done = command("run", clip, "--out", "results", "--publish", events, "--recordings", tap, "--speed", "native")
        assert done.code == 0, done.err
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 0, err
    info = json.loads(command("play", "a.megc", "--info", "--json", "-").out)
    assert (info["lost"], info["ended"], info["malformed"], info["damage"]) == (0, "over", 0, [])
    assert not any(topic["gaps"] for topic in info["topics"].values())
    assert info["topics"]["status."]["messages"] >= 5
    assert command("export", "a.megc", "e.jsonl").code == 0
    assert command("export", "a.megc", "e.csv").code == 0
    assert (tmp_path / "e.jsonl").read_bytes() == (tmp_path / "results" / "events.jsonl").read_bytes() != b""
    assert (tmp_path / "e.csv").read_bytes() == (tmp_path / "results" / "intervals.csv").read_bytes()
