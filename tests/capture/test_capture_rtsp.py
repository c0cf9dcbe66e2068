"""RTSP: what a real FFmpeg packs into RTP, over TCP from a small server that is killed, started again, or silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from stamped_media import HEIGHT, WIDTH, read_stamp, stamped, write_video

from megc_stream.capture import Source, open_source
from megc_stream.capture import opening as opening_module
from megc_stream.capture import video as video_module
from megc_stream.clock import MonotonicClock
from megc_stream.errors import CaptureError
from megc_stream.records import Frame
from megc_stream.settings import CaptureSettings

pytest.importorskip("imageio_ffmpeg", reason="the package imageio-ffmpeg, which brings FFmpeg, is not installed")
from rtsp_server import RtspServer

FPS = 100
OPTIONS = {"g": "5", "bf": "0", "tune": "zerolatency"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return clips whose parameter sets are repeated in the stream (.ts), and stand before it alone (.mp4)."""
    folder = tmp_path_factory.mktemp("clips")
    return {suffix: write_video(folder / f"clip.{suffix}", 600, fps=FPS, options=OPTIONS) for suffix in ("ts", "mp4")}


@pytest.fixture
def serve(clips: dict[str, Path]) -> Iterator[Callable[..., RtspServer]]:
    running: list[RtspServer] = []

    def start(suffix: str = "ts", **how: bool) -> RtspServer:
        running.append(RtspServer(clips[suffix], **how))
        running[-1].start()
        return running[-1]

    yield start
    for server in running:
        server.close()


def connected(server: RtspServer, **settings: float) -> Source:
    made = CaptureSettings(live_queue_s=5, **settings)  # type: ignore[arg-type]
    return open_source(server.address, made, clock=MonotonicClock())


@pytest.mark.parametrize(("suffix", "described"), [("ts", False), ("mp4", True)], ids=["repeated", "described"])
def test_every_frame_comes_once_in_order_over_tcp(
    serve: Callable[..., RtspServer], suffix: str, described: bool
) -> None:
    server = serve(suffix, described=described)
    frames: list[Frame] = []
    with connected(server) as source:
        info = source.info
        assert (info.width, info.height, info.fps, info.video, info.live) == (WIDTH, HEIGHT, FPS, "lab_left", True)
        assert not source.assumed_fps, "the rate is in the parameter sets"
        for frame in source.frames():
            frames.append(frame)
            if len(frames) == 12:
                source.stop()
        assert source.end.reason == "stopped"
    stamps = [read_stamp(frame.image) for frame in frames]
    assert stamps == list(range(stamps[0], stamps[0] + 12))
    assert [(frame.frame, frame.dropped) for frame in frames] == [(n, {}) for n in range(12)]
    for frame in frames:
        difference = np.abs(frame.image.astype(int) - stamped(read_stamp(frame.image)))
        assert difference.mean() < 2
    server.wait()
    methods = [method for method, _ in server.requests]
    assert methods[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    assert methods[-1] == "TEARDOWN"
    assert server.requests[2][1] == "RTP/AVP/TCP;unicast;interleaved=0-1", "UDP loses packets without a word"


def test_a_wrong_path_is_one_clear_line(serve: Callable[..., RtspServer]) -> None:
    server = serve()
    with pytest.raises(
        CaptureError, match=r"/nothing: cannot be opened as a video \(Server returned 404.*check the path"
    ) as caught:
        open_source(server.address.replace("lab_left", "nothing"), CaptureSettings(), clock=MonotonicClock())
    assert "\n" not in str(caught.value)


def test_a_server_without_tcp_is_refused(serve: Callable[..., RtspServer]) -> None:
    with pytest.raises(CaptureError, match=r"lab_left: cannot be opened as a video \(Protocol not supported\)"):
        connected(serve(tcp=False))


def broken_off(server: RtspServer, how: Callable[[], None], **settings: float) -> tuple[list[Frame], str]:
    """Return the frames around a break after the 6th, until the 4th after it, and what the end says."""
    frames: list[Frame] = []
    after = 0
    with connected(server, **settings) as source:
        for frame in source.frames():
            frames.append(frame)
            if len(frames) == 6:
                how()
            after += after > 0 or "disconnected" in frame.dropped
            if after == 4:
                source.stop()
        return frames, source.end.message


def check_gap(frames: list[Frame]) -> None:
    for one, following in pairwise(frames):
        lost = sum(following.dropped.values())
        assert following.frame - one.frame - 1 == lost
        if "disconnected" in following.dropped:
            assert following.t_capture_s - one.t_capture_s == pytest.approx((lost + 1) / FPS, abs=0.51 / FPS)
        else:
            assert read_stamp(following.image) - read_stamp(one.image) == 1
    assert sum("disconnected" in frame.dropped for frame in frames) == 1


def test_a_server_that_is_started_again_leaves_a_gap(serve: Callable[..., RtspServer]) -> None:
    server = serve()

    def restart() -> None:
        server.kill()
        server.start()

    frames, message = broken_off(server, restart)
    check_gap(frames)
    assert message.startswith(f"{server.address}: was disconnected once, about ")


def test_a_stream_that_stands_still_is_opened_again(
    serve: Callable[..., RtspServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "_LEAST_READ_S", 0.1)
    server = serve()
    frames, _ = broken_off(server, server.stall, silence_s=0.6)
    check_gap(frames)


def test_a_server_that_goes_ends_the_stream(serve: Callable[..., RtspServer]) -> None:
    server = serve()
    with connected(server, reconnect_s=0.3) as source:
        for count, _ in enumerate(source.frames(), 1):
            if count == 3:
                server.kill()
        assert source.end.reason == "damaged"
        assert "; not reached again within 0.3 s (capture.reconnect_s), the last time " in source.end.message
        assert source.end.dropped["disconnected"] >= 0.3 * FPS


def test_a_server_that_says_nothing_is_a_time_out(
    serve: Callable[..., RtspServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_OPEN_S", 0.3)
    with pytest.raises(CaptureError, match=r"lab_left: cannot be opened as a video \(no answer within 0\.3 s\)"):
        connected(serve(silent=True))


def test_a_server_that_plays_nothing_is_a_time_out(
    serve: Callable[..., RtspServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_OPEN_S", 0.3)
    monkeypatch.setattr(opening_module, "_LEAST_READ_S", 0.1)
    server = serve()
    monkeypatch.setattr(server, "plays", False)
    with pytest.raises(CaptureError, match=r"lab_left: no video frame can be decoded, .*nothing came for 0\.2 s"):
        connected(server, silence_s=0.2)


def test_nobody_there(serve: Callable[..., RtspServer]) -> None:
    server = serve()
    server.kill()
    with pytest.raises(CaptureError, match=r"lab_left: cannot be opened as a video \(Connection refused\)"):
        connected(server)
