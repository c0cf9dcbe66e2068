"""Webcams that are unplugged, fall silent and come back, on a clock and an OpenCV that obey."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from stamped_media import FakeCamera, read_stamp

from megc_stream.capture import Source, open_source
from megc_stream.capture import webcam as webcam_module
from megc_stream.capture.v4l2 import Webcam
from megc_stream.clock import ManualClock
from megc_stream.errors import CaptureError
from megc_stream.records import Frame
from megc_stream.settings import CameraSettings, CaptureSettings

FPS = 30.0
ABSENT = None


class Port:
    """Stands for ``cv2.VideoCapture``: each opening takes the next of ``cameras``; after them there is none."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.cameras: list[FakeCamera | None] = []
        self.opened: list[tuple[float, int]] = []

    def __call__(self, index: int) -> FakeCamera:
        self.opened.append((self.clock.now_s(), index))
        camera = self.cameras.pop(0) if self.cameras else ABSENT
        if camera is ABSENT:
            camera = FakeCamera(0)
            camera.opened = False
        return camera

    def camera(
        self,
        count: int,
        *,
        waits_s: float = 1 / FPS,
        unreadable: Sequence[int] = (),
        on_end: Callable[[], None] = lambda: None,
    ) -> FakeCamera:
        """Return a camera that gives ``count`` pictures, calls ``on_end``, and fails after ``waits_s`` each time."""

        def on_grab(index: int) -> None:
            self.clock.advance_s(1 / FPS if index < count else waits_s)
            if index == count:
                on_end()

        return FakeCamera(count, unreadable=unreadable, on_grab=on_grab)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Port:
    made = Port(ManualClock(100.0))
    monkeypatch.setattr(webcam_module.cv2, "VideoCapture", made)
    monkeypatch.setattr(webcam_module, "webcams", list)
    return made


def opened(
    port: Port, *cameras: FakeCamera | None, spec: str = "0", colour: bool = False, **settings: object
) -> Source:
    port.cameras[:] = cameras
    made = CaptureSettings(live_queue_s=5, **settings)  # type: ignore[arg-type]
    return open_source(spec, made, clock=port.clock, colour=colour)


def told(frames: list[Frame]) -> list[tuple[int, int, dict[str, int]]]:
    return [(frame.frame, read_stamp(frame.image), frame.dropped) for frame in frames]


def test_an_unplugged_webcam_comes_back_with_a_gap(port: Port) -> None:
    first, second = port.camera(3), port.camera(4)
    with opened(port, first, ABSENT, ABSENT, second, reconnect_s=60.0) as source:
        frames = list(source.frames())
        end = source.end
    # 10 failed grabs, pauses of 0.25, 0.5 and 1 s, the picture taken at opening and the first one delivered.
    missed = round((11 / FPS + 1.75 + 1 / FPS) * FPS) - 1
    assert missed == 63
    assert told(frames) == [
        (0, 0, {}),
        (1, 1, {}),
        (2, 2, {}),
        (3 + missed, 0, {"disconnected": missed}),
        (4 + missed, 1, {}),
        (5 + missed, 2, {}),
        (6 + missed, 3, {}),
    ]
    times_s = [frame.t_capture_s for frame in frames]
    assert times_s[3] - times_s[2] == pytest.approx((missed + 1) / FPS, abs=0.5 / FPS)
    assert [index for _, index in port.opened] == [0] * len(port.opened)
    assert first.released >= 1
    assert second.released >= 1
    # The second loss is for good.
    assert end.reason == "damaged"
    assert end.message.startswith(
        "camera 0: gave no more pictures; is it still connected?; not reached again within 60 s (capture.reconnect_s)"
    )
    assert 60 * FPS <= end.dropped["disconnected"] <= 60 * FPS + 15


def test_pauses_grow_and_the_last_attempt_is_in_time(port: Port) -> None:
    with opened(port, port.camera(2), reconnect_s=20.0) as source:
        list(source.frames())
    tries_s = [t_s for t_s, _ in port.opened[1:]]
    assert np.diff(tries_s) == pytest.approx([0.5, 1, 2, 4, 5, 5, 2.25])


def test_without_reconnecting_the_stream_ends(port: Port) -> None:
    with opened(port, port.camera(2), reconnect_s=0) as source:
        assert len(list(source.frames())) == 2
        assert source.end.message == "camera 0: gave no more pictures; is it still connected?"
    assert len(port.opened) == 1


