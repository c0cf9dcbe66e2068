"""Live sources on the way from being opened to their first frame."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import MagicMock

import pytest

from megc_stream.cli import analysis
from megc_stream.clock import Clock, ManualClock
from megc_stream.errors import CaptureError, UsageError
from megc_stream.records import StreamInfo
from megc_stream.settings import Settings, SourceSettings, SpottingSettings


class Camera:
    """Stands for a live source, and notes what is done with it."""

    info = StreamInfo(source="cam", subject="cam", video="cam", fps=200, width=640, height=480, live=True)

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gone = threading.Event()

    def drain(self) -> None:
        self.done.append("drained")

    def close(self) -> None:
        self.done.append("closed")
        self.gone.set()

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Camera:
    made = Camera()
    monkeypatch.setattr(analysis, "open_input", lambda settings, clock: made)
    return made


def test_a_source_is_drained_while_the_stages_start(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_face(*_: Any) -> Any:
        assert camera.done == ["drained"], "it is drained before anything that takes time"
        return made

    made = MagicMock()
    monkeypatch.setattr(analysis, "FaceAnalyser", make_face)
    source, face = analysis.open_reader(Settings(source="0"), ManualClock())
    assert (source, face) == (camera, made)
    assert camera.done == ["drained"]


def test_a_source_that_cannot_be_used_is_closed(camera: Camera) -> None:
    with pytest.raises(UsageError, match="--spotting video needs a file"):
        analysis.open_reader(Settings(source="0", spotting=SpottingSettings(mode="video")), ManualClock())
    assert camera.done == ["closed"]


def test_streams_are_opened_at_once_and_closed_when_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)
    opened: list[Camera] = []

    def open_input(settings: Settings, clock: Clock) -> Camera:
        together.wait(30)  # in turn, the first would wait for ever
        if "second" in settings.source:
            raise CaptureError("second: no answer")
        opened.append(Camera())
        return opened[0]

    monkeypatch.setattr(analysis, "open_input", open_input)
    settings = Settings(
        sources=tuple(SourceSettings(name=name, source=f"http://127.0.0.1/{name}") for name in ("first", "second"))
    )
    with pytest.raises(CaptureError, match="second: no answer"):
        analysis.analyse_graph(settings, clock=ManualClock())
    assert [camera.done for camera in opened] == [["drained", "closed"]]


class InterruptedPool(ThreadPoolExecutor):
    """Stands for Ctrl-C while the streams are waited for."""

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=False)
        raise KeyboardInterrupt


def test_streams_that_were_opened_are_closed_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = {"first": Camera(), "second": Camera()}
    interrupted = threading.Event()

    def open_input(settings: Settings, clock: Clock) -> Camera:
        name = settings.source.rpartition("/")[2]
        assert name == "first" or interrupted.wait(30)  # the second is still being opened then
        return opened[name]

    monkeypatch.setattr(analysis, "open_input", open_input)
    monkeypatch.setattr(analysis, "ThreadPoolExecutor", InterruptedPool)
    settings = Settings(sources=tuple(SourceSettings(name=name, source=f"http://127.0.0.1/{name}") for name in opened))
    with pytest.raises(KeyboardInterrupt):
        analysis.analyse_graph(settings, clock=ManualClock())
    interrupted.set()
    for camera in opened.values():
        assert camera.gone.wait(30)


def test_all_streams_that_cannot_be_opened_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_input(settings: Settings, clock: Clock) -> Camera:
        raise CaptureError(f"{settings.source}: no answer")

    monkeypatch.setattr(analysis, "open_input", open_input)
    settings = Settings(
        sources=tuple(SourceSettings(name=name, source=f"http://127.0.0.1/{name}") for name in ("left", "right"))
    )
    with pytest.raises(CaptureError, match="/left: no answer") as caught:
        analysis.analyse_graph(settings, clock=ManualClock())
    assert caught.value.__notes__ == ["this is the source 'left'", "and: http://127.0.0.1/right: no answer"]
