"""Live streams from the network, opened again with growing pauses when they break off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from megc_stream.capture.device_clock import ClockFit
from megc_stream.capture.reconnection import Reconnection
from megc_stream.capture.source import Picture
from megc_stream.capture.video import VideoReader
from megc_stream.clock import Clock

__all__ = ["NetworkReader"]


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
        self._name = name
        self._clock = clock
        stream = open_stream()
        self.fps, self.assumed_fps = stream.fps, stream.assumed_fps
        self.width, self.height = stream.width, stream.height
        self.description = stream.description
        self.tell: Callable[[str], None] = lambda text: None
        self._connection = Reconnection(
            stream,
            open_stream,
            name=name,
            fps=self.fps,
            clock=clock,
            reconnect_s=reconnect_s,
            tell=lambda text: self.tell(text),
        )
        self._damaged = 0

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        damaged = f"{self._name}: {self._damaged} frames left out as damaged" if self._damaged else ""
        return self._connection.damage or self._connection.medium.trouble or damaged

    @property
    def lost(self) -> dict[str, int]:
        """Return the frames lost after the last picture, by reason."""
        return self._connection.lost or self._connection.medium.lost

    def stop(self) -> None:
        """Make :meth:`pictures` end at its next picture, or after the time-out of its read; takes no lock."""
        self._connection.stop()

    def forget(self) -> None:
        """Note that the stream begins with the picture yielded last."""
        self._connection.forget()
        self._damaged = 0

    def close(self) -> None:
        """Leave the stream; may be called more than once."""
        self._connection.medium.close()

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures as they come; ends when the stream is gone for good, or is stopped."""
        connection = self._connection
        connection.begin()
        frame = -1
        while connection.wanted():
            stream = connection.medium
            for picture in stream.pictures():
                arrival_s = self._clock.now_s()
                missed = connection.arrived(arrival_s)
                dropped = dict(picture.dropped) if missed is None else {"disconnected": missed} if missed else {}
                self._damaged += dropped.get("damaged", 0)
                frame += 1 + sum(dropped.values())
                yield replace(picture, frame=frame, number=frame, pts_s=None, t_capture_s=arrival_s, dropped=dropped)
                if not connection.wanted():
                    return
            if stream.finite or not connection.come_back(stream.trouble or f"{self._name}: the stream broke off"):
                return