def test_a_silent_webcam_counts_as_disconnected(port: Port) -> None:
    # OpenCV gives up waiting for a picture after 10 s.
    silent = port.camera(2, waits_s=10.0)
    with opened(port, silent, port.camera(1, waits_s=10.0), silence_s=2.0, reconnect_s=5.0) as source:
        frames = told(list(source.frames()))
        assert "camera 0: gave no picture for 10.0 s; check cable and connection" in source.end.message
    gap = frames[-1][0] - 2
    assert abs(gap - (10 + 0.25) * FPS) <= 2
    assert frames == [(0, 0, {}), (1, 1, {}), (2 + gap, 0, {"disconnected": gap})]


def test_a_short_failure_is_no_disconnection(port: Port) -> None:
    grabs = iter([True, True, False, False, False, True, True])  # the first one at opening

    class Stumbling(FakeCamera):
        def grab(self) -> bool:
            super().grab()
            return next(grabs, False)

    with opened(port, Stumbling(50), reconnect_s=0) as source:
        assert [frame.frame for frame in source.frames()] == [0, 1, 2]


def test_unreadable_pictures_for_too_long_are_a_disconnection(port: Port) -> None:
    with opened(port, port.camera(40, unreadable=range(3, 40)), port.camera(1), reconnect_s=1.0) as source:
        frames = told(list(source.frames()))
    assert [stamp for _, stamp, _ in frames] == [0, 1, 2, 0]
    assert list(frames[-1][2]) == ["disconnected"], "what could not be read is in the time that was missed"


def test_a_webcam_of_another_size_is_refused(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    other = port.camera(3)
    monkeypatch.setattr(other, "retrieve", lambda: (True, FakeCamera(1).retrieve()[1][:-8]))
    source = opened(port, port.camera(2), other, reconnect_s=10.0)
    with pytest.raises(CaptureError, match="camera 0: came back with 162x116 px, expected 162x124; keep its size"):
        list(source.frames())
    source.close()
    assert other.released >= 1


def test_stop_ends_the_search(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(port, port.camera(2), reconnect_s=3600.0)

    def watched(index: int) -> FakeCamera:
        if len(port.opened) == 4:
            source.stop()
        return port(index)

    monkeypatch.setattr(webcam_module.cv2, "VideoCapture", watched)
    assert len(list(source.frames())) <= 2
    source.close()
    assert source.end.reason == "stopped"
    assert len(port.opened) <= 5


@pytest.fixture
def plugged(port: Port, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def plug(**names: str) -> None:
        now = [Webcam(int(number[1:]), name) for number, name in names.items()]
        monkeypatch.setattr(webcam_module, "webcams", lambda: now)

    return plug


def test_a_webcam_is_found_under_its_new_number(port: Port, plugged: Callable[..., None]) -> None:
    plugged(n0="HD Pro", n2="HD Pro", n4="Mini")
    first = port.camera(2, on_end=lambda: plugged(n2="HD Pro", n4="Mini", n6="HD Pro"))
    with opened(port, first, port.camera(1), spec="webcam:hd pro", reconnect_s=1.0) as source:
        assert len(list(source.frames())) == 3
    assert [index for _, index in port.opened][:2] == [0, 6]


def test_its_twin_and_what_took_its_number_are_other_cameras(port: Port, plugged: Callable[..., None]) -> None:
    plugged(n0="HD Pro", n2="HD Pro")
    first = port.camera(2, on_end=lambda: plugged(n0="Mini", n2="HD Pro"))
    with opened(port, first, port.camera(9), reconnect_s=1.0) as source:
        assert len(list(source.frames())) == 2
    assert port.opened[1:] == []


def test_triggers_of_industrial_cameras_do_not_concern_it(port: Port) -> None:
    camera = CameraSettings(trigger="software")
    with opened(port, port.camera(5), camera=camera, fps=10.0, reconnect_s=0) as source:
        times_s = [frame.t_capture_s for frame in source.frames()]
    assert np.diff(times_s) == pytest.approx(1 / FPS)


def test_a_picture_is_stamped_before_it_is_decoded(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = port.camera(2)
    retrieve = slow.retrieve

    def slowly() -> object:
        port.clock.advance_s(0.5)
        return retrieve()

    monkeypatch.setattr(slow, "retrieve", slowly)
    with opened(port, slow, reconnect_s=0) as source:
        first, second = (frame.t_capture_s for frame in source.frames())
    assert first == pytest.approx(100 + 0.5 + 2 / FPS)
    assert second - first == pytest.approx(0.5 + 1 / FPS)


def test_colour_is_the_cameras_own(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = port.camera(1)
    image = FakeCamera(1).retrieve()[1]
    image[:, :, 2] //= 2
    monkeypatch.setattr(camera, "retrieve", lambda: (True, image))
    with opened(port, camera, colour=True, reconnect_s=0) as source:
        [frame] = source.frames()
    assert (frame.image == image).all()
