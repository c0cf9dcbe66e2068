from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator

import pytest
import zmq
from outcome import Command

from megc_stream.settings import WireSettings
from megc_stream.wire import Publisher
from megc_stream.wire.protocol import FaceFrame, LogEntry


@contextlib.contextmanager
def logging_publisher(*, skip: int = 0) -> Iterator[Publisher]:
    """A publisher that sends log lines 0, 1, 2, ... and pictures, leaving out ``skip`` numbers after each line."""
    done = threading.Event()
    with (
        zmq.Context() as context,
        Publisher(context, WireSettings(publish="tcp://127.0.0.1:*", publish_frames="tcp://127.0.0.1:*")) as publisher,
    ):

        def publish() -> None:
            number = 0
            while not done.wait(0.002):
                publisher.serve()
                publisher.publish("log.info.", "log", "", LogEntry(level="info", text=str(number)))
                publisher._sequence["log.info."] += skip
                publisher.publish("frame.face.cam0.", "frame", "cam0", FRAME, raw=(b"pixels",))
                number += 1

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield publisher
        finally:
            done.set()
            thread.join(10)


FRAME = FaceFrame(
    frame=1, number=1, segment=0, format="gray", width=3, height=2, landmarks68=None, flags=(), pts_s=None
)


def test_messages_are_printed_as_json_lines_in_order(command: Command) -> None:
    with logging_publisher() as publisher:
        done = command("subscribe", publisher.endpoints["events"], "--topic", "log.", "--count", "3")
    assert done.code == 0
    messages = [json.loads(line) for line in done.out.splitlines()]
    first = messages[0]["seq"]
    assert [(m["topic"], m["type"], m["seq"]) for m in messages] == [("log.info.", "log", first + n) for n in range(3)]
    assert done.err == f"connected to {publisher.endpoints['events']} (megc-stream 0.1.0); Ctrl-C ends\n"


def test_pictures_are_announced_without_their_bytes(command: Command) -> None:
    with logging_publisher() as publisher:
        done = command("subscribe", publisher.endpoints["frames"], "--topic", "frame.", "--count", "1", "--latest")
    message = json.loads(done.out)
    assert message["frame"]["width"] == 3
    assert "raw" not in message


def test_lost_messages_are_told_on_stderr(command: Command) -> None:
    with logging_publisher(skip=4) as publisher:
        done = command("subscribe", publisher.endpoints["events"], "--topic", "log.", "--count", "5")
    assert len(done.out.splitlines()) == 5
    assert f"warning: endpoint {publisher.endpoints['events']}: 4 messages lost" in done.err


def test_silence_is_told_on_stderr(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from megc_stream.wire.intake import Intake

    check = Intake.check

    def check_and_leave(intake: Intake, problem: str) -> None:
        check(intake, problem)
        if intake.stale:
            raise KeyboardInterrupt

    monkeypatch.setattr(Intake, "check", check_and_leave)
    with logging_publisher() as publisher:
        done = command("subscribe", publisher.endpoints["events"], "--topic", "event.", "--stale", "0.1")
    assert done.code == 0
    assert "warning: endpoint" in done.err
    assert "not even a status" in done.err


def test_keys_are_read_before_connecting(command: Command) -> None:
    done = command("subscribe", "tcp://127.0.0.1:1", "--key", "missing.key_secret")
    assert done.code == 2
    assert "missing.key_secret" in done.err
