"""Streams that a real FFmpeg serves on loopback, killed and started again."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from stamped_media import HEIGHT, WIDTH, read_stamp, write_video

from megc_stream.capture import Source, open_source
from megc_stream.capture.network import NetworkReader
from megc_stream.capture.source import Picture
from megc_stream.clock import Clock, ManualClock, MonotonicClock
from megc_stream.errors import CaptureError
from megc_stream.settings import CaptureSettings

FPS = 25
LENGTH = 400

FORMATS = {
    "mjpeg": ("mjpeg", "yuvj420p", "mpjpeg", {}),
    "h264": ("libx264", "yuv420p", "mpegts", {"g": "5", "bf": "0", "tune": "zerolatency"}),
}


class Server:
    """An FFmpeg that plays a clip, at its own rate, to the one client that it waits for."""

    def __init__(self, clip: Path, kind: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/lab_left.{kind}"
        self._command = [get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-re", "-i", str(clip), "-c", "copy"]
        self._command += ["-flush_packets", "1", "-f", kind, "-listen", "1", self.address]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@pytest.fixture(params=list(FORMATS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    codec, pixels, kind, options = FORMATS[request.param]
    suffix = ".avi" if codec == "mjpeg" else ".ts"
    clip = write_video(tmp_path / f"clip{suffix}", LENGTH, codec=codec, pixel_format=pixels, fps=FPS, options=options)
    running = Server(clip, kind)
    yield running
    running.kill()


def connect(server: Server, clock: Clock | None = None, **settings: float) -> Source:
    """Start the server and open its stream, trying until it listens."""
    server.start()
    clock = clock or MonotonicClock()
    deadline_s = clock.now_s() + 20
    while True:
        try:
            return open_source(server.address, CaptureSettings(live_queue_s=5, **settings), clock=clock)  # type: ignore[arg-type]
        except CaptureError:
            if clock.now_s() > deadline_s:
                raise


def test_a_stream_is_read_and_opened_again_after_it_broke_off(server: Server) -> None:
    seen: list[tuple[int, int, dict[str, int]]] = []
    with connect(server, fps=FPS) as source:
        assert source.info.live
        assert (source.info.width, source.info.height, source.info.video) == (WIDTH, HEIGHT, "lab_left")
        back = 0
        for frame in source.frames():
            seen.append((frame.frame, read_stamp(frame.image), frame.dropped))
            if len(seen) == 10:
                server.kill()
                server.start()
            back += "disconnected" in frame.dropped or back > 0
            if back == 5:
                source.stop()
        end = source.end
    for (frame, stamp, _), (next_frame, next_stamp, dropped) in pairwise(seen):
        assert next_frame - frame - 1 == sum(dropped.values())
        if "disconnected" in dropped:
            assert next_stamp < stamp, "the server began its clip anew"
        else:
            assert next_stamp - stamp == next_frame - frame
    assert sum("disconnected" in dropped for _, _, dropped in seen) == 1
    assert end.reason == "stopped"
    assert "was disconnected once, about" in end.message


def test_a_stream_that_stays_away_ends_with_what_was_lost(server: Server) -> None:
    with connect(server, fps=FPS, reconnect_s=0.3) as source:
        count = 0
        for _ in source.frames():
            count += 1
            if count == 5:
                server.kill()
        end = source.end
    assert end.reason == "damaged"
    assert "not reached again within 0.3 s (capture.reconnect_s)" in end.message
    assert end.dropped["disconnected"] >= 1
    assert end.frames == count


class Stream:
    """Stands for a VideoReader of ``count`` pictures."""

    fps, assumed_fps, width, height = 10.0, False, 4, 3
    description, trouble, finite = "x", "", False

    def __init__(self, clock: ManualClock, count: int, width: int = 4) -> None:
        self.lost: dict[str, int] = {}
        self._clock, self._count, self.width = clock, count, width

    def pictures(self) -> Iterator[Picture]:
        for frame in range(self._count):
            self._clock.advance_s(0.1)
            yield Picture(frame=frame, number=frame, image=np.zeros((3, self.width), np.uint8), pts_s=frame / 10)

    def close(self) -> None:
        pass


def test_what_was_missed_follows_from_time_and_rate() -> None:
    clock = ManualClock()
    openings: list[Stream | None] = [Stream(clock, 3), None, None, Stream(clock, 2)]

    def open_stream() -> Stream:
        stream = openings.pop(0) if openings else None
        if stream is None:
            raise CaptureError("nobody there")
        return stream

    reader = NetworkReader(open_stream, name="cam", clock=clock, reconnect_s=60)  # type: ignore[arg-type]
    told: list[str] = []
    reader.tell = told.append
    pictures = list(reader.pictures())
    # Pauses of 0.25, 0.5 and 1 s, then a picture after 0.1 s: 18.5 frames of 0.1 s after the last one.
    assert [picture.frame for picture in pictures] == [0, 1, 2, 20, 21]
    assert [picture.dropped for picture in pictures] == [{}, {}, {}, {"disconnected": 17}, {}]
    assert reader.lost["disconnected"] >= 600
    assert reader.damage == (
        "cam: the stream broke off; not reached again within 60 s (capture.reconnect_s), the last time because of: "
        "nobody there"
    )
    lost = "cam: the stream broke off; looking for it again for 60 s"
    assert told == [lost, "cam: is back after 1.8 s, 17 frames missed", lost]


@pytest.mark.parametrize("finds_it", [False, True])
def test_a_stream_that_is_away_when_it_is_stopped_has_lost_what_was_missed(finds_it: bool) -> None:
    clock = ManualClock()
    openings = [Stream(clock, 3)]

    def open_stream() -> Stream:
        if openings:
            return openings.pop()
        if clock.now_s() > 4:
            clock.advance_s(0.02)
            reader.stop()
            if finds_it:
                return Stream(clock, 0)
        raise CaptureError("nobody there")

    reader = NetworkReader(open_stream, name="cam", clock=clock, reconnect_s=60)  # type: ignore[arg-type]
    assert len(list(reader.pictures())) == 3
    # The last picture came at 0.3 s; it is looked for at 0.55, 1.05, 2.05 and 4.05 s.
    assert reader.lost == {"disconnected": 38}
    assert reader.damage == "cam: was disconnected once, about 38 frames were missed"


def test_what_was_damaged_is_counted_from_the_beginning_of_the_stream() -> None:
    class Damaged(Stream):
        def pictures(self) -> Iterator[Picture]:
            for picture in super().pictures():
                yield replace(picture, dropped={"damaged": 2})

    reader = NetworkReader(
        lambda: Damaged(ManualClock(), 5),  # type: ignore[arg-type, return-value]
        name="cam",
        clock=ManualClock(),
        reconnect_s=0,
    )
    for count, _ in enumerate(reader.pictures()):
        if count == 2:
            reader.forget()
        if count == 3:
            assert reader.damage == "cam: 2 frames left out as damaged"
            reader.stop()


def test_a_stopped_stream_says_how_long_it_was_away(server: Server) -> None:
    class Shifted(MonotonicClock):
        by_s = 0.0

        def now_s(self) -> float:
            return super().now_s() + self.by_s

    told: list[str] = []
    clock = Shifted()

    def tell(text: str) -> None:
        told.append(text)
        clock.by_s = 4.0  # so long it is away
        source.stop()

    with connect(server, clock, fps=FPS) as source:
        source.tell = tell
        for count, _ in enumerate(source.frames()):
            if count == 5:
                server.kill()
    assert source.end.reason == "stopped"
    assert source.end.dropped["disconnected"] >= 4 * FPS
    missed = source.end.dropped["disconnected"]
    assert source.end.message.endswith(f"was disconnected once, about {missed} frames were missed")
    assert len(told) == 1
    assert told[0].startswith(f"{server.address}: ")
    assert told[0].endswith("; looking for it again for 60 s")
    assert "decoded" not in told[0]


def test_another_size_after_the_break_is_an_error() -> None:
    clock = ManualClock()
    openings = [Stream(clock, 1), Stream(clock, 1, width=8)]
    reader = NetworkReader(lambda: openings.pop(0), name="cam", clock=clock, reconnect_s=5)  # type: ignore[arg-type, return-value]
    with pytest.raises(CaptureError, match="cam: came back with 8x3 px, expected 4x3"):
        list(reader.pictures())


def test_stop_ends_the_search_for_a_lost_stream() -> None:
    clock = ManualClock()
    tries = 0

    def open_stream() -> Stream:
        nonlocal tries
        tries += 1
        if tries == 1:
            return Stream(clock, 1)
        if tries == 4:
            reader.stop()
        raise CaptureError("nobody there")

    reader = NetworkReader(open_stream, name="cam", clock=clock, reconnect_s=3600)  # type: ignore[arg-type]
    assert len(list(reader.pictures())) == 1
    assert tries == 4
