"""Live streams from the network, opened again with growing pauses when they break off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from megc_stream.capture.device_clock import ClockFit
from megc_stream.capture.source import Picture
from megc_stream.capture.video import VideoReader
from megc_stream.clock import Clock
from megc_stream.errors import CaptureError

__all__ = ["NetworkReader"]

_SLICE_S = 0.1  # longest wait without looking at the stop flag
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.25, 5.0


class NetworkReader:
    """Reads a live stream (RTSP, HTTP, MJPEG); frames missed while it was away are "disconnected" in ``dropped``.

    Their number follows from the time between two arrivals and the rate. A stream of known length, such as a file on a
    web server, simply ends.

    Parameters
    ----------
    open_stream
        Opens the stream; called again after it broke off.
    name
        What messages call it, without its password.
    clock
        Tells arrivals.
    reconnect_s
        How long it is tried to reach the stream again, seconds; 0 never tries.

    Raises
    ------
    CaptureError
        From ``open_stream``; while reading: it came back with another picture size.
    """

    frames: int | None = None
    warnings: tuple[str, ...] = ()
    clock_fit: ClockFit | None = None

    def __init__(self, open_stream: Callable[[], VideoReader], *, name: str, clock: Clock, reconnect_s: float) -> None:
        self._open = open_stream
        self._name = name
        self._clock = clock
        self._reconnect_s = reconnect_s
        self._stream = open_stream()
        self.fps, self.assumed_fps = self._stream.fps, self._stream.assumed_fps
        self.width, self.height = self._stream.width, self._stream.height
        self.description = self._stream.description
        self.lost: dict[str, int] = {}
        self._stopped = False
        self._gone = ""
        self._disconnections = 0
        self._missed = 0

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        if self._gone:
            return self._gone
        if self._disconnections:
            return f"{self._name}: broke off {self._disconnections} times, about {self._missed} frames were missed"
        return self._stream.damage

    def stop(self) -> None:
        """Make :meth:`pictures` end at its next picture, or after the time-out of its read; takes no lock."""
        self._stopped = True

    def close(self) -> None:
        """Leave the stream; may be called more than once."""
        self._stream.close()

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures as they come; ends when the stream is gone for good, or is stopped."""
        frame, last_s = -1, self._clock.now_s()
        back = False
        while self._wanted():
            for picture in self._stream.pictures():
                arrival_s = self._clock.now_s()
                dropped = dict(picture.dropped)
                if back:
                    back = False
                    missed = max(0, round((arrival_s - last_s) * self.fps) - 1)
                    self._missed += missed
                    dropped = {"disconnected": missed} if missed else {}
                frame += 1 + sum(dropped.values())
                last_s = arrival_s
                yield replace(picture, frame=frame, number=frame, pts_s=None, t_capture_s=arrival_s, dropped=dropped)
                if not self._wanted():
                    return
            if self._stream.finite or not self._come_back(last_s):
                self.lost = self.lost or dict(self._stream.lost)
                return
            back = True

    def _come_back(self, last_s: float) -> bool:
        """Try to open the stream again; False where that is hopeless or no longer wanted."""
        why = self._stream.damage or f"{self._name}: the stream broke off"
        self._stream.close()
        give_up_s = self._clock.now_s() + self._reconnect_s
        pause_s = _FIRST_RETRY_S
        while self._wanted() and self._clock.now_s() < give_up_s:
            self._wait(min(pause_s, give_up_s - self._clock.now_s()))
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
            if not self._wanted():
                return False
            try:
                stream = self._open()
            except CaptureError:
                continue
            if (stream.width, stream.height) != (self.width, self.height):
                stream.close()
                raise CaptureError(
                    f"{self._name}: came back with {stream.width}x{stream.height} px, expected "
                    f"{self.width}x{self.height}; keep the camera's size while it is watched"
                )
            self._stream = stream
            self._disconnections += 1
            return True
        if self._wanted():
            self.lost = {"disconnected": max(1, round((self._clock.now_s() - last_s) * self.fps))}
            tried = (
                f"; not reached again within {self._reconnect_s:g} s (capture.reconnect_s)" if self._reconnect_s else ""
            )
            self._gone = f"{why}{tried}"
        return False

    def _wanted(self) -> bool:
        return not self._stopped

    def _wait(self, duration_s: float) -> None:
        end_s = self._clock.now_s() + duration_s
        while (now_s := self._clock.now_s()) < end_s and self._wanted():
            self._clock.wait_until_s(min(end_s, now_s + _SLICE_S))
